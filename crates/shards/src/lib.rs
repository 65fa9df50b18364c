//! Chunks replicated over the volumes of several nodes.
//!
//! [`Shards`] is used like a volume: a [`ChunkWriter`] sends a chunk to every node that placement
//! names and is done when as many copies are durable as the profile asks for; the [`ChunkRef`] says
//! which copies are still owed. Reads prefer the local copy, hedge against a slow node and pass over
//! damaged or absent copies, which are noted for [`Shards::repair`]. [`ShardServer`] answers the
//! other nodes. With one node everything goes straight to the local volume.
//! Messages: `docs/formats/shards.md`.

mod config;
mod copies;
mod copy;
mod delete;
mod error;
mod health;
mod holdings;
mod local;
mod pace;
mod reader;
mod remote;
mod repair;
mod room;
mod server;
mod staging;
mod stat;
mod store;
mod wire;
mod writer;

pub use config::ShardsConfig;
pub use delete::Deleted;
pub use error::{CopyError, DeleteError, ReadError, RepairError, StatError, WriteError};
pub use holdings::Holdings;
pub use reader::ShardStream;
pub use repair::{Depth, MissingPage, RepairReport};
pub use room::FullNodes;
pub use server::{ServerParts, ShardServer};
pub use stat::{CopyState, Listed};
pub use store::{BadCopy, Flaw, Shards, ShardsParts};
pub use writer::{ChunkRef, ChunkWriter};
