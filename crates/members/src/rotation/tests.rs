//! Tests of a change of the authority, in memory.
use super::*;
use crate::founding::{enter, found};
use crate::home::Identity;
use crate::members::MembersParts;
use crate::plan::Rules;
use crate::ports::Authority as _;
use crate::secrets;
use crate::testing::Lab;
use expect_test::expect;
use floeberg_env::{Env, UnsyncedData};
use floeberg_pki::NodeKey;
use floeberg_rpc::Routes;
use floeberg_rpc::memory::MemNetwork;
use floeberg_types::ClusterId;
use std::path::Path;

/// Nothing is shown in memory.
struct Nothing;

impl Shown for Nothing {
    fn show(&self, _: &Credentials, _: &TrustBundle) -> Result<(), String> {
        Ok(())
    }
}

/// Three members with directories of their own over common rows.
struct Cluster {
    lab: Lab,
    env: Env,
    network: MemNetwork,
    nodes: Vec<Rotator>,
}

const COUNT: u64 = 3;

fn home(env: &Env, node: u64) -> Home {
    Home::new(Path::new(&format!("/node-{node}")), env.disk.clone())
}

fn address(node: u64) -> String {
    format!("n{node}:7000")
}

impl Cluster {
    async fn new() -> (Self, floeberg_env::SimControl) {
        let lab = Lab::of(COUNT).await;
        let (env, control) = Env::simulated(3);
        let first = home(&env, 1);
        let founder = found(&first, &address(1), &env).unwrap();
        let authority = ClusterAuthority::load(&first, &env).unwrap();
        for number in 2..=COUNT {
            let node = NodeId(number);
            let key = NodeKey::generate().unwrap();
            let request = key.request().unwrap().into();
            let got = authority.certify(&request, node, &address(number)).await;
            let got = got.unwrap();
            let received =
                ClusterAuthority::receive(founder.cluster, &got.secrets, &got.authorities, &env);
            let me = Identity { node, ..founder };
            let home = home(&env, number);
            enter(&home, me, &received.unwrap(), key, got.chain, &env).unwrap();
        }
        for number in 1..=COUNT {
            // Its parent has to be durable as well, as a data directory's is.
            env.disk
                .sync_dir(Path::new(&format!("/node-{number}")))
                .unwrap();
        }
        env.disk.sync_dir(Path::new("/")).unwrap();
        let network = MemNetwork::new(&env, 1);
        let mut cluster = Self {
            lab,
            env,
            network,
            nodes: Vec::new(),
        };
        cluster.start();
        (cluster, control)
    }

    /// Every member starts again from what is in its directory.
    fn start(&mut self) {
        self.nodes.clear();
        for number in 1..=COUNT {
            let (env, node, home) = (&self.env, NodeId(number), home(&self.env, number));
            let authority = Arc::new(ClusterAuthority::load(&home, env).unwrap());
            let of = &self.lab.members.parts;
            let members = Members::new(MembersParts {
                cluster: ClusterId::from_bytes([1; 16]),
                me: NodeId(number),
                account: of.account.clone(),
                region: "us-east-1".parse().unwrap(),
                store: of.store.clone(),
                groups: of.groups.clone(),
                data: of.data.clone(),
                authority: authority.clone(),
                env: of.env.clone(),
                witnesses: of.witnesses.clone(),
                standing: of.standing.clone(),
                alarms: of.alarms.clone(),
                rules: Rules::default(),
            });
            let (routes, peers) = (Routes::new(), Arc::new(Peers::new()));
            for other in (1..=COUNT).filter(|other| *other != number) {
                peers.set(NodeId(other), address(other));
            }
            let desk = AuthorityDesk {
                members: members.clone(),
                authority: authority.clone(),
            };
            routes.add(Method::Authority, Arc::new(desk));
            let transport = self.network.member(node, routes, peers.clone());
            self.nodes.push(Rotator {
                members,
                me: node,
                address: address(number),
                home,
                authority,
                transport,
                peers,
                shown: Arc::new(Nothing),
            });
        }
    }

    /// Everyone shows a certificate that everyone trusts.
    fn check(&self) {
        for one in &self.nodes {
            let kept = Credentials::load(&*self.env.disk, &secrets::dir(&one.home)).unwrap();
            let shown = kept.unwrap();
            for other in &self.nodes {
                let trust = other.authority.trust();
                let trusted = trust.authorities().iter().any(|a| shown.is_signed_by(a));
                assert!(trusted, "{} does not trust {}", other.me, one.me);
            }
        }
    }

    fn phase(&self) -> Option<Rotation> {
        self.nodes[0].members.rotation().unwrap()
    }

    async fn rotate(&self, at: usize) -> Result<u64, ChangeError> {
        self.nodes[at]
            .members
            .rotate_authority(&self.lab.cx())
            .await
    }

    /// Lets everyone work until nothing is left to do.
    async fn settle(&self) {
        for _ in 0..20 {
            for node in &self.nodes {
                node.turn().await.unwrap();
                self.check();
            }
            self.lab.settle().await;
        }
    }
}

#[tokio::test]
async fn members_change_to_a_new_authority_whenever_they_crash() {
    let (mut cluster, control) = Cluster::new().await;
    cluster.check();
    let before = cluster.nodes[0].authority.trust();
    assert_eq!(cluster.rotate(0).await.unwrap(), 1);
    let mut phases = Vec::new();
    for _ in 0..20 {
        for node in 0..cluster.nodes.len() {
            cluster.nodes[node].turn().await.unwrap();
            cluster.check();
            control.crash_disk(UnsyncedData::Lost);
            cluster.start();
            cluster.check();
            let rotation = cluster.phase().unwrap();
            let seen = (rotation.phase.word(), rotation.waiting_for.len());
            if phases.last() != Some(&seen) {
                phases.push(seen);
            }
            cluster.lab.keeper().turn().await.unwrap();
        }
    }
    let one_by_one = |phase| (0..3).rev().map(move |left| (phase, left));
    let expected: Vec<_> = ["trust", "renew", "drop"]
        .into_iter()
        .flat_map(one_by_one)
        .collect();
    assert_eq!(phases[..9], expected[..]);
    assert_eq!(phases.last(), Some(&("done", 0)));
    let next = cluster.phase().unwrap().next;
    for node in &cluster.nodes {
        let trust = node.authority.trust();
        assert_eq!(trust.fingerprints().unwrap(), [next]);
        assert_ne!(trust, before);
        assert!(
            !cluster
                .env
                .disk
                .exists(&secrets::dir(&node.home).join("next/authority.pem"))
        );
        // It lets others in with the new authority.
        let request = NodeKey::generate().unwrap().request().unwrap().into();
        let got = node
            .authority
            .certify(&request, NodeId(9), "n9:7000")
            .await
            .unwrap();
        assert_eq!(got.authorities, trust.to_pem());
        assert_eq!(got.chain[1], trust.authorities()[0].as_ref());
    }
    assert_eq!(cluster.rotate(1).await.unwrap(), 2);
}

#[tokio::test]
async fn a_silent_member_is_waited_for_and_a_lost_key_is_made_again() {
    let (cluster, _) = Cluster::new().await;
    cluster.rotate(0).await.unwrap();
    // The only one that has the key is gone before anybody got it.
    cluster.network.isolate(NodeId(1));
    let error = cluster.nodes[1].turn().await.unwrap_err();
    assert!(error.to_string().contains("rotate-ca"), "{error}");
    assert_eq!(cluster.rotate(1).await.unwrap(), 2);
    for node in [1, 2] {
        cluster.nodes[node].turn().await.unwrap();
    }
    cluster.lab.settle().await;
    let rotation = cluster.phase().unwrap();
    assert_eq!(rotation.phase, RotationPhase::Trust);
    assert_eq!(rotation.waiting_for, [NodeId(1)].into());
    // It comes back, and takes the newer one.
    cluster.network.heal();
    cluster.nodes[0].turn().await.unwrap();
    cluster.lab.keeper().turn().await.unwrap();
    assert_eq!(cluster.phase().unwrap().phase, RotationPhase::Renew);
    let error = cluster.rotate(2).await.unwrap_err();
    assert!(error.to_string().contains("phase renew"), "{error}");
    cluster.settle().await;
    assert_eq!(cluster.phase().unwrap().phase, RotationPhase::Done);
    for node in &cluster.nodes {
        let trusted = node.authority.trust().fingerprints().unwrap();
        assert_eq!(trusted, [rotation.next]);
    }
}

#[tokio::test]
async fn who_joins_meanwhile_is_waited_for_and_strangers_get_no_key() {
    let (cluster, _) = Cluster::new().await;
    cluster.rotate(0).await.unwrap();
    for node in &cluster.nodes {
        node.turn().await.unwrap();
    }
    let late = cluster.lab.join("late").await;
    cluster.lab.keeper().turn().await.unwrap();
    let rotation = cluster.phase().unwrap();
    assert_eq!(rotation.phase, RotationPhase::Trust);
    assert_eq!(rotation.waiting_for, [late].into());
    let desk = AuthorityDesk {
        members: cluster.nodes[0].members.clone(),
        authority: cluster.nodes[0].authority.clone(),
    };
    let ask = |from| {
        let message = pb::AuthorityRequest {
            format: FORMAT,
            fingerprint: Bytes::copy_from_slice(&rotation.next.0),
        };
        let body = message.encode_to_vec().into();
        let request = Request {
            method: Method::Authority,
            group: GroupId::CATALOG,
            body,
        };
        desk.handle(from, request)
    };
    for stranger in [NodeId(0), NodeId(77)] {
        let refusal = ask(stranger).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Unauthorised);
    }
    let answer = pb::AuthorityReply::decode(ask(late).await.unwrap()).unwrap();
    assert!(answer.authority.contains("PRIVATE KEY"));
}

/// A changed expectation here is a changed format.
#[test]
fn golden_messages() {
    let row = RotationRow {
        number: 2,
        phase: phase_to_row(RotationPhase::Renew),
        next: Bytes::from_static(b"der"),
        began_at_ms: 5,
        changed_at_ms: 6,
    };
    let step = RotationStepRow {
        node_id: 3,
        number: 2,
        phase: phase_to_row(RotationPhase::Drop),
    };
    let request = pb::AuthorityRequest {
        format: FORMAT,
        fingerprint: Bytes::from_static(&[0xf1; 4]),
    };
    let reply = pb::AuthorityReply {
        format: FORMAT,
        authority: "pem".to_owned(),
    };
    let texts = [
        hex::encode(keys::rotation()),
        hex::encode(row.encode_to_vec()),
        hex::encode(keys::rotation_step(NodeId(3))),
        hex::encode(step.encode_to_vec()),
        hex::encode(request.encode_to_vec()),
        hex::encode(reply.encode_to_vec()),
    ];
    expect![[r#"
        83
        080210021a0364657220052806
        840000000000000003
        080310021803
        08011204f1f1f1f1
        0801120370656d
    "#]]
    .assert_eq(&format!("{}\n", texts.join("\n")));
}
