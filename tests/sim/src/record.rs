//! What was asked and answered, in the format of `floeberg-test-chaos`. Its text is the trace of the
//! run: two runs of one seed must give the same.

use floeberg_test_chaos::history::{Answer, Call, Event, Final, History, Line};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// Collects lines and broken promises. Clones are the same record.
#[derive(Clone)]
pub(crate) struct Record {
    started: Instant,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    lines: Vec<Line>,
    ops: u64,
    violations: Vec<String>,
    /// What was published on top of each version of a table that was pointed at a document.
    published: BTreeMap<String, u64>,
}

impl Record {
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            kept: Arc::default(),
        }
    }

    fn add(&self, event: Event) {
        let at = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let line = Line { at, event };
        // Log lines carry the machine's time; this ties them to the simulated one.
        tracing::trace!(at, event = ?line.event);
        self.kept.lock().lines.push(line);
    }

    /// A client sends a request; returns its number.
    pub(crate) fn invoke(&self, client: &str, node: u64, call: Call) -> u64 {
        let op = {
            let mut kept = self.kept.lock();
            kept.ops += 1;
            kept.ops
        };
        self.add(Event::Invoke {
            op,
            client: client.to_owned(),
            node: short(node),
            call,
        });
        op
    }

    pub(crate) fn ok(&self, op: u64, answer: Answer) {
        self.add(Event::Ok { op, answer });
    }

    pub(crate) fn refused(&self, op: u64, status: u16) {
        let code = String::new();
        self.add(Event::Fail { op, status, code });
    }

    pub(crate) fn unknown(&self, op: u64, cause: &str) {
        let cause = cause.to_owned();
        self.add(Event::Info { op, cause });
    }

    pub(crate) fn last(&self, table: Final) {
        self.add(Event::Final(table));
    }

    /// Something else that happened.
    pub(crate) fn note(&self, what: impl Into<String>, nodes: &[u64]) {
        self.add(Event::Nemesis {
            what: what.into(),
            nodes: nodes.iter().map(|node| short(*node)).collect(),
        });
    }

    /// A document was published on top of a version of its table, which nothing else may be.
    pub(crate) fn published(&self, version: &str, marker: u64) {
        let before = self
            .kept
            .lock()
            .published
            .insert(version.to_owned(), marker);
        if let Some(before) = before {
            self.broken(format!(
                "documents {before} and {marker} were both published on version {version}"
            ));
        }
    }

    /// A promise was broken.
    pub(crate) fn broken(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(format!("BROKEN: {what}"), &[]);
        self.kept.lock().violations.push(what);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.kept.lock().violations.clone()
    }

    pub(crate) fn history(&self) -> History {
        History::of(&self.kept.lock().lines).expect("every operation begins and ends once")
    }

    /// All lines as JSON.
    pub(crate) fn text(&self) -> String {
        let kept = self.kept.lock();
        let lines = kept.lines.iter().map(|line| {
            let json = serde_json::to_string(line);
            json.expect("a line has only texts and numbers") + "\n"
        });
        lines.collect()
    }
}

/// Histories have small node numbers.
pub(crate) fn short(node: u64) -> u8 {
    u8::try_from(node).unwrap_or(u8::MAX)
}
