//! What every [`LogStore`] must do, as a suite that any implementation can run.

use crate::{LogError, LogRecord, LogState, LogStore};
use bytes::Bytes;
use floeberg_types::GroupId;
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A medium that logs are opened on and crashed.
pub trait Medium {
    /// Opens the log; a handle opened earlier has been dropped or crashed.
    ///
    /// # Errors
    /// What the store answers.
    fn open(&self) -> Result<Arc<dyn LogStore>, LogError>;
    /// The process dies while `log` is open: what was not synced may be lost.
    fn crash(&self, log: Arc<dyn LogStore>);
}

/// Runs the whole suite; `fresh` makes an empty medium for each case. Needs a tokio runtime.
///
/// # Panics
/// If the store breaks its contract.
pub async fn log_suite<M: Medium>(fresh: impl Fn() -> M) {
    starts_empty(&fresh());
    appends(&fresh()).await;
    refuses_gaps(&fresh()).await;
    groups_are_apart(&fresh()).await;
    reads_are_bounded(&fresh()).await;
    truncates(&fresh()).await;
    purges(&fresh()).await;
    purges_before_the_start(&fresh()).await;
    purges_beyond_the_end(&fresh()).await;
    votes_and_committed(&fresh()).await;
    callbacks_keep_call_order(&fresh()).await;
    acknowledged_changes_survive_a_crash(&fresh()).await;
    a_clean_close_keeps_everything(&fresh()).await;
}

const G: GroupId = GroupId(0);
const ALL: usize = usize::MAX;

/// `count` records from `first` on, each with a payload that names it and `tag`.
#[must_use]
pub fn records(first: u64, count: u64, tag: &str) -> Vec<LogRecord> {
    (first..first + count)
        .map(|index| LogRecord {
            index,
            bytes: Bytes::from(format!("{tag} {index}")),
        })
        .collect()
}

/// Starts an append and returns what resolves when it is durable.
pub fn start_append(
    log: &dyn LogStore,
    group: GroupId,
    records: Vec<LogRecord>,
) -> oneshot::Receiver<io::Result<()>> {
    let (tell, told) = oneshot::channel();
    log.append(
        group,
        records,
        Box::new(move |result| drop(tell.send(result))),
    );
    told
}

/// Appends and waits until it is durable.
///
/// # Errors
/// What the store answers.
pub async fn append(log: &dyn LogStore, group: GroupId, records: Vec<LogRecord>) -> io::Result<()> {
    start_append(log, group, records)
        .await
        .expect("the callback runs")
}

/// Saves a vote and waits until it is durable.
///
/// # Errors
/// What the store answers.
pub async fn save_vote(log: &dyn LogStore, group: GroupId, vote: &'static str) -> io::Result<()> {
    let (tell, told) = oneshot::channel();
    log.save_vote(
        group,
        vote.into(),
        Box::new(move |result| drop(tell.send(result))),
    );
    told.await.expect("the callback runs")
}

fn open(medium: &impl Medium) -> Arc<dyn LogStore> {
    medium.open().expect("opened")
}

fn read(log: &dyn LogStore, group: GroupId, from: u64, to: u64) -> Vec<LogRecord> {
    log.read(group, from, to, ALL).expect("read")
}

fn state(log: &dyn LogStore, group: GroupId) -> LogState {
    log.state(group).expect("state")
}

fn starts_empty(medium: &impl Medium) {
    let log = open(medium);
    assert_eq!(state(&*log, G), LogState::default());
    assert_eq!(read(&*log, G, 0, u64::MAX), []);
    assert_eq!(log.read_vote(G).expect("read"), None);
    assert_eq!(log.read_committed(G).expect("read"), None);
    log.truncate_after(G, None).expect("nothing to do");
    log.truncate_after(G, Some(7)).expect("nothing to do");
}

async fn appends(medium: &impl Medium) {
    let log = open(medium);
    let pending = start_append(&*log, G, records(3, 4, "a"));
    assert_eq!(
        read(&*log, G, 0, 100),
        records(3, 4, "a"),
        "readable before it is durable"
    );
    pending.await.expect("called").expect("durable");
    append(&*log, G, records(7, 1, "a")).await.expect("durable");
    append(&*log, G, vec![])
        .await
        .expect("an empty append is a barrier");
    assert_eq!(
        read(&*log, G, 5, 7),
        records(5, 2, "a"),
        "the end is exclusive"
    );
    assert_eq!(read(&*log, G, 7, 5), []);
    assert_eq!(read(&*log, G, 8, 100), []);
    let last = state(&*log, G).last.expect("a last record");
    assert_eq!(last, records(7, 1, "a")[0]);
    drop(log);
    assert_eq!(read(&*open(medium), G, 0, 100), records(3, 5, "a"));
}

async fn refuses_gaps(medium: &impl Medium) {
    let log = open(medium);
    append(&*log, G, records(1, 2, "a")).await.expect("durable");
    for first in [0, 2, 4] {
        let refused = append(&*log, G, records(first, 1, "x"))
            .await
            .expect_err("refused");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
    let mut torn = records(3, 3, "x");
    torn.remove(1);
    append(&*log, G, torn).await.expect_err("a gap inside");
    assert_eq!(
        read(&*log, G, 0, 100),
        records(1, 2, "a"),
        "nothing was written"
    );
    append(&*log, G, records(3, 1, "a"))
        .await
        .expect("the store still works");
}

async fn groups_are_apart(medium: &impl Medium) {
    let log = open(medium);
    let (one, other) = (GroupId(1), GroupId(u32::MAX));
    append(&*log, one, records(1, 3, "one"))
        .await
        .expect("durable");
    append(&*log, other, records(9, 3, "other"))
        .await
        .expect("durable");
    save_vote(&*log, other, "vote").await.expect("durable");
    log.truncate_after(one, Some(2)).expect("truncated");
    log.purge(other, 9, Bytes::from_static(b"id"))
        .expect("purged");
    drop(log);
    let log = open(medium);
    assert_eq!(read(&*log, one, 0, 100), records(1, 2, "one"));
    assert_eq!(read(&*log, other, 0, 100), records(10, 2, "other"));
    assert_eq!(log.read_vote(one).expect("read"), None);
    assert_eq!(
        log.read_vote(other).expect("read").as_deref(),
        Some(&b"vote"[..])
    );
    assert_eq!(state(&*log, G), LogState::default());
}

async fn reads_are_bounded(medium: &impl Medium) {
    let log = open(medium);
    let sized = |index| LogRecord {
        index,
        bytes: vec![1; 100].into(),
    };
    append(&*log, G, (1..=10).map(sized).collect())
        .await
        .expect("durable");
    for (max_bytes, count) in [
        (0, 1),
        (99, 1),
        (100, 1),
        (199, 1),
        (200, 2),
        (250, 2),
        (ALL, 10),
    ] {
        let found = log.read(G, 1, 100, max_bytes).expect("read").len();
        assert_eq!(found, count, "at most {max_bytes} bytes");
    }
}

async fn truncates(medium: &impl Medium) {
    let log = open(medium);
    append(&*log, G, records(1, 6, "old"))
        .await
        .expect("durable");
    log.truncate_after(G, Some(6)).expect("nothing to do");
    log.truncate_after(G, Some(3)).expect("truncated");
    assert_eq!(read(&*log, G, 0, 100), records(1, 3, "old"));
    append(&*log, G, records(4, 1, "new"))
        .await
        .expect("durable");
    let mut expected = records(1, 3, "old");
    expected.extend(records(4, 1, "new"));
    assert_eq!(read(&*log, G, 0, 100), expected);
    drop(log);
    let log = open(medium);
    assert_eq!(
        read(&*log, G, 0, 100),
        expected,
        "the old tail does not come back"
    );
    log.truncate_after(G, None).expect("truncated");
    assert_eq!(state(&*log, G), LogState::default());
    append(&*log, G, records(1, 2, "third"))
        .await
        .expect("starts anew");
    drop(log);
    assert_eq!(read(&*open(medium), G, 0, 100), records(1, 2, "third"));
}

async fn purges(medium: &impl Medium) {
    let log = open(medium);
    append(&*log, G, records(1, 6, "a")).await.expect("durable");
    log.purge(G, 0, Bytes::from_static(b"id 0"))
        .expect("what lies before the first record");
    log.purge(G, 3, Bytes::from_static(b"id 3"))
        .expect("purged");
    log.purge(G, 2, Bytes::from_static(b"id 2"))
        .expect("an earlier purge changes nothing");
    let purged = Some((3, Bytes::from_static(b"id 3")));
    let expect = |log: &dyn LogStore| {
        assert_eq!(state(log, G).purged, purged);
        assert_eq!(read(log, G, 0, 100), records(4, 3, "a"));
    };
    expect(&*log);
    append(&*log, G, vec![]).await.expect("durable");
    drop(log);
    let log = open(medium);
    expect(&*log);
    log.truncate_after(G, Some(1)).expect("truncated");
    assert_eq!(
        state(&*log, G),
        LogState {
            purged: purged.clone(),
            last: None
        }
    );
    append(&*log, G, records(4, 1, "b"))
        .await
        .expect("continues after the purge");
    log.purge(G, 4, Bytes::from_static(b"id 4"))
        .expect("purged to the end");
    assert_eq!(state(&*log, G).last, None);
    append(&*log, G, records(5, 1, "b")).await.expect("durable");
    drop(log);
    assert_eq!(read(&*open(medium), G, 0, 100), records(5, 1, "b"));
}

async fn purges_before_the_start(medium: &impl Medium) {
    let log = open(medium);
    append(&*log, G, records(5, 3, "a")).await.expect("durable");
    let refused = log.purge(G, 3, Bytes::from_static(b"id 3"));
    assert!(
        matches!(refused, Err(LogError::NotContinuous(_))),
        "record 4 would be missing"
    );
    log.purge(G, 4, Bytes::from_static(b"id 4"))
        .expect("purged");
    append(&*log, G, records(8, 1, "a")).await.expect("durable");
    drop(log);
    let log = open(medium);
    assert_eq!(read(&*log, G, 0, 100), records(5, 4, "a"));
    assert_eq!(
        state(&*log, G).purged,
        Some((4, Bytes::from_static(b"id 4")))
    );
}

async fn purges_beyond_the_end(medium: &impl Medium) {
    let log = open(medium);
    append(&*log, G, records(1, 2, "a")).await.expect("durable");
    log.purge(G, 100, Bytes::from_static(b"id"))
        .expect("purged");
    assert_eq!(state(&*log, G).last, None);
    append(&*log, G, records(3, 1, "x"))
        .await
        .expect_err("not the next one");
    append(&*log, G, records(101, 2, "b"))
        .await
        .expect("durable");
    drop(log);
    let log = open(medium);
    assert_eq!(read(&*log, G, 0, 1000), records(101, 2, "b"));
    assert_eq!(
        state(&*log, G).purged,
        Some((100, Bytes::from_static(b"id")))
    );
}

async fn votes_and_committed(medium: &impl Medium) {
    let log = open(medium);
    for vote in ["first", "second"] {
        save_vote(&*log, G, vote).await.expect("durable");
        assert_eq!(
            log.read_vote(G).expect("read").as_deref(),
            Some(vote.as_bytes())
        );
    }
    log.save_committed(G, Bytes::from_static(b"c1"))
        .expect("noted");
    log.save_committed(G, Bytes::from_static(b"c2"))
        .expect("noted");
    append(&*log, G, records(1, 1, "a"))
        .await
        .expect("durable, with all before it");
    medium.crash(log);
    let log = open(medium);
    assert_eq!(
        log.read_vote(G).expect("read").as_deref(),
        Some(&b"second"[..])
    );
    assert_eq!(
        log.read_committed(G).expect("read").as_deref(),
        Some(&b"c2"[..])
    );
}

async fn callbacks_keep_call_order(medium: &impl Medium) {
    let log = open(medium);
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    for n in 0..50_u64 {
        let order = order.clone();
        let done = Box::new(move |result: io::Result<()>| {
            result.expect("durable");
            order.lock().push(n);
        });
        if n % 5 == 4 {
            log.save_vote(GroupId(1), Bytes::from(n.to_string()), done);
        } else {
            log.append(GroupId((n % 3) as u32), vec![], done);
        }
    }
    append(&*log, G, vec![]).await.expect("durable");
    assert_eq!(*order.lock(), (0..50).collect::<Vec<_>>());
}

async fn acknowledged_changes_survive_a_crash(medium: &impl Medium) {
    let mut log = open(medium);
    for round in 0..5_u64 {
        append(&*log, G, records(1 + round * 10, 10, "kept"))
            .await
            .expect("durable");
        drop(start_append(&*log, G, records(11 + round * 10, 5, "maybe")));
        medium.crash(log);
        log = open(medium);
        let found = read(&*log, G, 0, 1000);
        let (kept, maybe) = found.split_at(
            found
                .len()
                .min(usize::try_from(10 + round * 10).expect("small")),
        );
        assert_eq!(kept, records(1, 10 + round * 10, "kept"));
        assert!(maybe.len() <= 5, "only what was written");
        log.truncate_after(G, Some(10 + round * 10))
            .expect("truncated");
    }
}

async fn a_clean_close_keeps_everything(medium: &impl Medium) {
    let log = open(medium);
    drop(start_append(&*log, G, records(1, 100, "a")));
    drop(log);
    let log = open(medium);
    assert_eq!(read(&*log, G, 0, 1000), records(1, 100, "a"));
}
