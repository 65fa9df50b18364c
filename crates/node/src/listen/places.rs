//! Who may be in a port: places for connections, shares of them, and a few places to wait at.
//!
//! A network gets at most three quarters of the places, so that one that opens connections without end
//! leaves some to others. Whoever finds no place waits in the anteroom with the connection open: there
//! health and readiness are answered, and everything else as soon as a place is free.

use floeberg_http::Network;
use floeberg_telemetry::Gauge;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Connections that wait for a place at one time. The next ones wait in the system's queue.
pub(super) const ANTEROOM: usize = 64;
/// Connections of one network that wait for a place at one time. The next ones are closed: in the
/// system's queue they would stand in front of others.
pub(super) const ANTEROOM_OF_NETWORK: usize = ANTEROOM / 4;

/// The places of one port; clones share them.
#[derive(Clone)]
pub(super) struct Places(Arc<Inner>);

struct Inner {
    total: usize,
    open: Gauge,
    state: Mutex<State>,
    freed: Notify,
}

/// Networks have entries only while they have connections, so there are not more of them.
#[derive(Default)]
struct State {
    seats: Counts,
    anteroom: Counts,
}

#[derive(Default)]
struct Counts {
    all: usize,
    networks: HashMap<Network, usize>,
}

impl Counts {
    fn of(&self, network: Network) -> usize {
        self.networks.get(&network).copied().unwrap_or(0)
    }

    fn add(&mut self, network: Network) {
        self.all += 1;
        *self.networks.entry(network).or_default() += 1;
    }

    fn remove(&mut self, network: Network) {
        self.all -= 1;
        if let Some(count) = self.networks.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.networks.remove(&network);
            }
        }
    }
}

/// A place for a connection; dropping it gives the place back.
pub(super) struct Seat {
    places: Places,
    network: Network,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let inner = &self.places.0;
        inner.state.lock().seats.remove(self.network);
        inner.open.dec();
        inner.freed.notify_waiters();
    }
}

/// A place in the anteroom; dropping it gives the place back.
pub(super) struct Standing {
    places: Places,
    network: Network,
}

impl Drop for Standing {
    fn drop(&mut self) {
        let inner = &self.places.0;
        inner.state.lock().anteroom.remove(self.network);
        inner.freed.notify_waiters();
    }
}

/// Where a new connection goes.
pub(super) enum Entry {
    Seat(Seat),
    Anteroom(Standing),
    /// Its network has all that it may have.
    Nowhere,
}

impl Places {
    pub(super) fn new(total: usize, open: Gauge) -> Self {
        Self(Arc::new(Inner {
            total: total.max(1),
            open,
            state: Mutex::default(),
            freed: Notify::new(),
        }))
    }

    /// How many there are.
    pub(super) fn total(&self) -> usize {
        self.0.total
    }

    /// How many are free.
    pub(super) fn free(&self) -> usize {
        self.0.total - self.0.state.lock().seats.all
    }

    /// Waits until a connection could get in or stand in the anteroom.
    pub(super) async fn opening(&self) {
        loop {
            let mut freed = pin!(self.0.freed.notified());
            freed.as_mut().enable();
            {
                let state = self.0.state.lock();
                if state.seats.all < self.0.total || state.anteroom.all < ANTEROOM {
                    return;
                }
            }
            freed.await;
        }
    }

    /// Lets a connection in.
    pub(super) fn enter(&self, network: Network) -> Entry {
        if let Some(seat) = self.try_sit(network) {
            return Entry::Seat(seat);
        }
        let mut state = self.0.state.lock();
        let crowded = state.anteroom.all >= ANTEROOM;
        if crowded || state.anteroom.of(network) >= ANTEROOM_OF_NETWORK {
            return Entry::Nowhere;
        }
        state.anteroom.add(network);
        Entry::Anteroom(Standing {
            places: self.clone(),
            network,
        })
    }

    /// A seat as soon as there is one; `None` if there is none in time.
    pub(super) async fn sit(&self, network: Network, patience: Duration) -> Option<Seat> {
        let wait = async {
            loop {
                let mut freed = pin!(self.0.freed.notified());
                freed.as_mut().enable();
                if let Some(seat) = self.try_sit(network) {
                    return seat;
                }
                freed.await;
            }
        };
        tokio::time::timeout(patience, wait).await.ok()
    }

    fn try_sit(&self, network: Network) -> Option<Seat> {
        let share = self.0.total - self.0.total / 4;
        let mut state = self.0.state.lock();
        if state.seats.all >= self.0.total || state.seats.of(network) >= share {
            return None;
        }
        state.seats.add(network);
        self.0.open.inc();
        Some(Seat {
            places: self.clone(),
            network,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn network(last: u8) -> Network {
        Network::of(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)))
    }

    /// How many of `tries` connections get a seat, and how many the anteroom.
    fn crowd(places: &Places, last: u8, tries: usize) -> (usize, usize, Vec<Entry>) {
        let entries: Vec<_> = (0..tries).map(|_| places.enter(network(last))).collect();
        let seats = entries.iter().filter(|e| matches!(e, Entry::Seat(_)));
        let standing = entries.iter().filter(|e| matches!(e, Entry::Anteroom(_)));
        (seats.count(), standing.count(), entries)
    }

    #[test]
    fn one_network_leaves_places_to_others() {
        let places = Places::new(100, Gauge::default());
        let (seats, standing, greedy) = crowd(&places, 1, 1_000);
        assert_eq!((seats, standing), (75, ANTEROOM_OF_NETWORK));
        let (seats, standing, others) = crowd(&places, 2, 30);
        assert_eq!((seats, standing), (25, 5));
        assert_eq!(places.free(), 0);
        drop((greedy, others));
        let state = places.0.state.lock();
        assert_eq!((state.seats.all, state.anteroom.all), (0, 0));
        assert!(state.seats.networks.is_empty() && state.anteroom.networks.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_port_opens_when_somebody_leaves() {
        let places = Places::new(2, Gauge::default());
        let inside: Vec<_> = (0..2).map(|i| places.enter(network(i))).collect();
        let patience = Duration::from_secs(30);
        assert!(places.sit(network(9), patience).await.is_none());
        let waiting = places.sit(network(9), patience);
        let leaving = async {
            tokio::time::sleep(Duration::from_secs(29)).await;
            drop(inside);
        };
        let (seat, ()) = tokio::join!(waiting, leaving);
        assert!(seat.is_some());
        let crowds: Vec<_> = (0..10).map(|i| crowd(&places, i, 20)).collect();
        let full = tokio::time::timeout(patience, places.opening()).await;
        assert!(full.is_err());
        drop(crowds);
        places.opening().await;
    }
}
