//! Sent bytes: pinned by the files in `tests/golden`, which are only added to.

use super::*;
use crate::raft::{Command, Entry, LeaderId, Payload};
use openraft::vote::RaftLeaderId as _;

fn golden(name: &str) -> Bytes {
    let path = format!("{}/tests/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let digits = text.trim().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Compares in hex, so that a failure prints what the file would have to say.
fn assert_golden(name: &str, message: &impl Message) {
    assert_eq!(hex(&write(message)), hex(&golden(name)), "{name}");
}

fn id(term: u64, node: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, node), index)
}

fn a_vote(term: u64, node: u64, committed: bool) -> Vote {
    openraft::Vote {
        leader_id: LeaderId::new(term, node),
        committed,
    }
}

fn entries(first: u64) -> Vec<Entry> {
    let command = Payload::Normal(Command(Bytes::from_static(b"put")));
    [(first, Payload::Blank), (first + 1, command)]
        .map(|(index, payload)| openraft::Entry {
            log_id: id(3, 1, index),
            payload,
        })
        .into()
}

#[test]
fn append_calls_match_their_golden_bytes() {
    let request = AppendEntriesRequest {
        vote: a_vote(3, 1, true),
        prev_log_id: Some(id(2, 2, 6)),
        entries: entries(7),
        leader_commit: Some(id(2, 2, 5)),
    };
    assert_golden("rpc_append_request", &append_request(&request, None));
    let back = read_append(golden("rpc_append_request")).unwrap().request;
    assert_eq!(back.vote, request.vote);
    assert_eq!(back.prev_log_id, request.prev_log_id);
    assert_eq!(back.entries, request.entries);
    assert_eq!(back.leader_commit, request.leader_commit);
    for (name, response) in [
        ("rpc_appended", AppendEntriesResponse::Success),
        ("rpc_previous_missing", AppendEntriesResponse::Conflict),
        (
            "rpc_append_higher_vote",
            AppendEntriesResponse::HigherVote(a_vote(4, 3, false)),
        ),
    ] {
        assert_golden(
            name,
            &append_response(&response, 1_767_225_600_000, Duration::ZERO),
        );
        let back = read_append_response(golden(name)).unwrap();
        assert_eq!(back.response, response, "{name}");
        assert_eq!(back.clock_ms, 1_767_225_600_000, "{name}");
    }
}

#[test]
fn whether_a_leader_is_reached_goes_with_answers() {
    let late = Duration::from_millis(1_500);
    let response = append_response(&AppendEntriesResponse::Success, 5, late);
    assert_golden("rpc_appended_unreached", &response);
    let back = read_append_response(golden("rpc_appended_unreached")).unwrap();
    assert_eq!(back.unreached, late);
    let (format, probe) = (FORMAT, true);
    assert_golden(
        "rpc_read_index_probe",
        &pb::ReadIndexRequest { format, probe },
    );
}

#[test]
fn what_is_known_of_the_callee_goes_with_calls() {
    let known = AckMark::of(&a_vote(3, 1, true), Some(&id(3, 1, 8)));
    let append = AppendEntriesRequest {
        vote: a_vote(3, 1, true),
        prev_log_id: Some(id(2, 2, 6)),
        entries: Vec::new(),
        leader_commit: None,
    };
    assert_golden(
        "rpc_append_request_known",
        &append_request(&append, Some(known)),
    );
    let back = read_append(golden("rpc_append_request_known")).unwrap();
    assert_eq!(back.known, Some(known));
    let vote = VoteRequest {
        vote: a_vote(4, 3, false),
        last_log_id: Some(id(3, 1, 8)),
        leadership_transfer: false,
    };
    assert_golden("rpc_vote_request_known", &vote_request(&vote, Some(known)));
    let back = read_vote(golden("rpc_vote_request_known")).unwrap();
    assert_eq!(back.known, Some(known));
}

#[test]
fn election_calls_match_their_golden_bytes() {
    let request = VoteRequest {
        vote: a_vote(4, 3, false),
        last_log_id: Some(id(3, 1, 8)),
        leadership_transfer: true,
    };
    assert_golden("rpc_vote_request", &vote_request(&request, None));
    assert_eq!(
        read_vote(golden("rpc_vote_request")).unwrap().request,
        request
    );
    let response = VoteResponse::new(a_vote(4, 3, false), Some(id(3, 1, 8)), true);
    assert_golden("rpc_vote_response", &vote_response(&response));
    let back = read_vote_response(golden("rpc_vote_response")).unwrap();
    assert_eq!(back, response);
}

#[test]
fn leadership_transfers_match_their_golden_bytes() {
    let request = TransferLeaderRequest::new(a_vote(3, 1, true), 2, Some(id(3, 1, 8)));
    assert_golden("rpc_transfer_leader_request", &transfer_request(&request));
    let back = read_transfer(golden("rpc_transfer_leader_request")).unwrap();
    assert_eq!(back, request);
    for (name, response) in [
        ("rpc_transfer_leader_accepted", Ok(())),
        (
            "rpc_transfer_leader_vote_changed",
            Err(TransferLeaderError::VoteChanged {
                expected: a_vote(3, 1, true),
                actual: a_vote(4, 2, false),
            }),
        ),
        (
            "rpc_transfer_leader_log_behind",
            Err(TransferLeaderError::LogNotFlushed {
                expected: Some(id(3, 1, 8)),
                actual: Some(id(3, 1, 7)),
            }),
        ),
    ] {
        assert_golden(name, &transfer_response(&response));
        let back = read_transfer_response(golden(name), &request).unwrap();
        assert_eq!(back, response, "{name}");
    }
}

#[test]
fn reads_and_snapshots_match_their_golden_bytes() {
    let format = FORMAT;
    let transfer = Bytes::from(vec![0xa7; 16]);
    let vote = Some(codec::vote_to_pb(&a_vote(3, 1, true)));
    let at = log_id_out(Some(&id(3, 1, 9)));
    let file = pb::SnapshotFile {
        name: "000012.sst".into(),
        bytes: 70_000,
        blake3: Bytes::from(vec![0xb3; 32]),
    };
    let probe = false;
    let asked = pb::ReadIndexRequest { format, probe };
    assert_golden("rpc_read_index_request", &asked);
    assert_golden(
        "rpc_read_index_response",
        &pb::ReadIndexResponse { format, at },
    );
    assert_golden(
        "rpc_snapshot_begin_request",
        &pb::SnapshotBeginRequest {
            format,
            vote,
            transfer: transfer.clone(),
            last: at,
            membership: Some(stored::StoredMembership::default()),
            files: vec![file],
        },
    );
    for (name, answer) in [
        (
            "rpc_snapshot_held",
            pb::snapshot_begin_response::Answer::Held(pb::SnapshotHeld {
                bytes: vec![70_000, 0, 4096],
            }),
        ),
        (
            "rpc_snapshot_not_needed",
            pb::snapshot_begin_response::Answer::NotNeeded(pb::SnapshotNotNeeded {}),
        ),
    ] {
        let answer = Some(answer);
        assert_golden(name, &pb::SnapshotBeginResponse { format, answer });
    }
    assert_golden(
        "rpc_snapshot_chunk_request",
        &pb::SnapshotChunkRequest {
            format,
            transfer: transfer.clone(),
            file: 2,
            offset: 4096,
            data: Bytes::from_static(b"data"),
            crc32c: 0x0102_0304,
        },
    );
    assert_golden(
        "rpc_snapshot_chunk_response",
        &pb::SnapshotChunkResponse { format },
    );
    assert_golden(
        "rpc_snapshot_install_request",
        &pb::SnapshotInstallRequest {
            format,
            vote,
            transfer,
        },
    );
    assert_golden(
        "rpc_snapshot_install_response",
        &pb::SnapshotInstallResponse { format, vote },
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let nonsense = AppendEntriesRequest {
        vote: a_vote(3, 1, true),
        prev_log_id: Some(id(2, 2, 6)),
        entries: entries(8),
        leader_commit: None,
    };
    let mut request = append_request(&nonsense, None);
    let refused = read_append(write(&request)).unwrap_err();
    assert!(matches!(refused, WireError::Nonsense { .. }), "{refused}");
    request.entries.clear();
    request.vote = None;
    let refused = read_append(write(&request)).unwrap_err();
    assert!(
        matches!(refused, WireError::Missing { field: "vote", .. }),
        "{refused}"
    );
    request.format = 2;
    let refused = read_append(write(&request)).unwrap_err();
    assert!(
        matches!(refused, WireError::UnknownFormat { format: 2, .. }),
        "{refused}"
    );
    let refused = read_append(Bytes::from_static(&[0xff])).unwrap_err();
    assert!(matches!(refused, WireError::Malformed { .. }), "{refused}");
}
