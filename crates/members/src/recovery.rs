//! The order to give up a lost majority: written by a person on a stopped node, carried out once
//! by that node's next start.
//!
//! Whoever carries it out makes this node the only voter of every group. Entries that the lost
//! majority had committed and this node never received are then gone for good, although clients
//! were told that they are durable.

use crate::home::{Home, HomeError, Identity};
use floeberg_types::TimestampMs;
use serde::{Deserialize, Serialize};

const FORMAT: u32 = 1;
const FILE: &str = "recover.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    cluster_id: String,
    node_id: u64,
    ordered_at_ms: i64,
}

/// This node goes on alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryOrder {
    /// Who goes on.
    pub identity: Identity,
    /// When it was ordered.
    pub ordered_at: TimestampMs,
}

/// Why there is no usable order.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The data directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The file is not one of ours.
    #[error(
        "`{FILE}` cannot be read; remove it, and order the recovery again if it is still wanted"
    )]
    Damaged,
    /// It was written for another node, for example copied along with a data directory.
    #[error("`{FILE}` is an order for another node; remove it")]
    Foreign,
}

impl RecoveryOrder {
    /// Writes the order durably; an earlier one is replaced.
    ///
    /// # Errors
    /// The directory belongs to nobody, or the disk refuses.
    pub fn write(home: &Home, now: TimestampMs) -> Result<Self, RecoveryError> {
        let order = Self {
            identity: home.occupant()?,
            ordered_at: now,
        };
        let stored = Stored {
            format: FORMAT,
            cluster_id: order.identity.cluster.to_string(),
            node_id: order.identity.node.0,
            ordered_at_ms: now.0,
        };
        let text = serde_json::to_vec_pretty(&stored).expect("four plain fields always serialise");
        home.write(FILE, &text)?;
        Ok(order)
    }

    /// The order that waits in a data directory.
    ///
    /// # Errors
    /// It is damaged or for another node: nothing may be guessed here.
    pub fn read(home: &Home) -> Result<Option<Self>, RecoveryError> {
        let Some(bytes) = home.read(&home.path(FILE))? else {
            return Ok(None);
        };
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|_| RecoveryError::Damaged)?;
        if stored.format != FORMAT {
            return Err(RecoveryError::Damaged);
        }
        let identity = home.occupant()?;
        let same =
            stored.cluster_id == identity.cluster.to_string() && stored.node_id == identity.node.0;
        if !same {
            return Err(RecoveryError::Foreign);
        }
        Ok(Some(Self {
            identity,
            ordered_at: TimestampMs(stored.ordered_at_ms),
        }))
    }

    /// Removes the order once it has been carried out, so that it is never carried out again.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn carried_out(home: &Home) -> Result<(), RecoveryError> {
        Ok(home.remove(FILE)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use floeberg_env::Env;
    use floeberg_types::{ClusterId, NodeId};
    use std::path::Path;

    #[test]
    fn an_order_is_for_one_node_and_carried_out_once() {
        let (env, _) = Env::simulated(1);
        let home = Home::new(Path::new("/data"), env.disk.clone());
        let now = TimestampMs(5);
        assert!(
            RecoveryOrder::write(&home, now).is_err(),
            "nobody lives here"
        );
        let cluster = ClusterId::from_bytes([1; 16]);
        let node = NodeId(2);
        home.take(Identity { cluster, node }).unwrap();
        assert_eq!(RecoveryOrder::read(&home).unwrap(), None);
        let order = RecoveryOrder::write(&home, now).unwrap();
        assert_eq!(RecoveryOrder::read(&home).unwrap(), Some(order));
        RecoveryOrder::carried_out(&home).unwrap();
        assert_eq!(RecoveryOrder::read(&home).unwrap(), None);
    }

    #[test]
    fn a_foreign_or_damaged_order_is_an_error() {
        let (env, _) = Env::simulated(1);
        let (one, other) = ("/one", "/other");
        let home = |dir: &str| Home::new(Path::new(dir), env.disk.clone());
        for (dir, node) in [(one, 1), (other, 2)] {
            let cluster = ClusterId::from_bytes([1; 16]);
            let node = NodeId(node);
            home(dir).take(Identity { cluster, node }).unwrap();
        }
        RecoveryOrder::write(&home(one), TimestampMs(5)).unwrap();
        let copied = home(one).read(&home(one).path(FILE)).unwrap().unwrap();
        home(other).write(FILE, &copied).unwrap();
        let foreign = RecoveryOrder::read(&home(other));
        assert!(
            matches!(foreign, Err(RecoveryError::Foreign)),
            "{foreign:?}"
        );
        home(other).write(FILE, b"{").unwrap();
        assert!(matches!(
            RecoveryOrder::read(&home(other)),
            Err(RecoveryError::Damaged)
        ));
    }
}
