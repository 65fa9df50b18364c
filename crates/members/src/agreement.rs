//! Settings that work only if every node has them alike, compared.

use crate::model::{Member, MemberState};
use floeberg_types::NodeId;
use std::collections::BTreeMap;

/// A setting that is not the same on every member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// Which.
    pub setting: String,
    /// Who has which value.
    pub values: BTreeMap<String, Vec<NodeId>>,
}

/// What members do not have alike. One that has not said what it has, disagrees with nobody: it has not
/// started yet, or its version does not say.
pub(crate) fn disagreements<'a>(
    members: impl IntoIterator<Item = &'a Member>,
) -> Vec<Disagreement> {
    let mut settings = BTreeMap::<&String, BTreeMap<String, Vec<NodeId>>>::new();
    let present = members.into_iter().filter(|m| m.state != MemberState::Gone);
    for (member, (setting, value)) in present.flat_map(|m| m.settings.iter().map(move |s| (m, s))) {
        let values = settings.entry(setting).or_default();
        values.entry(value.clone()).or_default().push(member.id);
    }
    let differing = settings.into_iter().filter(|(_, values)| values.len() > 1);
    let disagreement = |(setting, values): (&String, _)| Disagreement {
        setting: setting.clone(),
        values,
    };
    differing.map(disagreement).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::new_row;
    use crate::rows::member_from_row;
    use crate::testing::announcement;
    use bytes::Bytes;
    use floeberg_types::TimestampMs;

    fn member(node: u64, state: MemberState, settings: &[(&str, &str)]) -> Member {
        let mut me = announcement(node);
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        me.settings = settings.iter().map(owned).collect();
        let row = new_row(&me, state, TimestampMs(1), Bytes::new());
        member_from_row(&row).unwrap()
    }

    #[test]
    fn only_members_that_are_there_and_say_something_disagree() {
        use MemberState::{Active, Gone, Joining};
        let alike = [("keys", "a"), ("times", "1s")];
        let mut members = vec![
            member(1, Active, &alike),
            member(2, Active, &alike),
            member(3, Gone, &[("keys", "old")]),
            member(4, Joining, &[]),
        ];
        assert_eq!(disagreements(&members), []);
        members.push(member(5, Active, &[("keys", "b"), ("times", "1s")]));
        let values = [
            ("a".to_owned(), vec![NodeId(1), NodeId(2)]),
            ("b".to_owned(), vec![NodeId(5)]),
        ];
        let keys = Disagreement {
            setting: "keys".to_owned(),
            values: values.into(),
        };
        assert_eq!(disagreements(&members), [keys]);
    }
}
