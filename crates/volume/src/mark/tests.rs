//! Marks stay what they were on the wire, and the unbroken run ends where it should.

use super::*;

#[test]
fn a_mark_is_sent_as_it_always_was() {
    let mark = VolumeMark::new(*b"0123456789abcdef", 0x0102_0304_0506);
    let bytes = mark.to_message().encode_to_vec();
    let dump: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(dump + "\n", include_str!("../../tests/golden/mark-v1.txt"));
    let message = proto::VolumeMark::decode(&bytes[..]).unwrap();
    assert_eq!(VolumeMark::from_message(&message), Ok(mark));
}

#[test]
fn the_first_number_of_a_life_is_kept_as_it_always_was() {
    let file = proto::NumbersFile {
        format: 1,
        first: 0x0102_0304_0506,
    };
    let bytes = file.encode_to_vec();
    let dump: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        dump + "\n",
        include_str!("../../tests/golden/numbers-v1.txt")
    );
}

#[test]
fn what_is_no_mark_is_refused() {
    let good = VolumeMark::new([1; 16], 5).to_message();
    for (bad, error) in [
        (
            proto::VolumeMark {
                format: 2,
                ..good.clone()
            },
            InvalidMark::Format(2),
        ),
        (
            proto::VolumeMark {
                volume_id: vec![1; 15].into(),
                ..good.clone()
            },
            InvalidMark::Volume(15),
        ),
        (
            proto::VolumeMark {
                sequence: u64::MAX,
                ..good
            },
            InvalidMark::Sequence(u64::MAX),
        ),
    ] {
        assert_eq!(VolumeMark::from_message(&bad), Err(error));
    }
}

#[test]
fn marks_of_one_volume_are_compared_and_others_are_no_evidence() {
    let mark = |volume, sequence| VolumeMark::new([volume; 16], sequence);
    assert!(mark(1, 4).lacks(&mark(1, 5)));
    assert!(!mark(1, 5).lacks(&mark(1, 5)) && !mark(1, 6).lacks(&mark(1, 5)));
    assert!(!mark(1, 4).lacks(&mark(2, 5)));
}

fn stamp(sequence: u64, index: u16) -> Stamp {
    Stamp {
        sequence,
        index,
        previous: 0,
    }
}

#[test]
fn a_mark_is_the_end_of_the_unbroken_run() {
    let mut found = Found::new(0);
    assert_eq!(found.acknowledged(), 0);
    for (sequence, index) in [(7, 0), (8, 0), (10, 1), (11, 2), (9, 0)] {
        found.header(&stamp(sequence, index));
        if sequence != 10 {
            found.whole(&stamp(sequence, index));
        }
    }
    assert_eq!(
        found.acknowledged(),
        9,
        "10 is torn, so 11 was not acknowledged"
    );
    assert_eq!(found.seen, 11);
    found.whole(&stamp(10, 1));
    assert_eq!(found.acknowledged(), 11);
}

#[test]
fn records_without_a_stamp_count_for_nothing() {
    let mut found = Found::new(0);
    found.header(&Stamp::default());
    found.whole(&Stamp::default());
    assert_eq!((found.acknowledged(), found.seen), (0, 0));
    let mut found = Found::new(41);
    found.header(&Stamp::default());
    assert_eq!((found.acknowledged(), found.seen), (41, 41));
}
