//! The composition root: opens the stores, wires the services to each other and to the protocols,
//! and starts and stops them in the right order. The only crate that knows all others.

mod backup;
mod belongings;
mod comparison;
mod config;
mod data;
mod divergence;
mod error;
mod files;
mod give_way;
mod group_stores;
mod groups;
mod level;
mod listen;
mod marks;
mod membership;
mod metered;
mod network;
mod node;
mod ports;
mod probes;
mod recover;
mod refill;
mod removal;
mod restore;
mod room;
mod server;
mod services;
mod status_wire;
mod stores;
mod tending;
mod vigil;
mod volume_marks;

pub use config::{
    ClientLimits, ClusterPart, Elections, ListenConfig, MemberConfig, NodeConfig, PeerNetwork,
    PortCertificate,
};
pub use error::StartError;
pub use floeberg_auth::{RootKey, RootKeyError};
pub use floeberg_catalog::PieceSizes;
pub use listen::BindError;
pub use node::Node;
pub use restore::{RestoreError, Restored, restore};
pub use server::{Server, Sockets};
pub use stores::{FatalHook, MemoryStores, Stores};
pub use volume_marks::VolumeMarks;
