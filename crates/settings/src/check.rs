//! Rules for addresses: what a host with a port is, and what an endpoint is.

use std::net::{IpAddr, SocketAddr};

/// Whether `host` can be a name or an address on its own.
fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').unwrap_or_default();
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.trim_end_matches('.').split('.').all(label)
}

/// Splits `host:port`; `None` unless both are usable.
pub(crate) fn host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    is_host(host).then_some((host, port))
}

/// Whether others can reach this `host:port`; `0.0.0.0` and `[::]` are for listening only.
pub(crate) fn is_reachable(text: &str) -> bool {
    let unspecified = text
        .parse::<SocketAddr>()
        .is_ok_and(|address| address.ip().is_unspecified());
    host_port(text).is_some() && !unspecified
}

/// Whether an address is one of this machine only, `[::ffff:127.0.0.1]` included.
pub(crate) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The one address a socket listens on, if it is not all of them.
pub(crate) fn named(address: SocketAddr) -> Option<SocketAddr> {
    let ip: IpAddr = address.ip();
    (!ip.is_unspecified()).then_some(address)
}

/// The scheme of `http[s]://host[:port]`, and the address without a slash at its end.
pub(crate) fn endpoint(text: &str) -> Option<(Scheme, String)> {
    let (scheme, rest) = if let Some(rest) = text.strip_prefix("https://") {
        (Scheme::Https, rest)
    } else {
        (Scheme::Http, text.strip_prefix("http://")?)
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let usable = is_host(authority) || host_port(authority).is_some();
    let known = if scheme == Scheme::Https {
        "https"
    } else {
        "http"
    };
    usable.then(|| (scheme, format!("{known}://{authority}")))
}

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The first part of a log filter that is neither a level nor `module=level`. A misspelt level would
/// be taken for a module of which every line is wanted.
pub(crate) fn log_filter(text: &str) -> Option<&str> {
    let is_level = |text: &str| LEVELS.contains(&text.to_ascii_lowercase().as_str());
    let fits = |part: &&str| match part.rsplit_once('=') {
        None => is_level(part),
        Some((module, level)) => !module.is_empty() && is_level(level),
    };
    text.split(',').map(str::trim).find(|part| !fits(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        for good in ["node1:7000", "10.0.0.1:1", "[::1]:65535", "a-b.c_d.e:80"] {
            assert!(host_port(good).is_some(), "{good}");
        }
        for bad in [
            "node1",
            "node1:",
            "node1:0",
            "node1:70000",
            "::1:80",
            "[::1:80",
            "a b:1",
            ":80",
            "-a:1",
            "a..b:1",
            "http://a:1",
        ] {
            assert!(host_port(bad).is_none(), "{bad}");
        }
        assert!(!is_reachable("0.0.0.0:7000"));
        assert!(!is_reachable("[::]:7000"));
        assert!(is_reachable("127.0.0.1:7000"));
    }

    #[test]
    fn endpoints() {
        let found = endpoint("https://lake.example/").unwrap();
        assert_eq!(found, (Scheme::Https, "https://lake.example".to_owned()));
        assert!(endpoint("http://[::1]:8181").is_some());
        for bad in [
            "lake.example",
            "ftp://a",
            "http://",
            "http://a/iceberg",
            "http://a:0",
            "http://a?b",
            "http://u@a",
        ] {
            assert!(endpoint(bad).is_none(), "{bad}");
        }
    }
}
