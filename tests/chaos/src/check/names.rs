//! Namespaces and tables that are created, dropped and renamed by several clients at once.

use super::registers::judge;
use super::wgl::{Model, Timed, search};
use super::{Findings, is_busy};
use crate::history::{Answer, Call, History, NameCall, Outcome};
use std::collections::{BTreeMap, BTreeSet};

/// A call with the answer it got.
#[derive(Clone, Debug)]
pub struct Answered {
    call: NameCall,
    answer: Reply,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reply {
    Done,
    Exists(bool),
    Tables(Option<BTreeSet<String>>),
    Refused(u16),
}

/// The names of one family: a namespace with no table name, or with one.
type State = BTreeSet<(String, Option<String>)>;

/// A family of namespaces.
#[derive(Debug)]
pub struct Family;

fn table((space, name): &(String, String)) -> (String, Option<String>) {
    (space.clone(), Some(name.clone()))
}

impl Model for Family {
    type State = State;
    type Op = Answered;

    fn initial(&self) -> State {
        State::new()
    }

    fn step(&self, state: &State, op: &Answered) -> Option<State> {
        let (expected, after) = apply(state, &op.call, &op.answer);
        expected.then_some(after)
    }
}

/// Whether the answer is right in this state, and the state after it.
fn apply(state: &State, call: &NameCall, answer: &Reply) -> (bool, State) {
    let has = |name: &(String, Option<String>)| state.contains(name);
    let space_of = |space: &str| (space.to_owned(), None);
    let mut after = state.clone();
    let is_right = match call {
        NameCall::CreateSpace { space } => {
            let there = has(&space_of(space));
            match answer {
                Reply::Done => !there && after.insert(space_of(space)),
                Reply::Refused(_) => there,
                _ => false,
            }
        }
        NameCall::DropSpace { space } => {
            let there = has(&space_of(space));
            let full = state.iter().any(|(s, t)| s == space && t.is_some());
            match answer {
                Reply::Done => there && !full && after.remove(&space_of(space)),
                Reply::Refused(404) => !there,
                Reply::Refused(_) => there && full,
                _ => false,
            }
        }
        NameCall::CreateTable { at } => {
            let (space, there) = (has(&space_of(&at.0)), has(&table(at)));
            match answer {
                Reply::Done => space && !there && after.insert(table(at)),
                Reply::Refused(404) => !space,
                Reply::Refused(_) => there,
                _ => false,
            }
        }
        NameCall::DropTable { at } => match answer {
            Reply::Done => after.remove(&table(at)),
            Reply::Refused(_) => !has(&table(at)),
            _ => false,
        },
        NameCall::Rename { from, to } => {
            let (source, space) = (has(&table(from)), has(&space_of(&to.0)));
            let taken = has(&table(to));
            match answer {
                Reply::Done => {
                    source
                        && space
                        && !taken
                        && after.remove(&table(from))
                        && after.insert(table(to))
                }
                Reply::Refused(404) => !source || !space,
                Reply::Refused(_) => taken,
                _ => false,
            }
        }
        NameCall::Exists { at } => *answer == Reply::Exists(has(&table(at))),
        NameCall::List { space } => {
            let inside = state.iter().filter(|(s, _)| s == space);
            let tables = inside.filter_map(|(_, t)| t.clone()).collect();
            *answer == Reply::Tables(has(&space_of(space)).then_some(tables))
        }
    };
    (is_right, after)
}

/// Every family by the general search.
pub(super) fn check(history: &History, found: &mut Findings) {
    let mut families: BTreeMap<&str, Vec<Timed<Answered>>> = BTreeMap::new();
    for op in &history.ops {
        let Call::Name { family, call } = &op.call else {
            continue;
        };
        let asks = matches!(call, NameCall::Exists { .. } | NameCall::List { .. });
        let answer = match &op.outcome {
            Outcome::Ok(Answer::Exists { exists }) => Reply::Exists(*exists),
            Outcome::Ok(Answer::Tables { tables }) => Reply::Tables(tables.clone()),
            Outcome::Ok(_) => Reply::Done,
            // A change of unknown outcome may take effect at any time from now on, or never.
            Outcome::Unknown if !asks => Reply::Done,
            Outcome::Refused { status } if !asks && !is_busy(*status) => Reply::Refused(*status),
            _ => continue,
        };
        families.entry(family).or_default().push(Timed {
            number: op.number,
            start: op.start,
            end: op.end,
            op: Answered {
                call: call.clone(),
                answer,
            },
        });
    }
    found.families = families.len();
    for (family, ops) in families {
        judge(family, search(&Family, &ops), found);
    }
}
