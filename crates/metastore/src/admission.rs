//! Which commands of other nodes a leader has taken or turned down in its term.
//!
//! A command is taken at most once, however often its message arrives, and never after it was
//! turned down: the node that sent it may have decided anew by then. What is remembered is bounded.
//! Where an id has to be forgotten, every command decided up to its time is refused from then on.

use floeberg_types::{CommitId, TimestampMs};
use std::collections::{BTreeMap, VecDeque};

/// Ids remembered in a term.
pub(crate) const REMEMBERED_MAX: usize = 65_536;

/// What is known of a command that came from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Never seen.
    New,
    /// Taken; its outcome is open.
    InFlight,
    /// Turned down, or its outcome is applied here.
    Settled,
    /// So old that it may have been either before.
    Forgotten,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    InFlight,
    Settled,
}

/// The memory of one term.
#[derive(Debug)]
pub(crate) struct Admissions {
    capacity: usize,
    known: BTreeMap<CommitId, Known>,
    /// In order of arrival.
    order: VecDeque<(CommitId, TimestampMs)>,
    /// Commands decided at this time or before are new no more.
    forgotten: TimestampMs,
}

impl Default for Admissions {
    fn default() -> Self {
        Self::with_capacity(REMEMBERED_MAX)
    }
}

impl Admissions {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            capacity,
            known: BTreeMap::new(),
            order: VecDeque::new(),
            forgotten: TimestampMs(i64::MIN),
        }
    }

    pub(crate) fn standing(&self, id: CommitId, decided: TimestampMs) -> Standing {
        match self.known.get(&id) {
            Some(Known::InFlight) => Standing::InFlight,
            Some(Known::Settled) => Standing::Settled,
            None if decided <= self.forgotten => Standing::Forgotten,
            None => Standing::New,
        }
    }

    /// Takes a new command.
    pub(crate) fn admit(&mut self, id: CommitId, decided: TimestampMs) {
        self.remember(id, decided, Known::InFlight);
    }

    /// Turns a new command down for the rest of the term.
    pub(crate) fn bar(&mut self, id: CommitId, decided: TimestampMs) {
        self.remember(id, decided, Known::Settled);
    }

    /// The outcome of a command taken earlier is applied here.
    pub(crate) fn settle(&mut self, id: CommitId) {
        if let Some(known) = self.known.get_mut(&id) {
            *known = Known::Settled;
        }
    }

    /// The earliest time at which a command may be decided to be taken.
    pub(crate) fn earliest(&self) -> TimestampMs {
        self.forgotten.plus_ms(1)
    }

    fn remember(&mut self, id: CommitId, decided: TimestampMs, known: Known) {
        self.known.insert(id, known);
        self.order.push_back((id, decided));
        // Each is looked at once at most: those in flight stay, and permits bound them.
        for _ in 0..self.order.len() {
            if self.order.len() <= self.capacity {
                return;
            }
            let Some((id, decided)) = self.order.pop_front() else {
                return;
            };
            if self.known.get(&id) == Some(&Known::InFlight) {
                self.order.push_back((id, decided));
            } else {
                self.known.remove(&id);
                self.forgotten = self.forgotten.max(decided);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn id(n: u16) -> CommitId {
        CommitId::from_bytes(u128::from(n).to_be_bytes())
    }

    #[test]
    fn a_command_in_flight_is_not_forgotten_and_a_settled_one_takes_its_time_along() {
        let mut ids = Admissions::with_capacity(2);
        ids.admit(id(1), TimestampMs(10));
        ids.bar(id(2), TimestampMs(20));
        ids.bar(id(3), TimestampMs(15));
        assert_eq!(ids.standing(id(1), TimestampMs(10)), Standing::InFlight);
        assert_eq!(ids.standing(id(2), TimestampMs(20)), Standing::Forgotten);
        assert_eq!(ids.standing(id(3), TimestampMs(15)), Standing::Settled);
        assert_eq!(ids.standing(id(9), TimestampMs(20)), Standing::Forgotten);
        assert_eq!(ids.standing(id(9), ids.earliest()), Standing::New);
        ids.settle(id(1));
        assert_eq!(ids.standing(id(1), TimestampMs(10)), Standing::Settled);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Propose(u16),
        Withdraw(u16),
        Settle(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u16..60).prop_map(Step::Propose),
            2 => (0u16..60).prop_map(Step::Withdraw),
            3 => (0u16..60).prop_map(Step::Settle),
        ]
    }

    proptest! {
        /// Against a memory that forgets nothing: no id is taken twice or after it was turned down,
        /// one in flight is always known, and what is kept stays within bounds.
        #[test]
        fn a_bounded_memory_never_takes_a_command_twice(
            steps in proptest::collection::vec(step(), 1..300),
            times in proptest::collection::vec(0i64..40, 60),
            capacity in 1usize..12,
        ) {
            let mut ids = Admissions::with_capacity(capacity);
            let mut taken = BTreeSet::new();
            let mut refused = BTreeSet::new();
            let mut open: BTreeSet<u16> = BTreeSet::new();
            let mut open_most = 0;
            for step in steps {
                match step {
                    Step::Propose(n) => {
                        let decided = TimestampMs(times[usize::from(n)]);
                        match ids.standing(id(n), decided) {
                            Standing::New => {
                                prop_assert!(taken.insert(n), "taken twice");
                                prop_assert!(!refused.contains(&n), "taken after a refusal");
                                open.insert(n);
                                ids.admit(id(n), decided);
                            }
                            Standing::InFlight => prop_assert!(open.contains(&n)),
                            Standing::Settled | Standing::Forgotten => {
                                prop_assert!(!open.contains(&n));
                                refused.insert(n);
                            }
                        }
                    }
                    Step::Withdraw(n) => {
                        let decided = TimestampMs(times[usize::from(n)]);
                        match ids.standing(id(n), decided) {
                            Standing::New => {
                                prop_assert!(!taken.contains(&n));
                                refused.insert(n);
                                ids.bar(id(n), decided);
                            }
                            Standing::InFlight => prop_assert!(open.contains(&n)),
                            Standing::Settled | Standing::Forgotten => {
                                prop_assert!(!open.contains(&n));
                                refused.insert(n);
                            }
                        }
                    }
                    Step::Settle(n) => {
                        if open.remove(&n) {
                            ids.settle(id(n));
                        }
                    }
                }
                open_most = open_most.max(open.len());
                prop_assert!(ids.len() <= capacity.max(open_most) + 1);
            }
        }
    }
}
