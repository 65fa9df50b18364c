//! Documents as other writers made them, and the exact bytes this model makes of them.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use expect_test::expect_file;
use floeberg_iceberg::TableMetadata;
use serde_json::Value;

/// Renders, and checks that nothing but the named members was added, dropped or changed.
fn rendered(text: &str, different: &[&str]) -> String {
    let table = TableMetadata::parse(text.as_bytes()).unwrap();
    let out = table.render();
    assert_eq!(TableMetadata::parse(&out).unwrap().render(), out);
    assert_eq!(table.rendered_len(), out.len() as u64);
    let mut before: Value = serde_json::from_str(text).unwrap();
    let mut after: Value = serde_json::from_slice(&out).unwrap();
    for name in different {
        before.as_object_mut().unwrap().remove(*name);
        after.as_object_mut().unwrap().remove(*name);
    }
    assert_eq!(before, after);
    String::from_utf8(out).unwrap() + "\n"
}

#[test]
fn v1_from_before_schema_lists() {
    let added = [
        "location",
        "schema",
        "schemas",
        "current-schema-id",
        "partition-spec",
        "partition-specs",
        "default-spec-id",
        "last-partition-id",
        "sort-orders",
        "default-sort-order-id",
        "refs",
        "snapshot-log",
        "metadata-log",
        "statistics",
        "partition-statistics",
    ];
    expect_file!["golden/v1-old-writer.rendered.json"]
        .assert_eq(&rendered(include_str!("golden/v1-old-writer.json"), &added));
}

#[test]
fn v2_with_every_section_and_unknown_members() {
    expect_file!["golden/v2-full.rendered.json"]
        .assert_eq(&rendered(include_str!("golden/v2-full.json"), &[]));
}

#[test]
fn v3_with_new_types_defaults_and_keys() {
    let added = ["statistics", "partition-statistics", "refs"];
    expect_file!["golden/v3-full.rendered.json"]
        .assert_eq(&rendered(include_str!("golden/v3-full.json"), &added));
}

#[test]
fn number_texts_and_unknown_members_survive() {
    let table = TableMetadata::parse(include_bytes!("golden/v2-full.json")).unwrap();
    let text = String::from_utf8(table.render()).unwrap();
    for kept in [
        "3.1400",
        "123456789012345678901234567890",
        "[ 1.0, 2e3 ]",
        "\"x-ref\" : true",
    ] {
        assert!(text.contains(kept), "{kept}");
    }
}

#[test]
fn broken_documents_have_clear_texts() {
    let valid: Value = serde_json::from_str(include_str!("golden/v2-full.json")).unwrap();
    let error = |change: fn(&mut Value)| {
        let mut broken = valid.clone();
        change(&mut broken);
        TableMetadata::parse(broken.to_string().as_bytes())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error(|t| t["format-version"] = 4.into()),
        "Cannot read unsupported version 4"
    );
    assert_eq!(
        error(|t| t["current-schema-id"] = 9.into()),
        "Cannot find schema with current-schema-id=9 from schemas"
    );
    assert_eq!(
        error(|t| t["default-spec-id"] = 9.into()),
        "Cannot find partition spec with default-spec-id=9 from partition-specs"
    );
    assert_eq!(
        error(|t| t["default-sort-order-id"] = 9.into()),
        "Cannot find sort order with default-sort-order-id=9 from sort-orders"
    );
    assert!(error(|t| t["current-snapshot-id"] = 9.into()).contains("Cannot find current version"));
    assert!(error(|t| t["last-sequence-number"] = 0.into()).contains("greater than last sequence"));
    assert!(error(|t| t["refs"]["test"]["snapshot-id"] = 9.into()).contains("reference test"));
    assert!(error(|t| t["refs"]["main"]["type"] = "tag".into()).contains("main must be a branch"));
    assert!(error(|t| t["schemas"][0]["schema-id"] = 1.into()).contains("repeats an id"));
    assert!(error(|t| t["properties"]["z"] = 5.into()).contains("properties.z"));
    assert!(error(|t| t["location"] = Value::Null).contains("missing field `location`"));
    assert_eq!(
        TableMetadata::parse(b"\xff").unwrap_err().to_string(),
        "Invalid table metadata: not UTF-8"
    );
    assert!(TableMetadata::parse(b"[]").is_err());
    assert!(TableMetadata::parse(b"{\"format-version\":2,\"format-version\":2}").is_err());
}
