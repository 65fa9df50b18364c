//! Stored bytes: pinned by the files in `tests/golden`, and read back as they were written.
//!
//! A golden file is never changed: bytes like it lie on disks. A new layout gets a new format
//! number and a new file.

use super::*;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

fn golden(name: &str) -> Bytes {
    let path = format!("{}/tests/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let digits = text.trim().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn id(term: u64, node: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, node), index)
}

fn members(addresses: &[(u64, &str)]) -> BTreeMap<u64, BasicNode> {
    addresses
        .iter()
        .map(|(node, address)| (*node, BasicNode::new(address)))
        .collect()
}

fn joint() -> Membership {
    let configs = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([3, 4])];
    let nodes = members(&[
        (1, "10.0.0.1:7000"),
        (2, "10.0.0.2:7000"),
        (3, "10.0.0.3:7000"),
        (4, "10.0.0.4:7000"),
        (5, ""),
    ]);
    Membership::new(configs, nodes).unwrap()
}

fn alone() -> Membership {
    Membership::new(vec![BTreeSet::from([1])], members(&[(1, "")])).unwrap()
}

#[test]
fn entries_match_their_golden_bytes() {
    let command = Payload::Normal(Command(Bytes::from_static(b"put")));
    for (name, log_id, payload) in [
        ("entry_blank", id(3, 1, 7), Payload::Blank),
        ("entry_command", id(300, 2, 70_000), command),
        (
            "entry_membership",
            id(0, 0, 0),
            Payload::Membership(joint()),
        ),
    ] {
        let entry = openraft::Entry { log_id, payload };
        assert_eq!(encode_entry(&entry), golden(name), "{name}");
        assert_eq!(decode_entry(golden(name)).unwrap(), entry, "{name}");
    }
}

#[test]
fn votes_match_their_golden_bytes() {
    for (name, committed) in [("vote_committed", true), ("vote_granted", false)] {
        let vote = openraft::Vote {
            leader_id: LeaderId::new(5, 2),
            committed,
        };
        assert_eq!(encode_vote(&vote), golden(name), "{name}");
        assert_eq!(decode_vote(golden(name)).unwrap(), vote, "{name}");
    }
}

#[test]
fn log_ids_and_memberships_match_their_golden_bytes() {
    let place = id(300, 2, 70_000);
    assert_eq!(encode_log_id(&place), golden("stored_log_id"));
    assert_eq!(decode_log_id(golden("stored_log_id")).unwrap(), place);
    for (name, at) in [
        ("stored_membership", Some(id(1, 1, 0))),
        ("stored_membership_before_log", None),
    ] {
        assert_eq!(
            encode_membership(at.as_ref(), &alone()),
            golden(name),
            "{name}"
        );
        let stored = decode_membership(golden(name)).unwrap();
        assert_eq!(
            (stored.log_id(), stored.membership()),
            (&at, &alone()),
            "{name}"
        );
    }
}

#[test]
fn other_formats_and_missing_parts_are_refused() {
    let newer = pb::Entry {
        format: 2,
        payload: Some(pb::entry::Payload::Blank(pb::Blank {})),
        ..Default::default()
    };
    let refused = decode_entry(newer.encode_to_vec().into()).unwrap_err();
    assert!(
        matches!(refused, CodecError::UnknownFormat { format: 2, .. }),
        "{refused}"
    );

    let hollow = pb::Entry {
        format: 1,
        ..Default::default()
    };
    let refused = decode_entry(hollow.encode_to_vec().into()).unwrap_err();
    assert!(
        matches!(
            refused,
            CodecError::Missing {
                field: "payload",
                ..
            }
        ),
        "{refused}"
    );

    let refused = decode_vote(Bytes::from_static(&[0xff])).unwrap_err();
    assert!(
        matches!(refused, CodecError::Malformed { what: "vote", .. }),
        "{refused}"
    );
    assert!(matches!(
        decode_vote(Bytes::new()),
        Err(CodecError::UnknownFormat { format: 0, .. })
    ));

    let stray = pb::Membership {
        configs: vec![pb::VoterSet { nodes: vec![9] }],
        members: vec![],
    };
    let stored = pb::StoredMembership {
        format: 1,
        log_id: None,
        membership: Some(stray),
    };
    let refused = decode_membership(stored.encode_to_vec().into()).unwrap_err();
    assert!(
        matches!(refused, CodecError::BadMembership { .. }),
        "{refused}"
    );
}

fn any_membership() -> impl Strategy<Value = Membership> {
    let configs = vec(btree_set(0u64..9, 1..4), 1..3);
    let extra = btree_map(0u64..12, "[a-z0-9:.]{0,12}", 0..6);
    (configs, extra).prop_map(|(configs, extra)| {
        let mut nodes: BTreeMap<u64, BasicNode> = extra
            .into_iter()
            .map(|(node, addr)| (node, BasicNode { addr }))
            .collect();
        for voter in configs.iter().flatten() {
            nodes.entry(*voter).or_default();
        }
        Membership::new(configs, nodes).unwrap()
    })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let command = vec(any::<u8>(), 0..200).prop_map(|b| Payload::Normal(Command(b.into())));
    let payload = prop_oneof![
        Just(Payload::Blank),
        command,
        any_membership().prop_map(Payload::Membership)
    ];
    (any::<(u64, u64, u64)>(), payload).prop_map(|((term, node, index), payload)| openraft::Entry {
        log_id: id(term, node, index),
        payload,
    })
}

proptest! {
    #[test]
    fn any_entry_reads_back_as_written(entry in any_entry()) {
        prop_assert_eq!(decode_entry(encode_entry(&entry)).unwrap(), entry);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..64)) {
        let bytes = Bytes::from(bytes);
        let _ = decode_entry(bytes.clone());
        let _ = decode_vote(bytes.clone());
        let _ = decode_log_id(bytes.clone());
        let _ = decode_membership(bytes);
    }
}
