//! The conformance suite on both logs, and random operations against a naive model.

use bytes::Bytes;
use floeberg_env::{Env, SimControl, UnsyncedData};
use floeberg_raftlog::testing::{Medium, append, log_suite, records, save_vote, start_append};
use floeberg_raftlog::{LogError, LogRecord, LogStore, MemLog, MemLogStore, RocksLog};
use floeberg_telemetry::RaftLogMetrics;
use floeberg_types::GroupId;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct MemMedium {
    store: MemLogStore,
    env: Env,
    control: SimControl,
    fate: UnsyncedData,
}

impl MemMedium {
    fn new(fate: UnsyncedData) -> Self {
        let (env, control) = Env::simulated(42);
        Self {
            store: MemLogStore::new(),
            env,
            control,
            fate,
        }
    }
}

impl Medium for MemMedium {
    fn open(&self) -> Result<Arc<dyn LogStore>, LogError> {
        Ok(Arc::new(MemLog::open(&self.store, &self.env)))
    }
    fn crash(&self, log: Arc<dyn LogStore>) {
        self.store.crash(self.control.faults().as_ref(), self.fate);
        assert!(matches!(log.state(GroupId(0)), Err(LogError::Stopped(_))));
    }
}

/// A killed process leaves the files as they are while the log is open.
struct RocksMedium {
    dir: tempfile::TempDir,
    lives: Cell<u32>,
}

impl RocksMedium {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("directory"),
            lives: Cell::new(0),
        }
    }
    fn path(&self) -> PathBuf {
        self.dir.path().join(format!("life-{}", self.lives.get()))
    }
}

/// Copies the files of a directory; `None` if some came or went meanwhile.
fn try_copy(from: &Path, to: &Path) -> Option<()> {
    let files = || -> Vec<PathBuf> {
        let entries = fs::read_dir(from)
            .expect("listed")
            .map(|e| e.expect("listed").path());
        let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
        files.sort();
        files
    };
    fs::create_dir_all(to).expect("created");
    let before = files();
    for file in &before {
        fs::copy(file, to.join(file.file_name().expect("a file has a name"))).ok()?;
    }
    (before == files()).then_some(())
}

/// The files of an open log at one moment: RocksDB deletes obsolete ones in the background.
fn copy_live(from: &Path, to: &Path) {
    loop {
        // The marker first: a sync between the two copies must not make it run ahead.
        let copied = try_copy(from, to).and_then(|()| try_copy(&from.join("db"), &to.join("db")));
        match copied {
            Some(()) => return,
            None => fs::remove_dir_all(to).expect("removed"),
        }
    }
}

impl Medium for RocksMedium {
    fn open(&self) -> Result<Arc<dyn LogStore>, LogError> {
        let log = RocksLog::open(&self.path(), &Env::real(), RaftLogMetrics::default())?;
        Ok(Arc::new(log))
    }
    fn crash(&self, log: Arc<dyn LogStore>) {
        let from = self.path();
        self.lives.set(self.lives.get() + 1);
        copy_live(&from, &self.path());
        drop(log);
    }
}

#[tokio::test]
async fn memory_log_conforms() {
    log_suite(|| MemMedium::new(UnsyncedData::Lost)).await;
    log_suite(|| MemMedium::new(UnsyncedData::Torn)).await;
}

#[tokio::test]
async fn rocksdb_log_conforms() {
    log_suite(RocksMedium::new).await;
}

#[tokio::test]
async fn a_failed_sync_stops_the_memory_log_until_a_crash() {
    let medium = MemMedium::new(UnsyncedData::Lost);
    let log = medium.open().expect("opened");
    let group = GroupId(1);
    append(&*log, group, records(1, 2, "kept"))
        .await
        .expect("durable");
    medium.store.fail_next_sync();
    append(&*log, group, records(3, 1, "lost"))
        .await
        .expect_err("failed");
    append(&*log, group, records(4, 1, "lost"))
        .await
        .expect_err("stopped");
    assert!(matches!(
        log.read(group, 0, 9, 9),
        Err(LogError::Stopped(_))
    ));
    assert!(matches!(
        log.purge(group, 1, Bytes::new()),
        Err(LogError::Stopped(_))
    ));
    medium.crash(log);
    let log = medium.open().expect("opened");
    assert_eq!(
        log.read(group, 0, 9, 99).expect("read"),
        records(1, 2, "kept")
    );
}

#[derive(Clone, Debug)]
enum Action {
    Append { group: u32, count: u64, wait: Wait },
    Vote { group: u32, wait: Wait },
    Truncate { group: u32, back: u64 },
    Purge { group: u32, ahead: u64 },
    Read { group: u32, skip: u64, count: u64 },
    Crash,
    Reopen,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wait {
    UntilDurable,
    No,
}

fn action() -> impl Strategy<Value = Action> {
    let group = 0_u32..2;
    let wait = prop_oneof![Just(Wait::UntilDurable), Just(Wait::No)];
    prop_oneof![
        6 => (group.clone(), 0_u64..5, wait.clone())
            .prop_map(|(group, count, wait)| Action::Append { group, count, wait }),
        2 => (group.clone(), wait).prop_map(|(group, wait)| Action::Vote { group, wait }),
        2 => (group.clone(), 0_u64..5).prop_map(|(group, back)| Action::Truncate { group, back }),
        2 => (group.clone(), 0_u64..8).prop_map(|(group, ahead)| Action::Purge { group, ahead }),
        2 => (group, 0_u64..6, 0_u64..6)
            .prop_map(|(group, skip, count)| Action::Read { group, skip, count }),
        1 => Just(Action::Crash),
        1 => Just(Action::Reopen),
    ]
}

#[derive(Clone, Debug, Default, PartialEq)]
struct GroupModel {
    purged: Option<(u64, Bytes)>,
    records: BTreeMap<u64, Bytes>,
    vote: Option<Bytes>,
}

impl GroupModel {
    fn next(&self) -> u64 {
        let last = self.records.keys().next_back().copied();
        last.or(self.purged.as_ref().map(|p| p.0))
            .map_or(1, |index| index + 1)
    }
}

impl GroupModel {
    fn append(&mut self, new: &[LogRecord]) {
        self.records
            .extend(new.iter().map(|r| (r.index, r.bytes.clone())));
    }

    fn purged_index(&self) -> u64 {
        self.purged.as_ref().map_or(0, |purged| purged.0)
    }

    fn truncate(&mut self, keep: Option<u64>) {
        self.records
            .retain(|index, _| keep.is_some_and(|keep| *index <= keep));
    }

    fn purge(&mut self, upto: u64, id: Bytes) {
        if self.purged.as_ref().is_none_or(|p| p.0 < upto) {
            self.records.retain(|index, _| *index > upto);
            self.purged = Some((upto, id));
        }
    }

    fn range(&self, from: u64, to: u64) -> Vec<LogRecord> {
        let records = self.records.range(from..to);
        records
            .map(|(index, bytes)| LogRecord {
                index: *index,
                bytes: bytes.clone(),
            })
            .collect()
    }
}

type Model = [GroupModel; 2];

fn observe(log: &dyn LogStore) -> Model {
    [0, 1].map(|group| {
        let group = GroupId(group);
        let state = log.state(group).expect("state");
        let found = log.read(group, 0, u64::MAX, usize::MAX).expect("read");
        assert_eq!(found.last(), state.last.as_ref());
        GroupModel {
            purged: state.purged,
            records: found
                .into_iter()
                .map(|record| (record.index, record.bytes))
                .collect(),
            vote: log.read_vote(group).expect("read"),
        }
    })
}

/// Runs the actions; `states` are those a crash may leave, oldest first.
async fn run(medium: &impl Medium, actions: Vec<Action>) {
    let mut log = medium.open().expect("opened");
    let mut states = vec![Model::default()];
    for (step, action) in actions.into_iter().enumerate() {
        let mut model = states.last().expect("never empty").clone();
        let mut durable = false;
        match action {
            Action::Append { group, count, wait } => {
                let target = &mut model[group as usize];
                let new: Vec<LogRecord> = records(target.next(), count, &format!("step {step}"));
                target.append(&new);
                let pending = start_append(&*log, GroupId(group), new);
                durable = wait == Wait::UntilDurable;
                if durable {
                    pending.await.expect("called").expect("durable");
                }
            }
            Action::Vote { group, wait } => {
                let vote = if step % 2 == 0 { "even" } else { "odd" };
                model[group as usize].vote = Some(vote.into());
                if wait == Wait::UntilDurable {
                    save_vote(&*log, GroupId(group), vote)
                        .await
                        .expect("durable");
                    durable = true;
                } else {
                    log.save_vote(GroupId(group), vote.into(), Box::new(drop));
                }
            }
            Action::Truncate { group, back } => {
                let target = &mut model[group as usize];
                let keep = (target.next() - 1)
                    .checked_sub(back)
                    .filter(|keep| *keep > 0);
                log.truncate_after(GroupId(group), keep).expect("truncated");
                target.truncate(keep);
            }
            Action::Purge { group, ahead } => {
                let target = &mut model[group as usize];
                let upto = target.purged_index() + ahead;
                let id = Bytes::from(format!("id {upto}"));
                target.purge(upto, id.clone());
                log.purge(GroupId(group), upto, id).expect("purged");
            }
            Action::Read { group, skip, count } => {
                let target = &model[group as usize];
                let from = target.purged_index() + skip;
                let found = log.read(GroupId(group), from, from + count, usize::MAX);
                assert_eq!(found.expect("read"), target.range(from, from + count));
            }
            Action::Crash => {
                medium.crash(log);
                log = medium.open().expect("opened");
                model = observe(&*log);
                assert!(states.contains(&model), "{model:?} is none of {states:?}");
                durable = true;
            }
            Action::Reopen => {
                drop(log);
                log = medium.open().expect("opened");
            }
        }
        assert_eq!(observe(&*log), model);
        states.push(model);
        if durable {
            states.drain(..states.len() - 1);
        }
    }
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("runtime").block_on(test);
}

proptest! {
    #[test]
    fn memory_log_behaves_like_the_model(
        actions in proptest::collection::vec(action(), 0..40),
        torn: bool,
    ) {
        let fate = if torn { UnsyncedData::Torn } else { UnsyncedData::Lost };
        block_on(async { run(&MemMedium::new(fate), actions).await });
    }
}

proptest! {
    // Opening RocksDB dominates the time of a case.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn rocksdb_log_behaves_like_the_model(actions in proptest::collection::vec(action(), 0..40)) {
        block_on(async { run(&RocksMedium::new(), actions).await });
    }
}
