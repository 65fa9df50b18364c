//! The layout stays what it was, and what is decoded is what was encoded.

use super::*;
use crate::record::RecordHasher;
use proptest::prelude::*;

fn place() -> Place {
    Place {
        volume: [7; 16],
        segment: SegmentId(3),
        offset: 8192,
    }
}

/// A record of two blocks whose payload counts up.
fn record() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let chunk = ChunkId::from_bytes(*b"0123456789abcdef");
    let payload: Vec<u8> = (0..70_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let mut header = Header::plain(RecordKind::Data, chunk, 70_000);
    header.settled = 4096;
    header.shard = 5;
    header.codec = 6;
    header.encryption_key = 0x0a0b_0c0d;
    let mut hasher = RecordHasher::new();
    for piece in payload.chunks(999) {
        hasher.update(piece);
    }
    let trailer = hasher.finish(chunk, &place());
    (header.encode(&place()).to_vec(), payload, trailer.bytes)
}

fn lines(bytes: &[u8]) -> String {
    let hex = |b: &u8| format!("{b:02x}");
    let line = |l: &[u8]| l.iter().map(hex).collect::<String>() + "\n";
    bytes.chunks(16).map(line).collect()
}

#[test]
fn a_record_is_stored_as_it_always_was() {
    let (header, _, trailer) = record();
    let dump = format!(
        "header\n{}table and footer\n{}",
        lines(&header),
        lines(&trailer)
    );
    assert_eq!(
        dump,
        include_str!("../../tests/golden/record-v1.txt"),
        "{dump}"
    );
}

#[test]
fn a_stamp_is_stored_as_it_always_was() {
    let mut header = Header::plain(RecordKind::Tombstone, ChunkId::from_bytes([0; 16]), 32);
    header.settled = 4096;
    header.stamp = Stamp {
        sequence: 0x0102_0304_0506,
        index: 0x0708,
        previous: 0x090a_0b0c * ALIGNMENT,
    };
    let bytes = header.encode(&place());
    let dump = lines(&bytes);
    assert_eq!(
        dump,
        include_str!("../../tests/golden/stamped-header-v1.txt"),
        "{dump}"
    );
    assert_eq!(Header::decode(&bytes, &place()), Some(header));
}

#[test]
fn a_record_without_a_stamp_says_nothing_of_others() {
    let (header, ..) = record();
    let stamp = Header::decode(&header, &place()).unwrap().stamp;
    assert_eq!(stamp, Stamp::default());
    assert_eq!(stamp.floor(), 0);
}

#[test]
fn the_trailer_holds_the_checksums_of_the_payload() {
    let (header, payload, trailer) = record();
    let footer = Footer::decode(&trailer[16..], &place()).unwrap();
    assert_eq!(u64_at(&trailer, 0), crc64(&payload[..65_536]));
    assert_eq!(u64_at(&trailer, 8), crc64(&payload[65_536..]));
    assert_eq!(footer.table_crc, crc64(&trailer[..16]));
    assert_eq!(footer.payload_crc, crc64(&payload));
    assert_eq!(footer.blake3, *blake3::hash(&payload).as_bytes());
    let used = header.len() + payload.len() + trailer.len();
    assert_eq!(record_len(70_000), (used as u64).next_multiple_of(4096));
}

#[test]
fn a_header_elsewhere_is_no_header() {
    let (header, _, trailer) = record();
    let elsewhere = [
        Place {
            volume: [8; 16],
            ..place()
        },
        Place {
            segment: SegmentId(4),
            ..place()
        },
        Place {
            offset: 4096,
            ..place()
        },
    ];
    assert!(Header::decode(&header, &place()).is_some());
    for other in elsewhere {
        assert_eq!(Header::decode(&header, &other), None);
        assert_eq!(Footer::decode(&trailer[16..], &other), None);
    }
}

proptest! {
    #[test]
    fn headers_round_trip_and_any_flipped_bit_is_seen(
        chunk: [u8; 16], payload_len in 0..=MAX_CHUNK_BYTES, settled: u64,
        shard: u16, codec: u16, profile: u16, encryption_key: u32, kind in 0..3_usize,
        sequence in 0..=MAX_SEQUENCE, index: u16, page: u32,
        flip in 0..HEADER_LEN * 8,
    ) {
        let kind = [RecordKind::Data, RecordKind::Tombstone, RecordKind::Gap][kind];
        let chunk = ChunkId::from_bytes(chunk);
        let stamp = Stamp { sequence, index, previous: u64::from(page) * ALIGNMENT };
        let header = Header {
            kind, profile, chunk, shard, codec, encryption_key, payload_len, settled, stamp,
        };
        let mut bytes = header.encode(&place());
        prop_assert_eq!(Header::decode(&bytes, &place()), Some(header));
        bytes[flip / 8] ^= 1 << (flip % 8);
        prop_assert_eq!(Header::decode(&bytes, &place()), None);
    }

    #[test]
    fn arbitrary_bytes_are_no_record(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(Header::decode(&bytes, &place()), None);
        prop_assert_eq!(Footer::decode(&bytes, &place()), None);
    }
}
