//! Documents written in pieces: seen by nobody before they are published, and gone if they are not.

use super::cluster::{Cluster, patient};
use super::lab::*;
use super::tables::register;
use crate::janitor::{Janitor, JanitorConfig};
use crate::pieces::{
    PIECES_LAST_MS, Place, SERIES_AHEAD_MAX, SERIES_KEPT_MAX, SERIES_OF_CALLER_MAX,
};
use crate::*;
use floeberg_env::{Network, Peer};
use floeberg_iceberg::TableMetadata;
use floeberg_metastore::Rows as _;
use floeberg_types::TableId;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::sleep;

/// Every document goes in pieces of a few rows, and most parts into several rows.
const SMALL: PieceSizes = PieceSizes {
    above: 64,
    bytes: 48,
};

const FILE: &str = "s3://lake/in/a.metadata.json";

/// Puts a document of three snapshots where `register` finds it.
async fn put_file(lab: &Lab, location: &str, uri: &str) -> TableMetadata {
    let mut head = lab.create("template").await.unwrap();
    for id in 1..=3 {
        let change = append("template", head.metadata(), id);
        head = lab.commit(&change).await.unwrap().head;
    }
    lab.drop("template").await.unwrap();
    let text = String::from_utf8(head.rendered(SnapshotsMode::All).to_vec()).unwrap();
    let text = text.replace(&head.info().location, location);
    let key = uri.strip_prefix("s3://lake/").unwrap().to_owned();
    let parsed = TableMetadata::parse(text.as_bytes()).unwrap();
    lab.objects.0.lock().insert(key, text.into());
    parsed
}

fn janitor(lab: &Lab) -> Janitor {
    let config = JanitorConfig::new("000000000000".parse().unwrap());
    Janitor::new(lab.catalog.clone(), config)
}

pub(crate) async fn sweep(lab: &Lab) {
    let mut janitor = janitor(lab);
    // The first one only condemns.
    janitor.sweep().await.unwrap();
    while janitor.sweep().await.unwrap() > 0 {}
}

pub(crate) fn fragments(lab: &Lab) -> usize {
    let rows = lab.store.local();
    rows.scan_prefix(&[0x14], None, usize::MAX).unwrap().len()
}

pub(crate) async fn cold(lab: &Lab, name: &str) -> Result<TableMetadata, LoadTableError> {
    let (catalog, lake, ident) = (lab.forgetful(), lake(), ident(name));
    let head = catalog.load_table(&allowed(), &cx(), &lake, &ident).await;
    head.map(|head| head.metadata().clone())
}

/// Lets a future go on until something holds; whether it ended first.
async fn until<F: Future + Unpin>(future: &mut F, holds: impl Fn() -> bool) -> bool {
    loop {
        if holds() {
            return false;
        }
        if futures::poll!(&mut *future).is_ready() {
            return true;
        }
        tokio::task::yield_now().await;
    }
}

/// The publisher goes, or its node loses power, after any number of pieces: nobody ever sees one, and
/// none is left once they have expired.
#[tokio::test]
async fn pieces_of_a_publisher_that_went_are_never_seen_and_expire() {
    let mut after = 0;
    loop {
        let mut lab = Lab::with_pieces(SMALL).await;
        let parsed = put_file(&lab, "s3://lake/in/t", FILE).await;
        let before = lab.rows();
        let own = fragments(&lab);
        let mut registering = Box::pin(register(&lab, "t", FILE, Overwrite::Refuse));
        let is_done = until(&mut registering, || fragments(&lab) >= own + after).await;
        drop(registering);
        if after % 2 == 1 {
            lab.crash().await;
        }
        if is_done {
            assert!(after > 40, "{after} rows were written ahead");
            assert_eq!(cold(&lab, "t").await.unwrap(), parsed);
            return;
        }
        let gone = cold(&lab, "t").await.unwrap_err();
        assert!(matches!(gone, LoadTableError::NoSuchTable(_)), "{gone}");
        lab.control.jump_clock(PIECES_LAST_MS);
        sweep(&lab).await;
        assert_eq!(lab.rows(), before, "gone after {after} rows");
        register(&lab, "t", FILE, Overwrite::Refuse).await.unwrap();
        assert_eq!(cold(&lab, "t").await.unwrap(), parsed);
        after += 7;
    }
}

#[tokio::test]
async fn nothing_is_published_of_what_has_expired() {
    let lab = Lab::with_pieces(SMALL).await;
    let parsed = put_file(&lab, "s3://lake/in/t", FILE).await;
    let ahead = async || {
        let (cx, mut place) = (cx(), Place::default());
        let written = lab.catalog.write_ahead(&cx, &mut place, &parsed);
        written.await.unwrap()
    };
    let table = TableId::from_bytes([1; 16]);
    let publish = async |pieces: &pieces::Pieces| {
        let cx = cx();
        let publish = |txn: &mut Txn<'_>| pieces.publish(txn, table);
        lab.catalog.transact(&cx, publish).await.map(|_| ())
    };
    let (late, in_time) = (ahead().await, ahead().await);
    publish(&in_time).await.unwrap();
    let twice = publish(&in_time).await.unwrap_err();
    assert!(matches!(twice, Outage::Unavailable), "{twice}");
    lab.control.jump_clock(PIECES_LAST_MS);
    let before = fragments(&lab);
    assert_eq!(janitor(&lab).sweep().await.unwrap(), 0, "only condemned");
    assert_eq!(fragments(&lab), before);
    let refused = publish(&late).await.unwrap_err();
    assert!(matches!(refused, Outage::Unavailable), "{refused}");
    sweep(&lab).await;
    assert!(fragments(&lab) < before);
}

#[tokio::test]
async fn a_refused_publication_leaves_nothing_once_swept() {
    let lab = Lab::with_pieces(SMALL).await;
    put_file(&lab, "s3://lake/in/t", FILE).await;
    put_file(&lab, "s3://lake/in/t/below", "s3://lake/in/b.metadata.json").await;
    register(&lab, "t", FILE, Overwrite::Refuse).await.unwrap();
    let before = lab.rows();
    // Which locations overlap is known only when it is decided.
    let refused = register(&lab, "u", "s3://lake/in/b.metadata.json", Overwrite::Refuse).await;
    assert!(matches!(
        refused,
        Err(RegisterTableError::InvalidLocation(_))
    ));
    while janitor(&lab).sweep().await.unwrap() > 0 {}
    assert_eq!(lab.rows(), before);
}

fn registration(name: &str) -> RegisterTable {
    RegisterTable {
        bucket: lake(),
        ident: ident(name),
        metadata_location: FILE.to_owned(),
        overwrite: Overwrite::Refuse,
    }
}

fn from(network: u8) -> Cx {
    Cx {
        caller: Peer {
            network: Network::of([10, 0, 0, network].into()),
            connection: network.into(),
        },
        ..cx()
    }
}

/// More publishers than there may be vanish at any point, and nobody waits for what they wrote to expire.
#[tokio::test]
async fn publishers_that_vanish_keep_nobody_out() {
    let lab = Lab::with_pieces(SMALL).await;
    put_file(&lab, "s3://lake/in/t", FILE).await;
    let request = registration("t");
    let ahead = || {
        let rows = lab.store.local();
        let found = rows.scan::<rows::PiecesRow>(&keys::all_pieces(), None, SERIES_KEPT_MAX);
        found.unwrap()
    };
    let own = fragments(&lab);
    for gone in 0..SERIES_OF_CALLER_MAX {
        let (may, cx) = (allowed(), from(1));
        let mut registering = Box::pin(lab.catalog.register_table(&may, &cx, &request));
        let begun = || ahead().len() > gone && fragments(&lab) >= own + gone;
        assert!(!until(&mut registering, begun).await, "{gone}");
        drop(registering);
        // As soon as the request has ended, and however busy the janitor is.
        let is_left = || ahead().iter().any(|(_, row)| !row.value.condemned);
        for _ in 0..10_000 {
            if is_left() {
                tokio::task::yield_now().await;
            }
        }
        assert!(!is_left(), "{gone}");
    }
    // Whoever left that much has to wait until it is removed, nobody else.
    let ask = async |network: u8| {
        let (may, cx) = (allowed(), from(network));
        let done = lab.catalog.register_table(&may, &cx, &request).await;
        done.map(drop)
    };
    let refused = ask(1).await.unwrap_err();
    assert!(
        matches!(
            refused,
            RegisterTableError::Outage(Outage::TooManyDocuments(_))
        ),
        "{refused}"
    );
    ask(2).await.unwrap();
    lab.drop("t").await.unwrap();
    sweep(&lab).await;
    assert!(ahead().is_empty());
    ask(1).await.unwrap();
}

#[tokio::test]
async fn series_ahead_are_few() {
    let lab = Lab::with_pieces(SMALL).await;
    let parsed = put_file(&lab, "s3://lake/in/t", FILE).await;
    let write = async |network: u8| {
        let cx = from(network);
        let mut place = Place::default();
        let written = lab.catalog.write_ahead(&cx, &mut place, &parsed);
        written.await
    };
    let mut ahead = Vec::new();
    for network in [1, 2] {
        for _ in 0..SERIES_OF_CALLER_MAX {
            ahead.push(write(network).await.unwrap());
        }
        let refused = write(network).await.map(drop).unwrap_err();
        assert!(matches!(refused, Outage::TooManyDocuments(_)), "{refused}");
    }
    assert_eq!(ahead.len(), SERIES_AHEAD_MAX);
    let refused = register(&lab, "t", FILE, Overwrite::Refuse).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(
            refused,
            RegisterTableError::Outage(Outage::TooManyDocuments(_))
        ),
        "{refused}"
    );
    lab.control.jump_clock(PIECES_LAST_MS);
    janitor(&lab).sweep().await.unwrap();
    janitor(&lab).sweep().await.unwrap();
    register(&lab, "t", FILE, Overwrite::Refuse).await.unwrap();
}

/// A table is pointed at a document of another series again and again, and committed to in between:
/// every version looks the same for as long as it is named, and no series outlives its versions.
#[tokio::test]
async fn versions_of_several_series_stay_whole_and_go() {
    let lab = Lab::with_pieces(SMALL).await;
    let mut head = lab.create("t").await.unwrap();
    let limit = set_property("t", "write.metadata.previous-versions-max", "4");
    head = match lab.commit(&limit).await {
        Ok(done) => done.head,
        Err(error) => panic!("{head:?}: {error}"),
    };
    let (mut files, mut made) = (Vec::new(), BTreeSet::from([head.series()]));
    for round in 1..=6 {
        for id in 1..=2 {
            let change = append("t", head.metadata(), round * 10 + id);
            head = lab.commit(&change).await.unwrap().head;
            made.insert(head.series());
            files.push((
                head.metadata_location().to_owned(),
                head.rendered(SnapshotsMode::All),
            ));
        }
        let document = String::from_utf8(head.rendered(SnapshotsMode::All).to_vec()).unwrap();
        // Every part differs from that of the table.
        let document = document.replace(
            "\"operation\"",
            &format!("\"round-{round}\":\"\",\"operation\""),
        );
        let uri = format!("{}/metadata/{round}.metadata.json", head.info().location);
        let key = uri.strip_prefix("s3://lake/").unwrap().to_owned();
        lab.objects.0.lock().insert(key, document.into());
        let request = UpdateMetadataLocation {
            bucket: lake(),
            ident: ident("t"),
            version_token: head.info().version_token.to_string(),
            metadata_location: uri,
        };
        let (may, cx) = (allowed(), cx());
        let pointed = lab.catalog.update_metadata_location(&may, &cx, &request);
        let info = pointed.await.unwrap();
        head = lab.load("t").await.unwrap();
        assert_eq!(head.info(), &info);
        made.insert(head.series());
        assert_eq!(cold(&lab, "t").await.unwrap(), *head.metadata());
    }
    for (file, bytes) in &files {
        assert_eq!(lab.file(file).await.as_ref(), Some(bytes), "{file}");
    }
    let series = || {
        let rows = lab.store.local();
        let prefix = keys::all_series(head.info().id);
        rows.scan_prefix(&prefix, None, usize::MAX).unwrap().len()
    };
    // The first commits are written ahead as well, the later ones change too little of their document.
    made.remove(&keys::SeriesId::first_of(head.info().id));
    assert!(made.len() > 6, "{made:?}");
    assert_eq!(series(), made.len());
    lab.control.jump_clock(PIECES_LAST_MS * 10);
    let mut config = JanitorConfig::new("000000000000".parse().unwrap());
    config.retention.collect_every = 1;
    config.retention.rows_per_sweep = 10;
    let mut janitor = Janitor::new(lab.catalog.clone(), config);
    while janitor.sweep().await.unwrap() > 0 {}
    let named = String::from_utf8(head.rendered(SnapshotsMode::All).to_vec()).unwrap();
    let mut left = 0;
    for (file, bytes) in &files {
        let expected = named.contains(file.as_str()).then_some(bytes);
        assert_eq!(lab.file(file).await.as_ref(), expected, "{file}");
        left += usize::from(expected.is_some());
    }
    assert!(left > 0 && left < files.len(), "{left}");
    assert!(series() < made.len(), "{}", series());
    assert_eq!(cold(&lab, "t").await.unwrap(), *head.metadata());
    let change = append("t", head.metadata(), 99);
    let head = lab.commit(&change).await.unwrap().head;
    assert_eq!(cold(&lab, "t").await.unwrap(), *head.metadata());
}

/// The request comes again under its key, whatever became of the first: one table, one answer.
#[tokio::test]
async fn a_repeat_under_its_key_is_answered_alike() {
    let lab = Lab::with_pieces(SMALL).await;
    put_file(&lab, "s3://lake/in/t", FILE).await;
    let request = registration("t");
    let (may, key) = (allowed(), once(1, 1));
    let go = || lab.catalog.register_table(&may, &key, &request);
    let mut both = (Box::pin(go()), Box::pin(go()));
    let both = futures::future::join(&mut both.0, &mut both.1).await;
    let ids = (both.0.unwrap().info().id, both.1.unwrap().info().id);
    assert_eq!(ids.0, ids.1);
    assert_eq!(go().await.unwrap().info().id, ids.0);
    lab.control.jump_clock(PIECES_LAST_MS);
    sweep(&lab).await;
    let ahead = lab.store.local().scan_prefix(&keys::all_pieces(), None, 1);
    assert!(ahead.unwrap().is_empty());
}

/// Registers through any node while the leader dies, asking again under the key until it is done.
async fn register_through(cluster: &mut Cluster, is_front: bool, delay: Duration) -> TableId {
    let leader = cluster.leader().await;
    let front = match is_front {
        true => cluster.another(leader),
        false => leader,
    };
    let request = registration("u");
    let catalog = cluster.catalog(front);
    let sent = request.clone();
    let first = tokio::spawn(async move {
        let done = catalog.register_table(&allowed(), &patient(1), &sent).await;
        done.map(|head| head.info().id)
    });
    sleep(delay).await;
    let is_done = first.is_finished();
    if !is_front {
        first.abort();
    }
    cluster.kill(leader);
    let first = first.await.ok().and_then(Result::ok);
    assert!(!is_done || first.is_some());
    let catalog = cluster.catalog(cluster.another(leader));
    loop {
        match catalog
            .register_table(&allowed(), &patient(1), &request)
            .await
        {
            Ok(head) => {
                let id = head.info().id;
                assert_eq!(first.unwrap_or(id), id, "one table");
                cluster.boot(leader).await;
                return id;
            }
            Err(RegisterTableError::Outage(Outage::Unavailable | Outage::Indefinite)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The leader dies after any number of pieces; whoever asks again is answered, and the table is there
/// once and whole on every node.
#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_between_pieces_leaves_one_table_or_none() {
    let config = CatalogConfig {
        pieces: SMALL,
        ..CatalogConfig::default()
    };
    for seed in 0..12 {
        let mut cluster = Cluster::start_with(300 + seed, config.clone()).await;
        let leader = cluster.leader().await;
        let store = cluster.store(leader);
        let level = floeberg_state::FEATURE_LEVEL_PIECES;
        store.raise_feature_level(&cx(), level).await.unwrap();
        let catalog = cluster.catalog(leader);
        let (may, cx, lake, t) = (allowed(), cx(), lake(), new_table("t"));
        let mut head = catalog.create_table(&may, &cx, &t).await.unwrap();
        for id in 1..=2 {
            let (may, change) = (allowed(), append("t", head.metadata(), id));
            let done = catalog.commit_table(&may, &cx, &lake, change).await;
            head = done.unwrap().head;
        }
        let text = String::from_utf8(head.rendered(SnapshotsMode::All).to_vec()).unwrap();
        let text = text.replace(&head.info().location, "s3://lake/in/u");
        let parsed = TableMetadata::parse(text.as_bytes()).unwrap();
        let key = FILE.strip_prefix("s3://lake/").unwrap().to_owned();
        cluster.objects.0.lock().insert(key, text.into());
        let delay = Duration::from_millis(20 * seed);
        let id = register_through(&mut cluster, seed % 2 == 0, delay).await;
        for node in cluster.nodes() {
            let (catalog, u) = (cluster.catalog(node), ident("u"));
            let may = allowed();
            let found = loop {
                match catalog.load_table(&may, &cx, &lake, &u).await {
                    Err(LoadTableError::Outage(Outage::Unavailable)) => {}
                    found => break found.unwrap(),
                }
            };
            assert_eq!((found.info().id, found.metadata()), (id, &parsed));
        }
    }
}
