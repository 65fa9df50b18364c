//! What a location may not be, and what a snapshot may not name, so that no table is in the way of
//! another.

use super::commits::creation;
use super::lab::*;
use super::tables::register;
use crate::*;

fn at(name: &str, location: &str) -> CreateTable {
    CreateTable {
        location: Some(location.to_owned()),
        ..new_table(name)
    }
}

fn set_location(location: &str) -> floeberg_iceberg::TableUpdate {
    update(&format!(
        r#"{{"action":"set-location","location":"{location}"}}"#
    ))
}

fn is_too_short(refused: &impl std::fmt::Display) -> bool {
    refused
        .to_string()
        .contains("at least two segments below the bucket, as in s3://bucket/namespace/table")
}

/// The default locations of a namespace's tables lie below one segment. A table that had it for
/// itself would block all of them, also those of a namespace that does not exist yet.
#[tokio::test]
async fn no_way_to_choose_a_location_blocks_the_tables_of_a_namespace() {
    let lab = Lab::with_namespace().await;
    lab.create("t").await.unwrap();
    for location in [
        "s3://lake/ns",
        "s3a://lake/ns/",
        "s3://lake/later",
        "s3://lake/a=b",
    ] {
        let created = lab.create_with(&at("u", location)).await.unwrap_err();
        assert!(is_too_short(&created), "{location}: {created}");
        let request = at("u", location);
        let staged = lab.catalog.stage_table(&allowed(), &cx(), &request).await;
        assert!(is_too_short(&staged.unwrap_err()), "{location}");
        let committed = lab.commit(&creation("u", Some(location))).await;
        assert!(is_too_short(&committed.unwrap_err()), "{location}");
        let mut change = set_property("t", "a", "b");
        change.updates = vec![set_location(location)];
        let moved = lab.commit(&change).await.unwrap_err();
        assert!(matches!(moved, CommitError::InvalidLocation(_)));
        assert!(is_too_short(&moved), "{location}: {moved}");
    }
    let head = lab.load("t").await.unwrap();
    let document = String::from_utf8(head.rendered(SnapshotsMode::All).to_vec()).unwrap();
    let document = document.replace(&head.info().location, "s3://lake/later");
    let file = "in/a.metadata.json".to_owned();
    lab.objects.0.lock().insert(file, document.into());
    let file = "s3://lake/in/a.metadata.json";
    let registered = register(&lab, "u", file, Overwrite::Refuse).await;
    assert!(is_too_short(&registered.unwrap_err()));

    lab.create_namespace(&["later"]).await.unwrap();
    for namespace in ["ns", "later"] {
        let request = CreateTable {
            ident: floeberg_types::TableIdent {
                namespace: ns(&[namespace]),
                name: "v".parse().unwrap(),
            },
            ..new_table("v")
        };
        lab.create_with(&request).await.unwrap();
    }
}

/// What engines choose: a directory of the namespace's, or deeper.
#[tokio::test]
async fn usual_locations_stand_beside_default_ones() {
    let lab = Lab::with_namespace().await;
    lab.create("a").await.unwrap();
    for (name, location) in [
        ("t", "s3://lake/ns/t"),
        ("u", "s3a://lake/ns/u/"),
        ("v", "s3://lake/warehouse/ns.db/v"),
    ] {
        let head = lab.create_with(&at(name, location)).await.unwrap();
        lab.commit(&append(name, head.metadata(), 1)).await.unwrap();
    }
    lab.create("b").await.unwrap();
}

/// The change `append` with its snapshot's manifest list elsewhere.
fn append_with_list(base: &TableHead, snapshot_id: i64, list: &str) -> TableChange {
    let metadata = base.metadata();
    let mut change = append("t", metadata, snapshot_id);
    let own = format!("{}/metadata/snap-{snapshot_id}.avro", metadata.location());
    let floeberg_iceberg::TableUpdate::AddSnapshot { snapshot } = &change.updates[0] else {
        panic!("append adds a snapshot first");
    };
    let snapshot = snapshot.as_str().replace(&own, list);
    change.updates[0] = update(&format!(
        r#"{{"action":"add-snapshot","snapshot":{snapshot}}}"#
    ));
    change
}

#[tokio::test]
async fn a_manifest_list_lies_below_its_table() {
    let lab = Lab::with_namespace().await;
    let head = lab.create("t").await.unwrap();
    let other = lab.create("other").await.unwrap();
    let own = head.info().location.clone();
    let before = lab.rows();
    for list in [
        format!("{}/metadata/snap-1.avro", other.info().location),
        format!("{own}2/metadata/snap-1.avro"),
        format!("{own}/../x/snap-1.avro"),
        own.clone(),
        "s3://other/x/snap-1.avro".to_owned(),
        "file:/etc/passwd".to_owned(),
        "snap-1.avro".to_owned(),
    ] {
        let change = append_with_list(&head, 1, &list);
        let refused = lab.commit(&change).await.unwrap_err();
        assert!(matches!(refused, CommitError::InvalidLocation(_)));
        assert_eq!(
            refused.to_string(),
            format!(
                "invalid location `{list}`: a snapshot's manifest list must be below the \
                 table's location `{own}`: write it there"
            )
        );
    }
    assert_eq!(lab.rows(), before, "a refused commit leaves nothing");
    let list = format!("{}/deep/er/list", own.replace("s3://", "s3a://"));
    let done = lab.commit(&append_with_list(&head, 1, &list)).await;
    assert_eq!(done.unwrap().outcome, CommitOutcome::Committed);
}

/// A snapshot of a create transaction and a registered one follow the same rule.
#[tokio::test]
async fn no_way_to_bring_a_snapshot_goes_around_the_rule() {
    let lab = Lab::with_namespace().await;
    let mut create = creation("u", Some("s3://lake/ns/u"));
    let snapshot = |list: &str| {
        update(&format!(
            r#"{{"action":"add-snapshot","snapshot":{{"snapshot-id":5,"sequence-number":1,"timestamp-ms":1,"manifest-list":"{list}","summary":{{"operation":"append"}}}}}}"#
        ))
    };
    create.updates.push(snapshot("s3://lake/ns/v/snap.avro"));
    let refused = lab.commit(&create).await.unwrap_err();
    assert!(
        matches!(refused, CommitError::InvalidLocation(_)),
        "{refused}"
    );
    create.updates.pop();
    create.updates.push(snapshot("s3://lake/ns/u/snap.avro"));
    let head = lab.commit(&create).await.unwrap().head;

    let document = String::from_utf8(head.rendered(SnapshotsMode::All).to_vec()).unwrap();
    let put = |key: &str, text: String| lab.objects.0.lock().insert(key.to_owned(), text.into());
    let moved = document.replace("s3://lake/ns/u", "s3://lake/ns/w");
    put(
        "in/a.metadata.json",
        moved.replace("ns/w/snap", "ns/u/snap"),
    );
    put("in/b.metadata.json", moved);
    let file = |name: &str| format!("s3://lake/in/{name}.metadata.json");
    let refused = register(&lab, "w", &file("a"), Overwrite::Refuse).await;
    assert!(matches!(
        refused,
        Err(RegisterTableError::InvalidLocation(_))
    ));
    register(&lab, "w", &file("b"), Overwrite::Refuse)
        .await
        .unwrap();
}

/// A writer that began before the table moved has its list at the old place, which is still the
/// table's; so has the table's own earlier metadata.
#[tokio::test]
async fn a_list_may_lie_where_the_table_was() {
    let lab = Lab::with_namespace().await;
    let head = lab.create("t").await.unwrap();
    let old = head.info().location.clone();
    let mut change = set_property("t", "a", "b");
    change.updates = vec![set_location("s3://lake/moved/t")];
    lab.commit(&change).await.unwrap();
    let done = lab.commit(&append("t", head.metadata(), 1)).await.unwrap();
    assert_eq!(done.head.metadata().location(), "s3://lake/moved/t");
    let list = done.head.metadata().current_snapshot().unwrap();
    assert_eq!(
        list.manifest_list.as_deref(),
        Some(format!("{old}/metadata/snap-1.avro").as_str())
    );
    // In one commit with the move, too.
    let mut both = append("t", done.head.metadata(), 2);
    both.updates
        .insert(0, set_location("s3://lake/moved/again"));
    lab.commit(&both).await.unwrap();
    let file = done.head.metadata_location().to_owned();
    register(&lab, "t", &file, Overwrite::Replace)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_number_that_would_end_all_appends_is_refused() {
    let lab = Lab::with_namespace().await;
    let head = lab.create("t").await.unwrap();
    let mut change = append("t", head.metadata(), 1);
    let floeberg_iceberg::TableUpdate::AddSnapshot { snapshot } = &change.updates[0] else {
        panic!("append adds a snapshot first");
    };
    let far = format!(r#""sequence-number":{}"#, i64::MAX);
    let snapshot = snapshot.as_str().replace(r#""sequence-number":1"#, &far);
    let good = change.updates[0].clone();
    change.updates[0] = update(&format!(
        r#"{{"action":"add-snapshot","snapshot":{snapshot}}}"#
    ));
    let refused = lab.commit(&change).await.unwrap_err();
    let CommitError::Update(floeberg_iceberg::UpdateError::Invalid(error)) = refused else {
        panic!("{refused}");
    };
    assert!(error.to_string().contains("here at most 1"), "{error}");
    change.updates[0] = good;
    lab.commit(&change).await.unwrap();
}
