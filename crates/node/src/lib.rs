//! The composition root: opens the stores, wires the services to each other and to the protocols,
//! and starts and stops them in the right order. The only crate that knows all others.

mod config;
mod error;
mod files;
mod identity;
mod listen;
mod node;
mod ports;
mod room;
mod server;
mod stores;

pub use config::{ClientLimits, ListenConfig, NodeConfig};
pub use error::StartError;
pub use floeberg_auth::{RootKey, RootKeyError};
pub use identity::{Identity, IdentityError};
pub use listen::BindError;
pub use node::Node;
pub use server::{Server, Sockets};
pub use stores::{MemoryStores, Stores};
