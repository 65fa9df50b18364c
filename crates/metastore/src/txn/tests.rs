//! Reads, scans and writes of one evaluation, against a map that merges all three layers.

use super::*;
use crate::UsageRow;
use crate::testing::{counter, cx, key, value};
use floeberg_env::SeededRng;
use floeberg_kv::{Batch, Kv, MemKv, MemKvStore};
use floeberg_state::encode_row;
use floeberg_types::{ClusterId, GroupId};
use proptest::prelude::*;

const APPLIED: CommitId = CommitId::from_bytes([1; 16]);
const IN_FLIGHT: CommitId = CommitId::from_bytes([2; 16]);
const IDENTITY: Identity = Identity {
    cluster: ClusterId::from_bytes([0xc1; 16]),
    group: GroupId(0),
};

/// Applied rows and rows in flight, for a transaction to look at.
struct Ground {
    moment: Arc<Moment>,
    speculation: Speculation,
    proposal: Arc<Proposal>,
    rng: SeededRng,
}

type Layer = BTreeMap<String, Option<i64>>;

impl Ground {
    fn new(applied: &Layer, in_flight: &Layer) -> Self {
        let kv: Arc<dyn Kv> = Arc::new(MemKv::open(&MemKvStore::new()));
        let mut batch = Batch::default();
        for (name, number) in applied {
            if let Some(number) = number {
                batch.put(
                    key(name),
                    encode_row(APPLIED, &counter(*number).encode_to_vec()),
                );
            }
        }
        kv.write(batch).unwrap();
        let mut speculation = Speculation::default();
        let payload = |number: i64| Bytes::from(counter(number).encode_to_vec());
        let writes = in_flight
            .iter()
            .map(|(name, number)| (key(name), number.map(payload)));
        let proposal = speculation.launch(IN_FLIGHT, TimestampMs(4), writes.collect(), Vec::new());
        Self {
            moment: Moment::take(&kv, IDENTITY).unwrap(),
            speculation,
            proposal,
            rng: SeededRng::new(1),
        }
    }

    fn txn(&self) -> Txn<'_> {
        let basis = Basis {
            moment: &self.moment,
            speculation: &self.speculation,
            rng: &self.rng,
            now: TimestampMs(5),
        };
        Txn::new(basis, CommitId::from_bytes(basis.rng.id128()))
    }
}

fn layer(rows: &[(&str, Option<i64>)]) -> Layer {
    rows.iter()
        .map(|(name, number)| ((*name).to_owned(), *number))
        .collect()
}

fn reads(command: &Command) -> Vec<(Bytes, Bytes)> {
    command
        .reads
        .iter()
        .map(|read| (read.key.clone(), read.commit_id.clone()))
        .collect()
}

fn id_bytes(id: CommitId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

#[test]
fn a_command_lists_each_row_it_read_once_and_none_it_wrote_first() {
    let ground = Ground::new(
        &layer(&[("a", Some(1))]),
        &layer(&[("b", Some(2)), ("d", None)]),
    );
    let mut txn = ground.txn();
    for _ in 0..2 {
        assert_eq!(value(&txn, "a").unwrap(), Some(1));
        assert_eq!(value(&txn, "b").unwrap(), Some(2));
        assert_eq!(value(&txn, "c").unwrap(), None);
        assert_eq!(value(&txn, "d").unwrap(), None);
    }
    txn.put(key("e"), &counter(9));
    let own = txn.get::<UsageRow>(&key("e")).unwrap().unwrap();
    assert_eq!((own.bytes, own.commit_id), (9, txn.commit_id()));
    let mut decided = txn.finish();
    assert_eq!(decided.seen.in_flight.len(), 1);
    let command = decided.command(IDENTITY, &cx());
    let expected = vec![
        (key("a"), id_bytes(APPLIED)),
        (key("b"), id_bytes(IN_FLIGHT)),
        (key("c"), Bytes::new()),
        (key("d"), Bytes::new()),
    ];
    assert_eq!(reads(&command), expected);
    assert_eq!(command.ops.len(), 1);
    assert_eq!(command.commit_id, id_bytes(decided.commit_id));
}

#[test]
fn emptiness_is_that_of_the_group_and_not_of_the_transaction() {
    let applied = layer(&[("n/a", Some(1)), ("o", Some(1))]);
    let ground = Ground::new(&applied, &layer(&[("n/a", None), ("p/b", Some(1))]));
    let mut txn = ground.txn();
    txn.put(key("n/own"), &counter(1));
    assert_eq!(txn.require_empty(&key("n/")).unwrap(), RangeState::Empty);
    assert_eq!(txn.require_empty(&key("p/")).unwrap(), RangeState::Occupied);
    let mut decided = txn.finish();
    // Emptiness rests on a delete in flight, and an answer has to wait for that.
    let seen: Vec<_> = decided.seen.in_flight.values().collect();
    assert!(Arc::ptr_eq(seen[0], &ground.proposal));
    let command = decided.command(IDENTITY, &cx());
    let range = RangeEmpty {
        start: key("n/"),
        end: key("n0"),
    };
    assert_eq!(command.ranges_empty, vec![range]);
}

#[test]
fn a_damaged_row_is_remembered_even_if_the_decision_ignores_it() {
    let mut ground = Ground::new(&Layer::new(), &Layer::new());
    let kv: Arc<dyn Kv> = Arc::new(MemKv::open(&MemKvStore::new()));
    let mut batch = Batch::default();
    batch.put(key("bad"), Bytes::from_static(b"\xff"));
    kv.write(batch).unwrap();
    ground.moment = Moment::take(&kv, IDENTITY).unwrap();
    let txn = ground.txn();
    assert!(txn.exists(&key("bad")).is_err());
    assert!(matches!(
        txn.finish().seen.failure,
        Some(StoreError::Format { .. })
    ));
}

fn any_layer() -> impl Strategy<Value = Layer> {
    let name = prop::sample::select(vec!["a", "b", "b/1", "b/2", "b/3", "c", "d"]);
    let number = proptest::option::of(0i64..100);
    proptest::collection::btree_map(name.prop_map(str::to_owned), number, 0..6)
}

proptest! {
    #[test]
    fn a_scan_merges_own_rows_rows_in_flight_and_applied_rows(
        applied in any_layer(), in_flight in any_layer(), own in any_layer(),
        prefix in prop::sample::select(vec!["", "b", "b/", "x"]),
        after in proptest::option::of(prop::sample::select(vec!["a", "b/1", "b/2", "z"])),
        limit in 0usize..8,
    ) {
        let ground = Ground::new(&applied, &in_flight);
        let mut txn = ground.txn();
        for (name, number) in &own {
            match number {
                Some(number) => txn.put(key(name), &counter(*number)),
                None => txn.delete(key(name)),
            }
        }
        let mut merged = applied.clone();
        merged.extend(in_flight.clone());
        merged.extend(own.clone());
        let expected: Vec<(Bytes, i64)> = merged
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .filter(|(name, _)| after.is_none_or(|after| name.as_str() > after))
            .filter_map(|(name, number)| number.map(|number| (key(name), number)))
            .take(limit)
            .collect();
        let found = txn
            .scan::<UsageRow>(&key(prefix), after.map(key).as_deref(), limit)
            .unwrap();
        let found: Vec<_> = found.into_iter().map(|(key, row)| (key, row.bytes)).collect();
        prop_assert_eq!(found, expected);

        // Each name on its own gives what the scan gives.
        for (name, number) in &merged {
            prop_assert_eq!(value(&txn, name).unwrap(), *number);
        }
    }
}

/// A decision may read a row of each of thousands of proposals. Comparing all of them with each other
/// would take minutes here.
#[test]
fn every_proposal_is_noted_once_however_many_there_are() {
    const PROPOSALS: usize = 200_000;
    let mut ground = Ground::new(&Layer::new(), &Layer::new());
    let payload = Bytes::from(counter(1).encode_to_vec());
    for n in 0..PROPOSALS {
        let writes = ["a", "b"].map(|row| (key(&format!("{row}{n}")), Some(payload.clone())));
        let time = TimestampMs(4);
        let launched = ground
            .speculation
            .launch(IN_FLIGHT, time, writes.into(), Vec::new());
        drop(launched);
    }
    let txn = ground.txn();
    for row in ["a", "b"] {
        for n in 0..PROPOSALS {
            assert!(txn.get_raw(&key(&format!("{row}{n}"))).unwrap().is_some());
        }
    }
    let seen = txn.finish().seen;
    assert_eq!(seen.built_on.len(), PROPOSALS);
    assert_eq!(seen.looked_up, 0);
    assert_eq!(seen.proposals().len(), PROPOSALS);
}

/// What was read elsewhere is compared like what is read here, and looked up by nobody.
#[test]
fn an_expected_row_is_listed_and_not_looked_up() {
    let ground = Ground::new(&layer(&[("a", Some(1))]), &Layer::new());
    let mut txn = ground.txn();
    txn.expect(key("a"), APPLIED);
    txn.delete(key("a"));
    let mut decided = txn.finish();
    assert_eq!(decided.seen.looked_up, 0);
    let command = decided.command(IDENTITY, &cx());
    assert_eq!(reads(&command), [(key("a"), id_bytes(APPLIED))]);
}
