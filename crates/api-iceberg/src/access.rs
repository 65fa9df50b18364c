//! What a client needs to reach a table's files: settings, and temporary credentials if it asks.

use crate::failure::Failure;
use crate::target::encode_segment;
use crate::{IcebergState, Settings};
use floeberg_auth::{
    Principal, Resource, Scope, ScopeAccess, VENDED_LIFETIME_MAX_MS, VendedCredentials, action,
};
use floeberg_http::Call;
use floeberg_types::{BucketName, NAMESPACE_SEPARATOR, TableIdent};
use serde::Serialize;
use std::collections::BTreeMap;

/// Settings of a client's file access, as string properties.
pub(crate) type ClientConfig = BTreeMap<&'static str, String>;

/// Credentials for the locations below a prefix.
#[derive(Serialize)]
pub(crate) struct StorageCredential {
    pub prefix: String,
    pub config: ClientConfig,
}

/// How the files of one table are reached.
pub(crate) struct Access {
    pub config: ClientConfig,
    pub credentials: Vec<StorageCredential>,
}

/// Whether the client asked for temporary credentials.
pub(crate) fn delegation_asked(call: &Call) -> bool {
    call.headers
        .get_all("x-iceberg-access-delegation")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|way| way.trim().eq_ignore_ascii_case("vended-credentials"))
}

/// Settings that hold for every table: where S3 is.
pub(crate) fn storage_config(settings: &Settings) -> ClientConfig {
    let region = settings.region.to_string();
    BTreeMap::from([
        ("s3.endpoint", settings.s3_endpoint.clone()),
        ("s3.path-style-access", "true".to_owned()),
        ("s3.region", region.clone()),
        ("client.region", region),
    ])
}

/// A table and where it is, for vending.
pub(crate) struct TableSite<'a> {
    pub bucket: &'a BucketName,
    pub ident: &'a TableIdent,
    /// `s3://bucket/path`.
    pub location: &'a str,
}

impl IcebergState {
    /// The settings for a table, with credentials if the client asked for them and may have them.
    pub(crate) fn access(
        &self,
        call: &Call,
        principal: &Principal,
        site: &TableSite<'_>,
    ) -> Result<Access, Failure> {
        let mut config = storage_config(&self.settings);
        let mut credentials = Vec::new();
        if delegation_asked(call) {
            let credential = self.credential(call, principal, site)?;
            // Older clients look for credentials among the table's settings only.
            config.extend(credential.config.clone());
            credentials.push(credential);
        }
        Ok(Access {
            config,
            credentials,
        })
    }

    /// Temporary credentials for a table's files.
    pub(crate) fn credential(
        &self,
        call: &Call,
        principal: &Principal,
        site: &TableSite<'_>,
    ) -> Result<StorageCredential, Failure> {
        let namespace = site.ident.namespace.to_string();
        let table = Resource::Table {
            bucket: site.bucket,
            namespace: &namespace,
            table: site.ident.name.as_str(),
        };
        self.authorizer
            .authorize::<action::GetTableCredentials>(principal, table)?;
        let scope = Scope {
            bucket: site.bucket.clone(),
            prefix: key_of(site.location).to_owned(),
            access: ScopeAccess::ReadWrite,
            expires: call.arrived.plus_ms(VENDED_LIFETIME_MAX_MS),
        };
        let vended = self.keys.vend(scope, call.arrived);
        Ok(StorageCredential {
            prefix: site.location.to_owned(),
            config: self.vended_config(&vended, site),
        })
    }

    fn vended_config(&self, vended: &VendedCredentials, site: &TableSite<'_>) -> ClientConfig {
        let prefix =
            crate::target::prefix_of(&self.settings.region, &self.settings.account, site.bucket);
        let levels = site
            .ident
            .namespace
            .levels()
            .join(&NAMESPACE_SEPARATOR.to_string());
        let refresh = format!(
            "v1/{prefix}/namespaces/{}/tables/{}/credentials",
            encode_segment(&levels),
            encode_segment(site.ident.name.as_str()),
        );
        let mut config = storage_config(&self.settings);
        config.extend([
            ("s3.access-key-id", vended.access_key.clone()),
            ("s3.secret-access-key", vended.secret.expose().to_owned()),
            ("s3.session-token", vended.session_token.clone()),
            (
                "s3.session-token-expires-at-ms",
                vended.expires.0.to_string(),
            ),
            ("client.refresh-credentials-endpoint", refresh),
        ]);
        config
    }
}

/// The key prefix of a location; a location without a path covers nothing but itself.
fn key_of(location: &str) -> &str {
    let rest = location
        .split_once("://")
        .map_or(location, |(_, rest)| rest);
    rest.split_once('/')
        .map_or("", |(_, key)| key)
        .trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_prefix_of_a_location_has_no_slash_around_it() {
        assert_eq!(key_of("s3://lake/ns/t-1"), "ns/t-1");
        assert_eq!(key_of("s3a://lake/ns/t-1/"), "ns/t-1");
        assert_eq!(key_of("s3://lake"), "");
    }
}
