//! The bytes of commands and rows, pinned. A golden file may gain lines, never change one: nodes of
//! an older version wrote these bytes and their logs must still apply.
#![allow(clippy::unwrap_used)] // a test; the lint spares only code inside `#[test]`

use bytes::Bytes;
use expect_test::expect_file;
use floeberg_state::{
    Applied, COMMAND_FORMAT, Command, Event, FEATURE_LEVEL_FIRST, Identity, LogPos, RangeEmpty,
    Read, RowChange, RowOp, Run, UsageDelta, UsageKey,
};
use floeberg_types::{BucketId, ClusterId, GroupId, TableId};
use prost::Message as _;
use std::collections::BTreeMap;
use std::fmt::Write as _;

const IDENTITY: Identity = Identity {
    cluster: ClusterId::from_bytes([0xc1; 16]),
    group: GroupId(1),
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing to a string cannot fail");
        out
    })
}

fn full_command() -> Command {
    let key = |name: &str| Bytes::from(format!("\x20{name}"));
    let details = BTreeMap::from([
        ("version".to_owned(), "7".to_owned()),
        ("snapshot-id".to_owned(), "42".to_owned()),
    ]);
    let table = UsageDelta {
        objects: 1,
        bytes: -2,
        commits: 3,
        tables: -4,
    };
    Command {
        format: COMMAND_FORMAT,
        feature_level: FEATURE_LEVEL_FIRST,
        cluster_id: Bytes::copy_from_slice(IDENTITY.cluster.as_bytes()),
        group: IDENTITY.group.0,
        account: "000000000000".to_owned(),
        principal: "root".to_owned(),
        request_id: Bytes::from(vec![0xaa; 16]),
        log_time_ms: 1_767_225_600_000,
        commit_id: Bytes::from(vec![0xbb; 16]),
        reads: vec![Read {
            key: key("absent"),
            commit_id: Bytes::new(),
        }],
        ranges_empty: vec![RangeEmpty {
            start: key("n/"),
            end: key("n0"),
        }],
        ops: vec![
            RowOp {
                key: key("row"),
                op: Some(RowChange::Put(Bytes::from_static(b"payload"))),
            },
            RowOp {
                key: key("gone"),
                op: Some(RowChange::Delete(true)),
            },
        ],
        usage: vec![
            table.into_message(UsageKey::Table(TableId::from_bytes([0x11; 16]))),
            table.into_message(UsageKey::Bucket(BucketId::from_bytes([0x22; 16]))),
        ],
        event: Some(Event {
            kind: "table.commit".to_owned(),
            resource: "arn:aws:s3tables:us-east-1:000000000000:bucket/b".to_owned(),
            details,
        }),
        raise_feature_level: 0,
    }
}

#[test]
fn the_bytes_of_a_command_are_pinned() {
    let command = full_command();
    expect_file!["golden/command-v1.hex"].assert_eq(&(hex(&command.encode_to_vec()) + "\n"));
}

#[test]
fn the_rows_and_the_digest_of_a_log_are_pinned() {
    let base: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    let mut run = Run::new(&base, IDENTITY, Applied::default());
    let at = |index| LogPos {
        term: 3,
        node: 2,
        index,
    };
    let command: Bytes = full_command().encode_to_vec().into();
    run.membership(at(0), Bytes::from_static(b"voters"))
        .unwrap();
    run.blank(at(1)).unwrap();
    run.command(at(2), &command).unwrap();
    let mut page = String::new();
    let (batch, applied) = run.finish();
    for (key, change) in batch {
        let value = change.map_or_else(|| "deleted".to_owned(), |value| hex(&value));
        writeln!(page, "{} {value}", hex(&key)).unwrap();
    }
    writeln!(page, "digest {:?}", applied.digest).unwrap();
    expect_file!["golden/log-v1.txt"].assert_eq(&page);
}

#[test]
fn the_bytes_of_a_raise_and_of_the_row_it_leaves_are_pinned() {
    let raise = Command {
        feature_level: 2,
        raise_feature_level: 2,
        ops: Vec::new(),
        usage: Vec::new(),
        event: None,
        ..full_command()
    };
    let bytes: Bytes = raise.encode_to_vec().into();
    let base: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    let mut run = Run::new(&base, IDENTITY, Applied::default());
    let at = LogPos {
        term: 3,
        node: 2,
        index: 0,
    };
    run.command(at, &bytes).unwrap();
    let mut page = format!("command {}\n", hex(&bytes));
    for (key, value) in run.finish().0 {
        writeln!(page, "{} {}", hex(&key), hex(&value.unwrap())).unwrap();
    }
    expect_file!["golden/raise-v1.txt"].assert_eq(&page);
}
