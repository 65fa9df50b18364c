//! A bounded cache of signing keys: four HMACs saved per request.

use crate::SecretKey;
use parking_lot::Mutex;
use s3s_sigv4::{AmzDate, CredentialV4};
use std::collections::HashMap;

/// Keys kept; far above what one cluster's clients use in a day.
const CAPACITY: usize = 1024;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Scope {
    access_key: String,
    date: String,
    region: String,
    service: String,
}

/// Signing keys by access key id, day, region and service.
#[derive(Default)]
pub(crate) struct SigningKeys {
    /// With the secret each key was derived from: an id whose secret is another must not hit.
    known: Mutex<HashMap<Scope, (SecretKey, [u8; 32])>>,
}

impl SigningKeys {
    /// The key for a scope, found or derived.
    pub(crate) fn get(
        &self,
        scope: &CredentialV4<'_>,
        secret: &SecretKey,
        date: &AmzDate,
    ) -> [u8; 32] {
        if let Some((from, signing)) = self.known.lock().get(&Scope::of(scope))
            && from == secret
        {
            return *signing;
        }
        s3s_sigv4::derive_signing_key(secret.expose(), date, scope.aws_region, scope.aws_service)
    }

    /// Keeps a key that a valid signature was made with. Whoever has no secret puts nothing in here,
    /// and drives nothing out.
    pub(crate) fn keep(&self, scope: &CredentialV4<'_>, secret: &SecretKey, signing: [u8; 32]) {
        let mut known = self.known.lock();
        let scope = Scope::of(scope);
        if known.len() >= CAPACITY && !known.contains_key(&scope) {
            known.clear();
        }
        known.insert(scope, (secret.clone(), signing));
    }
}

impl Scope {
    fn of(scope: &CredentialV4<'_>) -> Self {
        Self {
            access_key: scope.access_key_id.to_owned(),
            date: scope.date.to_owned(),
            region: scope.aws_region.to_owned(),
            service: scope.aws_service.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(keys: &SigningKeys, id: &str, secret: &str, day: u32) -> [u8; 32] {
        let date = format!("202611{day:02}");
        let scope = format!("{id}/{date}/us-east-1/s3tables/aws4_request");
        let time = AmzDate::parse(&format!("{date}T000000Z")).unwrap();
        let (scope, secret) = (CredentialV4::parse(&scope).unwrap(), SecretKey::new(secret));
        let found = keys.get(&scope, &secret, &time);
        keys.keep(&scope, &secret, found);
        found
    }

    #[test]
    fn cached_keys_equal_derived_ones_and_the_cache_stays_bounded() {
        let keys = SigningKeys::default();
        let first = key(&keys, "a", "s", 20);
        assert_eq!(key(&keys, "a", "s", 20), first);
        assert_ne!(key(&keys, "a", "s", 21), first);
        assert_ne!(key(&keys, "a", "other", 20), first);
        for i in 0..2 * CAPACITY {
            key(&keys, &i.to_string(), "s", 20);
            assert!(keys.known.lock().len() <= CAPACITY);
        }
        assert_eq!(key(&keys, "a", "s", 20), first);
    }
}
