//! Recording a run: every line goes to a file, and the lines of the current round are kept.

use crate::history::{Answer, Call, Event, Final, Line};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

/// The record of a run.
#[derive(Debug)]
pub struct Recorder {
    begin: Instant,
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: BufWriter<File>,
    next: u64,
    round: Vec<Line>,
}

impl Recorder {
    /// A new file.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            begin: Instant::now(),
            path: path.to_owned(),
            inner: Mutex::new(Inner {
                file: BufWriter::new(File::create(path)?),
                next: 1,
                round: Vec::new(),
            }),
        })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Microseconds since the beginning of the run.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A request is about to be sent; its number.
    pub fn invoke(&self, client: &str, node: u8, call: Call) -> u64 {
        // The time is taken before the line is in the file, so an interval is never too short.
        let at = self.now();
        let mut inner = self.lock();
        let op = inner.next;
        inner.next += 1;
        let client = client.to_owned();
        inner.push(Line {
            at,
            event: Event::Invoke {
                op,
                client,
                node,
                call,
            },
        });
        op
    }

    /// A request was answered with success.
    pub fn ok(&self, op: u64, answer: Answer) {
        self.push(Event::Ok { op, answer });
    }

    /// A request was refused.
    pub fn fail(&self, op: u64, status: u16, code: &str) {
        let code = code.to_owned();
        self.push(Event::Fail { op, status, code });
    }

    /// A request ended without knowledge.
    pub fn info(&self, op: u64, cause: &str) {
        let cause = cause.to_owned();
        self.push(Event::Info { op, cause });
    }

    /// The harness did something; the time of the line.
    pub fn nemesis(&self, what: &str, nodes: &[u8]) -> u64 {
        let (what, nodes) = (what.to_owned(), nodes.to_vec());
        self.push(Event::Nemesis { what, nodes })
    }

    /// A table was loaded after everything was healed.
    pub fn table(&self, table: Final) {
        self.push(Event::Final(table));
    }

    /// The lines since the last call.
    pub fn take_round(&self) -> Vec<Line> {
        let mut inner = self.lock();
        inner.file.flush().expect("the history can be written");
        std::mem::take(&mut inner.round)
    }

    fn push(&self, event: Event) -> u64 {
        let at = self.now();
        self.lock().push(Line { at, event });
        at
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("no writer panics while it holds the file")
    }
}

impl Inner {
    fn push(&mut self, line: Line) {
        let mut text = serde_json::to_vec(&line).expect("lines are plain objects");
        text.push(b'\n');
        self.file
            .write_all(&text)
            .expect("the history can be written");
        self.round.push(line);
    }
}
