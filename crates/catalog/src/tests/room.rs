//! Memory for metadata files: held before a file is read, and given back however the request ends.

use super::lab::*;
use super::tables::register;
use crate::*;
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_env::{Held, Network, Peer};
use floeberg_types::BucketId;
use floeberg_types::limits::{METADATA_FILE_VALUES, METADATA_FILES_HELD_BYTES};
use std::time::Duration;
use tokio::time::Instant;

const FILE: &str = "s3://lake/in/a.metadata.json";

fn peer(network: u8) -> Peer {
    Peer {
        network: Network::of([10, 0, 0, network].into()),
        connection: network.into(),
    }
}

fn held(catalog: &Catalog) -> u64 {
    catalog.inner.files_held.held()
}

/// Has others hold all that there is.
async fn fill(catalog: &Catalog) -> Vec<Held> {
    let budget = &catalog.inner.files_held;
    let shares = budget.shares();
    let mut all = Vec::new();
    let open = shares.total - shares.reserve;
    let none = Duration::ZERO;
    for (network, bytes) in [(1, open / 2), (2, open - open / 2)] {
        all.push(budget.hold(peer(network), bytes, none).await.unwrap());
    }
    for network in 3..7 {
        let little = budget.hold(peer(network), shares.reserve / 4, none);
        all.push(little.await.unwrap());
    }
    assert_eq!(held(catalog), METADATA_FILES_HELD_BYTES as u64);
    all
}

/// Puts the document of a table at `in/t` where requests find it.
async fn put_file(lab: &Lab) -> Bytes {
    let head = lab.create("template").await.unwrap();
    lab.drop("template").await.unwrap();
    let text = String::from_utf8(head.rendered(SnapshotsMode::All).to_vec()).unwrap();
    let text = Bytes::from(text.replace(&head.info().location, "s3://lake/in/t"));
    let key = FILE.strip_prefix("s3://lake/").unwrap().to_owned();
    lab.objects.0.lock().insert(key, text.clone());
    text
}

fn request(name: &str) -> RegisterTable {
    RegisterTable {
        bucket: lake(),
        ident: ident(name),
        metadata_location: FILE.to_owned(),
        overwrite: Overwrite::Refuse,
    }
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_room_waits_a_moment_and_is_told_to_come_again() {
    let lab = Lab::with_namespace().await;
    let text = put_file(&lab).await;
    let head = lab.create("t").await.unwrap();
    let others = fill(&lab.catalog).await;
    let began = Instant::now();
    let refused = register(&lab, "u", FILE, Overwrite::Refuse).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, RegisterTableError::Outage(Outage::Exhausted(_))),
        "{refused}"
    );
    assert_eq!(began.elapsed().as_secs(), 5);
    let uri = format!("{}/metadata/b.metadata.json", head.info().location);
    let key = uri.strip_prefix("s3://lake/").unwrap().to_owned();
    lab.objects.0.lock().insert(key, text);
    let point = UpdateMetadataLocation {
        bucket: lake(),
        ident: ident("t"),
        version_token: head.info().version_token.to_string(),
        metadata_location: uri,
    };
    let (may, cx) = (allowed(), cx());
    let refused = lab.catalog.update_metadata_location(&may, &cx, &point);
    let refused = refused.await.unwrap_err();
    assert!(
        matches!(
            refused,
            UpdateMetadataLocationError::Outage(Outage::Exhausted(_))
        ),
        "{refused}"
    );
    // Somebody gives back what they held.
    let waiting = register(&lab, "u", FILE, Overwrite::Refuse);
    let given = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        drop(others);
    };
    let (done, ()) = tokio::join!(waiting, given);
    done.unwrap();
    assert_eq!(held(&lab.catalog), 0);
}

#[tokio::test]
async fn room_is_given_back_after_a_success_and_after_every_refusal() {
    let lab = Lab::with_namespace().await;
    let text = put_file(&lab).await;
    register(&lab, "t", FILE, Overwrite::Refuse).await.unwrap();
    assert_eq!(held(&lab.catalog), 0);
    let taken = register(&lab, "t", FILE, Overwrite::Refuse).await;
    taken.unwrap_err();
    assert_eq!(held(&lab.catalog), 0);
    let put = |text: Bytes| {
        let key = "in/a.metadata.json".to_owned();
        lab.objects.0.lock().insert(key, text);
    };
    put(text.slice(..text.len() - 1));
    register(&lab, "u", FILE, Overwrite::Refuse)
        .await
        .unwrap_err();
    assert_eq!(held(&lab.catalog), 0);
    put(format!("[{}1]", "1,".repeat(METADATA_FILE_VALUES + 1)).into());
    let crowded = register(&lab, "u", FILE, Overwrite::Refuse).await;
    let crowded = crowded.unwrap_err().to_string();
    assert!(crowded.contains("1000000 values"), "{crowded}");
    assert_eq!(held(&lab.catalog), 0);
}

/// What becomes of whoever reads a file.
#[derive(Clone, Copy)]
enum Fate {
    Panics,
    Waits,
}

#[async_trait]
impl MetadataReader for Fate {
    async fn find(&self, _: BucketId, _: &str) -> Result<FoundFile, ReadMetadataError> {
        let fate = *self;
        let bytes = async move {
            match fate {
                Self::Panics => panic!("a bug in a reader"),
                Self::Waits => std::future::pending().await,
            }
        };
        let len = 1 << 20;
        let bytes = Box::pin(bytes);
        Ok(FoundFile { len, bytes })
    }
}

#[tokio::test]
async fn room_is_held_while_a_file_is_read_and_given_back_by_who_panics_or_leaves() {
    let lab = Lab::with_namespace().await;
    let over = |fate: Fate| {
        let (store, env, metrics) = (lab.store.clone(), lab.env.clone(), lab.metrics.clone());
        let config = CatalogConfig::default();
        Catalog::new(store, env, &config, Arc::new(fate), metrics)
    };
    let begin = |catalog: &Catalog| {
        let catalog = catalog.clone();
        tokio::spawn(async move {
            let (may, cx, request) = (allowed(), cx(), request("t"));
            catalog.register_table(&may, &cx, &request).await.map(drop)
        })
    };
    let panics = over(Fate::Panics);
    assert!(begin(&panics).await.unwrap_err().is_panic());
    assert_eq!(held(&panics), 0);
    let waits = over(Fate::Waits);
    let waiting = begin(&waits);
    while held(&waits) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(held(&waits) > 4 << 20, "{}", held(&waits));
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(held(&waits), 0);
}

/// A table whose document is counted, of about so many bytes.
async fn large_table(lab: &Lab, name: &str) -> Arc<TableHead> {
    lab.create(name).await.unwrap();
    let filler = "x".repeat(200 << 10);
    let change = set_property(name, "filler", &filler);
    lab.commit(&change).await.unwrap().head
}

/// Everybody who has not read his document yet counts, and nobody else does.
#[tokio::test(start_paused = true)]
async fn documents_count_until_they_are_read() {
    let lab = Lab::with_namespace().await;
    let head = large_table(&lab, "t").await;
    let (catalog, mode) = (&lab.catalog, SnapshotsMode::All);
    let used = || catalog.inner.documents_held.held();
    let of = async |network| {
        let document = catalog.document(peer(network), &head, mode, Duration::ZERO);
        document.await
    };
    assert_eq!(used(), 0);
    let (one, two) = (of(1).await.unwrap(), of(2).await.unwrap());
    let length = one.len() as u64;
    assert_eq!(one.as_ptr(), two.as_ptr(), "there is one of them");
    assert_eq!(used(), 2 * length);
    let part = one.slice(7..8);
    drop((one, two));
    assert_eq!(used(), length, "some of it is left");
    drop(part);
    assert_eq!(used(), 0);
    let small = lab.create("small").await.unwrap();
    let document = catalog.document(peer(1), &small, mode, Duration::ZERO);
    let _document = document.await.unwrap();
    assert_eq!(used(), 0);
    let file = lab.described(head.metadata_location()).await.unwrap();
    let file = catalog.render_metadata_file(peer(3), &file).await.unwrap();
    assert_eq!(used(), length);
    drop(file);
    assert_eq!(used(), 0);
}

/// Who finds no room is told so, after a while that is not long, and a table is not read into memory.
#[tokio::test(start_paused = true)]
async fn without_room_no_document_is_read_or_answered() {
    let lab = Lab::with_namespace().await;
    let head = large_table(&lab, "t").await;
    let catalog = lab.forgetful();
    let budget = catalog.inner.documents_held.clone();
    let shares = budget.shares();
    let mut others = Vec::new();
    for network in [1, 2] {
        let half = (shares.total - shares.reserve) / 2;
        let held = budget.hold(peer(network), half, Duration::ZERO);
        others.push(held.await.unwrap());
    }
    let little = budget.hold(peer(1), shares.reserve / 4, Duration::ZERO);
    assert!(little.await.is_err());
    let began = Instant::now();
    let asking = Cx {
        caller: peer(1),
        ..cx()
    };
    let (may, lake, t) = (allowed(), lake(), ident("t"));
    let load = || catalog.load_table(&may, &asking, &lake, &t);
    let refused = load().await.unwrap_err();
    let took = began.elapsed();
    assert!(
        matches!(refused, LoadTableError::Outage(Outage::Exhausted(_))),
        "{refused}"
    );
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(10));
    let late = catalog.document(peer(1), &head, SnapshotsMode::All, Duration::ZERO);
    assert!(matches!(late.await, Err(Outage::Exhausted(_))));
    drop(others);
    load().await.unwrap();
    assert_eq!(budget.held(), 0);
}
