//! Deterministic simulation: real nodes on in-memory stores and an in-memory network, under
//! simulated time.
//!
//! One seed decides everything: the clients' operations, how long a sync takes, which messages are
//! late, lost or cut off, whose clock jumps, when a node loses its power and what becomes of its
//! unsynced writes, whose machine or volume is put back to an older image, who joins and leaves. Everything
//! above the stores is the product's code: HTTP routers, signatures, catalog, objects, transactions, Raft,
//! membership, placement, volumes.
//!
//! Verified, by the checkers of `floeberg-test-chaos` and by what is watched here: every table and
//! object is linearizable, what is written ahead in pieces is seen whole or not at all,
//! transactions over several tables are atomic, what was acknowledged survives and what was refused
//! never appears, a commit that is sent again is recognised, rendered metadata files never change,
//! nodes that have applied the same log have the same state, no group fails,
//! what was deleted in the catalog is gone in time on nodes that hear nothing of it,
//! who has forgotten something takes no part and nobody else is barred, a volume that was put back is
//! not trusted before it has everything again, and everything answers again once it is healed. [`Bug`]
//! shows that the checks are not blind.
//! Not verified here: RocksDB, real disks, sockets and threads (kill cycles and chaos runs do that).

mod client;
mod clock;
mod cluster;
mod door;
mod lately;
mod life;
mod machine;
mod nemesis;
mod operator;
mod planted;
mod prepare;
mod publisher;
mod record;
mod rollback;
mod run;
mod tables;
mod verify;

pub use planted::Bug;
pub use run::{Members, Plan, PutBack, Report, simulate};
