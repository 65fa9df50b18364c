//! Bytes that requests may hold together: one number for the node, and shares of it.
//!
//! A share bounds what one connection and one network can take, so that nobody takes all of it. What
//! is left when others hold their shares is a reserve for whoever holds little: a small request is
//! served however many large ones are under way.

use crate::{Network, Peer};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long somebody waits for others to give back what they hold before being told to come again.
pub const SHARE_PATIENCE: Duration = Duration::from_secs(5);

/// How many wait so for one budget, unless those who wait hold something outside of it meanwhile.
pub const SHARE_WAITERS_MAX: usize = 256;

#[cfg(test)]
mod tests;

/// How bytes are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Bytes of all together.
    pub total: u64,
    /// The last bytes of these, for networks that hold at most a quarter of them.
    pub reserve: u64,
    /// Bytes of one network.
    pub network: u64,
    /// Bytes of one connection.
    pub connection: u64,
    /// How many wait for bytes; the next ones are told to come again at once.
    pub waiters: usize,
}

impl Shares {
    /// Shares of `total` bytes where one request holds at most `largest`: one network has not more than
    /// half if half is enough for that, and a sixth is the reserve.
    #[must_use]
    pub fn of(total: u64, largest: u64) -> Self {
        Self {
            total,
            reserve: total / 6,
            network: largest.max(total / 2),
            connection: largest,
            waiters: SHARE_WAITERS_MAX,
        }
    }
}

/// Others hold the bytes that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server holds as many bytes of requests as it has room for ({} MiB); send the request again \
     in a moment",
    total >> 20
)]
pub struct Exhausted {
    /// Bytes of all together.
    pub total: u64,
}

/// A budget; clones share it.
#[derive(Clone, Debug)]
pub struct ByteBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shares: Shares,
    state: Mutex<State>,
    freed: Notify,
}

/// Entries exist only for what is held, so there are never more of them than holders.
#[derive(Debug, Default)]
struct State {
    held: u64,
    networks: HashMap<Network, u64>,
    connections: HashMap<Peer, u64>,
    waiters: usize,
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub struct Held {
    budget: ByteBudget,
    peer: Peer,
    bytes: u64,
}

impl ByteBudget {
    /// An unused budget.
    #[must_use]
    pub fn new(shares: Shares) -> Self {
        Self(Arc::new(Inner {
            shares,
            state: Mutex::default(),
            freed: Notify::new(),
        }))
    }

    /// Bytes that are held now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.0.state.lock().held
    }

    /// How the bytes are shared out.
    #[must_use]
    pub fn shares(&self) -> Shares {
        self.0.shares
    }

    /// Holds `bytes` for `peer` if they are free.
    ///
    /// # Errors
    /// When others hold them.
    #[cfg(test)]
    fn try_hold(&self, peer: Peer, bytes: u64) -> Result<Held, Exhausted> {
        let mut held = Held {
            budget: self.clone(),
            peer,
            bytes: 0,
        };
        held.try_grow(bytes).map(|()| held)
    }

    /// Holds `bytes` for `peer` as soon as they are free.
    ///
    /// # Errors
    /// When they are not free in time, or more requests wait already than may.
    pub async fn hold(
        &self,
        peer: Peer,
        bytes: u64,
        patience: Duration,
    ) -> Result<Held, Exhausted> {
        let mut held = Held {
            budget: self.clone(),
            peer,
            bytes: 0,
        };
        held.grow(bytes, patience).await.map(|()| held)
    }

    fn exhausted(&self) -> Exhausted {
        Exhausted {
            total: self.0.shares.total,
        }
    }
}

impl Held {
    /// Bytes that are held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Holds `bytes` from now on: gives back what is more, and waits for what is missing.
    ///
    /// # Errors
    /// When what is missing is not free in time; what was held before still is.
    pub async fn resize(&mut self, bytes: u64, patience: Duration) -> Result<(), Exhausted> {
        if bytes > self.bytes {
            return self.grow(bytes - self.bytes, patience).await;
        }
        self.release(self.bytes - bytes);
        Ok(())
    }

    /// Bytes that count until the last of them, or of their slices, is dropped.
    #[must_use]
    pub fn of_bytes(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Counted { bytes, _held: self })
    }

    /// Gives back some of what is held.
    fn release(&mut self, bytes: u64) {
        let inner = &self.budget.0;
        {
            let mut state = inner.state.lock();
            state.held -= bytes;
            give_back(&mut state.networks, self.peer.network, bytes);
            give_back(&mut state.connections, self.peer, bytes);
        }
        self.bytes -= bytes;
        // Each waiter asks for another number of bytes, so all of them look; they are few.
        inner.freed.notify_waiters();
    }

    /// Holds `more` bytes beside those that are held already.
    fn try_grow(&mut self, more: u64) -> Result<(), Exhausted> {
        let inner = &self.budget.0;
        let mut state = inner.state.lock();
        if !state.admits(&inner.shares, self.peer, more) {
            return Err(self.budget.exhausted());
        }
        state.held += more;
        if more > 0 {
            *state.networks.entry(self.peer.network).or_default() += more;
            *state.connections.entry(self.peer).or_default() += more;
        }
        self.bytes += more;
        Ok(())
    }

    /// Holds `more` bytes beside those that are held already, as soon as they are free.
    ///
    /// # Errors
    /// When they are not free in time; what was held before still is.
    pub async fn grow(&mut self, more: u64, patience: Duration) -> Result<(), Exhausted> {
        if self.try_grow(more).is_ok() {
            return Ok(());
        }
        let budget = self.budget.clone();
        let _waiter = Waiter::enter(&budget).ok_or(budget.exhausted())?;
        let wait = async {
            loop {
                let mut freed = pin!(budget.0.freed.notified());
                // Before the look, so that what is given back after it is not missed.
                freed.as_mut().enable();
                if self.try_grow(more).is_ok() {
                    return;
                }
                freed.await;
            }
        };
        let waited = tokio::time::timeout(patience, wait).await;
        waited.map_err(|_| budget.exhausted())
    }
}

/// What [`Held::of_bytes`] counts.
struct Counted {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

fn give_back<K: Eq + Hash>(shares: &mut HashMap<K, u64>, key: K, bytes: u64) {
    if let Some(held) = shares.get_mut(&key) {
        *held -= bytes;
        if *held == 0 {
            shares.remove(&key);
        }
    }
}

impl State {
    fn admits(&self, shares: &Shares, peer: Peer, more: u64) -> bool {
        let with = |held: Option<&u64>| held.copied().unwrap_or(0).saturating_add(more);
        let network = with(self.networks.get(&peer.network));
        let all = self.held.saturating_add(more);
        let open = shares.total.saturating_sub(shares.reserve);
        with(self.connections.get(&peer)) <= shares.connection
            && network <= shares.network
            && all <= shares.total
            && (all <= open || network <= shares.reserve / 4)
    }
}

/// One who waits; leaves when dropped, however the waiting ends.
struct Waiter<'a>(&'a ByteBudget);

impl<'a> Waiter<'a> {
    fn enter(budget: &'a ByteBudget) -> Option<Self> {
        let mut state = budget.0.state.lock();
        (state.waiters < budget.0.shares.waiters).then(|| {
            state.waiters += 1;
            Self(budget)
        })
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.0.state.lock().waiters -= 1;
    }
}
