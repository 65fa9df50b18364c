//! What apply refuses, and what it writes.

use super::*;
use crate::{Event, RangeEmpty, Read, RowOp, UsageDelta, UsageKey};
use floeberg_types::{BucketId, ClusterId, GroupId};
use std::collections::BTreeMap;

const IDENTITY: Identity = Identity {
    cluster: ClusterId::from_bytes([0xc1; 16]),
    group: GroupId(1),
};

type Rows = BTreeMap<Bytes, Bytes>;

fn at(index: u64) -> LogPos {
    LogPos {
        term: 2,
        node: 1,
        index,
    }
}

fn id(n: u8) -> Bytes {
    Bytes::from(vec![n; 16])
}

fn key(name: &str) -> Bytes {
    Bytes::from(format!("\x20{name}"))
}

fn command(n: u8) -> Command {
    Command {
        format: COMMAND_FORMAT,
        feature_level: FEATURE_LEVEL,
        cluster_id: Bytes::from_static(&[0xc1; 16]),
        group: 1,
        account: "000000000000".to_owned(),
        principal: "root".to_owned(),
        request_id: id(0xaa),
        log_time_ms: 1000,
        commit_id: id(n),
        ..Command::default()
    }
}

fn put(name: &str, payload: &'static [u8]) -> RowOp {
    RowOp {
        key: key(name),
        op: Some(RowChange::Put(Bytes::from_static(payload))),
    }
}

fn read(name: &str, commit_id: Bytes) -> Read {
    Read {
        key: key(name),
        commit_id,
    }
}

/// Applies one command to `rows`, as its own run.
fn commit(rows: &mut Rows, index: u64, command: &Command) -> Result<Outcome, ApplyError> {
    let applied = Applied::load(rows, IDENTITY)?;
    let base = rows.clone();
    let mut run = Run::new(&base, IDENTITY, applied);
    let outcome = run
        .command(at(index), &command.encode_to_vec().into())?
        .outcome;
    for (key, change) in run.finish().0 {
        match change {
            Some(value) => rows.insert(key, value),
            None => rows.remove(&key),
        };
    }
    Ok(outcome)
}

fn payload(rows: &Rows, key: &Bytes) -> Option<Bytes> {
    rows.get(key)
        .map(|value| RawRow::decode(value.clone()).unwrap().payload)
}

#[test]
fn a_command_applies_only_to_the_rows_it_was_decided_on() {
    let mut rows = Rows::new();
    let first = Command {
        reads: vec![read("a", Bytes::new())],
        ..command(1)
    };
    let first = Command {
        ops: vec![put("a", b"one")],
        ..first
    };
    assert_eq!(commit(&mut rows, 1, &first).unwrap(), Outcome::Applied);

    // The same decision again: the row it saw absent is there now.
    let again = Command {
        commit_id: id(2),
        ops: vec![put("a", b"two")],
        ..first.clone()
    };
    assert_eq!(
        commit(&mut rows, 2, &again).unwrap(),
        Outcome::Missed { key: key("a") }
    );
    assert_eq!(payload(&rows, &key("a")).unwrap(), "one");

    let lost = Command {
        reads: vec![read("a", id(9))],
        ..again.clone()
    };
    assert_eq!(
        commit(&mut rows, 3, &lost).unwrap(),
        Outcome::Missed { key: key("a") }
    );
    let next = Command {
        reads: vec![read("a", id(1))],
        ..again
    };
    assert_eq!(commit(&mut rows, 4, &next).unwrap(), Outcome::Applied);
    assert_eq!(payload(&rows, &key("a")).unwrap(), "two");
    assert_eq!(Applied::load(&rows, IDENTITY).unwrap().last, Some(at(4)));
}

#[test]
fn an_empty_range_must_still_be_empty() {
    let mut rows = Rows::new();
    let range = RangeEmpty {
        start: key("n/"),
        end: keys::prefix_end(&key("n/")).unwrap(),
    };
    let drop = Command {
        ranges_empty: vec![range],
        ops: vec![put("gone", b"")],
        ..command(2)
    };
    let child = Command {
        ops: vec![put("n/child", b"x")],
        ..command(1)
    };
    commit(&mut rows, 1, &child).unwrap();
    let outcome = commit(&mut rows, 2, &drop).unwrap();
    assert_eq!(
        outcome,
        Outcome::Missed {
            key: key("n/child")
        }
    );
    assert_eq!(payload(&rows, &key("gone")), None);

    let delete = RowOp {
        key: key("n/child"),
        op: Some(RowChange::Delete(true)),
    };
    commit(
        &mut rows,
        3,
        &Command {
            ops: vec![delete],
            ..command(3)
        },
    )
    .unwrap();
    assert_eq!(commit(&mut rows, 4, &drop).unwrap(), Outcome::Applied);
}

#[test]
fn usage_adds_up_and_events_carry_who_and_when() {
    let mut rows = Rows::new();
    let bucket = UsageKey::Bucket(BucketId::from_bytes([5; 16]));
    let delta = UsageDelta {
        bytes: 10,
        objects: 1,
        ..UsageDelta::default()
    };
    let minus = UsageDelta {
        bytes: -4,
        ..UsageDelta::default()
    };
    let event = Event {
        kind: "table.commit".to_owned(),
        ..Event::default()
    };
    let counted = Command {
        usage: vec![delta.into_message(bucket), minus.into_message(bucket)],
        event: Some(event),
        ..command(1)
    };
    commit(&mut rows, 7, &counted).unwrap();
    commit(
        &mut rows,
        8,
        &Command {
            log_time_ms: 500,
            ..counted
        },
    )
    .unwrap();
    let usage = UsageRow::decode(payload(&rows, &bucket.key()).unwrap()).unwrap();
    assert_eq!((usage.bytes, usage.objects), (12, 2));
    let key = keys::event(GroupId(1), 8);
    let event = EventRow::decode(payload(&rows, &key).unwrap()).unwrap();
    assert_eq!(
        (event.kind.as_str(), event.principal.as_str()),
        ("table.commit", "root")
    );
    // Log time never decreases, whatever a proposer's clock said.
    assert_eq!(event.log_time_ms, 1000);
}

#[test]
fn a_command_that_is_not_for_this_state_halts() {
    let halts = |command: Command| commit(&mut Rows::new(), 1, &command).unwrap_err();
    let error = halts(Command {
        format: 2,
        ..command(1)
    });
    assert!(matches!(error, ApplyError::UnknownFormat { format: 2 }));
    let error = halts(Command {
        feature_level: FEATURE_LEVEL + 1,
        ..command(1)
    });
    assert!(matches!(
        error,
        ApplyError::UnknownFeatureLevel { level } if level == FEATURE_LEVEL + 1
    ));
    let error = halts(Command {
        group: 0,
        ..command(1)
    });
    assert!(matches!(error, ApplyError::OtherIdentity { .. }));
    let error = halts(Command {
        cluster_id: id(1),
        ..command(1)
    });
    assert!(matches!(error, ApplyError::OtherIdentity { .. }));
    let error = halts(Command {
        commit_id: Bytes::new(),
        ..command(1)
    });
    assert!(matches!(
        error,
        ApplyError::IdLength {
            field: "commit id",
            len: 0
        }
    ));
    let unknown = RowOp {
        key: key("a"),
        op: None,
    };
    let error = halts(Command {
        ops: vec![unknown],
        ..command(1)
    });
    assert!(matches!(error, ApplyError::UnknownOperation));
    let applied = RowOp {
        key: keys::applied(),
        op: Some(RowChange::Delete(true)),
    };
    let error = halts(Command {
        ops: vec![applied],
        ..command(1)
    });
    assert!(matches!(error, ApplyError::ReservedRow { tag: Some(0) }));
    let delta = UsageDelta::default().into_message(UsageKey::Bucket(BucketId::from_bytes([5; 16])));
    let misplaced = floeberg_proto::floeberg::state::v1::UsageDelta {
        key: key("a"),
        ..delta
    };
    let error = halts(Command {
        usage: vec![misplaced],
        ..command(1)
    });
    assert!(matches!(error, ApplyError::ReservedRow { tag: Some(0x20) }));
}

#[test]
fn a_gap_in_the_log_halts() {
    let mut rows = Rows::new();
    commit(&mut rows, 1, &command(1)).unwrap();
    let error = commit(&mut rows, 3, &command(2)).unwrap_err();
    assert!(matches!(
        error,
        ApplyError::OutOfOrder {
            index: 3,
            last: Some(1)
        }
    ));
    assert!(commit(&mut rows, 1, &command(2)).is_err());
}

#[test]
fn the_state_of_another_group_is_not_taken_over() {
    let mut rows = Rows::new();
    commit(&mut rows, 1, &command(1)).unwrap();
    let other = Identity {
        group: GroupId(0),
        ..IDENTITY
    };
    let error = Applied::load(&rows, other).unwrap_err();
    assert!(matches!(error, AppliedRowError::OtherIdentity { found, .. } if found == IDENTITY));
}

#[test]
fn an_outcome_reads_back() {
    let missed = Outcome::Missed { key: key("a") };
    assert_eq!(Outcome::decode(missed.encode(7)).unwrap(), (missed, None));
    let applied = Outcome::decode(Outcome::Applied.encode(0)).unwrap();
    assert_eq!(applied, (Outcome::Applied, Some(0)));
    assert!(Outcome::decode(Bytes::new()).is_err());
}

#[test]
fn a_raise_lasts_and_a_level_beyond_this_version_halts() {
    let mut rows = Rows::new();
    let raise = Command {
        raise_feature_level: FEATURE_LEVEL,
        ..command(1)
    };
    assert_eq!(Applied::load(&rows, IDENTITY).unwrap().feature_level, 1);
    assert_eq!(commit(&mut rows, 1, &raise).unwrap(), Outcome::Applied);
    let level = Applied::load(&rows, IDENTITY).unwrap().feature_level;
    assert_eq!(level, FEATURE_LEVEL);
    let lower = Command {
        raise_feature_level: 1,
        ..command(2)
    };
    assert_eq!(commit(&mut rows, 2, &lower).unwrap(), Outcome::Applied);
    let level = Applied::load(&rows, IDENTITY).unwrap().feature_level;
    assert_eq!(level, FEATURE_LEVEL, "a level never falls");

    let beyond = Command {
        feature_level: FEATURE_LEVEL + 1,
        raise_feature_level: FEATURE_LEVEL + 1,
        ..command(3)
    };
    let error = commit(&mut rows, 3, &beyond).err().unwrap();
    assert!(matches!(error, ApplyError::UnknownFeatureLevel { .. }));
    let hidden = Command {
        feature_level: 1,
        raise_feature_level: 2,
        ..command(3)
    };
    let error = commit(&mut rows, 3, &hidden).err().unwrap();
    assert!(matches!(
        error,
        ApplyError::FeatureLevelRaise { to: 2, needs: 1 }
    ));
}

#[test]
fn a_missed_raise_changes_nothing() {
    let mut rows = Rows::new();
    let raise = Command {
        raise_feature_level: FEATURE_LEVEL,
        reads: vec![read("a", id(9))],
        ..command(1)
    };
    let missed = Outcome::Missed { key: key("a") };
    assert_eq!(commit(&mut rows, 1, &raise).unwrap(), missed);
    assert_eq!(Applied::load(&rows, IDENTITY).unwrap().feature_level, 1);
}

#[test]
fn marks_stand_at_fixed_positions_however_a_run_begins() {
    let rows = Rows::new();
    let start = Applied {
        last: Some(at(MARK_EVERY - 2)),
        ..Applied::default()
    };
    let mut run = Run::new(&rows, IDENTITY, start);
    for index in MARK_EVERY - 1..=2 * MARK_EVERY {
        run.blank(at(index)).unwrap();
    }
    let marks = run.take_marks();
    let places: Vec<u64> = marks.iter().map(|mark| mark.index).collect();
    assert_eq!(places, [MARK_EVERY, 2 * MARK_EVERY]);
    assert!(run.take_marks().is_empty());
    assert_eq!(run.finish().1.digest, marks[1].digest);
}
