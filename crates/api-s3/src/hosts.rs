//! Virtual-hosted addresses: `bucket.domain` below a configured domain, path-style everywhere else.

use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

/// The configured domains, in lower case.
///
/// s3s's own parsers take an unknown host for a bucket name (a CNAME); here an unknown host is
/// path-style, because `localhost`, service names and addresses are how most clients reach a node.
pub(crate) struct Domains {
    domains: Vec<String>,
}

impl Domains {
    pub(crate) fn new(domains: &[String]) -> Self {
        Self {
            domains: domains
                .iter()
                .map(|domain| domain.to_ascii_lowercase())
                .collect(),
        }
    }

    fn bucket(&self, host: &str) -> Option<String> {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.to_ascii_lowercase();
        self.domains
            .iter()
            .find_map(|domain| name.strip_suffix(domain.as_str())?.strip_suffix('.'))
            .filter(|bucket| !bucket.is_empty())
            .map(str::to_owned)
    }
}

impl S3Host for Domains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let parsed = VirtualHost::new(host);
        Ok(match self.bucket(host) {
            Some(bucket) => parsed.with_bucket(bucket),
            None => parsed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_below_a_domain_are_buckets() {
        let domains = Domains::new(&["s3.lake.example".to_owned(), "Localhost".to_owned()]);
        let bucket = |host: &str| domains.bucket(host);
        assert_eq!(bucket("logs.s3.lake.example:9000").as_deref(), Some("logs"));
        assert_eq!(bucket("a.b.S3.lake.example").as_deref(), Some("a.b"));
        assert_eq!(bucket("demo.localhost").as_deref(), Some("demo"));
        for path_style in [
            "s3.lake.example",
            "localhost:9000",
            "127.0.0.1:9000",
            "node1",
            "",
        ] {
            assert_eq!(bucket(path_style), None, "{path_style}");
        }
        assert_eq!(bucket("xs3.lake.example"), None);
    }
}
