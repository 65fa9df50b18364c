//! The use cases over a running group in memory, with groups that do as they are told.

use crate::desk::{JoinDesk, JoinReply, JoinRequest};
use crate::plan::Refused;
use crate::testing::{Lab, announcement};
use crate::*;
use bytes::Bytes;
use floeberg_rpc::{Handler as _, Method, RefusalCode, Request, STRANGER};
use floeberg_types::{GroupId, NodeId};
use std::time::Duration;

fn request(name: &str) -> JoinRequest {
    let me = announcement(0);
    JoinRequest {
        token: "good".to_owned(),
        certificate_request: Bytes::copy_from_slice(name.as_bytes()),
        address: format!("{name}:7000"),
        labels: me.labels,
        features: me.features,
        version: me.version,
        account: String::new(),
        region: String::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_node_founds_the_cluster_and_others_get_the_next_ids() {
    let lab = Lab::new().await;
    let early = lab.members.join(&request("b")).await;
    assert!(matches!(early, Err(ChangeError::Unavailable)), "{early:?}");
    let me = lab.members.announce(&announcement(1)).await.unwrap();
    assert_eq!((me.id, me.state), (NodeId(1), MemberState::Active));
    let second = lab.members.join(&request("b")).await.unwrap();
    assert_eq!((second.node, second.cluster), (NodeId(2), lab.cluster()));
    assert_eq!(second.chain, ["certificate of 2 for b at b:7000"]);
    assert_eq!(second.peers, [(NodeId(1), "n1:7000".to_owned())]);
    let third = lab.members.join(&request("c")).await.unwrap();
    assert_eq!(third.node, NodeId(3));
    let roster = lab.members.local_roster().unwrap();
    assert_eq!(roster[&NodeId(3)].state, MemberState::Joining);
    assert_eq!(roster[&NodeId(3)].address, "c:7000");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_does_not_use_up_an_id() {
    let lab = Lab::founded().await;
    let first = lab.members.join(&request("b")).await.unwrap();
    let again = lab.members.join(&request("b")).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(lab.members.local_roster().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_fit_is_refused_and_leaves_no_trace() {
    let lab = Lab::founded().await;
    lab.groups.up(NodeId(1));
    let with = |edit: fn(&mut JoinRequest)| {
        let mut request = request("b");
        edit(&mut request);
        request
    };
    for (request, words) in [
        (
            with(|r| r.token = "bad".to_owned()),
            "floeberg cluster token",
        ),
        (with(|r| r.address = "b".to_owned()), "peer.advertise"),
        (with(|r| r.features.high = 0), "use a newer floeberg"),
        (with(|r| r.features.low = 9), "upgrade the cluster first"),
        (
            with(|r| r.address = "n1:7000".to_owned()),
            "already reached",
        ),
        (
            with(|r| r.certificate_request = Bytes::new()),
            "cannot be signed",
        ),
    ] {
        let error = lab.members.join(&request).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(lab.members.local_roster().unwrap().len(), 1);
    assert_eq!(
        lab.members.join(&request("b")).await.unwrap().node,
        NodeId(2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_lost_its_disk_joins_under_its_old_address_as_a_new_node() {
    let lab = Lab::of(3).await;
    lab.groups.down(NodeId(3));
    let mut reborn = request("other");
    reborn.address = "n3:7000".to_owned();
    assert_eq!(lab.members.join(&reborn).await.unwrap().node, NodeId(4));
    lab.groups.up(NodeId(4));
    lab.settle().await;
    let old = lab
        .members
        .replace(&lab.cx(), NodeId(3), NodeId(4))
        .await
        .unwrap();
    assert_eq!(old.state, MemberState::Leaving(Departure::Dead));
    assert_eq!(old.replaced_by, Some(NodeId(4)));
}

#[tokio::test(start_paused = true)]
async fn a_join_that_is_repeated_takes_the_place_of_the_one_that_was_cut_short() {
    let lab = Lab::of(3).await;
    let from = |key: &str| {
        let mut request = request(key);
        request.address = "n4:7000".to_owned();
        request
    };
    assert_eq!(
        lab.members.join(&from("first")).await.unwrap().node,
        NodeId(4)
    );
    assert_eq!(
        lab.members.join(&from("second")).await.unwrap().node,
        NodeId(5)
    );
    let roster = lab.members.local_roster().unwrap();
    assert_eq!(roster[&NodeId(4)].state, MemberState::Gone);
    assert_eq!(roster[&NodeId(4)].replaced_by, Some(NodeId(5)));
    let late = lab.members.join(&from("first")).await.unwrap_err();
    assert!(late.to_string().contains("node 4 is gone"), "{late}");
    lab.groups.up(NodeId(5));
    lab.settle().await;
    let roster = lab.members.local_roster().unwrap();
    assert_eq!(roster[&NodeId(5)].state, MemberState::Active);
    // One that a group knows has a part in what was acknowledged, and stays.
    lab.groups.down(NodeId(5));
    assert_eq!(
        lab.members.join(&from("third")).await.unwrap().node,
        NodeId(6)
    );
    let roster = lab.members.local_roster().unwrap();
    assert_eq!(roster[&NodeId(5)].state, MemberState::Active);
    let other = lab.members.join(&request("n7")).await.unwrap().node;
    assert_eq!(other, NodeId(7));
    let roster = lab.members.local_roster().unwrap();
    assert_eq!(
        roster[&NodeId(6)].state,
        MemberState::Joining,
        "another address"
    );
}

#[tokio::test(start_paused = true)]
async fn announcing_again_brings_the_row_up_to_date_but_never_back_from_the_dead() {
    let lab = Lab::of(4).await;
    let mut moved = announcement(4);
    moved.address = "elsewhere:7000".to_owned();
    moved.version = "9.9.9".to_owned();
    let member = lab.members.announce(&moved).await.unwrap();
    assert_eq!(
        (member.address.as_str(), member.version.as_str()),
        ("elsewhere:7000", "9.9.9")
    );
    assert_eq!(member.state, MemberState::Active);
    lab.groups.down(NodeId(4));
    lab.members
        .remove(&lab.cx(), NodeId(4), Departure::Dead)
        .await
        .unwrap();
    lab.settle().await;
    let gone = lab.members.announce(&moved).await;
    assert!(
        matches!(gone, Err(ChangeError::Refused(Refused::Gone { .. }))),
        "{gone:?}"
    );
    let unknown = lab.members.announce(&announcement(9)).await;
    assert!(matches!(
        unknown,
        Err(ChangeError::Refused(Refused::Unknown { .. }))
    ));
    let id_of_next = lab.members.join(&request("new")).await.unwrap().node;
    assert_eq!(id_of_next, NodeId(5), "ids are never reused");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_was_started_less_often_is_refused() {
    let lab = Lab::of(3).await;
    let mut again = announcement(3);
    again.start = 4 << 32;
    lab.members.announce(&again).await.unwrap();
    lab.members.announce(&again).await.unwrap();
    again.start = 3 << 32;
    let older = lab.members.announce(&again).await.unwrap_err();
    assert!(
        older.to_string().contains("knows start 4 of node 3"),
        "{older}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_set_up_for_another_region_or_account_is_refused() {
    let lab = Lab::of(2).await;
    let (account, region) = ("000000000000", "eu-central-1");
    let cx = lab.cx();
    let announced = lab.members.parts.store.transact(&cx, |txn| {
        let (account, region) = (account.parse().unwrap(), region.parse().unwrap());
        super::announce(txn, &announcement(2), &account, &region)
    });
    let other = announced.await.unwrap_err().to_string();
    assert!(
        other.contains("cluster.region is `eu-central-1` here and `us-east-1`"),
        "{other}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_set_up_for_another_region_does_not_join() {
    let lab = Lab::of(1).await;
    let mut elsewhere = request("b");
    elsewhere.account = "000000000000".to_owned();
    elsewhere.region = "eu-central-1".to_owned();
    let refused = lab.members.join(&elsewhere).await.unwrap_err();
    assert!(
        refused.to_string().contains("cluster.region is"),
        "{refused}"
    );
    elsewhere.region = "us-east-1".to_owned();
    lab.members.join(&elsewhere).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_member_leaves_at_a_time() {
    let lab = Lab::of(5).await;
    let cx = lab.cx();
    lab.data.owe(NodeId(5), Some(3));
    lab.members
        .remove(&cx, NodeId(5), Departure::Drained)
        .await
        .unwrap();
    let second = lab
        .members
        .remove(&cx, NodeId(4), Departure::Drained)
        .await
        .unwrap_err();
    assert!(
        second.to_string().contains("one member changes at a time"),
        "{second}"
    );
    let twice = lab
        .members
        .remove(&cx, NodeId(5), Departure::Drained)
        .await
        .unwrap_err();
    assert!(twice.to_string().contains("already leaving"), "{twice}");
    let status = lab.members.status().await.unwrap();
    assert_eq!(
        status.members[4].state,
        MemberState::Leaving(Departure::Drained)
    );
}

#[tokio::test(start_paused = true)]
async fn a_member_that_dies_while_its_data_is_copied_can_be_given_up() {
    let lab = Lab::of(5).await;
    let cx = lab.cx();
    lab.data.owe(NodeId(5), Some(3));
    lab.members
        .remove(&cx, NodeId(5), Departure::Drained)
        .await
        .unwrap();
    lab.settle().await;
    let alive = lab.members.remove(&cx, NodeId(5), Departure::Dead).await;
    assert!(alive.is_err(), "{alive:?}");
    lab.groups.down(NodeId(5));
    lab.members
        .remove(&cx, NodeId(5), Departure::Dead)
        .await
        .unwrap();
    lab.settle().await;
    let status = lab.members.status().await.unwrap();
    assert_eq!(status.members[4].state, MemberState::Gone);
}

#[tokio::test(start_paused = true)]
async fn leadership_is_handed_to_a_voter_that_answers() {
    let lab = Lab::of(3).await;
    let groups = lab.members.transfer_leader(None, NodeId(2)).await.unwrap();
    assert_eq!(groups, [GroupId::CATALOG, GroupId::OBJECTS]);
    assert_eq!(lab.groups.leader(GroupId::OBJECTS), NodeId(2));
    let one = lab
        .members
        .transfer_leader(Some(GroupId::OBJECTS), NodeId(3))
        .await;
    assert_eq!(one.unwrap(), [GroupId::OBJECTS]);
    assert_eq!(lab.groups.leader(GroupId::CATALOG), NodeId(2));
    let nowhere = lab
        .members
        .transfer_leader(Some(GroupId(9)), NodeId(3))
        .await
        .unwrap_err();
    assert!(nowhere.to_string().contains("no group 9"), "{nowhere}");
    lab.groups.down(NodeId(1));
    let silent = lab
        .members
        .transfer_leader(None, NodeId(1))
        .await
        .unwrap_err();
    assert!(silent.to_string().contains("cannot lead"), "{silent}");
}

#[tokio::test(start_paused = true)]
async fn status_answers_without_a_leader() {
    let lab = Lab::of(3).await;
    lab.groups.lose_leaders();
    let status = lab.members.status().await.unwrap();
    assert_eq!(status.members.len(), 3);
    assert!(status.groups.iter().all(|(_, view)| view.is_err()));
    let removal = lab
        .members
        .remove(&lab.cx(), NodeId(3), Departure::Drained)
        .await;
    assert!(
        matches!(removal, Err(ChangeError::Groups(_))),
        "{removal:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_desk_answers_strangers_in_the_protocol() {
    let lab = Lab::founded().await;
    let desk = JoinDesk(lab.members.clone());
    let call = |body: Bytes| Request {
        method: Method::Join,
        group: GroupId::CATALOG,
        body,
    };
    let reply = desk
        .handle(STRANGER, call(request("b").encode()))
        .await
        .unwrap();
    assert_eq!(JoinReply::decode(reply).unwrap().node, NodeId(2));
    let mut bad = request("c");
    bad.token = "bad".to_owned();
    let refusal = desk.handle(STRANGER, call(bad.encode())).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Unauthorised);
    let refusal = desk
        .handle(STRANGER, call(Bytes::from_static(b"\xff")))
        .await
        .unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Malformed);
    let token = lab.members.token(Duration::from_secs(60)).await.unwrap();
    assert_eq!(token, "good for 60 s");
}
