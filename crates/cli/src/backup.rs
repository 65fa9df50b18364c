//! `floeberg backup …`: copies a running cluster, checks the copy, puts it into a new cluster.

use crate::config::{Overrides, load};
use crate::output::{print_done, print_json};
use crate::target::Target;
use crate::{keys, server};
use anyhow::{Context as _, bail};
use async_trait::async_trait;
use bytes::Bytes;
use clap::{Args, Subcommand};
use floeberg_backup::{
    Backup, Begun, CreateError, DirStore, MANIFEST, S3Store, Source, SourceError, Store, patiently,
    verify,
};
use floeberg_client::{Credentials, Endpoint, Request};
use floeberg_env::Env;
use floeberg_node::{ClientLimits, ClusterPart, NodeConfig, restore};
use floeberg_types::{AccountId, ChunkId, GroupId, Region};
use http::Method;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Subcommand)]
pub enum BackupCommand {
    /// Copy a running cluster: its catalog, its objects and all their bytes
    Create {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        target: Target,
    },
    /// Compare every file of a backup with its checksum; needs no cluster
    Verify {
        #[command(flatten)]
        place: Place,
        /// Print JSON for scripts
        #[arg(long)]
        json: bool,
    },
    /// Put a backup into a new cluster, before its first node was ever started
    Restore(RestoreArguments),
}

/// Where a backup is kept: a place for one, not for several.
#[derive(Args)]
pub struct Place {
    /// A directory, or `s3://bucket/prefix` (keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)
    #[arg(long, value_name = "PLACE")]
    at: String,
    /// Address of the S3 service
    #[arg(long, env = "AWS_ENDPOINT_URL_S3")]
    s3_endpoint: Option<String>,
    /// Region of the S3 service
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    s3_region: String,
}

#[derive(Args)]
pub struct RestoreArguments {
    #[command(flatten)]
    place: Place,
    /// The configuration file of a node made by `cluster init`
    #[arg(long, value_name = "FILE", env = "FLOEBERG_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    /// Instead: the empty data directory of a single node (`floeberg dev`)
    #[arg(long, conflicts_with_all = ["config", "overrides"])]
    data_dir: Option<PathBuf>,
    /// Region of the single node
    #[arg(long, default_value = "us-east-1", conflicts_with = "config")]
    region: Region,
    /// Account of the single node
    #[arg(long, default_value = "000000000000", conflicts_with = "config")]
    account: AccountId,
    /// Size of a volume segment of the single node, in bytes
    #[arg(long, hide = true, default_value_t = 1 << 30)]
    segment_bytes: u64,
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

impl Place {
    fn open(&self) -> anyhow::Result<Arc<dyn Store>> {
        let Some(rest) = self.at.strip_prefix("s3://") else {
            return Ok(Arc::new(DirStore::new(Path::new(&self.at))));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let endpoint = self.s3_endpoint.as_deref();
        let endpoint = endpoint.context("name the S3 service with --s3-endpoint")?;
        let key = |name: &str| {
            let set = || format!("set {name} to a key of the S3 service");
            std::env::var(name).ok().with_context(set)
        };
        let credentials = Credentials {
            access_key: key("AWS_ACCESS_KEY_ID")?,
            secret_key: key("AWS_SECRET_ACCESS_KEY")?,
            session_token: key("AWS_SESSION_TOKEN").ok(),
        };
        let store = S3Store::new(endpoint, credentials, &self.s3_region, bucket, prefix)?;
        Ok(Arc::new(store))
    }

    async fn backup(&self) -> anyhow::Result<Backup> {
        let opened = Backup::open(self.open()?).await;
        opened.with_context(|| format!("cannot use {}", self.at))
    }
}

/// A running node, over its admin routes.
struct Remote(Endpoint);

impl Remote {
    async fn get(&self, path: String) -> Result<Bytes, SourceError> {
        let request = Request::new(Method::GET, path);
        let reply = patiently(|| self.0.send(&request)).await?;
        Ok(reply.body)
    }
}

#[async_trait]
impl Source for Remote {
    async fn begin(&self) -> Result<Begun, SourceError> {
        let request = Request::new(Method::POST, "/admin/v1/backup".to_owned());
        let reply = self.0.send(&request).await?;
        let begun = serde_json::from_slice(&reply.body);
        begun.map_err(|error| SourceError::Failed(format!("the node's answer: {error}")))
    }

    async fn page(&self, backup: &str, group: GroupId, number: u64) -> Result<Bytes, SourceError> {
        let path = format!("/admin/v1/backup/pages/{backup}/{group}/{number}");
        self.get(path).await
    }

    async fn chunk(&self, chunk: ChunkId, len: u64) -> Result<Bytes, SourceError> {
        let id = hex::encode(chunk.as_bytes());
        self.get(format!("/admin/v1/backup/chunks/{id}/{len}"))
            .await
    }
}

pub async fn run(command: BackupCommand) -> anyhow::Result<()> {
    match command {
        BackupCommand::Create { place, target } => create(&place, &target).await,
        BackupCommand::Verify { place, json } => check(&place, json).await,
        BackupCommand::Restore(arguments) => put_back(arguments).await,
    }
}

/// What a directory holds that is not of a backup: a typing error must not mix a backup with something else.
/// What an attempt that failed has left is fine.
fn foreign(dir: &Path) -> anyhow::Result<Option<String>> {
    const OF_BACKUPS: [&str; 5] = ["rows", "chunks", "files.list", "files.new", "backup.new"];
    if !dir.exists() {
        return Ok(None);
    }
    let unreadable = || format!("cannot look into {}", dir.display());
    for entry in std::fs::read_dir(dir).with_context(unreadable)? {
        let name = entry.with_context(unreadable)?.file_name();
        let name = name.to_string_lossy().into_owned();
        if !OF_BACKUPS.contains(&&*name) && name != MANIFEST && name != "lost+found" {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

async fn create(place: &Place, target: &Target) -> anyhow::Result<()> {
    if !place.at.starts_with("s3://")
        && let Some(name) = foreign(Path::new(&place.at))?
    {
        bail!(
            "{} holds `{name}`, which is not of a backup: name an empty directory, or a new one",
            place.at
        );
    }
    let store = place.open()?;
    let made = match floeberg_backup::create(&Remote(target.admin()?), &*store).await {
        Err(CreateError::Source(SourceError::Remote(error))) => return Err(target.explain(error)),
        made => made.with_context(|| format!("no backup was made at {}", place.at))?,
    };
    let manifest = &made.manifest;
    let rows: u64 = manifest.groups.iter().map(|part| part.rows).sum();
    if target.json {
        print_json(&json!({
            "backup": manifest.origin.backup, "cluster": manifest.origin.cluster, "rows": rows,
            "chunks": made.chunks, "files": manifest.files, "bytes": manifest.bytes,
        }))?;
    }
    let text = format!(
        "backup {} of cluster {} is at {}: {rows} rows, {} chunks, {} bytes\nit holds what tables and \
         objects hold, in the clear: protect it as you protect the cluster\ncheck it with: floeberg \
         backup verify --at {}",
        manifest.origin.backup,
        manifest.origin.cluster,
        place.at,
        made.chunks,
        manifest.bytes,
        place.at
    );
    print_done(target.json, &text)?;
    Ok(())
}

async fn check(place: &Place, json: bool) -> anyhow::Result<()> {
    let backup = place.backup().await?;
    let seen = verify(&backup).await?;
    if json {
        print_json(&json!({
            "backup": backup.manifest().origin.backup, "files": seen.files, "bytes": seen.bytes,
            "rows": seen.rows, "faults": seen.faults,
        }))?;
    }
    if !seen.faults.is_empty() {
        let faults = seen.faults.join("\n");
        bail!(
            "the backup is damaged ({} faults):\n{faults}",
            seen.faults.len()
        );
    }
    let name = &backup.manifest().origin.backup;
    let (files, bytes, rows) = (seen.files, seen.bytes, seen.rows);
    let text = format!("backup {name} is whole: {files} files, {bytes} bytes, {rows} rows");
    print_done(json, &text)?;
    Ok(())
}

fn single(arguments: &RestoreArguments, data_dir: &Path, env: &Env) -> anyhow::Result<NodeConfig> {
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("cannot create {}", data_dir.display()))?;
    let data_dir = data_dir.canonicalize()?;
    let root_key = keys::load_or_create(&data_dir, env)?;
    Ok(NodeConfig {
        data_dir,
        account: arguments.account.clone(),
        region: arguments.region.clone(),
        root_key,
        s3_endpoint: String::new(),
        lakehouse_endpoint: String::new(),
        s3_domain: None,
        segment_bytes: arguments.segment_bytes,
        limits: ClientLimits::default(),
        cluster: ClusterPart::Single,
    })
}

async fn put_back(arguments: RestoreArguments) -> anyhow::Result<()> {
    let backup = arguments.place.backup().await?;
    let env = Env::real();
    let config = match (&arguments.config, &arguments.data_dir) {
        (Some(file), _) => server::node_config(&load(file, &arguments.overrides)?)?,
        (None, Some(data_dir)) => single(&arguments, data_dir, &env)?,
        (None, None) => bail!("name a configuration with --config, or a --data-dir"),
    };
    let done = restore(config, env, &backup).await?;
    if arguments.json {
        let (rows, chunks) = (done.rows, done.chunks);
        let cluster = done.cluster.to_string();
        print_json(&json!({"cluster": cluster, "rows": rows, "chunks": chunks}))?;
    }
    let text = format!(
        "backup {} is restored into cluster {}: {} rows, {} chunks\nstart the node, then let others \
         join",
        backup.manifest().origin.backup,
        done.cluster,
        done.rows,
        done.chunks
    );
    print_done(arguments.json, &text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_something_else_takes_no_backup() {
        let dir = tempfile::tempdir().unwrap();
        let look = |dir: &Path| foreign(dir).unwrap();
        assert_eq!(look(&dir.path().join("new")), None);
        assert_eq!(look(dir.path()), None);
        std::fs::create_dir(dir.path().join("rows")).unwrap();
        assert_eq!(look(dir.path()), None, "an attempt that failed");
        std::fs::write(dir.path().join("thesis.tex"), "").unwrap();
        assert_eq!(look(dir.path()), Some("thesis.tex".to_owned()));
    }
}
