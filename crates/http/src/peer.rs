//! Where a request comes from, as its listener says.

use floeberg_env::Peer;
use http::Extensions;

/// The connection that the request with these extensions came on: listeners put it there.
#[must_use]
pub fn peer_of(extensions: &Extensions) -> Peer {
    extensions.get().copied().unwrap_or(Peer::INSIDE)
}
