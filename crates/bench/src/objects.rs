//! Uploads and downloads per second over S3.

use crate::commits::reason;
use crate::load::{Bound, Outcome, Pace, Worker, drive};
use crate::report::LoadReport;
use crate::{BenchError, at};
use bytes::Bytes;
use floeberg_client::{ClientError, Credentials, S3Client};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// One run: uploads, then downloads of what was uploaded.
#[derive(Clone, Debug)]
pub struct ObjectsConfig {
    /// Address of the S3 server.
    pub uri: String,
    /// Keys.
    pub credentials: Credentials,
    /// Region of the signature.
    pub region: String,
    /// Bytes per object.
    pub object_bytes: usize,
    /// Concurrent clients.
    pub clients: usize,
    /// When to end, for uploads and downloads each.
    pub bound: Bound,
}

/// What a run measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObjectsReport {
    /// Bytes per object.
    pub object_bytes: usize,
    /// Clients.
    pub clients: usize,
    /// `PutObject`.
    pub put: LoadReport,
    /// `GetObject`, whole objects.
    pub get: LoadReport,
    /// Uploaded MiB per second.
    pub put_mib_per_second: f64,
    /// Downloaded MiB per second.
    pub get_mib_per_second: f64,
}

impl fmt::Display for ObjectsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, clients) = (self.object_bytes, self.clients);
        writeln!(f, "objects of {bytes} bytes, {clients} clients")?;
        writeln!(f, "PUT {:.1} MiB/s\n{}", self.put_mib_per_second, self.put)?;
        write!(f, "GET {:.1} MiB/s\n{}", self.get_mib_per_second, self.get)
    }
}

/// What the clients of a run share.
struct Shared {
    client: S3Client,
    bucket: String,
    body: Bytes,
}

struct Uploader {
    shared: Arc<Shared>,
    number: usize,
    written: u64,
}

impl Worker for Uploader {
    async fn step(&mut self) -> Outcome {
        let key = format!("{}/{}", self.number, self.written);
        let Shared {
            client,
            bucket,
            body,
        } = &*self.shared;
        match client.put_object(bucket, &key, body.clone()).await {
            Ok(_) => {
                self.written += 1;
                Outcome::Done
            }
            Err(error) => Outcome::Failed(reason(&error)),
        }
    }
}

struct Downloader {
    shared: Arc<Shared>,
    keys: Arc<Vec<String>>,
    picks: StdRng,
}

impl Worker for Downloader {
    async fn step(&mut self) -> Outcome {
        let key = &self.keys[self.picks.random_range(0..self.keys.len())];
        let Shared {
            client,
            bucket,
            body,
        } = &*self.shared;
        match client.get_object(bucket, key).await {
            Ok(read) if read.len() == body.len() => Outcome::Done,
            Ok(read) => Outcome::Failed(format!("{} bytes instead of {}", read.len(), body.len())),
            Err(error) => Outcome::Failed(reason(&error)),
        }
    }
}

/// Makes a bucket, uploads, downloads, and removes the bucket.
///
/// # Errors
/// If the server cannot be reached or prepared; failures of measured calls are counted instead.
pub async fn run_objects(config: &ObjectsConfig) -> Result<ObjectsReport, BenchError> {
    if config.clients == 0 {
        return Err(BenchError::Zero {
            setting: "the number of clients",
        });
    }
    let client = S3Client::new(&config.uri, config.credentials.clone(), &config.region)
        .map_err(at("connect to the server"))?;
    let mut body = vec![0; config.object_bytes];
    let mut rng = StdRng::from_os_rng();
    rng.fill_bytes(&mut body);
    let shared = Arc::new(Shared {
        client,
        bucket: format!("bench-{:08x}", rng.random::<u32>()),
        body: body.into(),
    });
    let created = shared.client.create_bucket(&shared.bucket).await;
    created.map_err(at("create the bucket"))?;
    let measured = measure(config, &shared).await;
    let removed = remove(&shared).await.map_err(at("remove the bucket"));
    let report = measured?;
    removed?;
    Ok(report)
}

async fn measure(
    config: &ObjectsConfig,
    shared: &Arc<Shared>,
) -> Result<ObjectsReport, BenchError> {
    let uploaders = (0..config.clients).map(|number| Uploader {
        shared: shared.clone(),
        number,
        written: 0,
    });
    let put = drive(uploaders.collect(), Pace::Closed, config.bound).await?;
    let keys = Arc::new(keys(shared).await.map_err(at("list the objects"))?);
    if keys.is_empty() {
        return Err(BenchError::Zero {
            setting: "the number of uploaded objects",
        });
    }
    let downloaders = (0..config.clients).map(|_| Downloader {
        shared: shared.clone(),
        keys: keys.clone(),
        picks: StdRng::from_os_rng(),
    });
    let get = drive(downloaders.collect(), Pace::Closed, config.bound).await?;
    #[expect(clippy::cast_precision_loss, reason = "object sizes fit an f64")]
    let mib = config.object_bytes as f64 / f64::from(1 << 20);
    Ok(ObjectsReport {
        object_bytes: config.object_bytes,
        clients: config.clients,
        put_mib_per_second: put.per_second * mib,
        get_mib_per_second: get.per_second * mib,
        put,
        get,
    })
}

async fn keys(shared: &Shared) -> Result<Vec<String>, ClientError> {
    let mut keys = Vec::new();
    let mut after = None;
    loop {
        let (client, bucket) = (&shared.client, &shared.bucket);
        let page = client
            .list_objects(bucket, "", "", after.as_deref())
            .await?;
        keys.extend(page.objects.into_iter().map(|o| o.key));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(keys),
        }
    }
}

async fn remove(shared: &Shared) -> Result<(), ClientError> {
    for key in keys(shared).await? {
        shared.client.delete_object(&shared.bucket, &key).await?;
    }
    shared.client.delete_bucket(&shared.bucket).await
}
