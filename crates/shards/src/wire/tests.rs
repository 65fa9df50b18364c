//! Messages stay what they were, and damaged or foreign ones are refused.

use super::*;
use crate::stat::CopyState;
use std::fmt::Write as _;

fn head() -> WriteHead {
    WriteHead {
        shard: ShardId {
            chunk: ChunkId::from_bytes(*b"0123456789abcdef"),
            number: 2,
        },
        write: *b"write-id-16bytes",
        epoch: Epoch(7),
        profile: Profile::R3,
        announced: Some(5),
    }
}

fn piece() -> Piece {
    Piece {
        sequence: 3,
        data: Bytes::from_static(b"bytes"),
        crc64: crc64(b"bytes"),
        end: Some(End {
            len: 5,
            crc64: crc64(b"bytes"),
        }),
    }
}

fn stat(question: pb::shard_stat::Question) -> Vec<u8> {
    pb::ShardStat {
        format: FORMAT,
        depth: 2,
        question: Some(question),
    }
    .encode_to_vec()
}

fn faults() -> [Fault; 8] {
    [
        Fault::Absent,
        Fault::Damaged("footer".into()),
        Fault::OutOfRange(300),
        Fault::DiskFull("full".into()),
        Fault::StaleMap("old".into()),
        Fault::Conflict,
        Fault::NoSuchWrite,
        Fault::Failed("disk".into()),
    ]
}

fn states() -> [CopyState; 5] {
    let stored = |crc64| CopyState::Stored { len: 300, crc64 };
    [
        CopyState::Absent,
        CopyState::Writing,
        stored(None),
        stored(Some(0x0102_0304_0506_0708)),
        CopyState::Damaged,
    ]
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let shard = head().shard;
    let read = pb::ShardRead {
        format: FORMAT,
        shard: Some(shard.encode()),
        start: 1 << 20,
        length: 4096,
    };
    let read_answer = pb::ShardReadAnswer {
        format: FORMAT,
        data: Bytes::from_static(b"bytes"),
        data_crc64: crc64(b"bytes"),
        fault: None,
    };
    let delete = pb::ShardDelete {
        format: FORMAT,
        shards: vec![shard.encode()],
    };
    let listing = pb::shard_stat::Question::Listing(pb::ShardListing {
        after: Bytes::copy_from_slice(shard.chunk.as_bytes()),
        limit: 1000,
    });
    let shards = pb::shard_stat::Question::Shards(pb::ShardList {
        shards: vec![shard.encode()],
    });
    let stat_answer = pb::ShardStatAnswer {
        format: FORMAT,
        states: states().map(|s| s.encode(shard.chunk)).to_vec(),
    };
    let mut all = vec![
        ("write", head().piece(&piece()).to_vec()),
        ("abandon", head().abandonment().to_vec()),
        ("read", read.encode_to_vec()),
        ("read answer", read_answer.encode_to_vec()),
        ("delete", delete.encode_to_vec()),
        (
            "delete answer",
            pb::ShardDeleteAnswer { format: FORMAT }.encode_to_vec(),
        ),
        ("stat of shards", stat(shards)),
        ("stat of a listing", stat(listing)),
        ("stat answer", stat_answer.encode_to_vec()),
    ];
    for fault in faults() {
        let answer = pb::ShardWriteAnswer {
            format: FORMAT,
            durable: true,
            fault: Some(fault.encode()),
        };
        all.push(("write answer", answer.encode_to_vec()));
    }
    all
}

#[test]
fn messages_are_what_they_always_were() {
    let mut dump = String::new();
    for (name, bytes) in messages() {
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        writeln!(dump, "{name}\n{hex}").unwrap();
    }
    let golden = include_str!("../../tests/golden/messages-v1.txt");
    assert_eq!(dump, golden, "{dump}");
}

#[test]
fn what_is_decoded_is_what_was_encoded() {
    let write = Write::decode(head().piece(&piece())).unwrap();
    assert_eq!((write.head, write.abandon), (head(), false));
    assert_eq!(write.piece.end, piece().end);
    assert_eq!(write.piece.data, piece().data);
    assert!(Write::decode(head().abandonment()).unwrap().abandon);
    for fault in faults() {
        assert_eq!(Fault::decode(&fault.encode()), fault);
    }
    for state in states() {
        let chunk = head().shard.chunk;
        assert_eq!(CopyState::decode(&state.encode(chunk)), Some(state));
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let refused = |change: &dyn Fn(&mut pb::ShardWrite)| {
        let mut message = pb::ShardWrite::decode(head().piece(&piece())).unwrap();
        change(&mut message);
        let refusal = Write::decode(message.encode_to_vec().into()).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Malformed);
        refusal.message
    };
    assert!(refused(&|m| m.format = 2).contains("upgrade"));
    assert!(refused(&|m| m.data = Bytes::from_static(b"bytez")).contains("damaged"));
    assert!(refused(&|m| m.shard = None).contains("no shard"));
    assert!(refused(&|m| m.profile = 2).contains("profile"));
    assert!(refused(&|m| m.write = Bytes::new()).contains("16 bytes"));
    let long = Bytes::from(vec![0; PIECE_BYTES + 1]);
    assert!(refused(&|m| m.data = long.clone()).contains("1 MiB"));
    let number = |m: &mut pb::ShardWrite| m.shard.as_mut().unwrap().number = 32;
    assert!(refused(&number).contains("below 32"));
}
