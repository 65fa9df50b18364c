//! Another client, which does what clients do and wants to be answered meanwhile.

use super::attack::address;
use crate::process::Endpoints;
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use floeberg_client::{Credentials, S3Client, S3TablesClient};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An answer that takes longer is none.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two rounds of requests.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Victim {
    tables: S3TablesClient,
    s3: S3Client,
    lakehouse: SocketAddr,
    pub(super) requests: usize,
    pub(super) slowest: Duration,
}

const BUCKET: &str = "victim";

impl Victim {
    pub(super) async fn settle(endpoints: &Endpoints) -> anyhow::Result<Self> {
        let keys = Credentials {
            access_key: endpoints.access_key.clone(),
            secret_key: endpoints.secret_key.clone(),
            session_token: None,
        };
        let s3 = S3Client::new(&endpoints.s3_uri, keys.clone(), &endpoints.region)?;
        s3.create_bucket(BUCKET).await?;
        Ok(Self {
            tables: S3TablesClient::new(&endpoints.s3tables_uri, keys, &endpoints.region)?,
            s3,
            lakehouse: address(&endpoints.s3tables_uri)?,
            requests: 0,
            slowest: Duration::ZERO,
        })
    }

    /// One request of each kind.
    pub(super) async fn ask(&mut self) -> anyhow::Result<()> {
        let (s3, tables, lakehouse) = (self.s3.clone(), self.tables.clone(), self.lakehouse);
        let body = Bytes::from_static(b"what everybody stores");
        let put = async { Ok(s3.put_object(BUCKET, "k", body).await.map(|_| ())?) };
        self.timed("a PUT", put).await?;
        let list = async { Ok(tables.list_table_buckets().await.map(|_| ())?) };
        self.timed("a listing", list).await?;
        self.timed("a probe", healthy(lakehouse)).await
    }

    /// Asks again and again; returns only if there is no answer.
    pub(super) async fn keep_asking(&mut self) -> anyhow::Result<()> {
        loop {
            self.ask().await?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn timed(
        &mut self,
        what: &str,
        request: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        let answered = tokio::time::timeout(LIMIT, request).await;
        answered
            .with_context(|| format!("another client got no answer to {what}"))?
            .with_context(|| format!("another client was refused {what}"))?;
        self.requests += 1;
        self.slowest = self.slowest.max(began.elapsed());
        Ok(())
    }
}

/// Asks whether the node is healthy on a connection of its own, as balancers do.
async fn healthy(lakehouse: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(lakehouse).await?;
    let ask = b"GET /healthz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    stream.write_all(ask).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}
