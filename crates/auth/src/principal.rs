//! Principals: the identities that requests act as.

use floeberg_types::{AccountId, BucketName, TimestampMs};
use std::sync::Arc;

/// Who a verified request acts as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The access key id that was presented; goes into commands and the audit log.
    pub id: Arc<str>,
    /// The account the principal belongs to.
    pub account: AccountId,
    /// What kind of identity it is.
    pub kind: PrincipalKind,
}

/// The kinds of identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrincipalKind {
    /// The holder of the root key pair: may do everything.
    Root,
    /// The holder of temporary credentials that a table load handed out.
    Vended(Arc<Scope>),
}

/// What temporary credentials are good for: the objects below one prefix, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The bucket the objects are in.
    pub bucket: BucketName,
    /// The key prefix without a trailing slash: the prefix itself and keys below `prefix/`.
    pub prefix: String,
    /// Reading only, or writing as well.
    pub access: ScopeAccess,
    /// The first moment at which the credentials are void.
    pub expires: TimestampMs,
}

/// How far temporary credentials reach inside their prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeAccess {
    /// Get, head and list.
    Read,
    /// Also put, delete and multipart uploads.
    ReadWrite,
}

impl Scope {
    /// Whether `key` lies inside the prefix. A sibling that merely shares leading characters does
    /// not: `lake/orders` covers `lake/orders/a` but not `lake/orders-old/a`.
    #[must_use]
    pub fn covers_key(&self, key: &str) -> bool {
        match key.strip_prefix(self.prefix.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with('/') || self.prefix.ends_with('/'),
            None => false,
        }
    }

    /// Whether every key that begins with `list_prefix` lies inside the scope's prefix. The prefix
    /// itself without its slash is not such a one: `lake/orders` begins `lake/orders-old` too.
    #[must_use]
    pub fn covers_listing(&self, list_prefix: &str) -> bool {
        let rest = list_prefix.strip_prefix(self.prefix.as_str());
        rest.is_some_and(|rest| rest.starts_with('/') || self.prefix.ends_with('/'))
    }
}

impl Principal {
    /// The prefix to list by for a client that asks for `asked` of a bucket. Clients list a table's
    /// location as they were given it, without a slash at its end (Iceberg's `listPrefix`); with
    /// credentials for that location alone, they mean what is below it.
    #[must_use]
    pub fn listing_prefix(&self, bucket: &BucketName, asked: &str) -> String {
        match &self.kind {
            PrincipalKind::Vended(scope)
                if scope.bucket == *bucket && scope.prefix == asked && !asked.is_empty() =>
            {
                format!("{asked}/")
            }
            PrincipalKind::Vended(_) | PrincipalKind::Root => asked.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_itself_and_what_lies_below_it() {
        let scope = Scope {
            bucket: BucketName::for_tables("lake").unwrap(),
            prefix: "ns/orders-0123".to_owned(),
            access: ScopeAccess::Read,
            expires: TimestampMs(0),
        };
        assert!(scope.covers_key("ns/orders-0123"));
        assert!(scope.covers_key("ns/orders-0123/data/a.parquet"));
        assert!(!scope.covers_key("ns/orders-01234/data/a.parquet"));
        assert!(!scope.covers_key("ns/orders"));
        assert!(!scope.covers_key("other"));
        assert!(!scope.covers_listing(""));
        assert!(!scope.covers_listing("ns/"));
        assert!(scope.covers_listing("ns/orders-0123/"));
        assert!(scope.covers_listing("ns/orders-0123/data"));
        assert!(!scope.covers_listing("ns/orders-0123"));
        assert!(!scope.covers_listing("ns/orders-01234"));
    }

    #[test]
    fn a_location_without_a_slash_means_what_is_below_it() {
        let lake = BucketName::for_tables("lake").unwrap();
        let mut who = Principal {
            id: "someone".into(),
            account: "000000000000".parse().unwrap(),
            kind: PrincipalKind::Root,
        };
        assert_eq!(who.listing_prefix(&lake, "ns/t-1"), "ns/t-1");
        let scope = Scope {
            bucket: lake.clone(),
            prefix: "ns/t-1".to_owned(),
            access: ScopeAccess::Read,
            expires: TimestampMs(0),
        };
        who.kind = PrincipalKind::Vended(Arc::new(scope));
        assert_eq!(who.listing_prefix(&lake, "ns/t-1"), "ns/t-1/");
        assert_eq!(who.listing_prefix(&lake, "ns/t-10"), "ns/t-10");
        assert_eq!(who.listing_prefix(&lake, "ns/t"), "ns/t");
        let other = BucketName::for_tables("other").unwrap();
        assert_eq!(who.listing_prefix(&other, "ns/t-1"), "ns/t-1");
    }
}
