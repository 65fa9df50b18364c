//! A bucket with many small objects, and clients that walk it page by page.

use crate::commits::reason;
use crate::load::{Bound, Outcome, Pace, Worker, drive};
use crate::{BenchError, at};
use bytes::Bytes;
use floeberg_client::{Credentials, S3Client};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Objects made or deleted at the same time.
const PARALLEL: usize = 64;

/// A bucket that is walked beside the writers.
#[derive(Clone, Debug)]
pub struct WalkedObjects {
    /// Address of the S3 server.
    pub uri: String,
    /// Keys.
    pub credentials: Credentials,
    /// Region of the signatures.
    pub region: String,
    /// Objects in the bucket.
    pub count: u64,
    /// Clients that walk it, again and again.
    pub walkers: usize,
}

/// The bucket of a run.
pub(crate) struct Bucket {
    client: S3Client,
    name: String,
}

fn key(number: u64) -> String {
    format!("part-{:04}/{number:08}", number % 1000)
}

#[derive(Clone, Copy)]
enum Change {
    Put,
    Delete,
}

/// Puts or deletes the next of the objects.
struct Changer {
    bucket: Arc<Bucket>,
    change: Change,
    next: Arc<AtomicU64>,
}

impl Worker for Changer {
    async fn step(&mut self) -> Outcome {
        let key = key(self.next.fetch_add(1, Ordering::Relaxed));
        let Bucket { client, name } = &*self.bucket;
        let done = match self.change {
            Change::Put => {
                let body = Bytes::from_static(b"walked");
                client.put_object(name, &key, body).await.map(drop)
            }
            Change::Delete => client.delete_object(name, &key).await,
        };
        match done {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(reason(&error)),
        }
    }
}

impl Bucket {
    /// Makes a bucket of a fresh name with its objects.
    pub(crate) async fn create(config: &WalkedObjects) -> Result<Arc<Self>, BenchError> {
        let client = S3Client::new(&config.uri, config.credentials.clone(), &config.region)
            .map_err(at("connect to the S3 server"))?;
        let name = format!("bench-{:08x}", StdRng::from_os_rng().random::<u32>());
        let created = client.create_bucket(&name).await;
        created.map_err(at("create the bucket"))?;
        let bucket = Arc::new(Self { client, name });
        bucket.change(Change::Put, config.count).await?;
        Ok(bucket)
    }

    /// Deletes the objects and the bucket.
    pub(crate) async fn remove(self: Arc<Self>, count: u64) -> Result<(), BenchError> {
        self.change(Change::Delete, count).await?;
        let deleted = self.client.delete_bucket(&self.name).await;
        deleted.map_err(at("delete the bucket"))
    }

    async fn change(self: &Arc<Self>, change: Change, count: u64) -> Result<(), BenchError> {
        let next = Arc::new(AtomicU64::new(0));
        let changer = |_| Changer {
            bucket: self.clone(),
            change,
            next: next.clone(),
        };
        let changers = (0..PARALLEL).map(changer).collect();
        let report = drive(changers, Pace::Closed, Bound::Operations(count)).await?;
        match report.errors.into_iter().next() {
            None => Ok(()),
            Some((detail, _)) => Err(BenchError::Objects { detail }),
        }
    }
}

/// Asks for page after page, and begins again at the end.
pub(crate) struct Walker {
    bucket: Arc<Bucket>,
    after: Option<String>,
}

impl Walker {
    pub(crate) fn new(bucket: &Arc<Bucket>) -> Self {
        Self {
            bucket: bucket.clone(),
            after: None,
        }
    }
}

impl Worker for Walker {
    async fn step(&mut self) -> Outcome {
        let Bucket { client, name } = &*self.bucket;
        let after = self.after.take();
        match client.list_objects(name, "", "", after.as_deref()).await {
            Ok(page) if page.objects.is_empty() => Outcome::Failed("an empty page".to_owned()),
            Ok(page) => {
                self.after = page.next;
                Outcome::Done
            }
            Err(error) => Outcome::Failed(reason(&error)),
        }
    }
}
