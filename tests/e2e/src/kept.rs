//! Data directories and backups that earlier versions wrote, packed beside these tests. They are only added to: what a
//! version once wrote, every later one reads.
//!
//! Each folder below `kept/` is named after the commit whose binary wrote it, and holds `lake.tar.gz` (`home/data`, as
//! `kill -9` left it, and `backup`, which was taken just before) and `lake.txt`, the [`Lake::lines`] of both.

use crate::connect::{Clients, create_buckets};
use crate::lake::{Lake, fill, look};
use crate::process::Home;
use anyhow::{Context as _, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One of them.
#[derive(Debug)]
pub struct Kept {
    folder: PathBuf,
}

fn tar(arguments: &[&str], folder: &Path) -> anyhow::Result<()> {
    let mut tar = Command::new("tar");
    tar.args(arguments).arg("-C").arg(folder).arg(".");
    let done = tar.output().context("cannot run tar")?;
    let text = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "tar: {text}");
    Ok(())
}

impl Kept {
    /// All of them.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn all() -> anyhow::Result<Vec<Self>> {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("kept");
        let mut all = Vec::new();
        for entry in fs::read_dir(kept)? {
            let folder = entry?.path();
            all.push(Self { folder });
        }
        Ok(all)
    }

    /// Unpacks it: afterwards `dir/home` is a [`Home`] and `dir/backup` a backup.
    ///
    /// # Errors
    /// If it cannot be unpacked.
    pub fn unpack(&self, dir: &Path) -> anyhow::Result<()> {
        let packed = self.folder.join("lake.tar.gz").display().to_string();
        tar(&["-xzf", &packed], dir)
    }

    /// What is in it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn lines(&self) -> anyhow::Result<Vec<String>> {
        let text = fs::read_to_string(self.folder.join("lake.txt"))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Writes a new one with a binary.
    ///
    /// # Errors
    /// If it is there already, or as anything that the node is asked.
    pub async fn write(binary: &Path, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir(folder)?;
        let dir = tempfile::tempdir()?;
        let mut home = Home::new(binary, &dir.path().join("home"))?;
        let node = home.start().await?;
        create_buckets(&node.endpoints).await?;
        let clients = Clients::connect(&node.endpoints).await?;
        fill(&clients).await?;
        let lake: Lake = look(&clients).await?;
        let backup = tokio::process::Command::new(binary)
            .args(["backup", "create", "--endpoint"])
            .arg(&node.endpoints.s3tables_uri)
            .arg("--at")
            .arg(dir.path().join("backup"))
            .env("FLOEBERG_ROOT_ACCESS_KEY", &node.endpoints.access_key)
            .env("FLOEBERG_ROOT_SECRET_KEY", &node.endpoints.secret_key)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&backup.stderr);
        ensure!(backup.status.success(), "{said}");
        node.kill().await?;
        // Only the data: beside it are the node's log and the ports of one start.
        for entry in fs::read_dir(dir.path().join("home"))? {
            let path = entry?.path();
            if path.is_file() {
                fs::remove_file(path)?;
            }
        }
        fs::write(folder.join("lake.txt"), lake.lines().join("\n") + "\n")?;
        let packed = folder.join("lake.tar.gz").display().to_string();
        // RocksDB's logs name the machine, and nothing reads them.
        let plain = ["--sort=name", "--owner=0", "--group=0", "--exclude=LOG"];
        tar(&[&plain[..], &["-Szcf", &packed]].concat(), dir.path())
    }
}
