//! Which running node a subcommand talks to, and with whose keys.

use crate::keys::{ACCESS_KEY, SECRET_KEY};
use anyhow::bail;
use clap::Args;
use floeberg_client::{
    Auth, ClientError, Credentials, Endpoint, IcebergAuth, IcebergClient, IcebergConfig,
    S3TablesClient, Scope, Trust,
};
use std::path::PathBuf;
use std::time::Duration;

const TLS_ADVICE: &str = "the node did not prove that it is the one of the address: name the PEM file of its \
     authority with `--ca`, use a name that its certificate has, or begin the address with http:// \
     if it serves without TLS";

/// Flags shared by every subcommand that talks to a node.
#[derive(Args, Clone)]
pub struct Target {
    /// Address of the lakehouse port
    #[arg(
        long,
        env = "FLOEBERG_ENDPOINT",
        default_value = "http://127.0.0.1:8181"
    )]
    endpoint: String,
    /// Authorities that may certify an https:// endpoint, PEM; those of the system without it
    #[arg(long, value_name = "FILE", env = "FLOEBERG_CA")]
    ca: Option<PathBuf>,
    /// Region the node was started with
    #[arg(long, env = "FLOEBERG_REGION", default_value = "us-east-1")]
    region: String,
    /// Account the node was started with
    #[arg(long, env = "FLOEBERG_ACCOUNT", default_value = "000000000000")]
    account: String,
    /// Print JSON for scripts instead of a table
    #[arg(long)]
    pub json: bool,
}

/// The keys in the environment.
pub fn credentials() -> anyhow::Result<Credentials> {
    match (std::env::var(ACCESS_KEY), std::env::var(SECRET_KEY)) {
        (Ok(access_key), Ok(secret_key)) => Ok(Credentials {
            access_key,
            secret_key,
            session_token: None,
        }),
        _ => bail!(
            "set {ACCESS_KEY} and {SECRET_KEY} to the root keys of the node (`floeberg dev` prints \
             them)"
        ),
    }
}

/// How to log in to the catalog under measurement.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Login {
    /// Keys in FLOEBERG_ROOT_ACCESS_KEY and FLOEBERG_ROOT_SECRET_KEY sign each request
    Sigv4,
    /// The same keys are exchanged for a token once
    Oauth,
    /// The token in --token
    Token,
    /// Not at all
    None,
}

/// Any Iceberg REST catalog, Floeberg's or another's.
#[derive(Args, Clone)]
pub struct CatalogTarget {
    /// Base address of the catalog; `/v1/...` is appended. SSL_CERT_FILE names a private authority
    #[arg(long, default_value = "http://127.0.0.1:8181/iceberg")]
    uri: String,
    /// Warehouse; for Floeberg a table bucket, which must exist
    #[arg(long)]
    warehouse: Option<String>,
    /// How to log in
    #[arg(long, value_enum, default_value_t = Login::Oauth)]
    login: Login,
    /// A fixed bearer token
    #[arg(long, required_if_eq("login", "token"))]
    token: Option<String>,
    /// Scope of the token that is asked for
    #[arg(long, default_value = "catalog")]
    scope: String,
    /// Region of the signatures
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// Service name of the signatures
    #[arg(long, default_value = "s3tables")]
    signing_name: String,
}

impl CatalogTarget {
    /// The connection settings.
    pub fn config(&self) -> anyhow::Result<IcebergConfig> {
        let auth = match self.login {
            Login::None => IcebergAuth::None,
            Login::Token => IcebergAuth::Bearer(self.token.clone().unwrap_or_default()),
            Login::Oauth => {
                let keys = credentials()?;
                IcebergAuth::OAuth {
                    client_id: keys.access_key,
                    client_secret: keys.secret_key,
                    scope: self.scope.clone(),
                    token_uri: None,
                }
            }
            Login::Sigv4 => IcebergAuth::SigV4(
                credentials()?,
                Scope {
                    region: self.region.clone(),
                    service: self.signing_name.clone(),
                },
            ),
        };
        Ok(IcebergConfig {
            uri: self.uri.clone(),
            warehouse: self.warehouse.clone(),
            auth,
        })
    }
}

impl Target {
    /// A client of the S3 Tables API.
    pub fn s3tables(&self) -> anyhow::Result<S3TablesClient> {
        let keys = credentials()?;
        let client = S3TablesClient::trusting(&self.endpoint, keys, &self.region, &self.trust());
        client.map_err(|error| self.explain(error))
    }

    /// A client of the Iceberg REST catalog of one bucket.
    pub async fn iceberg(&self, bucket: &str) -> anyhow::Result<IcebergClient> {
        let scope = Scope {
            region: self.region.clone(),
            service: "s3tables".to_owned(),
        };
        let config = IcebergConfig {
            uri: format!("{}/iceberg", self.endpoint),
            warehouse: Some(bucket.to_owned()),
            auth: IcebergAuth::SigV4(credentials()?, scope),
        };
        IcebergClient::connect_trusting(&config, &self.trust())
            .await
            .map_err(|error| self.explain(error))
    }

    /// The node's admin routes.
    pub fn admin(&self) -> anyhow::Result<Endpoint> {
        let scope = Scope {
            region: self.region.clone(),
            service: "s3tables".to_owned(),
        };
        let auth = Auth::sigv4(credentials()?, scope);
        let endpoint = Endpoint::trusting(&self.endpoint, auth, &self.trust());
        endpoint.map_err(|error| self.explain(error))
    }

    fn trust(&self) -> Trust {
        self.ca.clone().map_or(Trust::System, Trust::File)
    }

    /// The ARN of a bucket given by name or ARN.
    pub fn arn(&self, bucket: &str) -> String {
        if bucket.contains(':') {
            return bucket.to_owned();
        }
        format!(
            "arn:aws:s3tables:{}:{}:bucket/{bucket}",
            self.region, self.account
        )
    }

    /// What is said of a node that takes a connection and no more.
    pub fn silent(&self, patience: Duration) -> String {
        format!(
            "{} takes connections and does not answer within {} s: its process may be stopped or overloaded; ask \
             another node with `--endpoint`. Whether a change was made is not known: `floeberg cluster status` shows it",
            self.endpoint,
            patience.as_secs()
        )
    }

    /// Adds what the person at the keyboard can do about an error.
    pub fn explain(&self, error: ClientError) -> anyhow::Error {
        let advice = match &error {
            ClientError::Service(service) if matches!(service.status.as_u16(), 401 | 403) => {
                Some(format!(
                    "the node refused the keys in {ACCESS_KEY} and {SECRET_KEY}: compare them with \
                     the root keys it was started with, --region with its region, and the clocks of both machines"
                ))
            }
            ClientError::Service(_) | ClientError::Address { .. } => None,
            ClientError::Tls { .. } => Some(TLS_ADVICE.to_owned()),
            ClientError::Trust { .. } => Some(
                "name a PEM file with the authority of the node's certificate in `--ca` or \
                 FLOEBERG_CA"
                    .to_owned(),
            ),
            _ => Some(format!(
                "is a node running at {}? Start one with `floeberg dev` or `floeberg server`, or \
                 name another with `--endpoint` (beginning with https:// if it serves TLS)",
                self.endpoint
            )),
        };
        match advice {
            Some(advice) => anyhow::Error::new(error).context(advice),
            None => error.into(),
        }
    }
}
