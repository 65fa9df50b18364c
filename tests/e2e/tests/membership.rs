//! Who belongs to a cluster, changed by the command line while real processes serve.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use floeberg_test_e2e::connect::{Clients, FILES, create_buckets};
use floeberg_test_e2e::fleet::{Fleet, has_alarm, leader_of, state_of};
use floeberg_test_e2e::process::binary;
use floeberg_test_e2e::standing::caught_up;
use floeberg_test_e2e::table::Observed;
use floeberg_test_e2e::world::{append, create_table, manifest_list};
use serde_json::Value;

/// What the clients of a test know: one table with snapshots 1, 2, …, and objects.
struct Known {
    snapshots: i64,
    objects: Vec<(String, Bytes)>,
}

fn body(number: usize) -> Bytes {
    // One inline, the others in chunks.
    let len = if number == 0 { 100 } else { 300_000 + number };
    (0..len).map(|i| ((i * 31 + number) % 251) as u8).collect()
}

impl Known {
    async fn begin(fleet: &Fleet, node: u64) -> anyhow::Result<Self> {
        let endpoints = fleet.endpoints(node)?;
        create_buckets(&endpoints).await?;
        let clients = Clients::connect(&endpoints).await?;
        clients.iceberg.create_namespace(&["n"]).await?;
        create_table(&clients, "n", "t").await?;
        Ok(Self {
            snapshots: 0,
            objects: Vec::new(),
        })
    }

    async fn clients(&self, fleet: &Fleet, node: u64) -> anyhow::Result<Clients> {
        let clients = Clients::connect(&fleet.endpoints(node)?).await;
        clients.with_context(|| format!("node {node}"))
    }

    /// Commits a snapshot and puts an object through a node.
    async fn write(&mut self, fleet: &Fleet, node: u64) -> anyhow::Result<()> {
        let clients = self.clients(fleet, node).await?;
        let number = self.objects.len();
        let name = format!("object-{number}");
        clients.s3.put_object(FILES, &name, body(number)).await?;
        self.objects.push((name, body(number)));
        let table = Observed::of(&clients.iceberg.load_table(&["n"], "t").await?)?;
        let next = self.snapshots + 1;
        let list = manifest_list(&table.location, next);
        let commit = append(table.head, next, next, &list).render();
        clients.iceberg.update_table(&["n"], "t", commit).await?;
        self.snapshots = next;
        Ok(())
    }

    /// Everything acknowledged is there, seen from a node.
    async fn check(&self, fleet: &Fleet, node: u64) -> anyhow::Result<()> {
        let clients = self.clients(fleet, node).await?;
        let table = Observed::of(&clients.iceberg.load_table(&["n"], "t").await?)?;
        let seen: Vec<i64> = table.snapshots.iter().map(|snapshot| snapshot.id).collect();
        let all: Vec<i64> = (1..=self.snapshots).collect();
        ensure!(
            seen == all,
            "node {node} has snapshots {seen:?}, not {all:?}"
        );
        for (name, body) in &self.objects {
            let stored = clients.s3.get_object(FILES, name).await?;
            ensure!(stored == *body, "node {node} has another {name}");
        }
        Ok(())
    }
}

const CONSENT: &str = "--i-accept-losing-unreplicated-commits";

/// The majority dies; the third node goes on alone by order.
async fn lose_and_recover(fleet: &mut Fleet) -> anyhow::Result<()> {
    fleet
        .until(1, "node 3 lacks nothing", |status| caught_up(status, 3))
        .await?;
    let config = fleet.config(3)?;
    let words = ["cluster", "recover", "--config", &config, CONSENT];
    let runs = fleet.try_cli(&words).await?;
    ensure!(!runs.status.success(), "a running node was given the order");
    fleet.kill(3).await?;
    fleet.cli(&words).await?;
    let beside = fleet.turned_away(3).await?;
    ensure!(beside.contains("but node 1, 2 answers"), "{beside}");
    std::fs::remove_file(fleet.data(3)?.join("recover.json"))?;
    fleet.kill(1).await?;
    fleet.kill(2).await?;
    let unsure = fleet.try_cli(&words[..4]).await?;
    ensure!(!unsure.status.success(), "recovered without consent");
    fleet.cli(&words).await?;
    fleet.start(3)?;
    fleet.ready(3).await?;
    fleet.logs(3, "this node is the whole cluster now").await?;
    ensure!(
        !fleet.data(3)?.join("recover.json").exists(),
        "the order stays"
    );
    let status = fleet.status(3).await?;
    for node in [1, 2] {
        ensure!(state_of(&status, node) == "gone", "{status}");
    }
    fleet.voters(3, &[3]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_goes_on_alone_and_takes_new_nodes_only() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Fleet::found(&binary()?, dir.path(), 3).await?;
    let mut known = Known::begin(&fleet, 1).await?;
    for node in [1, 2, 3] {
        known.write(&fleet, node).await?;
    }
    lose_and_recover(&mut fleet).await?;
    let lost = fleet.data(3)?.join("recovery-lost-objects.txt");
    ensure!(
        !lost.exists(),
        "every copy was written: {:?}",
        std::fs::read_to_string(lost)
    );
    known.check(&fleet, 3).await?;
    known.write(&fleet, 3).await?;

    // One of the old nodes comes back with its data: nobody speaks to it.
    fleet.start(1)?;
    fleet.logs(1, "was removed").await?;
    known.write(&fleet, 3).await?;
    fleet.kill(1).await?;

    for expected in [4, 5, 6] {
        ensure!(
            fleet.join(3).await? == expected,
            "an id was given out twice"
        );
    }
    fleet.voters(3, &[3, 4, 5, 6]).await?;
    known.write(&fleet, 5).await?;
    // The survivor is not needed any more once others have its data.
    fleet.ask(4, &["remove", "3"]).await?;
    fleet
        .until(4, "node 3 is gone", |status| state_of(status, 3) == "gone")
        .await?;
    fleet.kill(3).await?;
    fleet.voters(4, &[4, 5, 6]).await?;
    known.write(&fleet, 6).await?;
    for node in [4, 5, 6] {
        known.check(&fleet, node).await?;
    }
    Ok(())
}

async fn lead(fleet: &mut Fleet, through: u64, to: u64) -> anyhow::Result<()> {
    fleet
        .ask(through, &["transfer-leader", &to.to_string()])
        .await?;
    let leads = |status: &Value| (0..2).all(|group| leader_of(status, group) == Some(to));
    let what = format!("node {to} leads");
    fleet.until(through, &what, leads).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_grows_shrinks_and_replaces_nodes() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Fleet::found(&binary()?, dir.path(), 5).await?;
    let mut known = Known::begin(&fleet, 2).await?;
    known.write(&fleet, 3).await?;
    lead(&mut fleet, 1, 4).await?;
    known.write(&fleet, 1).await?;

    // The leader of both groups leaves alive, another one dead.
    fleet.ask(1, &["remove", "4", "--wait"]).await?;
    ensure!(state_of(&fleet.status(1).await?, 4) == "gone", "too early");
    fleet.kill(4).await?;
    fleet.voters(1, &[1, 2, 3, 5]).await?;
    known.write(&fleet, 5).await?;
    let alive = fleet.refused(1, &["remove", "5", "--dead"]).await?;
    ensure!(alive.contains("answers"), "{alive}");
    fleet.kill(5).await?;
    let gives_up = |status: &Value| {
        let progress = status["groups"][0]["progress"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        progress
            .iter()
            .any(|p| p["node"] == 5 && p["reachable"] == false)
    };
    fleet.until(1, "node 5 does not answer", gives_up).await?;
    fleet.ask(1, &["remove", "5", "--dead"]).await?;
    fleet
        .until(1, "node 5 is gone", |status| state_of(status, 5) == "gone")
        .await?;
    fleet.voters(1, &[1, 2, 3]).await?;
    known.write(&fleet, 2).await?;
    let few = fleet.refused(1, &["remove", "3"]).await?;
    ensure!(few.contains("copies"), "{few}");

    // A dead node and a living one are replaced.
    fleet.kill(3).await?;
    let six = fleet.join(1).await?;
    fleet
        .ask(1, &["replace", "3", "--with", &six.to_string(), "--wait"])
        .await?;
    ensure!(state_of(&fleet.status(1).await?, 3) == "gone", "too early");
    fleet.voters(1, &[1, 2, six]).await?;
    known.write(&fleet, six).await?;
    let seven = fleet.join(2).await?;
    fleet
        .ask(2, &["replace", "1", "--with", &seven.to_string()])
        .await?;
    fleet
        .until(2, "node 1 is gone", |status| state_of(status, 1) == "gone")
        .await?;
    fleet.kill(1).await?;
    fleet.voters(2, &[2, six, seven]).await?;
    known.write(&fleet, seven).await?;
    for node in [2, six, seven] {
        known.check(&fleet, node).await?;
    }

    // Who is gone stays gone, also with its data.
    fleet.start(3)?;
    fleet.logs(3, "was removed").await?;
    fleet.kill(3).await
}

/// Whether it led or followed: who leads goes on to take itself for the leader, and who followed knows no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_left_alone_says_so() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Fleet::found(&binary()?, dir.path(), 3).await?;
    let is_alone = |status: &Value| has_alarm(status, 1, "no-leader");
    for led in [1, 2] {
        lead(&mut fleet, 1, led).await?;
        fleet.kill(2).await?;
        fleet.kill(3).await?;
        fleet.until(1, "node 1 is alone", is_alone).await?;
        let endpoint = fleet.endpoints(1)?.s3tables_uri;
        let words = ["cluster", "status", "--endpoint", &endpoint];
        let shown = fleet.try_cli(&words).await?;
        ensure!(shown.status.code() == Some(4), "node {led} led");
        for node in [2, 3] {
            fleet.restart(node).await?;
        }
        let is_over = |status: &Value| !is_alone(status);
        fleet.until(1, "node 1 is not alone", is_over).await?;
    }
    fleet.still_run()
}
