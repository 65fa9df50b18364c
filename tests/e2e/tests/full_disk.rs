//! Nodes on small disks: one that is full is spared, gives way, starts, serves reads and takes deletes; and once
//! too few have room, everybody says so.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use floeberg_client::{Auth, ClientError, Credentials, Endpoint, Request, Scope};
use floeberg_test_e2e::connect::{Clients, FILES, LAKE, create_buckets};
use floeberg_test_e2e::fleet::{Fleet, LIMIT, has_alarm, leader_of};
use floeberg_test_e2e::process::binary;
use floeberg_test_e2e::{sandbox, world};
use http::{Method, StatusCode};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);
/// The disks of nodes 2 and 3, in MiB. A quarter of a small disk is kept as the reserve.
const DISKS: [(u64, u64); 2] = [(2, 512), (3, 256)];
/// What node 3 keeps, in MiB.
const RESERVE: u64 = 64;
const OBJECT: usize = 2 << 20;
/// More objects than the smaller disk can hold.
const MOST: usize = 128;
/// Refused requests that would show in the log.
const REFUSED: usize = 20;

fn seat(dir: &Path, node: u64) -> PathBuf {
    dir.join(format!("seat-{node}"))
}

fn body(number: usize) -> Bytes {
    vec![u8::try_from(number % 251).unwrap_or_default(); OBJECT].into()
}

fn last_index(status: &Value) -> Option<u64> {
    status["local"][0]["last-index"].as_u64()
}

struct Through {
    clients: Clients,
    lakehouse: Endpoint,
    s3: Endpoint,
}

impl Through {
    async fn node(fleet: &Fleet, node: u64) -> anyhow::Result<Self> {
        let ends = fleet.endpoints(node)?;
        let signed = |service: &str| {
            let credentials = Credentials {
                access_key: ends.access_key.clone(),
                secret_key: ends.secret_key.clone(),
                session_token: None,
            };
            let scope = Scope {
                region: ends.region.clone(),
                service: service.to_owned(),
            };
            Auth::sigv4(credentials, scope)
        };
        Ok(Self {
            clients: Clients::connect(&ends).await?,
            lakehouse: Endpoint::new(&ends.s3tables_uri, signed("s3tables"))?,
            s3: Endpoint::new(&ends.s3_uri, signed("s3"))?,
        })
    }

    async fn put(&self, number: usize) -> Result<String, ClientError> {
        let key = format!("o{number}");
        self.clients.s3.put_object(FILES, &key, body(number)).await
    }

    /// An object that lies in the rows, so that putting it again fills no volume.
    async fn put_small(&self) -> Result<String, ClientError> {
        let body = Bytes::from_static(b"x");
        self.clients.s3.put_object(FILES, "small", body).await
    }

    async fn get(&self, number: usize) -> anyhow::Result<()> {
        let key = format!("o{number}");
        let got = self.clients.s3.get_object(FILES, &key).await?;
        ensure!(got == body(number), "{key}");
        Ok(())
    }

    async fn delete(&self, number: usize) -> Result<(), ClientError> {
        let key = format!("o{number}");
        self.clients.s3.delete_object(FILES, &key).await
    }

    /// A bucket operation of S3, which does nothing but take room.
    async fn delete_by_put(&self) -> Result<(), ClientError> {
        let request = Request::new(Method::PUT, format!("/{FILES}/x")).query("delete=".into());
        self.s3.send(&request).await.map(|_| ())
    }

    /// A namespace that is there already, under a key that nobody has used.
    async fn refused_anyway(&self, number: usize) -> Result<(), ClientError> {
        let path = format!("/iceberg/v1/{LAKE}/namespaces");
        let mut request = Request::new(Method::POST, path).json(r#"{"namespace":["n"]}"#);
        let key = format!("0190f5a4-0000-7000-8000-{number:012}");
        request.headers.push(("idempotency-key", key));
        self.lakehouse.send(&request).await.map(|_| ())
    }
}

/// What is free on the disk of a node.
fn free_mebibytes(disk: &Path) -> anyhow::Result<u64> {
    let space = rustix::fs::statvfs(disk)?;
    Ok((space.f_bavail * space.f_frsize) >> 20)
}

fn is_full<T: std::fmt::Debug>(answer: Result<T, ClientError>, why: &str) -> anyhow::Result<()> {
    let Err(error) = answer else {
        anyhow::bail!("{answer:?} on a full disk");
    };
    let full = error.status() == Some(StatusCode::INSUFFICIENT_STORAGE);
    ensure!(full && error.to_string().contains(why), "{error}");
    Ok(())
}

/// Waits until a node answers reads.
async fn reads(fleet: &mut Fleet, node: u64) -> anyhow::Result<()> {
    let begin = Instant::now();
    let probe = Endpoint::new(&fleet.endpoints(node)?.s3tables_uri, Auth::None)?;
    let request = Request::new(Method::GET, "/readyz/reads".into());
    while probe.send(&request).await.is_err() {
        fleet.still_run()?;
        ensure!(begin.elapsed() < LIMIT, "no reads:\n{}", fleet.log(node)?);
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

#[test]
fn full_disks() -> anyhow::Result<()> {
    if !sandbox::is_inside() {
        return sandbox::run_test("full_disks");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(inside())
}

async fn inside() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    for (node, mebibytes) in DISKS {
        sandbox::mount(&seat(dir.path(), node), mebibytes)?;
    }
    let mut fleet = Fleet::found(&binary()?, dir.path(), 3).await?;
    create_buckets(&fleet.endpoints(1)?).await?;
    let one = Through::node(&fleet, 1).await?;
    one.clients.iceberg.create_namespace(&["n"]).await?;
    let count = one_is_filled(&mut fleet, &one, &seat(dir.path(), 3)).await?;
    the_full_one_gives_way(&mut fleet).await?;
    the_full_one_serves_what_it_can(&fleet, count).await?;

    // Also after a kill.
    fleet.kill(3).await?;
    fleet.start(3)?;
    reads(&mut fleet, 3).await?;
    let three = Through::node(&fleet, 3).await?;
    three.get(0).await?;
    three.delete(1).await?;
    is_full(three.put(count).await, "the disk is nearly full")?;

    two_are_full(&mut fleet, &one, &seat(dir.path(), 2)).await?;
    for node in 1..=3 {
        fleet.stop(node).await?;
    }
    Ok(())
}

/// Fills node 3 through node 1, which always succeeds; how many objects that took. What node 3 says itself ends
/// the filling: the others hear of it up to seconds later, and would be full by then as well.
async fn one_is_filled(fleet: &mut Fleet, one: &Through, disk: &Path) -> anyhow::Result<usize> {
    let mut count = 0;
    while free_mebibytes(disk)? >= RESERVE {
        ensure!(count < MOST, "the disk of node 3 does not fill");
        one.put(count).await?;
        count += 1;
    }
    let full = |status: &Value| has_alarm(status, 3, "disk-full");
    fleet.until(1, "node 3 is full", full).await?;
    for _ in 0..20 {
        one.put(count).await?;
        count += 1;
    }
    let free = free_mebibytes(disk)?;
    ensure!(
        free >= RESERVE / 2,
        "{free} MiB are left of {RESERVE} that are kept"
    );
    let owed = |status: &Value| (1..=3).any(|node| has_alarm(status, node, "copies-owed"));
    fleet.until(1, "copies are owed", owed).await?;
    Ok(count)
}

async fn the_full_one_gives_way(fleet: &mut Fleet) -> anyhow::Result<()> {
    fleet.ask(1, &["transfer-leader", "3"]).await?;
    fleet
        .logs(3, "another node takes the lead, which has room")
        .await?;
    let elsewhere = |status: &Value| {
        [0, 1].iter().all(|group| {
            let leader = leader_of(status, *group);
            leader.is_some_and(|leader| leader != 3)
        })
    };
    fleet.until(1, "node 3 leads nothing", elsewhere).await?;
    Ok(())
}

async fn the_full_one_serves_what_it_can(fleet: &Fleet, count: usize) -> anyhow::Result<()> {
    let three = Through::node(fleet, 3).await?;
    for number in [0, count - 1] {
        three.get(number).await?;
    }
    is_full(three.put(count).await, "the disk is nearly full")?;
    is_full(three.delete_by_put().await, "the disk is nearly full")?;
    let before = last_index(&fleet.status(3).await?).context("no log")?;
    for number in 0..REFUSED {
        is_full(
            three.refused_anyway(number).await,
            "the disk is nearly full",
        )?;
    }
    let after = last_index(&fleet.status(3).await?).context("no log")?;
    ensure!(after < before + REFUSED as u64, "{before} to {after}");
    three.delete(count - 1).await?;
    Ok(())
}

/// With node 2 full as well, nobody takes what needs room; with room again, everybody does.
async fn two_are_full(fleet: &mut Fleet, one: &Through, disk: &Path) -> anyhow::Result<()> {
    let free = free_mebibytes(disk)?;
    let ballast = disk.join("ballast");
    let size = free.saturating_sub(100) << 20;
    let file = File::create(&ballast)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size)?;
    let full = |status: &Value| has_alarm(status, 2, "disk-full");
    fleet.until(1, "node 2 is full", full).await?;
    let (begin, why) = (Instant::now(), "nodes 2, 3");
    while is_full(one.put_small().await, why).is_err() {
        ensure!(begin.elapsed() < LIMIT, "node 1 does not hear of it");
        tokio::time::sleep(POLL).await;
    }
    let table = world::create_table(&one.clients, "n", "t").await;
    ensure!(table.is_err(), "a table was made");
    one.delete(2).await?;
    one.get(3).await?;
    // An open file keeps its space.
    drop(file);
    std::fs::remove_file(ballast)?;
    let begin = Instant::now();
    while let Err(error) = one.put_small().await {
        let free = free_mebibytes(disk)?;
        ensure!(begin.elapsed() < LIMIT, "{error}: {free} MiB are free");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
