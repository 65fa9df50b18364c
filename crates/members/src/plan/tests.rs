//! The rules of the planner, one by one and under random wishes.

use super::*;
use crate::model::{Departure, FeatureLevels, MemberState};
use floeberg_types::TimestampMs;
use proptest::prelude::*;

const RULES: Rules = Rules {
    caught_up: 10,
    voters_max: 5,
    copies: 3,
};
const DRAINED: MemberState = MemberState::Leaving(Departure::Drained);
const DEAD: MemberState = MemberState::Leaving(Departure::Dead);

fn id(node: u64) -> NodeId {
    NodeId(node)
}

fn ids(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

fn member(node: u64, state: MemberState) -> Member {
    Member {
        id: id(node),
        address: format!("n{node}:7000"),
        labels: BTreeMap::new(),
        state,
        replaced_by: None,
        joined_at: TimestampMs(0),
        changed_at: TimestampMs(0),
        features: FeatureLevels { low: 1, high: 1 },
        version: String::new(),
        start: 1,
        settings: BTreeMap::new(),
    }
}

fn roster(members: &[(u64, MemberState)]) -> Roster {
    let entry = |(node, state): &(u64, MemberState)| (id(*node), member(*node, *state));
    members.iter().map(entry).collect()
}

/// A group led by node 1 in which everybody answers and lacks nothing.
fn view(voters: &[u64], learners: &[u64]) -> GroupView {
    let all = (0..20).map(NodeId).collect::<BTreeSet<_>>();
    GroupView {
        group: GroupId::CATALOG,
        leader: id(1),
        term: 1,
        voters: ids(voters),
        learners: ids(learners),
        changing: false,
        behind: all.iter().map(|node| (*node, 0)).collect(),
        reachable: all,
    }
}

fn silent(mut view: GroupView, nodes: &[u64]) -> GroupView {
    for node in nodes {
        view.reachable.remove(&id(*node));
    }
    view
}

const ACTIVE: MemberState = MemberState::Active;
const JOINING: MemberState = MemberState::Joining;
const THREE: [(u64, MemberState); 3] = [(1, ACTIVE), (2, ACTIVE), (3, ACTIVE)];

fn with(extra: &[(u64, MemberState)]) -> Roster {
    roster(&[&THREE, extra].concat())
}

fn decide(roster: &Roster, view: &GroupView) -> Next {
    next(roster, view, &BTreeMap::new(), &RULES)
}

#[test]
fn a_joining_node_learns_catches_up_and_votes() {
    let roster = with(&[(4, JOINING)]);
    let step = decide(&roster, &view(&[1, 2, 3], &[]));
    let address = "n4:7000".to_owned();
    assert_eq!(
        step,
        Next::Do(Step::AddLearner {
            node: id(4),
            address
        })
    );
    let mut behind = view(&[1, 2, 3], &[4]);
    behind.behind.insert(id(4), 11);
    let catching_up = Waiting::CatchUp {
        node: id(4),
        behind: 11,
    };
    assert_eq!(decide(&roster, &behind), Next::Wait(catching_up));
    behind.behind.remove(&id(4));
    assert!(matches!(
        decide(&roster, &behind),
        Next::Wait(Waiting::CatchUp { .. })
    ));
    let promote = Step::Promote {
        node: id(4),
        in_place_of: None,
    };
    assert_eq!(decide(&roster, &view(&[1, 2, 3], &[4])), Next::Do(promote));
    assert_eq!(decide(&roster, &view(&[1, 2, 3, 4], &[])), Next::Done);
}

#[test]
fn a_node_that_never_came_up_is_not_added() {
    let roster = with(&[(4, JOINING)]);
    let view = silent(view(&[1, 2, 3], &[]), &[4]);
    assert_eq!(
        decide(&roster, &view),
        Next::Wait(Waiting::Silent { node: id(4) })
    );
}

#[test]
fn nobody_gets_a_vote_while_the_majority_hangs_by_a_thread() {
    let roster = roster(&[(1, ACTIVE), (2, ACTIVE), (3, JOINING)]);
    let cut_off = silent(view(&[1, 2], &[3]), &[2]);
    let lost = Waiting::NoMajority {
        answering: 1,
        voters: 2,
    };
    assert_eq!(decide(&roster, &cut_off), Next::Wait(lost));
}

#[test]
fn members_beyond_the_voters_stand_by() {
    let six: Vec<_> = (1..=6).map(|node| (node, ACTIVE)).collect();
    assert_eq!(
        decide(&roster(&six), &view(&[1, 2, 3, 4, 5], &[6])),
        Next::Done
    );
    let joining = [&six[..5], &[(6, JOINING)]].concat();
    let views = [view(&[1, 2, 3, 4, 5], &[6])];
    let reached = settle(&roster(&joining), &views, &BTreeMap::new(), &RULES);
    assert_eq!(reached, Some((id(6), ACTIVE)));
    // One leaves: the one that stands by takes its vote in the end.
    let leaving = [&six[..4], &[(5, DEAD), (6, ACTIVE)]].concat();
    let demote = Step::Demote { node: id(5) };
    let view_now = silent(view(&[1, 2, 3, 4, 5], &[6]), &[5]);
    assert_eq!(decide(&roster(&leaving), &view_now), Next::Do(demote));
    let view_now = silent(view(&[1, 2, 3, 4], &[5, 6]), &[5]);
    let promote = Step::Promote {
        node: id(6),
        in_place_of: None,
    };
    assert_eq!(decide(&roster(&leaving), &view_now), Next::Do(promote));
}

#[test]
fn a_dead_node_and_its_replacement_change_places_at_once() {
    let mut roster = with(&[(4, JOINING)]);
    roster.get_mut(&id(3)).unwrap().state = DEAD;
    roster.get_mut(&id(3)).unwrap().replaced_by = Some(id(4));
    let view = |voters: &[u64], learners: &[u64]| silent(view(voters, learners), &[3]);
    let mut catching_up = view(&[1, 2, 3], &[4]);
    catching_up.behind.insert(id(4), 5000);
    let waiting = Waiting::CatchUp {
        node: id(4),
        behind: 5000,
    };
    assert_eq!(
        decide(&roster, &catching_up),
        Next::Wait(waiting),
        "the vote is kept until then"
    );
    let swap = Step::Promote {
        node: id(4),
        in_place_of: Some(id(3)),
    };
    assert_eq!(decide(&roster, &view(&[1, 2, 3], &[4])), Next::Do(swap));
    let remove = Step::RemoveLearner { node: id(3) };
    assert_eq!(decide(&roster, &view(&[1, 2, 4], &[3])), Next::Do(remove));
    assert_eq!(decide(&roster, &view(&[1, 2, 4], &[])), Next::Done);
    // A replacement that falls silent itself is not waited for.
    let both = silent(view(&[1, 2, 3], &[]), &[3, 4]);
    assert_eq!(
        decide(&roster, &both),
        Next::Do(Step::Demote { node: id(3) })
    );
}

#[test]
fn a_leader_that_leaves_hands_over_to_who_has_most() {
    let mut roster = with(&[(4, ACTIVE)]);
    roster.get_mut(&id(1)).unwrap().state = DRAINED;
    let mut view = view(&[1, 2, 3, 4], &[]);
    view.behind.insert(id(2), 3);
    assert_eq!(
        decide(&roster, &view),
        Next::Do(Step::TransferLeadership { to: id(3) })
    );
    view.leader = id(3);
    assert_eq!(
        decide(&roster, &view),
        Next::Do(Step::Demote { node: id(1) })
    );
}

#[test]
fn a_drained_node_stays_a_learner_until_its_data_is_elsewhere() {
    let roster = with(&[(4, DRAINED)]);
    let view = view(&[1, 2, 3], &[4]);
    let node = id(4);
    let data = |shards| Next::Wait(Waiting::Data { node, shards });
    assert_eq!(decide(&roster, &view), data(None));
    let owed = |shards| next(&roster, &view, &BTreeMap::from([(node, shards)]), &RULES);
    assert_eq!(owed(7), data(Some(7)));
    let elsewhere = with(&[(4, MemberState::Drained)]);
    let remove = Next::Do(Step::RemoveLearner { node });
    assert_eq!(decide(&elsewhere, &view), remove);
}

#[test]
fn nothing_happens_while_the_voters_change() {
    let mut view = view(&[1, 2, 3], &[]);
    view.changing = true;
    assert_eq!(
        decide(&with(&[(4, JOINING)]), &view),
        Next::Wait(Waiting::Change)
    );
}

#[test]
fn a_member_is_settled_once_every_group_says_so() {
    let none = BTreeMap::new();
    let joined = view(&[1, 2, 3, 4], &[]);
    let learning = view(&[1, 2, 3], &[4]);
    let joining = with(&[(4, JOINING)]);
    let both = [joined.clone(), learning.clone()];
    assert_eq!(settle(&joining, &both, &none, &RULES), None);
    let both = [joined.clone(), joined];
    assert_eq!(
        settle(&joining, &both, &none, &RULES),
        Some((id(4), ACTIVE))
    );
    let out = [view(&[1, 2, 3], &[])];
    let gone = Some((id(4), MemberState::Gone));
    assert_eq!(settle(&with(&[(4, DEAD)]), &out, &none, &RULES), gone);
    assert_eq!(
        settle(&with(&[(4, DEAD)]), &[learning], &none, &RULES),
        None
    );
    let drained = with(&[(4, DRAINED)]);
    assert_eq!(
        settle(&drained, &out, &none, &RULES),
        None,
        "its data is not accounted for"
    );
    let empty = BTreeMap::from([(id(4), 0)]);
    let away = Some((id(4), MemberState::Drained));
    assert_eq!(settle(&drained, &out, &empty, &RULES), away);
    let drained = with(&[(4, MemberState::Drained)]);
    assert_eq!(settle(&drained, &out, &none, &RULES), gone);
    let learning = [view(&[1, 2, 3], &[4])];
    assert_eq!(settle(&drained, &learning, &none, &RULES), None);
}

#[test]
fn the_feature_level_is_what_the_oldest_member_can_do() {
    let mut roster = with(&[(4, DRAINED), (5, MemberState::Gone)]);
    for node in 1..=3 {
        roster.get_mut(&id(node)).unwrap().features.high = 3;
    }
    roster.get_mut(&id(4)).unwrap().features.high = 2;
    assert_eq!(
        feature_level(&roster, 1),
        Some(2),
        "who is gone no longer counts"
    );
    assert_eq!(feature_level(&roster, 2), None);
    assert_eq!(feature_level(&roster, 3), None, "it never falls");
}

#[test]
fn wishes_that_cost_the_majority_or_the_data_are_refused() {
    let views = |silent_nodes: &[u64]| [silent(view(&[1, 2, 3, 4], &[]), silent_nodes)];
    let four = with(&[(4, ACTIVE)]);
    let depart = |views: &[GroupView], node, departure| {
        may_depart(&four, views, id(node), departure, &RULES)
    };
    assert_eq!(depart(&views(&[]), 4, Departure::Drained), Ok(()));
    assert_eq!(depart(&views(&[4]), 4, Departure::Dead), Ok(()));
    let refused = |result: Result<(), Refused>, words: &str| {
        let text = result.expect_err(words).to_string();
        assert!(text.contains(words), "{text}");
    };
    refused(
        depart(&views(&[]), 9, Departure::Drained),
        "there is no member 9",
    );
    refused(
        depart(&views(&[4]), 4, Departure::Drained),
        "does not answer",
    );
    refused(
        depart(&views(&[]), 4, Departure::Dead),
        "leave `--dead` out",
    );
    let two_down =
        "group 0 would have the voters 1, 2, 3, of which 2 must answer, but 2, 3 does not";
    refused(depart(&views(&[2, 3]), 4, Departure::Drained), two_down);
    let three = roster(&THREE);
    let views3 = [view(&[1, 2, 3], &[])];
    let shrink = may_depart(&three, &views3, id(3), Departure::Drained, &RULES);
    refused(shrink, "2 active members that answer would remain");
    let joining = with(&[(4, JOINING)]);
    let shrink = may_depart(&joining, &views3, id(3), Departure::Drained, &RULES);
    refused(shrink, "2 active members that answer would remain");
    let two = roster(&[(1, ACTIVE), (2, ACTIVE), (3, JOINING)]);
    let views2 = [silent(view(&[1, 2], &[]), &[3])];
    let shrink = may_depart(&two, &views2, id(2), Departure::Drained, &RULES);
    refused(shrink, "1 active members that answer would remain");
    let ghost = may_depart(&two, &views2, id(3), Departure::Dead, &RULES);
    assert_eq!(ghost, Ok(()), "who never came up may always go");
    let ghost = may_depart(
        &joining,
        &[silent(view(&[1, 2, 3], &[]), &[4])],
        id(4),
        Departure::Dead,
        &RULES,
    );
    assert_eq!(ghost, Ok(()));
    let busy = with(&[(4, ACTIVE), (5, DEAD)]);
    let again = may_depart(&busy, &views(&[]), id(4), Departure::Drained, &RULES);
    refused(again, "node 5 is still dead; one member changes at a time");
    let gone = with(&[(4, MemberState::Gone)]);
    let gone = may_depart(&gone, &views(&[]), id(4), Departure::Dead, &RULES);
    refused(gone, "never used again");
    let alone = roster(&[(1, ACTIVE)]);
    let last = may_depart(
        &alone,
        &[view(&[1], &[])],
        id(1),
        Departure::Drained,
        &RULES,
    );
    refused(last, "last member");
}

#[test]
fn a_dead_member_may_always_be_given_up_and_nobody_is_drained_to_silent_ones() {
    let refused = |result: Result<(), Refused>, words: &str| {
        let text = result.expect_err(words).to_string();
        assert!(text.contains(words), "{text}");
    };
    let dead = may_depart(
        &with(&[(4, ACTIVE), (5, ACTIVE), (6, DRAINED)]),
        &[silent(view(&[1, 2, 3, 4, 5], &[6]), &[5])],
        id(5),
        Departure::Dead,
        &RULES,
    );
    assert_eq!(dead, Ok(()), "what is drained may be waiting for it");
    let five = with(&[(4, ACTIVE), (5, ACTIVE)]);
    let views5 = [silent(view(&[1, 2, 3, 4, 5], &[]), &[1, 2])];
    let nowhere = may_depart(&five, &views5, id(4), Departure::Drained, &RULES);
    refused(nowhere, "of which 3 must answer");
    let views5 = [silent(view(&[1, 2, 3], &[4, 5]), &[4])];
    let four = with(&[(4, ACTIVE)]);
    let nowhere = may_depart(&four, &views5, id(3), Departure::Drained, &RULES);
    refused(nowhere, "2 active members that answer would remain");
}

#[test]
fn a_replacement_must_be_there_and_another() {
    let four = with(&[(4, JOINING)]);
    let views = [silent(view(&[1, 2, 3], &[]), &[3])];
    assert_eq!(may_replace(&four, &views, id(3), id(4), &RULES), Ok(()));
    assert_eq!(departure_of(&views, id(3)), Departure::Dead);
    assert_eq!(departure_of(&views, id(2)), Departure::Drained);
    let two = roster(&[(1, ACTIVE), (2, ACTIVE), (3, JOINING)]);
    let views2 = [view(&[1, 2], &[])];
    assert_eq!(may_replace(&two, &views2, id(2), id(3), &RULES), Ok(()));
    let fewer = may_replace(&roster(&THREE), &views, id(3), id(2), &RULES);
    assert!(matches!(fewer, Err(Refused::TooFew { left: 2, .. })));
    let itself = may_replace(&four, &views, id(3), id(3), &RULES);
    assert!(matches!(itself, Err(Refused::Itself { .. })));
    let views = [silent(view(&[1, 2, 3], &[]), &[4])];
    let silent = may_replace(&four, &views, id(3), id(4), &RULES);
    assert!(matches!(silent, Err(Refused::SilentReplacement { .. })));
    let view = view(&[1, 2, 3], &[4]);
    assert!(matches!(
        may_transfer(&four, &view, id(4)),
        Err(Refused::NoVote { .. })
    ));
    assert_eq!(may_transfer(&four, &view, id(2)), Ok(()));
}

/// What a step does to a group in which everything works.
fn apply(view: &mut GroupView, step: &Step) {
    match step {
        Step::AddLearner { node, .. } => {
            view.learners.insert(*node);
        }
        Step::Promote { node, in_place_of } => {
            view.learners.remove(node);
            view.voters.insert(*node);
            if let Some(old) = in_place_of {
                view.voters.remove(old);
                view.learners.insert(*old);
            }
        }
        Step::TransferLeadership { to } => view.leader = *to,
        Step::Demote { node } => {
            view.voters.remove(node);
            view.learners.insert(*node);
        }
        Step::RemoveLearner { node } => {
            view.learners.remove(node);
        }
    }
}

fn states() -> impl Strategy<Value = MemberState> {
    prop_oneof![
        4 => Just(ACTIVE),
        2 => Just(JOINING),
        1 => Just(DRAINED),
        1 => Just(MemberState::Drained),
        1 => Just(DEAD),
        1 => Just(MemberState::Gone),
    ]
}

proptest! {
    /// Whatever the rows say and whoever is down: the voters change by one node or one swap at a
    /// time, and a majority of them answers before and after.
    #[test]
    fn no_sequence_of_steps_loses_the_majority(
        states in prop::collection::vec(states(), 1..9),
        voters in prop::collection::btree_set(1_u64..9, 1..7),
        down in prop::collection::btree_set(2_u64..9, 0..4),
        replacement in prop::option::of((1_u64..9, 1_u64..9)),
    ) {
        let mut rows: Roster = (1..).zip(&states).map(|(n, s)| (id(n), member(n, *s))).collect();
        if let Some((old, new)) = replacement
            && let Some(member) = rows.get_mut(&id(old))
        {
            member.replaced_by = Some(id(new));
        }
        let mut voters: Vec<u64> = voters.into_iter().collect();
        voters.push(1);
        let mut view = silent(view(&voters, &[]), &down.into_iter().collect::<Vec<_>>());
        for _ in 0..60 {
            let Next::Do(step) = next(&rows, &view, &BTreeMap::new(), &RULES) else {
                return Ok(());
            };
            let before = view.clone();
            apply(&mut view, &step);
            if view.voters != before.voters {
                prop_assert!(before.answering() >= majority(before.voters.len()), "{step:?}");
                prop_assert!(view.answering() >= majority(view.voters.len()), "{step:?}");
                prop_assert!(before.voters.symmetric_difference(&view.voters).count() <= 2);
                prop_assert!(view.voters.contains(&view.leader), "the leader keeps its vote");
            }
        }
        prop_assert!(false, "the steps come to no end: {view:?}");
    }

    /// With everybody up and no data to move, the groups end up as the rows say.
    #[test]
    fn the_rows_are_reached(states in prop::collection::vec(states(), 3..9)) {
        let mut rows: Roster = (1..).zip(&states).map(|(n, s)| (id(n), member(n, *s))).collect();
        rows.insert(id(10), member(10, ACTIVE));
        let owed = rows.keys().map(|node| (*node, 0)).collect();
        let mut view = view(&[1, 2, 3], &[]);
        let mut last = Next::Done;
        for _ in 0..60 {
            last = next(&rows, &view, &owed, &RULES);
            if let Next::Do(step) = &last {
                apply(&mut view, step);
            } else if let Some((node, state)) = settle(&rows, &[view.clone()], &owed, &RULES) {
                rows.insert(node, member(node.0, state));
            } else {
                break;
            }
        }
        prop_assert_eq!(last, Next::Done);
        let stay: BTreeSet<_> = rows.values().filter(|m| m.state.stays()).map(|m| m.id).collect();
        let parts: BTreeSet<_> = view.voters.union(&view.learners).copied().collect();
        prop_assert_eq!(&parts, &stay);
        prop_assert_eq!(view.voters.len(), stay.len().min(RULES.voters_max));
    }
}
