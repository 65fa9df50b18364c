//! Golden bytes and properties of the record format.

use super::*;
use proptest::prelude::*;

fn header(kind: Kind, number: u64) -> Header {
    Header {
        kind,
        group: GroupId(3),
        number,
        previous: 0xdead_beef,
        votes: 2,
    }
}

/// The records of the golden file, in its order; new ones are added at the end.
fn golden() -> Vec<(Header, &'static [u8])> {
    vec![
        (header(Kind::Entry, 0x0102_0304_0506_0708), b"an entry"),
        (header(Kind::Entry, u64::MAX), b""),
        (header(Kind::Vote, 5), b"a vote"),
        (header(Kind::Committed, 0), b"a committed position"),
        (header(Kind::Purged, 41), b"a log id"),
    ]
}

#[test]
fn records_have_their_golden_bytes() {
    let lines: Vec<&str> = include_str!("../../tests/golden/records-v1.hex")
        .lines()
        .collect();
    let written: Vec<String> = golden()
        .iter()
        .map(|(header, payload)| hex::encode(header.encode(payload).0))
        .collect();
    assert_eq!(written, lines);
    for ((header, payload), line) in golden().into_iter().zip(lines) {
        let bytes = Bytes::from(hex::decode(line).expect("hex"));
        let stored = Stored::parse(bytes).expect("valid");
        assert_eq!((stored.header, stored.payload.as_ref()), (header, payload));
    }
}

#[test]
fn the_checksum_is_castagnoli() {
    assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283);
}

#[test]
fn links_and_keys_keep_their_values() {
    let keys = [
        Key::Entry {
            group: GroupId(1),
            index: 2,
        },
        Key::Meta {
            group: GroupId(1),
            kind: Kind::Purged,
        },
    ];
    let encoded = keys.map(|key| hex::encode(key.encode()));
    assert_eq!(encoded, ["01000000010000000000000002", "020000000104"]);
    let links = [first_link(GroupId(1)), purged_link(GroupId(1), 7, b"id")];
    let expected = include_str!("../../tests/golden/links-v1.txt");
    assert_eq!(links.map(|link| format!("{link:08x}\n")).concat(), expected);
}

proptest! {
    #[test]
    fn every_flipped_bit_is_found(
        payload in proptest::collection::vec(any::<u8>(), 0..64),
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let key = Key::Entry { group: GroupId(3), index: 9 };
        let (mut bytes, crc) = header(Kind::Entry, 9).encode(&payload);
        let stored = Stored::decode(key, bytes.clone().into()).expect("valid");
        prop_assert_eq!((stored.crc, &stored.payload[..]), (crc, &payload[..]));
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let damage = Stored::decode(key, bytes.into()).expect_err("damaged").damage;
        prop_assert_eq!(damage, Damage::Checksum);
    }

    #[test]
    fn keys_round_trip_in_order(a in any::<(u32, u64)>(), b in any::<(u32, u64)>()) {
        let key = |(group, index)| Key::Entry { group: GroupId(group), index };
        prop_assert_eq!(Key::decode(&key(a).encode()), Some(key(a)));
        prop_assert_eq!(key(a).encode().cmp(&key(b).encode()), a.cmp(&b));
    }

    #[test]
    fn arbitrary_bytes_never_panic(key: Vec<u8>, bytes: Vec<u8>) {
        let _ = Key::decode(&key);
        let meta = Key::Meta { group: GroupId(0), kind: Kind::Vote };
        prop_assert!(Stored::decode(meta, bytes.into()).is_err());
    }
}

#[test]
fn a_record_under_the_wrong_key_is_malformed() {
    let (bytes, _) = header(Kind::Entry, 9).encode(b"x");
    let wrong = Key::Entry {
        group: GroupId(3),
        index: 8,
    };
    let corrupt = Stored::decode(wrong, bytes.into()).expect_err("misplaced");
    assert_eq!(corrupt, Corrupt::record(GroupId(3), 8, Damage::Malformed));
}
