//! Where a request comes from, as far as shares go.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The connection that a request came on. Listeners put it among the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// What shares its quota with others.
    pub network: Network,
    /// Number of the connection, unique in this process.
    pub connection: u64,
}

/// What one party usually has: an IPv4 address, or the upper half of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(IpAddr);

impl Network {
    /// The network of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Peer {
    /// A caller in this process, which came by no connection.
    pub const INSIDE: Self = Self {
        network: Network(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        connection: 0,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_party_is_one_network() {
        let of = |text: &str| Network::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
