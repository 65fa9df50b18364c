//! Tables: creating, finding, locations, dropping, renaming, and metadata written by clients.

use super::lab::*;
use crate::*;
use bytes::Bytes;
use floeberg_iceberg::RawJson;
use std::io::Write as _;

#[tokio::test]
async fn a_created_table_is_found_by_name_and_id() {
    let lab = Lab::with_namespace().await;
    let head = lab.create("t").await.unwrap();
    let info = head.info().clone();
    assert_eq!(info.state, TableState::Live);
    assert_eq!(
        info.location,
        format!("s3://lake/ns/t-{}", info.id.to_hex())
    );
    let file = head
        .metadata_location()
        .strip_prefix(&info.location)
        .unwrap();
    assert!(
        file.starts_with("/metadata/00001-") && file.ends_with(".metadata.json"),
        "{file}"
    );
    let get = async |selector| {
        lab.catalog
            .get_table(&allowed(), &cx(), &lake(), &selector)
            .await
    };
    assert_eq!(get(TableSelector::Name(ident("t"))).await.unwrap(), info);
    assert_eq!(get(TableSelector::Id(info.id)).await.unwrap(), info);
    let pointer = lab
        .catalog
        .metadata_location(&allowed(), &cx(), &lake(), &ident("t"))
        .await
        .unwrap();
    assert_eq!(
        pointer.metadata_location.as_deref(),
        Some(head.metadata_location())
    );
    assert_eq!(pointer.version_token, info.version_token);

    let again = lab.create("t").await.unwrap_err();
    assert_eq!(again.to_string(), "Table already exists: ns.t");
    let staged = lab
        .catalog
        .stage_table(&allowed(), &cx(), &new_table("t"))
        .await
        .unwrap_err();
    assert!(matches!(staged, CreateTableError::Exists(_)));
    let mut nowhere = new_table("t");
    nowhere.ident.namespace = ns(&["nope"]);
    let nowhere = lab.create_with(&nowhere).await.unwrap_err();
    assert_eq!(nowhere.to_string(), "Namespace does not exist: nope");
    let mut bad = new_table("u");
    bad.schema = RawJson::parse(r#"{"type":"struct"}"#).unwrap();
    assert!(matches!(
        lab.create_with(&bad).await,
        Err(CreateTableError::Invalid(_))
    ));
    let missing = get(TableSelector::Name(ident("nope"))).await.unwrap_err();
    assert_eq!(missing.to_string(), "Table does not exist: ns.nope");
}

#[tokio::test]
async fn tables_are_listed_by_namespace_and_across() {
    let lab = Lab::with_namespace().await;
    lab.create_namespace(&["ns", "inner"]).await.unwrap();
    lab.create_namespace(&["z"]).await.unwrap();
    for name in ["b", "a", "c"] {
        lab.create(name).await.unwrap();
    }
    let mut inner = new_table("deep");
    inner.ident.namespace = ns(&["ns", "inner"]);
    lab.create_with(&inner).await.unwrap();
    let list = async |namespace, prefix: &str, page| {
        let prefix = prefix.to_owned();
        let request = ListTables {
            bucket: lake(),
            namespace,
            prefix,
            page,
        };
        let page = lab.catalog.list_tables(&allowed(), &cx(), &request).await?;
        let names = page
            .items
            .iter()
            .map(|t| t.ident.to_string())
            .collect::<Vec<_>>();
        Ok::<_, ListTablesError>((names, page.next))
    };
    let all = PageRequest::default;
    let (names, next) = list(Some(ns(&["ns"])), "", all()).await.unwrap();
    assert_eq!(
        (names, next),
        (vec!["ns.a".into(), "ns.b".into(), "ns.c".into()], None)
    );
    let (names, _) = list(Some(ns(&["ns"])), "b", all()).await.unwrap();
    assert_eq!(names, ["ns.b"]);
    let missing = list(Some(ns(&["nope"])), "", all()).await;
    assert!(matches!(missing, Err(ListTablesError::NoSuchNamespace(_))));
    for size in 1..=5 {
        let (mut seen, mut token) = (Vec::new(), None);
        loop {
            let page = PageRequest {
                token,
                size: Some(size),
            };
            let (names, next) = list(None, "", page).await.unwrap();
            assert!(names.len() <= size);
            seen.extend(names);
            token = next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(
            seen,
            ["ns.a", "ns.b", "ns.c", "ns.inner.deep"],
            "pages of {size}"
        );
    }
}

#[tokio::test]
async fn locations_never_overlap_nor_leave_the_bucket() {
    let lab = Lab::with_namespace().await;
    let at = |name: &str, location: &str| CreateTable {
        location: Some(location.to_owned()),
        ..new_table(name)
    };
    let head = lab.create_with(&at("t", "s3://lake/a/b/")).await.unwrap();
    assert_eq!(head.metadata().location(), "s3://lake/a/b");
    for bad in [
        "s3://lake/a/b",
        "s3a://lake/a/b/c",
        "s3://lake/a",
        "s3://other/x",
        "file:/x",
        "s3://lake/",
    ] {
        let refused = lab.create_with(&at("u", bad)).await.unwrap_err();
        assert!(
            matches!(refused, CreateTableError::InvalidLocation(_)),
            "{bad}: {refused}"
        );
    }
    lab.create_with(&at("u", "s3://lake/a/bb")).await.unwrap();
    lab.drop("t").await.unwrap();
    let dropped = lab
        .create_with(&at("t", "s3://lake/a/b/c"))
        .await
        .unwrap_err();
    assert!(
        matches!(dropped, CreateTableError::InvalidLocation(_)),
        "a dropped table keeps its own"
    );
    lab.create_with(&at("v", "s3://lake/v/v")).await.unwrap();
    let move_to = |location: &str| {
        let mut change = set_property("v", "a", "b");
        change.updates = vec![update(&format!(
            r#"{{"action":"set-location","location":"{location}"}}"#
        ))];
        change
    };
    for bad in ["s3://lake/a/bb/x", "s3://lake/v/v/x", "s3://elsewhere/v"] {
        let refused = lab.commit(&move_to(bad)).await.unwrap_err();
        assert!(
            matches!(refused, CommitError::InvalidLocation(_)),
            "{bad}: {refused}"
        );
    }
    let before = lab.load("v").await.unwrap();
    let moved = lab.commit(&move_to("s3://lake/w/v")).await.unwrap();
    assert!(
        moved
            .head
            .metadata_location()
            .starts_with("s3://lake/w/v/metadata/00002-")
    );
    let old = lab.file(before.metadata_location()).await.unwrap();
    assert_eq!(
        old,
        before.rendered(SnapshotsMode::All),
        "files stay where they were written"
    );
    lab.commit(&move_to("s3://lake/v/v")).await.unwrap();
    let bucket = lab.bucket_id().await;
    lab.drop("v").await.unwrap();
    for key in ["w/v/data/x", "v/v/data/x"] {
        assert_eq!(
            lab.catalog.locate(bucket, key).await.unwrap(),
            FileLocation::Dropped
        );
    }
    for key in ["nope/data/x", "x", "v", ""] {
        assert_eq!(
            lab.catalog.locate(bucket, key).await.unwrap(),
            FileLocation::Outside
        );
    }
}

#[tokio::test]
async fn path_properties_stay_inside_the_table() {
    let lab = Lab::with_namespace().await;
    let with = |value: &str| CreateTable {
        location: Some("s3://lake/a/t".to_owned()),
        properties: vec![("write.data.path".into(), value.into())],
        ..new_table("t")
    };
    for bad in ["s3://other/x", "s3://lake/u/data", "s3://lake/a/t2"] {
        let refused = lab.create_with(&with(bad)).await.unwrap_err();
        assert!(
            matches!(refused, CreateTableError::InvalidProperty(_)),
            "{bad}: {refused}"
        );
    }
    lab.create_with(&with("s3://lake/a/t/data")).await.unwrap();
    for key in [
        "write.metadata.path",
        "write.object-storage.path",
        "write.data.path",
    ] {
        let refused = lab
            .commit(&set_property("t", key, "s3://evil/x"))
            .await
            .unwrap_err();
        assert!(
            matches!(refused, CommitError::InvalidProperty(_)),
            "{key}: {refused}"
        );
    }
    lab.commit(&set_property(
        "t",
        "write.metadata.path",
        "s3://lake/a/t/meta",
    ))
    .await
    .unwrap();
}

#[tokio::test]
async fn dropping_frees_the_name_only() {
    let lab = Lab::with_namespace().await;
    let head = lab.create("t").await.unwrap();
    let stale = DropTable {
        bucket: lake(),
        ident: ident("t"),
        purge: Purge::Keep,
        version_token: Some("0".repeat(32)),
    };
    let refused = lab.catalog.drop_table(&allowed(), &cx(), &stale).await;
    assert!(matches!(refused, Err(DropTableError::StaleVersionToken(_))));
    let right = DropTable {
        version_token: Some(head.info().version_token.to_string()),
        ..stale
    };
    lab.catalog
        .drop_table(&allowed(), &cx(), &right)
        .await
        .unwrap();
    assert!(matches!(
        lab.load("t").await,
        Err(LoadTableError::NoSuchTable(_))
    ));
    assert!(matches!(
        lab.drop("t").await,
        Err(DropTableError::NoSuchTable(_))
    ));
    let by_id = TableSelector::Id(head.info().id);
    let by_id = lab
        .catalog
        .get_table(&allowed(), &cx(), &lake(), &by_id)
        .await;
    assert!(matches!(by_id, Err(GetTableError::NoSuchTable(_))));
    let anew = lab.create("t").await.unwrap();
    assert_ne!(anew.info().id, head.info().id);
    assert_ne!(anew.info().location, head.info().location);
}

#[tokio::test]
async fn a_renamed_table_keeps_its_files_and_id() {
    let lab = Lab::with_namespace().await;
    lab.create_namespace(&["new"]).await.unwrap();
    let head = lab.create("t").await.unwrap();
    lab.create("u").await.unwrap();
    let mut moved = ident("t2");
    moved.namespace = ns(&["new"]);
    let rename = async |to| {
        let request = RenameTable {
            bucket: lake(),
            from: ident("t"),
            to,
            version_token: None,
        };
        lab.catalog.rename_table(&allowed(), &cx(), &request).await
    };
    let taken = rename(ident("u")).await.unwrap_err();
    assert_eq!(
        taken.to_string(),
        "Cannot rename ns.t to ns.u. Table already exists"
    );
    let mut nowhere = ident("t2");
    nowhere.namespace = ns(&["nope"]);
    assert!(matches!(
        rename(nowhere).await,
        Err(RenameTableError::NoSuchNamespace(_))
    ));
    let renamed = rename(moved.clone()).await.unwrap();
    assert_eq!((renamed.id, &renamed.ident), (head.info().id, &moved));
    assert!(matches!(
        rename(ident("x")).await,
        Err(RenameTableError::NoSuchTable(_))
    ));
    let loaded = lab
        .catalog
        .load_table(&allowed(), &cx(), &lake(), &moved)
        .await
        .unwrap();
    assert_eq!(loaded.metadata_location(), head.metadata_location());
    assert_eq!(loaded.info(), &renamed);
    let mut change = append("t2", loaded.metadata(), 1);
    change.ident = moved.clone();
    assert_eq!(lab.commit(&change).await.unwrap().head.info().version, 2);
    lab.create("t").await.unwrap();
}

#[tokio::test]
async fn a_table_without_a_schema_gets_its_metadata_later() {
    let lab = Lab::with_namespace().await;
    let empty = lab
        .catalog
        .create_empty_table(&allowed(), &cx(), &lake(), &ident("t"))
        .await
        .unwrap();
    assert_eq!(
        (empty.state, empty.metadata_location.clone()),
        (TableState::Empty, None)
    );
    assert!(matches!(
        lab.load("t").await,
        Err(LoadTableError::NoMetadata(_))
    ));
    let commit = lab.commit(&set_property("t", "a", "b")).await;
    assert!(matches!(commit, Err(CommitError::NoMetadata(_))));

    let other = lab.create("other").await.unwrap();
    let document = String::from_utf8(other.rendered(SnapshotsMode::All).to_vec()).unwrap();
    let document = document.replace(&other.info().location, &empty.location);
    let key = format!(
        "{}/metadata/00000-mine.metadata.json",
        empty.location.strip_prefix("s3://lake/").unwrap()
    );
    let point = async |token: String, file: String| {
        let request = UpdateMetadataLocation {
            bucket: lake(),
            ident: ident("t"),
            version_token: token,
            metadata_location: file,
        };
        lab.catalog
            .update_metadata_location(&allowed(), &cx(), &request)
            .await
    };
    use UpdateMetadataLocationError as E;
    let token = empty.version_token.to_string();
    let uri = format!("s3://lake/{key}");
    assert!(matches!(
        point(token.clone(), uri.clone()).await,
        Err(E::NoSuchMetadataFile(_))
    ));
    let outside = "s3://lake/x/00000-a.metadata.json".to_owned();
    assert!(matches!(
        point(token.clone(), outside).await,
        Err(E::InvalidLocation(_))
    ));
    let named = format!("{}/metadata/v1.json", empty.location);
    assert!(matches!(
        point(token.clone(), named).await,
        Err(E::InvalidLocation(_))
    ));
    lab.objects
        .0
        .lock()
        .insert(key.clone(), Bytes::from_static(b"{}"));
    assert!(matches!(
        point(token.clone(), uri.clone()).await,
        Err(E::InvalidMetadata(_))
    ));
    lab.objects
        .0
        .lock()
        .insert(key.clone(), other.rendered(SnapshotsMode::All));
    let wrong = point(token.clone(), uri.clone()).await.unwrap_err();
    assert!(matches!(wrong, E::InvalidMetadata(_)), "{wrong}");

    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(document.as_bytes()).unwrap();
    lab.objects
        .0
        .lock()
        .insert(format!("{key}.gz"), packed.finish().unwrap().into());
    let live = point(token.clone(), format!("{uri}.gz")).await.unwrap();
    assert_eq!((live.state, live.version), (TableState::Live, 1));
    assert_eq!(live.metadata_location, Some(format!("{uri}.gz")));
    assert!(matches!(
        point(token, uri.clone()).await,
        Err(E::StaleVersionToken(_))
    ));
    assert_eq!(lab.file(&uri).await, None, "the client's file is an object");

    let loaded = lab.load("t").await.unwrap();
    let done = lab
        .commit(&append("t", loaded.metadata(), 1))
        .await
        .unwrap();
    let log: Vec<_> = done
        .head
        .metadata()
        .metadata_log()
        .map(|e| e.metadata_file.to_string())
        .collect();
    assert_eq!(log, [format!("{uri}.gz")]);
    assert!(lab.file(done.head.metadata_location()).await.is_some());
    let uuid = other.metadata().uuid().unwrap();
    let foreign = document.replace(uuid, "6f0c9a1e-3b1a-4a52-9d29-4f0b36d6a0ff");
    lab.objects.0.lock().insert(key, foreign.into());
    let foreign = point(done.head.info().version_token.to_string(), uri)
        .await
        .unwrap_err();
    assert!(matches!(foreign, E::InvalidMetadata(_)), "{foreign}");
}

pub(super) async fn register(
    lab: &Lab,
    name: &str,
    file: &str,
    overwrite: Overwrite,
) -> Result<Arc<TableHead>, RegisterTableError> {
    let request = RegisterTable {
        bucket: lake(),
        ident: ident(name),
        metadata_location: file.to_owned(),
        overwrite,
    };
    lab.catalog
        .register_table(&allowed(), &cx(), &request)
        .await
}

#[tokio::test]
async fn registering_the_file_of_a_dropped_table_brings_it_back() {
    let lab = Lab::with_namespace().await;
    let head = lab.create("t").await.unwrap();
    let head = lab
        .commit(&append("t", head.metadata(), 1))
        .await
        .unwrap()
        .head;
    let file = head.metadata_location().to_owned();
    let taken = register(&lab, "t", &file, Overwrite::Refuse)
        .await
        .unwrap_err();
    assert_eq!(taken.to_string(), "Table already exists: ns.t");
    let second = register(&lab, "u", &file, Overwrite::Refuse)
        .await
        .unwrap_err();
    assert!(
        matches!(second, RegisterTableError::InvalidLocation(_)),
        "live elsewhere: {second}"
    );
    lab.drop("t").await.unwrap();
    let back = register(&lab, "u", &file, Overwrite::Refuse).await.unwrap();
    assert_eq!(back.info().id, head.info().id);
    assert_eq!(back.metadata_location(), file);
    assert_eq!(back.metadata(), head.metadata());
    assert_eq!(
        lab.file(&file).await.unwrap(),
        head.rendered(SnapshotsMode::All)
    );
    let next = lab.commit(&append("u", back.metadata(), 2)).await.unwrap();
    assert_eq!(next.head.metadata().snapshot_count(), 2);
    let bucket = lab.bucket_id().await;
    let key = format!(
        "{}/data/x",
        head.info().location.strip_prefix("s3://lake/").unwrap()
    );
    assert_eq!(
        lab.catalog.locate(bucket, &key).await.unwrap(),
        FileLocation::Live
    );

    // Back to the earlier file, on purpose.
    let rolled = register(&lab, "u", &file, Overwrite::Replace)
        .await
        .unwrap();
    assert_eq!(rolled.metadata(), head.metadata());
    assert_eq!(rolled.info().version, next.head.info().version + 1);
    let cold = lab
        .forgetful()
        .load_table(&allowed(), &cx(), &lake(), &ident("u"))
        .await
        .unwrap();
    assert_eq!(cold.metadata(), head.metadata());
}

#[tokio::test]
async fn registering_checks_file_and_place() {
    let lab = Lab::with_namespace().await;
    let head = lab.create("t").await.unwrap();
    let document = String::from_utf8(head.rendered(SnapshotsMode::All).to_vec()).unwrap();
    let put = |key: &str, text: String| lab.objects.0.lock().insert(key.to_owned(), text.into());
    let away = |to: &str| document.replace(&head.info().location, to);
    put("in/a.metadata.json", away("s3://lake/in/t"));
    put("in/b.metadata.json", away("s3://other/in"));
    put("in/c.metadata.json", "[]".to_owned());
    let late = format!("\"last-updated-ms\":{}", head.metadata().last_updated_ms());
    put(
        "in/d.metadata.json",
        away("s3://lake/in/t").replace(&late, "\"last-updated-ms\":99999999999999"),
    );
    use RegisterTableError as E;
    let at = async |file: &str| register(&lab, "u", file, Overwrite::Refuse).await;
    assert!(matches!(
        at("file:///etc/x.metadata.json").await,
        Err(E::InvalidLocation(_))
    ));
    assert!(matches!(
        at("s3://lake/in/b.metadata.json").await,
        Err(E::InvalidLocation(_))
    ));
    assert!(matches!(
        at("s3://lake/in/c.metadata.json").await,
        Err(E::InvalidMetadata(_))
    ));
    assert!(matches!(
        at("s3://lake/in/d.metadata.json").await,
        Err(E::InvalidMetadata(_))
    ));
    assert!(matches!(
        at("s3://lake/in/e.metadata.json").await,
        Err(E::NoSuchMetadataFile(_))
    ));
    let head = at("s3://lake/in/a.metadata.json").await.unwrap();
    assert_eq!(
        (head.info().version, head.metadata().location()),
        (1, "s3://lake/in/t")
    );
    assert_eq!(head.metadata_location(), "s3://lake/in/a.metadata.json");
}

#[tokio::test]
async fn metadata_files_are_listed_in_key_order() {
    let lab = Lab::with_namespace().await;
    let mut expected = Vec::new();
    for name in ["b", "a", "a-b", "c"] {
        let at = format!("s3://lake/x/{name}");
        let request = CreateTable {
            location: Some(at),
            ..new_table(name)
        };
        let mut head = lab.create_with(&request).await.unwrap();
        for id in 1..=3 {
            expected.push(
                head.metadata_location()
                    .strip_prefix("s3://lake/")
                    .unwrap()
                    .to_owned(),
            );
            head = lab
                .commit(&append(name, head.metadata(), id))
                .await
                .unwrap()
                .head;
        }
        expected.push(
            head.metadata_location()
                .strip_prefix("s3://lake/")
                .unwrap()
                .to_owned(),
        );
    }
    expected.sort();
    let bucket = lab.bucket_id().await;
    let list = async |prefix: &str, after: Option<&str>, limit| {
        let found = lab
            .catalog
            .metadata_files(bucket, prefix, after, limit)
            .await
            .unwrap();
        found.into_iter().map(|e| e.key).collect::<Vec<_>>()
    };
    assert_eq!(list("", None, 100).await, expected);
    for prefix in [
        "x/",
        "x/a",
        "x/a/",
        "x/a/metadata/",
        "x/a/metadata/00002",
        "x/a/data/",
        "y",
    ] {
        let some: Vec<_> = expected
            .iter()
            .filter(|k| k.starts_with(prefix))
            .cloned()
            .collect();
        assert_eq!(list(prefix, None, 100).await, some, "{prefix}");
        for (n, after) in some.iter().enumerate() {
            assert_eq!(
                list(prefix, Some(after), 100).await,
                some[n + 1..],
                "{prefix} {after}"
            );
        }
    }
    let (mut seen, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = list("", after.as_deref(), 3).await;
        seen.extend(page.iter().cloned());
        if page.len() < 3 {
            break;
        }
        after = page.last().cloned();
    }
    assert_eq!(seen, expected);
}

/// A client that failed between staging and committing may begin anew with the same location.
#[tokio::test]
async fn a_staged_location_can_be_staged_again_under_its_name_only() {
    let lab = Lab::with_namespace().await;
    let at = |name: &str| CreateTable {
        location: Some("s3://lake/chosen/t".to_owned()),
        ..new_table(name)
    };
    let stage = async |name| lab.catalog.stage_table(&allowed(), &cx(), &at(name)).await;
    let first = stage("t").await.unwrap();
    assert_eq!(stage("t").await.unwrap().id, first.id);
    assert!(matches!(
        stage("u").await,
        Err(CreateTableError::InvalidLocation(_))
    ));
    let created = lab.create_with(&at("t")).await.unwrap();
    assert_eq!(created.info().id, first.id);
    let bucket = lab.bucket_id().await;
    let place = lab.catalog.locate(bucket, "chosen/t/data/x").await.unwrap();
    assert_eq!(place, FileLocation::Live);
    assert!(matches!(
        stage("u").await,
        Err(CreateTableError::InvalidLocation(_))
    ));
}
