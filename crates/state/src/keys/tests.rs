//! Keys sort like the values they encode, and read back to them.

use super::*;
use proptest::prelude::*;

type Fields = (u16, Vec<u8>, i64, Vec<u8>);

/// Few byte values, so that prefixes, zeros and 0xff meet often.
fn awkward_bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(
        prop::sample::select(vec![0u8, 1, 2, b'a', 0xfe, 0xff]),
        0..5,
    )
}

fn fields() -> impl Strategy<Value = Fields> {
    (0u16..3, awkward_bytes(), -2i64..3, awkward_bytes())
}

fn encode(fields: &Fields) -> Bytes {
    KeyWriter::new(0x20)
        .u16(fields.0)
        .bytes(&fields.1)
        .i64(fields.2)
        .tail(&fields.3)
        .finish()
}

proptest! {
    #[test]
    fn byte_order_is_field_order(a in fields(), b in fields()) {
        prop_assert_eq!(encode(&a).cmp(&encode(&b)), a.cmp(&b));
    }

    #[test]
    fn fields_read_back(a in fields()) {
        let key = encode(&a);
        let mut reader = KeyReader::new(&key, 0x20).unwrap();
        let back = (
            reader.u16().unwrap(),
            reader.bytes().unwrap(),
            reader.i64().unwrap(),
            reader.tail().to_vec(),
        );
        prop_assert_eq!(back, a);
    }

    #[test]
    fn an_open_field_is_the_prefix_of_exactly_its_continuations(
        start in awkward_bytes(), text in awkward_bytes(),
    ) {
        let prefix = KeyWriter::new(0x20).open_bytes(&start).finish();
        let key = KeyWriter::new(0x20).bytes(&text).finish();
        // The terminator 00 01 never looks like the escape 00 ff, so no text matches by accident.
        prop_assert_eq!(key.starts_with(&prefix), text.starts_with(&start));
    }

    #[test]
    fn prefix_end_bounds_exactly_the_prefix(prefix in awkward_bytes(), key in awkward_bytes()) {
        let below = prefix_end(&prefix).is_none_or(|end| key[..] < end[..]);
        prop_assert_eq!(key >= prefix && below, key.starts_with(&prefix));
    }

    #[test]
    fn reading_never_panics(key in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(mut reader) = KeyReader::new(&key, 0) {
            while reader.text().is_ok() {}
            while reader.u64_descending().is_ok() {}
            let _ = reader.id();
            let _ = reader.u32();
            let _ = reader.tail();
        }
    }
}

#[test]
fn descending_integers_sort_newest_first() {
    let key = |n| KeyWriter::new(0x20).u64_descending(n).finish();
    assert!(key(2) < key(1) && key(u64::MAX) < key(0));
    let stored = key(7);
    assert_eq!(
        KeyReader::new(&stored, 0x20).unwrap().u64_descending(),
        Ok(7)
    );
}

#[test]
fn system_keys_are_pinned() {
    assert_eq!(&applied()[..], [0]);
    assert_eq!(
        &event(GroupId(1), 258)[..],
        [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2]
    );
    assert!(event(GroupId(1), 258).starts_with(&events(GroupId(1))));
    assert_eq!(&successor(b"ab")[..], b"ab\0");
}

#[test]
fn no_two_ranges_of_tags_overlap() {
    for (at, (owner, range)) in tag::RANGES.iter().enumerate() {
        assert!(!range.is_empty(), "{owner}");
        for (other, next) in &tag::RANGES[at + 1..] {
            assert!(range.end() < next.start(), "{owner} and {other}");
        }
    }
    for own in [tag::APPLIED, tag::USAGE, tag::EVENT] {
        assert!(tag::SYSTEM.contains(&own));
    }
}
