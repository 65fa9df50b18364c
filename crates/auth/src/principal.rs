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

    /// Whether every key that begins with `list_prefix` lies inside the scope's prefix. Clients
    /// also list the prefix itself without its slash, which shows nothing but this table as long as
    /// locations end in a unique id, so that form is covered too.
    #[must_use]
    pub fn covers_listing(&self, list_prefix: &str) -> bool {
        self.covers_key(list_prefix)
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
    }
}
