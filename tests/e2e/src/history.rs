//! Everything that was asked and answered, as JSON lines.

use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The record of a run.
#[derive(Debug)]
pub struct History {
    begin: Instant,
    cycle: AtomicU32,
    path: PathBuf,
    file: Mutex<BufWriter<File>>,
}

#[derive(Serialize)]
struct Line<'a, T> {
    us: u128,
    cycle: u32,
    client: &'a str,
    event: &'a str,
    #[serde(flatten)]
    details: T,
}

impl History {
    /// A new file.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            begin: Instant::now(),
            cycle: AtomicU32::new(0),
            path: path.to_owned(),
            file: Mutex::new(BufWriter::new(File::create(path)?)),
        })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Time since the beginning of the run.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Names the cycle that the following lines belong to.
    pub fn enter(&self, cycle: u32) {
        self.cycle.store(cycle, Ordering::Relaxed);
    }

    /// Adds a line.
    pub fn record(&self, client: &str, event: &str, details: impl Serialize) {
        let us = self.now().as_micros();
        let cycle = self.cycle.load(Ordering::Relaxed);
        let line = Line {
            us,
            cycle,
            client,
            event,
            details,
        };
        let mut text = serde_json::to_vec(&line).expect("lines are plain objects");
        text.push(b'\n');
        let mut file = self
            .file
            .lock()
            .expect("no writer panics while it holds the file");
        file.write_all(&text)
            .expect("the history file can be written");
    }

    /// Writes out what is buffered.
    pub fn flush(&self) {
        let mut file = self
            .file
            .lock()
            .expect("no writer panics while it holds the file");
        file.flush().expect("the history file can be written");
    }
}
