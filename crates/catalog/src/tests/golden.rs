//! The stored form of every kind of row. A changed expectation here is a changed format: data that
//! is already stored must still be readable.

use crate::keys::{self, FragmentKey, SeriesId};
use crate::rows::*;
use bytes::Bytes;
use expect_test::{Expect, expect};
use floeberg_iceberg::Section;
use floeberg_types::{BucketId, BucketName, Namespace, NamespaceId, TableId, TimestampMs};
use prost::Message;

const BUCKET: [u8; 16] = [0xb1; 16];
const NAMESPACE: [u8; 16] = [0xa5; 16];
const TABLE: [u8; 16] = [0x7a; 16];

fn check<M: Message>(key: &Bytes, row: &M, expected: &Expect) {
    let row = row.encode_to_vec();
    expected.assert_eq(&format!("{}\n{}", hex::encode(key), hex::encode(row)));
}

fn version_row() -> VersionRow {
    VersionRow {
        layout: 1,
        length: 1234,
        etag: id_bytes(&[0xe7; 16]),
        file_uuid: id_bytes(&[0xf1; 16]),
        timestamp_ms: 1_700_000_000_000,
        location_key: "ns/t".to_owned(),
        external_key: "ns/t/x.metadata.json".to_owned(),
        series: Bytes::new(),
    }
}

#[test]
fn bucket_and_namespace_rows() {
    let name = BucketName::for_tables("lake").unwrap();
    let row = BucketRow {
        id: id_bytes(&BUCKET),
        kind: BucketKind::Table.into(),
        state: BucketState::Live.into(),
        account: "000000000000".to_owned(),
        created_by: "root".to_owned(),
        created_at_ms: 1,
        properties: [("k".to_owned(), "v".to_owned())].into(),
        deletions: 0,
    };
    check(
        &keys::bucket(&name),
        &row,
        &expect![[r#"
        106c616b65
        0a10b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b110011801220c3030303030303030303030302a04726f6f7430013a060a016b120176"#]],
    );
    let row = BucketRow {
        kind: BucketKind::General.into(),
        state: BucketState::Deleting.into(),
        deletions: 300,
        ..row
    };
    check(
        &keys::bucket(&name),
        &row,
        &expect![[r#"
        106c616b65
        0a10b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b110021802220c3030303030303030303030302a04726f6f7430013a060a016b12017640ac02"#]],
    );
    let namespace = Namespace::new(vec!["a".into(), "b".into()]).unwrap();
    let row = NamespaceRow {
        id: id_bytes(&NAMESPACE),
        levels: vec!["a".into(), "b".into()],
        properties: [("k".to_owned(), "v".to_owned())].into(),
        created_by: "root".to_owned(),
        created_at_ms: 1,
    };
    check(
        &keys::namespace(BucketId::from_bytes(BUCKET), &namespace),
        &row,
        &expect![[r#"
        11b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b102610001620001
        0a10a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a51201611201621a060a016b1201762204726f6f742801"#]],
    );
    let row = NameRow {
        kind: NameKind::Table.into(),
        id: id_bytes(&TABLE),
    };
    let key = keys::name(NamespaceId::from_bytes(NAMESPACE), &"t".parse().unwrap());
    check(
        &key,
        &row,
        &expect![[r#"
        12a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a574
        080112107a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a"#]],
    );
}

#[test]
fn table_rows() {
    let table = TableId::from_bytes(TABLE);
    let row = TableHeadRow {
        state: TableState::Dropped.into(),
        bucket_id: id_bytes(&BUCKET),
        namespace_id: id_bytes(&NAMESPACE),
        bucket: "lake".to_owned(),
        levels: vec!["ns".to_owned()],
        name: "t".to_owned(),
        table_uuid: "u".to_owned(),
        location: "s3://lake/ns/t".to_owned(),
        version: 7,
        seen_next: 5,
        created_by: "root".to_owned(),
        created_at_ms: 1,
        modified_by: "root".to_owned(),
        modified_at_ms: 2,
        dropped_at_ms: 3,
        purge_requested: true,
        current: Some(version_row()),
        former_paths: vec!["old".to_owned()],
    };
    check(
        &keys::head(table),
        &row,
        &expect![[r#"
        137a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a
        08031210b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b11a10a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a522046c616b652a026e733201743a0175420e73333a2f2f6c616b652f6e732f74480750055a04726f6f7460016a04726f6f74700278038001018a014c080110d2091a10e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e72210f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f12880d095ffbc3132046e732f743a146e732f742f782e6d657461646174612e6a736f6e9201036f6c64"#]],
    );
    let part = FragmentKey {
        section: Section::Snapshots,
        ordinal: 3,
        from: 7,
    };
    let row = FragmentRow {
        json: Bytes::from_static(b"{}"),
        removed: true,
        more: 0,
    };
    check(
        &keys::fragment(SeriesId::first_of(table), part),
        &row,
        &expect![[r#"
        147a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a0700000000000000030000000000000007
        0a027b7d1001"#]],
    );
    check(
        &keys::version(table, 7),
        &version_row(),
        &expect![[r#"
        157a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a0000000000000007
        080110d2091a10e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e72210f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f12880d095ffbc3132046e732f743a146e732f742f782e6d657461646174612e6a736f6e"#]],
    );
    let row = CollectedRow {
        version: 7,
        again_at_ms: 9,
    };
    check(
        &keys::collected(table),
        &row,
        &expect![[r#"
        1a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a
        08071009"#]],
    );
}

#[test]
fn rows_of_further_series() {
    let (table, series) = (TableId::from_bytes(TABLE), SeriesId::from_bytes([0x5e; 16]));
    let part = FragmentKey {
        section: Section::Schemas,
        ordinal: 0,
        from: 0,
    };
    let row = FragmentRow {
        json: Bytes::from_static(b"{"),
        removed: false,
        more: 1,
    };
    check(
        &keys::fragment(series, part),
        &row,
        &expect![[r#"
        145e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e0400000000000000000000000000000000
        0a017b1801"#]],
    );
    let row = FragmentRow {
        json: Bytes::from_static(b"}"),
        ..FragmentRow::default()
    };
    check(
        &keys::fragment_more(series, part, 1),
        &row,
        &expect![[r#"
            145e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e040000000000000000000000000000000000000001
            0a017d"#]],
    );
    let row = VersionRow {
        series: id_bytes(series.as_bytes()),
        ..version_row()
    };
    check(
        &keys::version(table, 8),
        &row,
        &expect![[r#"
        157a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a0000000000000008
        080110d2091a10e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e72210f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f12880d095ffbc3132046e732f743a146e732f742f782e6d657461646174612e6a736f6e42105e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e"#]],
    );
    check(
        &keys::series(table, series),
        &SeriesRow {},
        &expect![[r#"
            1d7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e
        "#]],
    );
    let row = PiecesRow {
        condemned: true,
        bytes: 300,
        caller: Bytes::new(),
    };
    let key = keys::pieces(TimestampMs(9), series);
    check(
        &key,
        &row,
        &expect![[r#"
        1e80000000000000095e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e
        080110ac02"#]],
    );
    let row = PiecesRow {
        caller: id_bytes(&[0xca; 16]),
        ..row
    };
    check(
        &key,
        &row,
        &expect![[r#"
        1e80000000000000095e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e
        080110ac021a10cacacacacacacacacacacacacacacaca"#]],
    );
}

#[test]
fn location_and_seen_rows() {
    let table = TableId::from_bytes(TABLE);
    let row = LocationRow {
        table_id: id_bytes(&TABLE),
        state: LocationState::Staged.into(),
        namespace_id: id_bytes(&NAMESPACE),
        name: "t".to_owned(),
        expires_at_ms: 9,
    };
    check(
        &keys::location(BucketId::from_bytes(BUCKET), "ns/t"),
        &row,
        &expect![[r#"
        16b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b16e732f742f
        0a107a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a10011a10a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a52201742809"#]],
    );
    let row = StagedRow {
        bucket_id: id_bytes(&BUCKET),
        path: "ns/t".to_owned(),
    };
    check(
        &keys::staged(TimestampMs(9), table),
        &row,
        &expect![[r#"
        1780000000000000097a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a
        0a10b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b112046e732f74"#]],
    );
    let row = SeenRow {
        fingerprint: Bytes::from(vec![0x5e; 32]),
        manifest_list: "m".to_owned(),
        version: 7,
        log_time_ms: 9,
    };
    check(
        &keys::seen(table, -2),
        &row,
        &expect![[r#"
        187a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7ffffffffffffffe
        0a205e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e12016d18072009"#]],
    );
    let row = SeenOrderRow {
        snapshot_id: -2,
        log_time_ms: 9,
    };
    check(
        &keys::seen_order(table, 4),
        &row,
        &expect![[r#"
        197a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a0000000000000004
        08031009"#]],
    );
}

#[test]
fn answer_rows() {
    let id = [0x1d; 32];
    let row = |answer| AnswerRow {
        fingerprint: Bytes::from(vec![0xf9; 32]),
        expires_at_ms: 9,
        answer: Some(answer),
    };
    let nothing = row(answer_row::Answer::Nothing(DoneNothing {}));
    check(
        &keys::answer(&id),
        &nothing,
        &expect![[r#"
        1b1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d
        0a20f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f910091a00"#]],
    );
    let namespace = row(answer_row::Answer::Namespace(NamespaceRow {
        levels: vec!["ns".to_owned()],
        ..NamespaceRow::default()
    }));
    check(
        &keys::answer(&id),
        &namespace,
        &expect![[r#"
        1b1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d
        0a20f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f91009220412026e73"#]],
    );
    let properties = row(answer_row::Answer::Properties(DoneProperties {
        updated: vec!["a".to_owned()],
        removed: vec!["b".to_owned()],
        missing: vec!["c".to_owned()],
    }));
    check(
        &keys::answer(&id),
        &properties,
        &expect![[r#"
        1b1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d
        0a20f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f910092a090a01611201621a0163"#]],
    );
    let tables = row(answer_row::Answer::Tables(DoneTables {
        ids: vec![id_bytes(&TABLE)],
    }));
    check(
        &keys::answer(&id),
        &tables,
        &expect![[r#"
        1b1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d
        0a20f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9100932120a107a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a"#]],
    );
    let staged = row(answer_row::Answer::Staged(DoneStaged {
        table_id: id_bytes(&TABLE),
        metadata: Bytes::from_static(b"{}"),
        expires_at_ms: 7,
    }));
    check(
        &keys::answer(&id),
        &staged,
        &expect![[r#"
        1b1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d
        0a20f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f910093a180a107a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a12027b7d1807"#]],
    );
    let refusal = row(answer_row::Answer::Refusal(RefusalRow {
        code: 409,
        kind: "k".to_owned(),
        message: "m".to_owned(),
    }));
    check(
        &keys::answer(&id),
        &refusal,
        &expect![[r#"
        1b1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d
        0a20f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f91009420908990312016b1a016d"#]],
    );
    let expiry = keys::answer_expiry(TimestampMs(9), &id);
    check(
        &expiry,
        &AnswerExpiryRow {},
        &expect![[r#"
        1c80000000000000091d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d
    "#]],
    );
}
