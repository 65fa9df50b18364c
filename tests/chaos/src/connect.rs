//! Clients of the nodes, all as root.

use anyhow::Context as _;
use floeberg_client::{
    Auth, ClientError, Credentials, Endpoint, IcebergAuth, IcebergClient, IcebergConfig, Request,
    S3Client, S3TablesClient, Scope,
};
use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// The table bucket of a run.
pub const LAKE: &str = "lake";
/// The bucket of plain objects.
pub const FILES: &str = "files";

/// Where a node serves, and as whom to ask.
#[derive(Clone, Debug)]
pub struct Address {
    /// Number of the node, from 1.
    pub node: u8,
    /// The port of the catalog, `http://host:port`.
    pub lakehouse: String,
    /// The port of S3.
    pub s3: String,
    /// Root access key.
    pub access_key: String,
    /// Root secret key.
    pub secret_key: String,
}

/// What a node says of itself.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeStatus {
    /// Its id in the cluster.
    pub node: u64,
    /// One entry per group.
    pub groups: Vec<GroupStatus>,
}

/// What a node says of a group.
#[derive(Clone, Debug, Deserialize)]
pub struct GroupStatus {
    /// 0 is the catalog.
    pub group: u64,
    /// `leader` or something else.
    pub role: String,
    /// The term it knows.
    pub term: u64,
}

/// What a node says of the cluster.
#[derive(Clone, Debug, Deserialize)]
pub struct ClusterStatus {
    /// One entry per group, as its leader says, or empty of nodes if it cannot be asked.
    pub groups: Vec<ClusterGroup>,
}

/// Who is in a group.
#[derive(Clone, Debug, Deserialize)]
pub struct ClusterGroup {
    /// Ids of those who vote.
    pub voters: Vec<u64>,
    /// Ids of those who do not yet.
    pub learners: Vec<u64>,
}

/// One connection pool per protocol; clones share them.
#[derive(Clone, Debug)]
pub struct Clients {
    /// The node.
    pub node: u8,
    /// The catalog of [`LAKE`].
    pub iceberg: IcebergClient,
    /// S3.
    pub s3: S3Client,
}

const REGION: &str = "us-east-1";

impl Address {
    fn credentials(&self) -> Credentials {
        Credentials {
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
            session_token: None,
        }
    }

    fn scope(service: &str) -> Scope {
        Scope {
            region: REGION.to_owned(),
            service: service.to_owned(),
        }
    }

    /// Whether the node says that it can commit.
    pub async fn is_ready(&self) -> bool {
        let probe = Endpoint::new(&self.lakehouse, Auth::None);
        let Ok(probe) = probe else { return false };
        let request = Request::new(Method::GET, "/readyz".into());
        let asked = tokio::time::timeout(Duration::from_secs(1), probe.send(&request));
        matches!(asked.await, Ok(Ok(_)))
    }

    /// What the node says of itself; not all nodes need to agree.
    ///
    /// # Errors
    /// If it does not answer within a second.
    pub async fn status(&self) -> anyhow::Result<NodeStatus> {
        self.admin("/admin/v1/status").await
    }

    /// What the node says of the cluster.
    ///
    /// # Errors
    /// If it does not answer within a second.
    pub async fn cluster(&self) -> anyhow::Result<ClusterStatus> {
        self.admin("/admin/v1/cluster").await
    }

    async fn admin<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let auth = Auth::sigv4(self.credentials(), Self::scope("s3tables"));
        let endpoint = Endpoint::new(&self.lakehouse, auth)?;
        let request = Request::new(Method::GET, path.to_owned());
        let asked = tokio::time::timeout(Duration::from_secs(1), endpoint.send(&request));
        let reply = asked.await.context("no answer within a second")??;
        Ok(serde_json::from_slice(&reply.body)?)
    }

    /// Makes the buckets of a run.
    ///
    /// # Errors
    /// As any call.
    pub async fn create_buckets(&self) -> Result<(), ClientError> {
        let tables = S3TablesClient::new(&self.lakehouse, self.credentials(), REGION)?;
        tables.create_table_bucket(LAKE).await?;
        S3Client::new(&self.s3, self.credentials(), REGION)?
            .create_bucket(FILES)
            .await
    }

    /// Connects; the buckets must exist.
    ///
    /// # Errors
    /// As any call.
    pub async fn connect(&self) -> Result<Clients, ClientError> {
        let config = IcebergConfig {
            uri: format!("{}/iceberg", self.lakehouse),
            warehouse: Some(LAKE.to_owned()),
            auth: IcebergAuth::SigV4(self.credentials(), Self::scope("s3tables")),
        };
        Ok(Clients {
            node: self.node,
            iceberg: IcebergClient::connect(&config).await?,
            s3: S3Client::new(&self.s3, self.credentials(), REGION)?,
        })
    }
}
