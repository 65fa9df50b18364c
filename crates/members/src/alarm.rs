//! What is wrong with a node, in a word for scripts and a sentence for people.

use floeberg_proto::floeberg::rpc::v1 as pb;
use floeberg_telemetry::NodeMetrics;
use floeberg_types::TimestampMs;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest sentence that is taken over from another node, in bytes.
const TEXT_MAX: usize = 512;

/// A kind of trouble. A node has at most one alarm of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    /// The node takes no part in its cluster.
    TakesNoPart,
    /// A group has no leader.
    NoLeader,
    /// An entry of a group that this node leads is not committed.
    Stalled,
    /// Its rows differ from those of others.
    Diverged,
    /// Stored bytes cannot be read.
    Damaged,
    /// The reserve of a disk is reached.
    DiskFull,
    /// Its volume lacks copies that it had acknowledged.
    CopiesLost,
    /// Its clock is off.
    Clock,
    /// Objects have fewer copies than they should.
    CopiesOwed,
    /// A certificate runs out.
    Certificate,
    /// Memory for requests of a kind is taken.
    Crowded,
    /// The log's time is ahead of its clock.
    LogTime,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Everything is served; it should be looked after.
    Warning,
    /// Something is not served, or may be lost next.
    Critical,
}

impl AlarmKind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::TakesNoPart,
        Self::NoLeader,
        Self::Stalled,
        Self::Diverged,
        Self::Damaged,
        Self::DiskFull,
        Self::CopiesLost,
        Self::Clock,
        Self::CopiesOwed,
        Self::Certificate,
        Self::Crowded,
        Self::LogTime,
    ];

    /// Its word in status, metrics and messages; never changed.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TakesNoPart => "takes-no-part",
            Self::NoLeader => "no-leader",
            Self::Stalled => "stalled",
            Self::Diverged => "diverged",
            Self::Damaged => "damaged",
            Self::DiskFull => "disk-full",
            Self::Clock => "clock",
            Self::CopiesLost => "copies-lost",
            Self::CopiesOwed => "copies-owed",
            Self::Certificate => "certificate",
            Self::Crowded => "crowded",
            Self::LogTime => "log-time",
        }
    }

    /// How bad it is.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::TakesNoPart
            | Self::NoLeader
            | Self::Stalled
            | Self::Diverged
            | Self::Damaged
            | Self::DiskFull
            | Self::CopiesLost => Severity::Critical,
            Self::Clock | Self::CopiesOwed | Self::Certificate | Self::Crowded | Self::LogTime => {
                Severity::Warning
            }
        }
    }
}

impl Severity {
    /// Its word in status and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Something that is wrong with a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What.
    pub kind: AlarmKind,
    /// What it is and what to do, for people.
    pub text: String,
    /// Since when, by the clock of the node that has it.
    pub since: TimestampMs,
}

impl Alarm {
    pub(crate) fn to_pb(&self) -> pb::Alarm {
        pb::Alarm {
            kind: self.kind.word().to_owned(),
            text: self.text.clone(),
            since_ms: self.since.0,
        }
    }

    /// One that another node told; `None` if only a later version knows its kind.
    pub(crate) fn from_pb(told: &pb::Alarm) -> Option<Self> {
        let kind = AlarmKind::ALL
            .into_iter()
            .find(|kind| kind.word() == told.kind)?;
        let end = told.text.floor_char_boundary(TEXT_MAX);
        Some(Self {
            kind,
            text: told.text[..end].to_owned(),
            since: TimestampMs(told.since_ms),
        })
    }
}

/// The alarms of this node; clones are the same.
#[derive(Clone)]
pub struct Alarms {
    current: Arc<Mutex<BTreeMap<AlarmKind, Alarm>>>,
    metrics: NodeMetrics,
}

impl Alarms {
    /// None; each kind is a gauge of `metrics`.
    #[must_use]
    pub fn new(metrics: &NodeMetrics) -> Self {
        for kind in AlarmKind::ALL {
            metrics.alarm(kind.word()).set(0);
        }
        Self {
            current: Arc::default(),
            metrics: metrics.clone(),
        }
    }

    /// Raises an alarm, or says it anew, or ends it without a text. What is news is in the log.
    pub fn set(&self, kind: AlarmKind, text: Option<String>, now: TimestampMs) {
        let mut current = self.current.lock();
        self.metrics
            .alarm(kind.word())
            .set(i64::from(text.is_some()));
        let Some(text) = text else {
            if current.remove(&kind).is_some() {
                tracing::info!(alarm = kind.word(), "the alarm is over");
            }
            return;
        };
        if let Some(alarm) = current.get_mut(&kind) {
            alarm.text = text;
            return;
        }
        tracing::warn!(alarm = kind.word(), "{text}");
        let since = now;
        current.insert(kind, Alarm { kind, text, since });
    }

    /// All of them, the worst kinds first.
    #[must_use]
    pub fn all(&self) -> Vec<Alarm> {
        self.current.lock().values().cloned().collect()
    }

    /// The one of a kind.
    #[must_use]
    pub fn get(&self, kind: AlarmKind) -> Option<Alarm> {
        self.current.lock().get(&kind).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_keeps_its_beginning_and_ends_once() {
        let metrics = NodeMetrics::new();
        let alarms = Alarms::new(&metrics);
        let at = TimestampMs;
        alarms.set(AlarmKind::Clock, Some("5 s".to_owned()), at(1));
        alarms.set(AlarmKind::Clock, Some("6 s".to_owned()), at(2));
        alarms.set(AlarmKind::NoLeader, Some("group 0".to_owned()), at(3));
        let all = alarms.all();
        assert_eq!(all[0].kind, AlarmKind::NoLeader);
        assert_eq!((&*all[1].text, all[1].since), ("6 s", at(1)));
        assert!(
            metrics
                .render()
                .contains("floeberg_alarm{kind=\"clock\"} 1")
        );
        alarms.set(AlarmKind::Clock, None, at(4));
        assert_eq!(alarms.get(AlarmKind::Clock), None);
        assert!(
            metrics
                .render()
                .contains("floeberg_alarm{kind=\"clock\"} 0")
        );
    }

    #[test]
    fn every_kind_has_a_rule_of_its_severity() {
        let rules = include_str!("../../../docs/operations/alerts.yml");
        let of = |name: &str| rules.lines().skip_while(|l| !l.contains(name)).nth(1);
        let (critical, warning) = (of("FloebergCritical"), of("FloebergWarning"));
        for kind in AlarmKind::ALL {
            let rule = match kind.severity() {
                Severity::Critical => critical.unwrap(),
                Severity::Warning => warning.unwrap(),
            };
            let kinds = rule.split(['"', '|']);
            assert!(
                kinds.into_iter().any(|word| word == kind.word()),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn words_come_back_and_long_sentences_are_cut() {
        for kind in AlarmKind::ALL {
            let text = "ä".repeat(400);
            let since = TimestampMs(5);
            let told = Alarm { kind, text, since }.to_pb();
            let back = Alarm::from_pb(&told).unwrap();
            assert_eq!((back.kind, back.since), (kind, since));
            assert_eq!(back.text.len(), TEXT_MAX);
        }
        let later = pb::Alarm {
            kind: "hunger".to_owned(),
            ..pb::Alarm::default()
        };
        assert_eq!(Alarm::from_pb(&later), None);
    }
}
