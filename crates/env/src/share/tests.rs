//! The budget against a model that adds up everything anew, and what waiting for bytes is like.

use super::*;
use crate::{Rng, SeededRng};
use std::net::Ipv4Addr;

const SHARES: Shares = Shares {
    total: 1_000,
    reserve: 200,
    network: 500,
    connection: 400,
    waiters: SHARE_WAITERS_MAX,
};

fn peer(network: u64, connection: u64) -> Peer {
    let last = u8::try_from(network).unwrap();
    Peer {
        network: Network::of(Ipv4Addr::new(10, 0, 0, last).into()),
        connection,
    }
}

/// What the shares allow, from the list of all that is held.
fn allowed(all: &[Held], who: Peer, more: u64) -> bool {
    let sum = |of: &dyn Fn(&Held) -> bool| -> u64 {
        all.iter().filter(|h| of(h)).map(|h| h.bytes).sum::<u64>() + more
    };
    let network = sum(&|h| h.peer.network == who.network);
    let total = sum(&|_| true);
    let in_reserve = total > 800;
    sum(&|h| h.peer == who) <= 400
        && network <= 500
        && total <= 1_000
        && (!in_reserve || network <= 50)
}

#[test]
fn it_does_what_a_naive_model_does() {
    let (mut refused, mut reserve_used) = (0, 0);
    for seed in 0..200 {
        let rng: &dyn Rng = &SeededRng::new(seed);
        let budget = ByteBudget::new(SHARES);
        let mut all: Vec<Held> = Vec::new();
        for _ in 0..300 {
            let who = peer(rng.below(5), rng.below(3));
            let bytes = match rng.below(3) {
                0 => rng.below(450),
                _ => rng.below(40),
            };
            let at = usize::try_from(rng.below(1 + all.len() as u64)).unwrap();
            match rng.below(16) {
                8 if at < all.len() => {
                    let less = rng.below(1 + all[at].bytes);
                    all[at].release(less);
                }
                0..4 if at < all.len() => drop(all.swap_remove(at)),
                4..8 if at < all.len() => {
                    let wanted = allowed(&all, all[at].peer, bytes);
                    assert_eq!(all[at].try_grow(bytes).is_ok(), wanted);
                }
                _ => {
                    let wanted = allowed(&all, who, bytes);
                    let given = budget.try_hold(who, bytes);
                    assert_eq!(given.is_ok(), wanted, "seed {seed}");
                    refused += usize::from(!wanted);
                    all.extend(given.ok());
                }
            }
            let sum: u64 = all.iter().map(|h| h.bytes).sum();
            assert_eq!(budget.held(), sum);
            reserve_used += usize::from(sum > 800);
        }
        drop(all);
        let state = budget.0.state.lock();
        assert_eq!((state.held, state.waiters), (0, 0));
        assert!(state.networks.is_empty() && state.connections.is_empty());
    }
    assert!(refused > 1_000 && reserve_used > 1_000, "little was tried");
}

#[test]
fn whoever_holds_little_is_served_beside_those_who_hold_all_they_may() {
    let budget = ByteBudget::new(SHARES);
    let all: Vec<_> = (0..3)
        .flat_map(|n| (0..2).map(move |c| peer(n, c)))
        .filter_map(|who| budget.try_hold(who, 200).ok())
        .collect();
    assert_eq!(budget.held(), 800);
    assert!(
        budget.try_hold(peer(0, 3), 1).is_err(),
        "the greedy get more"
    );
    let small = budget.try_hold(peer(9, 0), 50).unwrap();
    assert!(budget.try_hold(peer(9, 1), 1).is_err());
    drop((all, small));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_waited_for_and_not_for_ever() {
    let budget = ByteBudget::new(SHARES);
    let patience = Duration::from_secs(5);
    let (a, b) = (peer(1, 0), peer(2, 0));
    let first = budget.try_hold(a, 400).unwrap();
    let second = budget.try_hold(b, 400).unwrap();
    let refused = budget.hold(peer(3, 0), 300, patience).await.unwrap_err();
    assert_eq!(refused, Exhausted { total: 1_000 });
    let waiting = budget.hold(peer(3, 0), 300, patience);
    let given = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        drop(first);
    };
    let (held, ()) = tokio::join!(waiting, given);
    assert_eq!(held.unwrap().bytes, 300);
    drop(second);
    assert_eq!(budget.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_leaves_nothing_behind() {
    let budget = ByteBudget::new(SHARES);
    let taken = budget.try_hold(peer(1, 0), 400).unwrap();
    let also = budget.try_hold(peer(2, 0), 400).unwrap();
    let waiting = budget.hold(peer(3, 0), 300, Duration::from_secs(60));
    // The client leaves.
    let left = tokio::time::timeout(Duration::from_secs(1), waiting).await;
    assert!(left.is_err());
    drop((taken, also));
    assert_eq!(budget.0.state.lock().waiters, 0);
    assert_eq!(budget.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_wait() {
    let budget = ByteBudget::new(SHARES);
    let _taken = budget.try_hold(peer(1, 0), 400).unwrap();
    let _also = budget.try_hold(peer(2, 0), 400).unwrap();
    let ask = |c| budget.hold(peer(3, c), 300, Duration::from_secs(60));
    let began = tokio::time::Instant::now();
    let asks = (0..=SHARE_WAITERS_MAX as u64).map(ask);
    let first = futures::future::select_all(asks.map(Box::pin)).await.0;
    assert!(first.is_err());
    assert_eq!(began.elapsed(), Duration::ZERO);
}
