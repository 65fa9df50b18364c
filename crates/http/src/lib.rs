//! The shell around every protocol of the catalog port.
//!
//! A protocol is an [`Api`]: it says which operation a method and path name, answers it, and words
//! what the shell refuses. The shell does the rest, in this order: request id, path check, routing,
//! authentication as far as the head of the request tells, body limits, the rest of the
//! authentication, the answer, metrics and the access log. A path is split before it is
//! decoded, so an ARN with its slash stays one segment, and it is checked before a signature is,
//! because signers normalise what routers do not.

mod access;
mod api;
mod body;
mod credentials;
mod door;
mod guesses;
pub mod limits;
mod moving;
mod path;
mod peer;
mod query;
mod refusal;
mod reply;
mod room;
mod shell;

pub use access::{Access, ErrorCode, request_span};
pub use api::{Answer, Api, BodySize, Call, NotRouted, Route, Routed};
pub use door::Door;
pub use floeberg_env::{ByteBudget, Exhausted, Held, Network, Peer, SHARE_PATIENCE, Shares};
pub use guesses::Guesses;
pub use moving::{BodyEnd, BodyWatch, Moving, Pace, Stalled};
pub use path::{PathError, Segments};
pub use peer::peer_of;
pub use query::{Query, QueryError};
pub use refusal::{Refusal, RefusalNames};
pub use reply::{
    JSON, empty, json, json_bytes, json_pieces, with_code, with_header, with_retry_after,
};
pub use room::{NoRoom, Room};
pub use shell::{Limits, Shell, router};
