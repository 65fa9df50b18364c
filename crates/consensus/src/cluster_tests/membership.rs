//! Changing who belongs to a group.

use super::small;
use crate::testing::cluster::{Cluster, address, commands, until};
use crate::{Begin, ChangeError, GroupConfig, Role};
use floeberg_env::UnsyncedData;
use floeberg_types::NodeId;
use std::time::Duration;

fn roles(cluster: &Cluster, id: u64) -> Vec<(u64, Role)> {
    let members = cluster.running(id).group.members();
    let roles = members.members.iter().map(|m| (m.node.0, m.role));
    roles.collect()
}

#[tokio::test(start_paused = true)]
async fn a_learner_catches_up_through_the_log_and_becomes_a_voter() {
    let mut cluster = Cluster::start(40, 1, GroupConfig::default()).await;
    cluster.commit_all(0..30).await;
    cluster.boot(2, Begin::Join).await.unwrap();
    let leader = &cluster.running(1).group;
    let mut catch_up = leader.add_learner(NodeId(2), &address(2)).await.unwrap();
    catch_up.done().await.unwrap();
    assert_eq!(roles(&cluster, 1), [(1, Role::Voter), (2, Role::Learner)]);
    leader.promote(NodeId(2)).await.unwrap();
    cluster.commit_all(30..40).await;
    assert_eq!(cluster.converge().await, commands(0..40));
    let progress = leader.catch_up(NodeId(2)).progress();
    until("the last entry is matched", || {
        let progress = leader.catch_up(NodeId(2)).progress();
        progress.matched == progress.last && progress.last.is_some()
    })
    .await;
    assert_eq!(progress.snapshot, None);
    for id in [1, 2] {
        let members = cluster.running(id).group.members();
        assert!(!members.changing);
        assert_eq!(roles(&cluster, id), [(1, Role::Voter), (2, Role::Voter)]);
        let addresses = cluster.running(id).group.addresses().borrow().clone();
        assert_eq!(addresses[&NodeId(1)], address(1));
        assert_eq!(addresses[&NodeId(2)], address(2));
        let matched = members.get(NodeId(2)).unwrap().matched;
        assert_eq!(matched.is_some(), id == 1, "only the leader knows");
    }
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_is_refused_with_the_reason() {
    let cluster = Cluster::start(41, 2, small()).await;
    let leader = &cluster.running(1).group;
    let add = leader.add_learner(NodeId(2), "10.0.0.9:7000").await;
    assert_eq!(add.err(), Some(ChangeError::AlreadyMember(NodeId(2))));
    let unknown = Err(ChangeError::UnknownNode(NodeId(9)));
    assert_eq!(leader.promote(NodeId(9)).await, unknown);
    assert_eq!(leader.remove(NodeId(9)).await, unknown);
    assert_eq!(leader.replace(NodeId(2), NodeId(9)).await, unknown);
    assert_eq!(leader.transfer_leader(NodeId(9)).await, unknown);
    let voter = Err(ChangeError::NotLearner(NodeId(2)));
    assert_eq!(leader.promote(NodeId(2)).await, voter);
    assert_eq!(leader.replace(NodeId(1), NodeId(2)).await, voter);
    let follower = &cluster.running(2).group;
    let refused = follower.remove(NodeId(1)).await;
    let not_leader = ChangeError::NotLeader {
        group: follower.group(),
        leader: Some(NodeId(1)),
    };
    assert_eq!(refused, Err(not_leader));

    // Nobody answers at the address of node 3.
    leader.add_learner(NodeId(3), &address(3)).await.unwrap();
    cluster.commit_all(0..10).await;
    let behind = ChangeError::NotCaughtUp {
        node: NodeId(3),
        behind: 1 + leader.status().last_index.unwrap(),
    };
    assert_eq!(leader.promote(NodeId(3)).await, Err(behind.clone()));
    assert_eq!(leader.replace(NodeId(2), NodeId(3)).await, Err(behind));
    let voteless = Err(ChangeError::NotVoter(NodeId(3)));
    assert_eq!(leader.transfer_leader(NodeId(3)).await, voteless);
    leader.remove(NodeId(3)).await.unwrap();
    leader.remove(NodeId(2)).await.unwrap();
    let last = Err(ChangeError::LastVoter(NodeId(1)));
    assert_eq!(leader.remove(NodeId(1)).await, last);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_administrators_do_not_interleave() {
    let mut cluster = Cluster::start(42, 3, small()).await;
    for id in [4, 5] {
        cluster.boot(id, Begin::Join).await.unwrap();
    }
    let leader = &cluster.running(1).group;
    let (fourth, fifth) = (address(4), address(5));
    let (first, second) = tokio::join!(
        leader.add_learner(NodeId(4), &fourth),
        leader.add_learner(NodeId(5), &fifth)
    );
    assert!(first.is_ok());
    assert_eq!(second.err(), Some(ChangeError::InProgress));
    leader.add_learner(NodeId(5), &fifth).await.unwrap();
    assert_eq!(roles(&cluster, 1).len(), 5);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_voter_is_replaced_in_one_change() {
    let mut cluster = Cluster::start(43, 3, small()).await;
    cluster.commit_all(0..30).await;
    cluster.crash(3, UnsyncedData::Lost).await;
    cluster.boot(4, Begin::Join).await.unwrap();
    let leader = &cluster.running(1).group;
    let mut catch_up = leader.add_learner(NodeId(4), &address(4)).await.unwrap();
    catch_up.done().await.unwrap();
    leader.replace(NodeId(3), NodeId(4)).await.unwrap();
    leader.remove(NodeId(3)).await.unwrap();
    let voters = [(1, Role::Voter), (2, Role::Voter), (4, Role::Voter)];
    assert_eq!(roles(&cluster, 1), voters);
    cluster.commit_all(30..40).await;
    // The new voter counts: with it, the group does without another one.
    cluster.crash(1, UnsyncedData::Lost).await;
    cluster.leader_among(&[2, 4]).await;
    cluster.commit_all(40..50).await;
    assert_eq!(cluster.converge().await, commands(0..50));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_relieved_of_its_vote_goes_on_to_receive_the_log() {
    let mut cluster = Cluster::start(45, 3, small()).await;
    cluster.boot(4, Begin::Join).await.unwrap();
    let leader = &cluster.running(1).group;
    let mut catch_up = leader.add_learner(NodeId(4), &address(4)).await.unwrap();
    catch_up.done().await.unwrap();
    leader.replace(NodeId(3), NodeId(4)).await.unwrap();
    leader.demote(NodeId(2)).await.unwrap();
    let again = leader.demote(NodeId(2)).await;
    assert_eq!(again, Err(ChangeError::NotVoter(NodeId(2))));
    let expected = [
        (1, Role::Voter),
        (2, Role::Learner),
        (3, Role::Learner),
        (4, Role::Voter),
    ];
    assert_eq!(roles(&cluster, 1), expected);
    cluster.commit_all(0..5).await;
    assert_eq!(cluster.converge().await, commands(0..5));
    for node in [2, 3] {
        let leader = &cluster.running(1).group;
        leader.remove(NodeId(node)).await.unwrap();
    }
    assert_eq!(roles(&cluster, 1), [(1, Role::Voter), (4, Role::Voter)]);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_wiped_node_harms_nobody_and_comes_back_under_a_new_id() {
    let mut cluster = Cluster::start(44, 3, small()).await;
    cluster.commit_all(0..5).await;
    cluster.converge().await;
    cluster.wipe(3).await;
    cluster.boot(3, Begin::Join).await.unwrap();
    cluster.commit_all(5..15).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(cluster.leader().await, 1);
    assert!(cluster.running(1).fatal.lock().is_empty());
    assert_eq!(
        cluster.running(3).commands().len(),
        0,
        "what it had acknowledged is not made good"
    );
    let complaints = cluster.complaints();
    let lost = |line: &String| line.contains("has lost what it had acknowledged");
    assert!(complaints.iter().all(lost), "{complaints:?}");
    assert_eq!(complaints.len(), 1);

    cluster.wipe(3).await;
    cluster.boot(4, Begin::Join).await.unwrap();
    let leader = &cluster.running(1).group;
    // The same machine: streams check who answers, so both may be members under one address.
    let mut catch_up = leader.add_learner(NodeId(4), &address(3)).await.unwrap();
    catch_up.done().await.unwrap();
    leader.replace(NodeId(3), NodeId(4)).await.unwrap();
    cluster.commit_all(15..20).await;
    cluster.seats.remove(&3);
    assert_eq!(cluster.converge().await, commands(0..20));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_removes_itself_is_followed_by_another() {
    let mut cluster = Cluster::start(45, 3, small()).await;
    cluster.commit_all(0..10).await;
    cluster.running(1).group.remove(NodeId(1)).await.unwrap();
    cluster.leader_among(&[2, 3]).await;
    cluster.crash(1, UnsyncedData::Lost).await;
    cluster.commit_all(10..20).await;
    assert_eq!(cluster.converge().await, commands(0..20));
    let members = cluster.running(2).group.members();
    assert_eq!(members.get(NodeId(1)), None);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_leader_ends_a_change_that_was_cut_short() {
    let mut cluster = Cluster::start(46, 4, small()).await;
    cluster.commit_all(0..5).await;
    cluster.converge().await;
    // The joint membership reaches the others, and nothing after it does.
    let delay = Duration::from_millis(20);
    cluster.net.delay(delay..delay * 2);
    let leader = &cluster.running(1).group;
    let removing = leader.remove(NodeId(4));
    let watching = until("the others know of the change", || {
        [2, 3]
            .iter()
            .all(|id| cluster.running(*id).group.members().changing)
    });
    tokio::select! {
        biased;
        _ = removing => panic!("too fast to be cut short"),
        () = watching => {}
    }
    cluster.crash(1, UnsyncedData::Lost).await;
    let next = cluster.leader().await;
    assert!(cluster.running(next).group.members().changing);
    until("the change has ended", || {
        !cluster.running(next).group.members().changing
    })
    .await;
    cluster.commit_all(5..10).await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_waits_to_be_added_never_campaigns() {
    let mut cluster = Cluster::empty(47, GroupConfig::default());
    cluster.boot(1, Begin::Join).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let group = &cluster.running(1).group;
    assert_eq!(group.leader(), None);
    assert_eq!(group.status().term, 0);
    assert!(group.read_barrier().await.is_err());
    cluster.stop().await;
}
