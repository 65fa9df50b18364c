//! The bytes of frames, pinned, and who is let in by which hello. A golden file may gain lines,
//! never change one: nodes of an older version speak these bytes.

use super::*;
use crate::Features;
use prost::Message as _;
use std::fmt::Write as _;

const LOCAL: LocalNode = LocalNode {
    cluster: ClusterId::from_bytes([0xc1; 16]),
    node: NodeId(2),
    start: 0,
    address: String::new(),
    features: Features { low: 3, high: 5 },
};

fn hello_of(node: u64, low: u32, high: u32) -> proto::Hello {
    let speaker = LocalNode {
        node: NodeId(node),
        start: 0,
        features: Features { low, high },
        ..LOCAL
    };
    match hello(&speaker, LOCAL.node, Lane::Log).kind {
        Some(Kind::Hello(hello)) => hello,
        _ => panic!("a hello"),
    }
}

fn refused(hello: &proto::Hello, proof: Proof) -> RefusalCode {
    check_hello(hello, &LOCAL, proof).unwrap_err().code
}

#[test]
fn frames_keep_their_bytes() {
    let request = Request {
        method: Method::Append,
        group: GroupId::OBJECTS,
        body: Bytes::from_static(b"body"),
    };
    let refusal = Refusal::new(RefusalCode::Busy, "later");
    let third = LocalNode { start: 3, ..LOCAL };
    let settled = LocalNode {
        address: "lake-2:7000".to_owned(),
        ..third.clone()
    };
    let mut asking = hello(&settled, NodeId(7), Lane::Votes);
    if let Some(Kind::Hello(hello)) = &mut asking.kind {
        hello.asking = true;
    }
    let forgot = Refusal::new(RefusalCode::Forgot, "less");
    let mut text = String::new();
    for (name, frame) in [
        ("hello", hello(&LOCAL, NodeId(7), Lane::Bulk)),
        ("call", call(300, request)),
        (
            "answer",
            answer(300, Outcome::Answer(Bytes::from_static(b"done"))),
        ),
        ("refusal", answer(301, Outcome::Refused(refusal.clone()))),
        ("unknown", answer(302, Outcome::Unknown("stopped".into()))),
        ("goodbye", goodbye(refusal)),
        ("hello of start 3", hello(&third, NodeId(7), Lane::Bulk)),
        ("hello from lake-2", hello(&settled, NodeId(7), Lane::Bulk)),
        ("hello of who asks", asking),
        ("marks are not there", answer(303, Outcome::Refused(forgot))),
    ] {
        writeln!(text, "{name} {}", hex::encode(frame.encode_to_vec())).unwrap();
    }
    expect_test::expect_file!["../tests/golden/frames-v1.txt"].assert_eq(&text);
}

#[test]
fn every_method_lane_and_code_comes_back() {
    for method in Method::ALL {
        let request = Request {
            method,
            group: GroupId(9),
            body: Bytes::new(),
        };
        let Some(Kind::Call(sent)) = call(1, request.clone()).kind else {
            panic!("a call");
        };
        assert_eq!(read_call(sent).unwrap(), request);
        assert_eq!(lane_of(lane_number(method.lane())), Some(method.lane()));
    }
    // A leader is not known to lead while an entry is on its way.
    assert_ne!(Method::Heartbeat.lane(), Method::Append.lane());
    let unknown = proto::Call {
        method: 9999,
        ..proto::Call::default()
    };
    let code = read_call(unknown).unwrap_err().code;
    assert_eq!(code, RefusalCode::UnknownMethod);
}

#[test]
fn a_message_too_long_for_a_frame_is_cut() {
    let long = Refusal::new(RefusalCode::Failed, "é".repeat(MAX_MESSAGE));
    let Some(Kind::Goodbye(sent)) = goodbye(long).kind else {
        panic!("a goodbye");
    };
    assert_eq!(sent.message.len(), MAX_MESSAGE);
}

#[test]
fn a_hello_that_fits_is_taken() {
    let hello = hello_of(7, 5, 9);
    let whose = Proof::Certificate(LOCAL.cluster, NodeId(7));
    for proof in [Proof::NotAsked, whose] {
        let taken = check_hello(&hello, &LOCAL, proof);
        assert_eq!(taken, Ok((NodeId(7), Lane::Log)));
    }
}

#[test]
fn a_hello_that_does_not_fit_is_refused_with_the_reason() {
    let fits = hello_of(7, 3, 5);
    let other = Bytes::from_static(&[0xc2; 16]);
    let foreign = proto::Hello {
        cluster_id: other,
        ..fits.clone()
    };
    assert_eq!(
        refused(&foreign, Proof::NotAsked),
        RefusalCode::WrongCluster
    );
    let misled = proto::Hello {
        to_node_id: 3,
        ..fits.clone()
    };
    assert_eq!(refused(&misled, Proof::NotAsked), RefusalCode::WrongNode);
    let stranger = hello_of(0, 3, 5);
    assert_eq!(refused(&stranger, Proof::NotAsked), RefusalCode::WrongNode);
    let later = proto::Hello {
        format: 2,
        ..fits.clone()
    };
    assert_eq!(refused(&later, Proof::NotAsked), RefusalCode::NotServing);
    for (low, high) in [(6, 9), (1, 2)] {
        let apart = hello_of(7, low, high);
        assert_eq!(refused(&apart, Proof::NotAsked), RefusalCode::NotServing);
    }
    let lane = proto::Hello {
        lane: 9,
        ..fits.clone()
    };
    assert_eq!(refused(&lane, Proof::NotAsked), RefusalCode::Malformed);
    assert_eq!(refused(&fits, Proof::Nothing), RefusalCode::Unauthorised);
    let another = Proof::Certificate(LOCAL.cluster, NodeId(8));
    assert_eq!(refused(&fits, another), RefusalCode::WrongNode);
    let elsewhere = Proof::Certificate(ClusterId::from_bytes([9; 16]), NodeId(7));
    assert_eq!(refused(&fits, elsewhere), RefusalCode::WrongNode);
}
