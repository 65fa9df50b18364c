//! A damaged Raft log stops the node with an explanation; it never passes for a shorter log.

use anyhow::{Context as _, ensure};
use floeberg_test_e2e::connect::{Clients, create_buckets};
use floeberg_test_e2e::process::{Home, binary};
use floeberg_test_e2e::table::Observed;
use floeberg_test_e2e::world::{append, create_table, manifest_list};
use std::fs;
use std::path::{Path, PathBuf};

const COMMITS: i64 = 20;

/// The write-ahead log that holds the commits: the longest.
fn journal(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let mut found: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(data_dir.join("raft").join("db"))? {
        let entry = entry?;
        let len = entry.metadata()?.len();
        let is_log = entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "log");
        if is_log && found.as_ref().is_none_or(|(longest, _)| *longest < len) {
            found = Some((len, entry.path()));
        }
    }
    found.map(|(_, path)| path).context("no write-ahead log")
}

async fn commit(clients: &Clients, observed: &Observed) -> anyhow::Result<()> {
    let mut parent = None;
    for snapshot in 1..=COMMITS {
        let list = manifest_list(&observed.location, snapshot);
        let body = append(parent, snapshot, snapshot, &list).render();
        clients.iceberg.update_table(&["n"], "t", body).await?;
        parent = Some(snapshot);
    }
    Ok(())
}

async fn expect_refusal(home: &mut Home, what: &str) -> anyhow::Result<()> {
    let ended = home.start_refused().await.context(what.to_owned())?;
    let said = ended.stderr.to_lowercase();
    ensure!(
        ended.status.code() == Some(1),
        "{what}: {}\n{said}",
        ended.status
    );
    // What is damaged, and what to do.
    for word in ["raft log", "corrupt", "backup"] {
        ensure!(
            said.contains(word),
            "{what}: `{word}` is not in the explanation:\n{said}"
        );
    }
    ensure!(!said.contains("panicked"), "{what}:\n{said}");
    Ok(())
}

#[tokio::test]
async fn a_damaged_log_is_refused_and_a_repaired_one_has_everything() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut home = Home::new(&binary()?, dir.path())?;
    let node = home.start().await?;
    create_buckets(&node.endpoints).await?;
    let clients = Clients::connect(&node.endpoints).await?;
    clients.iceberg.create_namespace(&["n"]).await?;
    let observed = Observed::of(&create_table(&clients, "n", "t").await?)?;
    commit(&clients, &observed).await?;
    node.kill().await?;

    let path = journal(&home.data_dir())?;
    let original = fs::read(&path)?;
    let middle = original.len() / 2;
    ensure!(middle > 1000, "the log holds the commits");
    for (what, at, bit) in [
        ("early", middle / 8, 0),
        ("middle", middle, 3),
        ("late", middle * 7 / 4, 7),
    ] {
        let mut flipped = original.clone();
        flipped[at] ^= 1 << bit;
        fs::write(&path, &flipped)?;
        expect_refusal(&mut home, &format!("flipped bit, {what}")).await?;
        let after = fs::read(&path)?;
        ensure!(after == flipped, "a refused start changes nothing");
    }
    for (what, len) in [
        ("in the middle", middle),
        ("at the end", original.len() - 1),
    ] {
        fs::write(&path, &original[..len])?;
        expect_refusal(&mut home, &format!("truncated {what}")).await?;
        expect_refusal(&mut home, &format!("truncated {what}, second try")).await?;
    }
    fs::write(&path, &original)?;
    let node = home.start().await.context("with the log as it was")?;
    let clients = Clients::connect(&node.endpoints).await?;
    let found = Observed::of(&clients.iceberg.load_table(&["n"], "t").await?)?;
    ensure!(
        found.head == Some(COMMITS) && found.snapshots.len() == 20,
        "{found:?}"
    );
    node.stop().await
}
