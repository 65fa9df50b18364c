//! Random command sequences against a naive model; how the log is cut into runs must not matter.
#![allow(clippy::unwrap_used)] // a test; the lint spares only code inside `#[test]`

use bytes::Bytes;
use floeberg_state::{
    Applied, COMMAND_FORMAT, Command, Digest, Event, FEATURE_LEVEL, Identity, LogPos, Outcome,
    RangeEmpty, RawRow, Read, RowChange, RowOp, Run, UsageDelta, UsageKey, UsageRow, keys,
};
use floeberg_types::{BucketId, ClusterId, GroupId, TimestampMs};
use proptest::prelude::*;
use prost::Message as _;
use std::collections::BTreeMap;

const IDENTITY: Identity = Identity {
    cluster: ClusterId::from_bytes([0xc1; 16]),
    group: GroupId(4),
};

/// What a generated command does to one key.
#[derive(Debug, Clone, Copy)]
enum Touch {
    ReadAsIs,
    ReadWrong,
    Put(u8),
    Delete,
    RangeEmpty,
}

/// One log entry to be generated.
#[derive(Debug, Clone)]
enum Step {
    Command {
        touches: Vec<(u8, Touch)>,
        usage: i64,
        event: Evented,
        log_time: i64,
    },
    Blank,
    Membership(u8),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Evented {
    Yes,
    No,
}

fn step() -> impl Strategy<Value = Step> {
    let touch = prop_oneof![
        4 => Just(Touch::ReadAsIs),
        1 => Just(Touch::ReadWrong),
        5 => any::<u8>().prop_map(Touch::Put),
        2 => Just(Touch::Delete),
        1 => Just(Touch::RangeEmpty),
    ];
    let event = prop_oneof![Just(Evented::Yes), Just(Evented::No)];
    let touches = proptest::collection::vec((0u8..12, touch), 0..6);
    prop_oneof![
        8 => (touches, -5i64..6, event, 0i64..100).prop_map(|(touches, usage, event, log_time)| {
            Step::Command { touches, usage, event, log_time }
        }),
        1 => Just(Step::Blank),
        1 => any::<u8>().prop_map(Step::Membership),
    ]
}

/// Twelve keys below three prefixes.
fn key(n: u8) -> Bytes {
    Bytes::from(vec![0x20, n / 4, n % 4])
}

fn prefix(n: u8) -> Bytes {
    Bytes::from(vec![0x20, n / 4])
}

fn usage_key() -> UsageKey {
    UsageKey::Bucket(BucketId::from_bytes([1; 16]))
}

/// A command that reads and writes nothing.
fn empty_command(index: u64, log_time_ms: i64) -> Command {
    let id = Bytes::copy_from_slice(&u128::from(index + 1).to_be_bytes());
    Command {
        format: COMMAND_FORMAT,
        feature_level: FEATURE_LEVEL,
        cluster_id: Bytes::copy_from_slice(IDENTITY.cluster.as_bytes()),
        group: IDENTITY.group.0,
        request_id: id.clone(),
        log_time_ms,
        commit_id: id,
        ..Command::default()
    }
}

/// The state as one would write it down: no overlay, no batches.
#[derive(Default)]
struct Model {
    rows: BTreeMap<Bytes, (Bytes, Bytes)>,
    usage: Option<i64>,
    events: Vec<u64>,
    membership: Option<Bytes>,
    log_time: i64,
}

impl Model {
    /// Builds the command that the step describes and does to the model what it should do.
    fn command(&mut self, index: u64, step: &Step) -> (Command, Outcome) {
        let Step::Command {
            touches,
            usage,
            event,
            log_time,
        } = step
        else {
            unreachable!("only commands are built")
        };
        let mut command = empty_command(index, *log_time);
        let id = command.commit_id.clone();
        let mut outcome = Outcome::Applied;
        let mut miss = |key: Bytes| {
            if outcome == Outcome::Applied {
                outcome = Outcome::Missed { key };
            }
        };
        let mut after = self.rows.clone();
        // Apply compares all rows before it looks at ranges.
        for (n, touch) in touches {
            let expected = self.rows.get(&key(*n)).map(|(id, _)| id.clone());
            match touch {
                Touch::ReadAsIs => command.reads.push(Read {
                    key: key(*n),
                    commit_id: expected.unwrap_or_default(),
                }),
                Touch::ReadWrong => {
                    command.reads.push(Read {
                        key: key(*n),
                        commit_id: vec![0xee; 16].into(),
                    });
                    miss(key(*n));
                }
                Touch::Put(value) => {
                    let payload = Bytes::from(vec![*value]);
                    let op = Some(RowChange::Put(payload.clone()));
                    command.ops.push(RowOp { key: key(*n), op });
                    after.insert(key(*n), (id.clone(), payload));
                }
                Touch::Delete => {
                    command.ops.push(RowOp {
                        key: key(*n),
                        op: Some(RowChange::Delete(true)),
                    });
                    after.remove(&key(*n));
                }
                Touch::RangeEmpty => {}
            }
        }
        for found in self.require_ranges(touches, &mut command) {
            miss(found);
        }
        if *usage != 0 {
            let delta = UsageDelta {
                bytes: *usage,
                ..UsageDelta::default()
            };
            command.usage.push(delta.into_message(usage_key()));
        }
        command.event = (*event == Evented::Yes).then(Event::default);
        self.log_time = self.log_time.max(*log_time);
        if outcome == Outcome::Applied {
            self.rows = after;
            self.count(index, *usage, *event);
        }
        (command, outcome)
    }

    /// Adds the ranges to the command and returns the first row of each that is not empty.
    fn require_ranges(&self, touches: &[(u8, Touch)], command: &mut Command) -> Vec<Bytes> {
        let mut occupied = Vec::new();
        for (n, _) in touches
            .iter()
            .filter(|(_, touch)| matches!(touch, Touch::RangeEmpty))
        {
            let start = prefix(*n);
            let end = keys::prefix_end(&start).unwrap();
            command.ranges_empty.push(RangeEmpty {
                start: start.clone(),
                end,
            });
            occupied.extend(
                self.rows
                    .keys()
                    .find(|key| key.starts_with(&start))
                    .cloned(),
            );
        }
        occupied
    }

    fn count(&mut self, index: u64, usage: i64, event: Evented) {
        if usage != 0 {
            self.usage = Some(self.usage.unwrap_or(0) + usage);
        }
        if event == Evented::Yes {
            self.events.push(index);
        }
    }
}

/// A log entry, and the outcome that the model predicts for a command.
enum Entry {
    Command(Bytes, Outcome),
    Blank,
    Membership(Bytes),
}

fn build(steps: &[Step]) -> (Vec<Entry>, Model) {
    let mut model = Model::default();
    let mut log = Vec::new();
    for (index, step) in (0..).zip(steps) {
        log.push(match step {
            Step::Command { .. } => {
                let (command, outcome) = model.command(index, step);
                Entry::Command(command.encode_to_vec().into(), outcome)
            }
            Step::Blank => Entry::Blank,
            Step::Membership(n) => {
                let membership = Bytes::from(vec![*n, 1]);
                model.membership = Some(membership.clone());
                Entry::Membership(membership)
            }
        });
    }
    (log, model)
}

/// Applies the log in runs of the given lengths, over and over.
fn replay(log: &[Entry], cuts: &[usize]) -> (BTreeMap<Bytes, Bytes>, Digest) {
    let mut rows = BTreeMap::new();
    let mut cuts = cuts.iter().cycle();
    let mut done = 0;
    while done < log.len() {
        let end = (done + cuts.next().unwrap()).min(log.len());
        let base: BTreeMap<Bytes, Bytes> = rows.clone();
        let applied = Applied::load(&base, IDENTITY).unwrap();
        let mut run = Run::new(&base, IDENTITY, applied);
        for (index, entry) in (done as u64..).zip(&log[done..end]) {
            let at = LogPos {
                term: 1,
                node: 1,
                index,
            };
            match entry {
                Entry::Command(bytes, expected) => {
                    assert_eq!(
                        run.command(at, bytes).unwrap().outcome,
                        *expected,
                        "entry {index}"
                    );
                }
                Entry::Blank => run.blank(at).unwrap(),
                Entry::Membership(bytes) => run.membership(at, bytes.clone()).unwrap(),
            }
        }
        for (key, change) in run.finish().0 {
            match change {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        done = end;
    }
    let digest = Applied::load(&rows, IDENTITY).unwrap().digest;
    (rows, digest)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn apply_does_what_the_model_says_however_the_log_is_cut(
        steps in proptest::collection::vec(step(), 1..60),
        cuts in proptest::collection::vec(1usize..20, 1..8),
    ) {
        let (log, model) = build(&steps);
        let (rows, digest) = replay(&log, &cuts);
        prop_assert_eq!(replay(&log, &[1]), (rows.clone(), digest));
        prop_assert_eq!(replay(&log, &[log.len()]), (rows.clone(), digest));

        let applied = Applied::load(&rows, IDENTITY).unwrap();
        prop_assert_eq!(applied.last.map(|last| last.index), Some(log.len() as u64 - 1));
        prop_assert_eq!(applied.log_time, TimestampMs(model.log_time));
        prop_assert_eq!(applied.membership, model.membership);
        let row = |value: &Bytes| RawRow::decode(value.clone()).unwrap();
        let usage = rows.get(&usage_key().key()).map(|value| {
            UsageRow::decode(row(value).payload).unwrap().bytes
        });
        prop_assert_eq!(usage, model.usage);
        let events: Vec<Bytes> =
            rows.keys().filter(|key| key.starts_with(&[2])).cloned().collect();
        let expected: Vec<Bytes> =
            model.events.iter().map(|index| keys::event(IDENTITY.group, *index)).collect();
        prop_assert_eq!(events, expected);
        let data: BTreeMap<Bytes, (Bytes, Bytes)> = rows
            .iter()
            .filter(|(key, _)| key.starts_with(&[0x20]))
            .map(|(key, value)| {
                let row = row(value);
                let id = Bytes::copy_from_slice(row.commit_id.as_bytes());
                (key.clone(), (id, row.payload))
            })
            .collect();
        prop_assert_eq!(data, model.rows);
    }
}

#[test]
fn the_digest_covers_every_byte_of_a_command() {
    let steps = [
        Step::Command {
            touches: vec![(1, Touch::Put(1))],
            usage: 1,
            event: Evented::Yes,
            log_time: 5,
        },
        Step::Blank,
    ];
    let (mut log, _) = build(&steps);
    let digest = replay(&log, &[1]).1;
    let Entry::Command(bytes, _) = &mut log[0] else {
        unreachable!("the first is a command")
    };
    let mut other = Command::decode(bytes.clone()).unwrap();
    other.principal = "somebody".to_owned();
    *bytes = other.encode_to_vec().into();
    assert_ne!(replay(&log, &[1]).1, digest);
}
