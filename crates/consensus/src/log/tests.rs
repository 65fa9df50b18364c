//! Reading across the memory ring and the store, and noticing a store that loses entries.

use super::*;
use crate::raft::{Command, LeaderId, Payload};
use crate::testing::{GROUP, Medium};
use bytes::Bytes;
use floeberg_env::Env;
use floeberg_raftlog::{Done, LogError, LogState as StoredState};
use floeberg_telemetry::RaftLogMetrics;
use futures::StreamExt;

fn entry(index: u64, len: usize) -> Entry {
    let log_id = LogId::new(
        LeaderId {
            term: 1,
            node_id: 1,
        },
        index,
    );
    let payload = Payload::Normal(Command(Bytes::from(vec![7; len])));
    openraft::Entry { log_id, payload }
}

async fn append(log: &mut GroupLog, entries: Vec<Entry>) {
    let (done, synced) = oneshot::channel();
    let records: Vec<_> = entries
        .iter()
        .map(|e| LogRecord {
            index: e.log_id.index,
            bytes: codec::encode_entry(e),
        })
        .collect();
    {
        let mut ring = log.ring.lock();
        entries.into_iter().for_each(|e| ring.push(e));
    }
    log.store.append(
        GROUP,
        records,
        Box::new(move |result| done.send(result).unwrap()),
    );
    synced.await.unwrap().unwrap();
}

fn indexes(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|e| e.log_id.index).collect()
}

#[tokio::test]
async fn every_range_reads_the_same_from_memory_store_and_both() {
    for medium in Medium::both() {
        let store = medium.open(&Env::real(), &RaftLogMetrics::default());
        let mut log = GroupLog::new(GROUP, store, Acks::default(), 64 << 20);
        append(&mut log, (0..12).map(|i| entry(i, 100)).collect()).await;
        for held in [0, 5, 11, 12] {
            if held > 0 {
                log.ring.lock().purge(held - 1);
            }
            for from in 0..14 {
                for to in from..14 {
                    let expected: Vec<u64> = (from..to.min(12)).collect();
                    let read = log.read(from, to, usize::MAX).unwrap();
                    assert_eq!(
                        indexes(&read),
                        expected,
                        "[{from}, {to}) with {held} dropped"
                    );
                    let limited = log.read(from, to, 450).unwrap();
                    assert_eq!(limited.is_empty(), expected.is_empty());
                    assert!(expected.starts_with(&indexes(&limited)));
                    assert!(limited.len() < 5);
                }
            }
            let all: Vec<_> = log
                .entries_stream(..)
                .await
                .map(Result::unwrap)
                .collect()
                .await;
            assert_eq!(indexes(&all), (0..12).collect::<Vec<_>>());
        }
    }
}

/// A store that does not return one of the records it has.
struct Lossy {
    inner: Arc<dyn LogStore>,
    lost: u64,
}

impl LogStore for Lossy {
    fn append(&self, group: GroupId, records: Vec<LogRecord>, done: Done) {
        self.inner.append(group, records, done);
    }
    fn save_vote(&self, group: GroupId, bytes: Bytes, done: Done) {
        self.inner.save_vote(group, bytes, done);
    }
    fn read_vote(&self, group: GroupId) -> Result<Option<Bytes>, LogError> {
        self.inner.read_vote(group)
    }
    fn save_committed(&self, group: GroupId, bytes: Bytes) -> Result<(), LogError> {
        self.inner.save_committed(group, bytes)
    }
    fn read_committed(&self, group: GroupId) -> Result<Option<Bytes>, LogError> {
        self.inner.read_committed(group)
    }
    fn truncate_after(&self, group: GroupId, index: Option<u64>) -> Result<(), LogError> {
        self.inner.truncate_after(group, index)
    }
    fn purge(&self, group: GroupId, upto: u64, log_id: Bytes) -> Result<(), LogError> {
        self.inner.purge(group, upto, log_id)
    }
    fn state(&self, group: GroupId) -> Result<StoredState, LogError> {
        self.inner.state(group)
    }
    fn read(
        &self,
        group: GroupId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<LogRecord>, LogError> {
        let mut records = self.inner.read(group, from, to, max_bytes)?;
        records.retain(|record| record.index != self.lost);
        Ok(records)
    }
}

#[tokio::test]
async fn a_lost_entry_ends_the_stream_with_an_error() {
    let [_, medium] = Medium::both();
    let inner = medium.open(&Env::real(), &RaftLogMetrics::default());
    let mut log = GroupLog::new(GROUP, inner.clone(), Acks::default(), 64 << 20);
    append(&mut log, (0..6).map(|i| entry(i, 10)).collect()).await;
    for lost in [3, 5] {
        let mut damaged = GroupLog::new(
            GROUP,
            Arc::new(Lossy {
                inner: inner.clone(),
                lost,
            }),
            Acks::default(),
            64 << 20,
        );
        let read: Vec<_> = damaged.entries_stream(0..6).await.collect().await;
        assert_eq!(read.len() as u64, lost + 1, "those before, then the error");
        let error = read.into_iter().next_back().unwrap().unwrap_err();
        assert_eq!(error.to_string(), format!("log entry {lost} is missing"));
    }
}
