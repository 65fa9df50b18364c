//! What stays in flight when proposals land in any order.

use super::*;

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn launch(speculation: &mut Speculation, keys: &[&str], built_on: &[&Proposal]) -> Arc<Proposal> {
    let id = CommitId::from_bytes([u8::try_from(speculation.next_number).unwrap(); 16]);
    let writes = keys
        .iter()
        .map(|name| (key(name), Some(Bytes::new())))
        .collect();
    let built_on = built_on.iter().map(|base| base.number).collect();
    speculation.launch(id, TimestampMs(0), writes, built_on)
}

fn newest(speculation: &Speculation, name: &str) -> Option<u64> {
    speculation
        .row(name.as_bytes())
        .map(|row| row.proposal.number)
}

#[test]
fn a_loss_takes_along_what_was_built_on_it_and_nothing_else() {
    let mut rows = Speculation::default();
    let sound = launch(&mut rows, &["a", "b"], &[]);
    let bad = launch(&mut rows, &["c"], &[]);
    let on_bad = launch(&mut rows, &["a"], &[&bad, &sound]);
    let on_on_bad = launch(&mut rows, &["b", "d"], &[&on_bad]);
    let apart = launch(&mut rows, &["e"], &[&sound]);
    rows.lost(&bad);
    for lost in [&bad, &on_bad, &on_on_bad] {
        assert_eq!(lost.fate(), Some(Fate::Lost));
    }
    assert_eq!((sound.fate(), apart.fate()), (None, None));
    // The sound version below comes to light again.
    assert_eq!(newest(&rows, "a"), Some(sound.number));
    assert_eq!(newest(&rows, "b"), Some(sound.number));
    assert_eq!((newest(&rows, "c"), newest(&rows, "d")), (None, None));
    assert_eq!(newest(&rows, "e"), Some(apart.number));
    assert_eq!(rows.range(b"a", None).count(), 3);
    assert_eq!(rows.range(b"b", Some(b"e")).count(), 1);
}

#[test]
fn an_applied_row_is_not_hidden_by_an_older_one_that_lands_later() {
    let mut rows = Speculation::default();
    let older = launch(&mut rows, &["a"], &[]);
    let newer = launch(&mut rows, &["a"], &[&older]);
    rows.applied(&newer, 7);
    assert_eq!(newest(&rows, "a"), None);
    rows.applied(&older, 7);
    assert_eq!(rows.len(), 0);
}

#[test]
fn a_new_term_starts_with_nothing_in_flight() {
    let mut rows = Speculation::default();
    assert!(rows.enter(3));
    let first = launch(&mut rows, &["a"], &[]);
    rows.admissions
        .bar(CommitId::from_bytes([1; 16]), TimestampMs(1));
    assert!(rows.enter(3));
    assert_eq!(rows.admissions.len(), 1);
    assert_eq!(newest(&rows, "a"), Some(first.number));
    assert!(rows.enter(4));
    assert_eq!((rows.len(), rows.admissions.len()), (0, 0));
    let second = launch(&mut rows, &["a"], &[]);
    // The old term's proposal lands late and must not touch the new term's rows.
    rows.lost(&first);
    rows.applied(&first, 7);
    assert_eq!(newest(&rows, "a"), Some(second.number));
    assert!(!rows.enter(3), "an earlier term decides again");
}
