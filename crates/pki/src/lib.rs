//! The certificates of a cluster: its authority, the identities of its nodes, and how nodes join.
//!
//! A node is known by a URI in its certificate (`floeberg://<cluster>/node/<id>`), never by its
//! address. Every identity and every list of trusted authorities can be replaced while connections
//! are served. Key material is drawn by `ring`; all else that is random, and the clock, comes
//! through `env`.

mod authority;
mod certificate;
mod credentials;
mod error;
mod files;
mod identity;
mod join;
mod node_tls;
mod port_tls;
mod request;
mod token;
mod trust;

pub use authority::{AUTHORITY_LIFETIME, Authority, NODE_LIFETIME};
pub use credentials::{Credentials, NodeKey};
pub use error::PkiError;
pub use identity::{Subject, peer_identity};
pub use join::join_config;
pub use node_tls::NodeTls;
pub use port_tls::{PortTls, Reload};
pub use token::{JoinKey, JoinToken, TokenError};
pub use trust::{Fingerprint, TrustBundle};
