//! Which namespaces and short-lived tables may exist, by what was asked and answered.

use crate::blobs::Ending;
use std::collections::BTreeMap;

/// A namespace, or a table in one.
pub type Name = (String, Option<String>);

/// A state that a name may be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing has the name.
    Absent,
    /// It exists; a table's UUID, if an answer has told it.
    Present(Option<String>),
}

/// A promise about a name that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?}: found {found:?}, possible were {possible:?}")]
pub struct Violation {
    /// The name.
    pub name: Name,
    /// What was found.
    pub found: State,
    /// What it may have been.
    pub possible: Vec<State>,
}

/// All names that were ever used.
#[derive(Debug, Default)]
pub struct Names {
    possible: BTreeMap<Name, Vec<State>>,
}

impl Names {
    /// A change is sent. Only one may be under way for a name.
    pub fn begin(&mut self, name: &Name, target: State) {
        self.possible
            .entry(name.clone())
            .or_insert_with(|| vec![State::Absent])
            .push(target);
    }

    /// The change that was sent last has ended; `uuid` is that of a created table.
    pub fn end(&mut self, name: &Name, ending: Ending, uuid: Option<String>) {
        let possible = self.possible.get_mut(name).expect("only begun changes end");
        match ending {
            Ending::Done => {
                let target = possible.pop().expect("begun");
                let known = match target {
                    State::Present(_) => State::Present(uuid),
                    State::Absent => State::Absent,
                };
                *possible = vec![known];
            }
            Ending::Refused => {
                possible.pop();
            }
            Ending::Unknown => {}
        }
    }

    /// The name was looked up: checks it, and from then on it must be that.
    ///
    /// # Errors
    /// If it is in a state that it cannot be in.
    pub fn observe(&mut self, name: &Name, found: State) -> Result<(), Violation> {
        let possible = self
            .possible
            .entry(name.clone())
            .or_insert_with(|| vec![State::Absent]);
        let agrees = |candidate: &State| match (candidate, &found) {
            (State::Present(Some(known)), State::Present(Some(uuid))) => known == uuid,
            (State::Present(None), State::Present(_)) => true,
            (candidate, found) => candidate == found,
        };
        if possible.iter().any(agrees) {
            *possible = vec![found];
            return Ok(());
        }
        Err(Violation {
            name: name.clone(),
            found,
            possible: possible.clone(),
        })
    }

    /// All names that `which` accepts.
    pub fn all(&self, which: impl Fn(&Name) -> bool) -> Vec<Name> {
        self.possible
            .keys()
            .filter(|name| which(name))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_a_possible_state_and_stay_in_it() {
        let name = || ("n".to_owned(), Some("t".to_owned()));
        let table = |uuid: &str| State::Present(Some(uuid.to_owned()));
        let mut names = Names::default();
        names.begin(&name(), State::Present(None));
        names.end(&name(), Ending::Unknown, None);
        assert_eq!(names.observe(&name(), table("u")), Ok(()));
        assert!(names.observe(&name(), table("v")).is_err());
        assert!(names.observe(&name(), State::Absent).is_err());
        names.begin(&name(), State::Absent);
        names.end(&name(), Ending::Done, None);
        assert!(names.observe(&name(), table("u")).is_err());
        assert!(
            names
                .observe(&("unused".to_owned(), None), State::Present(None))
                .is_err()
        );
    }
}
