//! Node-to-node calls: what may be called, how a call can fail, and the two transports.
//!
//! A call is a method, a group and a body whose message belongs to the crate that serves the
//! method. Each peer is reached over one persistent stream per [`Lane`], so that a vote never waits
//! behind a file. Whoever fails to get an answer learns whether the peer can have seen the call.
//!
//! [`NetTransport`] and [`Server`] are the real thing, [`memory::MemNetwork`] is the twin of the
//! simulator, and [`testing::transport_suite`] is what both must pass.

mod call;
mod callee;
mod codec;
mod dial;
mod door;
mod driver;
mod exchange;
mod line;
mod link;
pub mod memory;
mod peers;
mod routes;
mod server;
mod station;
#[cfg(test)]
mod stranger_tests;
pub mod testing;
mod transport;
mod wire;

pub use call::{CallError, Handler, Lane, Method, Refusal, RefusalCode, Request, Transport};
pub use door::{Doorway, knock};
pub use peers::Peers;
pub use routes::{Routes, STRANGER};
pub use server::{ServeError, Server};
pub use station::{Asking, Features, LocalNode, Security, Settings, Station};
pub use transport::NetTransport;
pub use wire::MAX_BODY;
