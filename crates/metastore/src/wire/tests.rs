//! The bytes of the messages, pinned. A line is only ever added: nodes of other versions send them.

use super::*;
use expect_test::expect_file;
use std::fmt::Write as _;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn propose() -> Propose {
    Propose {
        term: 3,
        command: Bytes::from_static(b"command"),
        earlier_misses: 2,
    }
}

fn withdraw() -> Withdraw {
    Withdraw {
        term: 3,
        commit_id: CommitId::from_bytes([0xbb; 16]),
        decided: TimestampMs(1_767_225_600_000),
    }
}

fn replies() -> Vec<(&'static str, Reply)> {
    let refused = |reason| Reply::Refused { settled: 9, reason };
    vec![
        ("in flight", Reply::InFlight),
        ("missed", refused(Reason::Missed(Bytes::from_static(b" a")))),
        (
            "evaluate at",
            refused(Reason::EvaluateAt(TimestampMs(1_767_225_600_000))),
        ),
        ("barred", refused(Reason::Barred)),
        ("busy", refused(Reason::Busy)),
        ("not leading", Reply::NotLeading { term: 4 }),
        (
            "too large",
            refused(Reason::TooLarge(CommandTooLarge {
                bytes: 9_000_000,
                limit: 8_388_608,
            })),
        ),
    ]
}

#[test]
fn the_bytes_of_the_messages_are_pinned() {
    let mut page = String::new();
    writeln!(page, "propose {}", hex(&propose().encode())).unwrap();
    writeln!(page, "withdraw {}", hex(&withdraw().encode())).unwrap();
    for (name, reply) in replies() {
        writeln!(page, "{name} {}", hex(&reply.encode())).unwrap();
    }
    expect_file!["../../tests/golden/propose-v1.txt"].assert_eq(&page);
}

#[test]
fn messages_come_back_as_they_were() {
    assert_eq!(Propose::decode(propose().encode()), Ok(propose()));
    assert_eq!(Withdraw::decode(withdraw().encode()), Ok(withdraw()));
    for (_, reply) in replies() {
        assert_eq!(Reply::decode(reply.clone().encode()), Ok(reply));
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let code = |refusal: Refusal| refusal.code;
    let later = pb::Propose {
        format: 2,
        ..pb::Propose::default()
    };
    let refused = Propose::decode(later.encode_to_vec().into()).map_err(code);
    assert_eq!(refused, Err(RefusalCode::Malformed));
    let short = pb::Withdraw {
        format: 1,
        commit_id: Bytes::from_static(b"short"),
        ..pb::Withdraw::default()
    };
    let refused = Withdraw::decode(short.encode_to_vec().into()).map_err(code);
    assert_eq!(refused, Err(RefusalCode::Malformed));
    let damaged = Reply::decode(Bytes::from_static(&[0xff])).map_err(code);
    assert_eq!(damaged, Err(RefusalCode::Malformed));
    let unknown = pb::ProposalReply {
        format: 1,
        answer: None,
    };
    let refused = Reply::decode(unknown.encode_to_vec().into()).map_err(code);
    assert_eq!(refused, Err(RefusalCode::Malformed));
}
