//! The search of Wing and Gong with the cache of Lowe: is there one order of the operations, true to
//! real time, that a sequential model explains?
//!
//! An operation of unknown outcome has no end and need not be placed at all. See G. Lowe, "Testing
//! for linearizability" (2017).

use std::collections::HashSet;
use std::hash::Hash;

/// Searches that visit more states than this are given up.
const STATES_MAX: usize = 2_000_000;

/// A sequential specification.
pub trait Model {
    /// What is between two operations.
    type State: Clone + Eq + Hash;
    /// An operation with its answer.
    type Op;

    /// The state before all operations.
    fn initial(&self) -> Self::State;

    /// The state after an operation, if it can be answered so in `state`.
    fn step(&self, state: &Self::State, op: &Self::Op) -> Option<Self::State>;
}

/// An operation with its times.
#[derive(Clone, Debug)]
pub struct Timed<O> {
    /// Number in the history, for messages.
    pub number: u64,
    /// When it was sent.
    pub start: u64,
    /// When it was answered; [`u64::MAX`] if the outcome is unknown.
    pub end: u64,
    /// What and with which answer.
    pub op: O,
}

/// The result of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none; after the longest order found, these operations could not be placed.
    Stuck(Vec<u64>),
    /// Given up.
    TooLarge,
}

/// Calls and returns in the order of time, as a doubly linked list over indices; index 0 is the
/// head of the list.
struct Events {
    /// Operation of each event, and whether the event is its return.
    of: Vec<(usize, bool)>,
    next: Vec<usize>,
    before: Vec<usize>,
    /// Index of each operation's return, 0 if it has none.
    returns: Vec<usize>,
}

const HEAD: usize = 0;

impl Events {
    fn new<O>(ops: &[Timed<O>]) -> Self {
        let mut events: Vec<(u64, bool, usize)> = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            events.push((op.start, false, index));
            if op.end != u64::MAX {
                events.push((op.end, true, index));
            }
        }
        // At equal times calls come first: the operations then count as concurrent.
        events.sort_unstable();
        let count = events.len();
        let mut returns = vec![0; ops.len()];
        let mut of = vec![(usize::MAX, false)];
        for (place, (_, is_return, index)) in (1..).zip(events) {
            of.push((index, is_return));
            if is_return {
                returns[index] = place;
            }
        }
        let next = (0..=count).map(|i| if i == count { HEAD } else { i + 1 });
        let before = (0..=count).map(|i| if i == 0 { count } else { i - 1 });
        Self {
            of,
            next: next.collect(),
            before: before.collect(),
            returns,
        }
    }

    fn unlink(&mut self, event: usize) {
        let (before, next) = (self.before[event], self.next[event]);
        self.next[before] = next;
        self.before[next] = before;
    }

    fn relink(&mut self, event: usize) {
        let (before, next) = (self.before[event], self.next[event]);
        self.next[before] = event;
        self.before[next] = event;
    }

    /// Takes an operation out, call first.
    fn lift(&mut self, call: usize) {
        self.unlink(call);
        let end = self.returns[self.of[call].0];
        if end != 0 {
            self.unlink(end);
        }
    }

    /// Puts it back, in the opposite order.
    fn unlift(&mut self, call: usize) {
        let end = self.returns[self.of[call].0];
        if end != 0 {
            self.relink(end);
        }
        self.relink(call);
    }
}

/// Searches.
pub fn search<M: Model>(model: &M, ops: &[Timed<M::Op>]) -> Verdict {
    let mut events = Events::new(ops);
    let mut left = ops.iter().filter(|op| op.end != u64::MAX).count();
    let mut state = model.initial();
    let mut placed = vec![0u64; ops.len().div_ceil(64)];
    let mut seen: HashSet<(Vec<u64>, M::State)> = HashSet::new();
    let mut stack: Vec<(usize, M::State)> = Vec::new();
    let mut fewest_left = usize::MAX;
    let mut stuck = Vec::new();
    let mut event = events.next[HEAD];
    while left > 0 {
        let (index, is_return) = events.of[event];
        if event != HEAD && !is_return {
            let after = model.step(&state, &ops[index].op);
            placed[index / 64] |= 1 << (index % 64);
            match after {
                Some(after) if seen.insert((placed.clone(), after.clone())) => {
                    stack.push((event, std::mem::replace(&mut state, after)));
                    events.lift(event);
                    left -= usize::from(ops[index].end != u64::MAX);
                    event = events.next[HEAD];
                    if seen.len() > STATES_MAX {
                        return Verdict::TooLarge;
                    }
                }
                _ => {
                    placed[index / 64] &= !(1 << (index % 64));
                    event = events.next[event];
                }
            }
            continue;
        }
        // A return, or the end: some operation had to be placed before this point.
        if left < fewest_left {
            fewest_left = left;
            stuck = waiting(&events, ops);
        }
        let Some((call, earlier)) = stack.pop() else {
            return Verdict::Stuck(stuck);
        };
        state = earlier;
        let index = events.of[call].0;
        placed[index / 64] &= !(1 << (index % 64));
        left += usize::from(ops[index].end != u64::MAX);
        events.unlift(call);
        event = events.next[call];
    }
    Verdict::Linearizable
}

/// The operations whose calls stand before the first return.
fn waiting<O>(events: &Events, ops: &[Timed<O>]) -> Vec<u64> {
    let mut out = Vec::new();
    let mut event = events.next[HEAD];
    while event != HEAD && !events.of[event].1 {
        let op = &ops[events.of[event].0];
        if op.end != u64::MAX {
            out.push(op.number);
        }
        event = events.next[event];
    }
    out
}
