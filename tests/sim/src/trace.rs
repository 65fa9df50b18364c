//! The trace of a run: what happened, in order, with simulated times. Two runs of one seed must
//! produce the same text.

use parking_lot::Mutex;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// Collects lines; shared by every simulated client.
#[derive(Clone, Default)]
pub(crate) struct Trace {
    text: Arc<Mutex<String>>,
}

impl Trace {
    pub(crate) fn line(&self, at: Duration, what: &str) {
        let mut text = self.text.lock();
        writeln!(text, "{:>10.3} {what}", at.as_secs_f64() * 1000.0)
            .expect("writing to a string cannot fail");
    }

    pub(crate) fn take(&self) -> String {
        std::mem::take(&mut self.text.lock())
    }
}
