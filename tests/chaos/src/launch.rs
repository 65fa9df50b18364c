//! How nodes are configured, started, stopped and replaced: the only place that knows the command
//! line and the configuration file of `floeberg`.
//!
//! One node is `floeberg dev` beside the clients; several are `floeberg server`, each in its own
//! network namespace of a [`Lab`].

use crate::connect::{Address, ClusterGroup};
use crate::lab::{self, Lab, address};
use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

const LAKEHOUSE_PORT: u16 = 8181;
const S3_PORT: u16 = 9000;
const PEER_PORT: u16 = 7000;
/// Small segments, so that several nodes fit on one disk.
const SEGMENT_MIB: u64 = 64;
/// The protocol library reports every answer of 5xx as an error; the server logs those itself.
const LOG: &str = "warn,floeberg=info,s3s=off";
/// A node that does not serve within this time after a start or a healing is a failure.
pub const READY_LIMIT: Duration = Duration::from_secs(90);
/// Between two questions whether a node is ready.
const POLL: Duration = Duration::from_millis(20);
const ACCESS_KEY: &str = "CHAOSROOT";
const SECRET_KEY: &str = "chaos-root-secret";

/// The processes under test.
#[derive(Debug)]
pub struct Fleet {
    binary: PathBuf,
    dir: PathBuf,
    lab: Option<Lab>,
    slots: Vec<Slot>,
}

/// A place for a node: its address stays, what runs there changes.
#[derive(Debug)]
struct Slot {
    node: u8,
    /// Counts the nodes that have lived here: a replaced one starts from nothing.
    life: u32,
    starts: u32,
    running: Option<Child>,
    logs: Vec<PathBuf>,
}

impl Fleet {
    /// Starts all nodes and waits until they serve.
    ///
    /// # Errors
    /// If one does not; the error has its log.
    pub async fn start(binary: &Path, dir: &Path, nodes: u8) -> anyhow::Result<Self> {
        lab::loopback()?;
        let lab = match nodes {
            0 => bail!("at least one node"),
            1 => None,
            _ => Some(Lab::build(nodes)?),
        };
        let slots = (1..=nodes).map(|node| Slot {
            node,
            life: 1,
            starts: 0,
            running: None,
            logs: Vec::new(),
        });
        let mut fleet = Self {
            binary: binary.to_owned(),
            dir: dir.to_owned(),
            lab,
            slots: slots.collect(),
        };
        fleet.found().await?;
        Ok(fleet)
    }

    /// Makes the cluster: the first node founds it, the others join.
    async fn found(&mut self) -> anyhow::Result<()> {
        for node in 1..=self.nodes() {
            if self.lab.is_some() {
                self.write_config(node)?;
                if node == 1 {
                    let config = self.config_path(1);
                    self.cluster(1, &["init", "--config", &config]).await?;
                } else {
                    self.join(node, 1).await?;
                }
            }
            self.spawn(node)?;
            self.ready(node).await?;
        }
        if self.lab.is_some() {
            self.settled(1, None).await?;
        }
        Ok(())
    }

    /// Makes a node a member; its id in the cluster.
    async fn join(&self, node: u8, through: u8) -> anyhow::Result<u64> {
        let endpoint = self.address(through).lakehouse;
        let words = ["token", "--endpoint", &endpoint];
        let token = self.cluster(through, &words).await?;
        let peer = format!("{}:{PEER_PORT}", address(through));
        let config = self.config_path(node);
        let words = [
            "join",
            "--config",
            &config,
            "--token",
            token.trim(),
            "--peer",
            &peer,
            "--json",
        ];
        let answer: Value = serde_json::from_str(&self.cluster(node, &words).await?)?;
        answer["node"].as_u64().context("`join` names no node")
    }

    /// Runs `floeberg cluster` on a node; what it prints.
    async fn cluster(&self, node: u8, words: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command(node);
        command.arg("cluster").args(words);
        let run = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let verb = words[0];
        let done = tokio::time::timeout(READY_LIMIT, run)
            .await
            .with_context(|| format!("`floeberg cluster {verb}` did not end"))??;
        ensure!(
            done.status.success(),
            "`floeberg cluster {verb}` on node {node}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(String::from_utf8(done.stdout)?)
    }

    /// Waits until every group has as many voters as there are nodes, none of them `gone`, and
    /// nobody who still learns.
    async fn settled(&mut self, through: u8, gone: Option<u64>) -> anyhow::Result<()> {
        let begin = Instant::now();
        let count = usize::from(self.nodes());
        loop {
            let status = self.address(through).cluster().await;
            let settles = |group: &ClusterGroup| {
                let is_gone = gone.is_some_and(|gone| group.voters.contains(&gone));
                group.voters.len() == count && !is_gone && group.learners.is_empty()
            };
            if let Ok(status) = &status
                && !status.groups.is_empty()
                && status.groups.iter().all(settles)
            {
                return Ok(());
            }
            self.still_run()?;
            ensure!(
                begin.elapsed() < READY_LIMIT,
                "the cluster did not settle within {READY_LIMIT:?}: {status:?}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// The binary where the node lives, with the root keys.
    fn command(&self, node: u8) -> Command {
        let mut command = match &self.lab {
            None => Command::new(&self.binary),
            Some(_) => {
                let mut inside = Lab::command(node);
                inside.arg(&self.binary);
                inside
            }
        };
        command
            .env("FLOEBERG_ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("FLOEBERG_ROOT_SECRET_KEY", SECRET_KEY)
            .env("RUST_LOG", LOG);
        command
    }

    /// Where a node keeps its data.
    #[must_use]
    pub fn data_dir(&self, node: u8) -> PathBuf {
        let life = self.slot(node).life;
        self.dir.join(format!("node-{node}-life-{life}"))
    }

    fn config_path(&self, node: u8) -> String {
        let path = self.dir.join(format!("n{node}.toml"));
        path.display().to_string()
    }

    fn write_config(&self, node: u8) -> anyhow::Result<()> {
        let at = address(node);
        let data_dir = self.data_dir(node);
        let text = format!(
            "[data]\n\
             dir = {data_dir:?}\n\
             [peer]\n\
             listen = \"{at}:{PEER_PORT}\"\n\
             [lakehouse]\n\
             listen = \"{at}:{LAKEHOUSE_PORT}\"\n\
             [s3]\n\
             listen = \"{at}:{S3_PORT}\"\n\
             [tls]\n\
             plain = \"explicit\"\n\
             [limits]\n\
             volume_segment = \"{SEGMENT_MIB} MiB\"\n\
             [log]\n\
             filter = \"{LOG}\"\n\
             format = \"json\"\n"
        );
        fs::write(self.config_path(node), text)?;
        Ok(())
    }

    fn spawn(&mut self, node: u8) -> anyhow::Result<()> {
        let mut command = self.command(node);
        match &self.lab {
            None => {
                command
                    .args(["dev", "--log-format", "json", "--data-dir"])
                    .arg(self.data_dir(node))
                    .args(["--port", &LAKEHOUSE_PORT.to_string()])
                    .args(["--s3-port", &S3_PORT.to_string()])
                    .args(["--segment-bytes", &(SEGMENT_MIB << 20).to_string()]);
            }
            Some(_) => {
                command
                    .args(["server", "--config"])
                    .arg(self.config_path(node));
            }
        }
        let dir = self.dir.clone();
        let slot = self.slot_mut(node);
        ensure!(slot.running.is_none(), "node {node} runs already");
        slot.starts += 1;
        let log = dir.join(format!("node-{node}-start-{}.log", slot.starts));
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start node {node}"))?;
        slot.logs.push(log);
        slot.running = Some(child);
        Ok(())
    }

    /// Waits until a node says that it can commit; how long that took.
    ///
    /// # Errors
    /// If it ends or does not get there in time; the error has its log.
    pub async fn ready(&mut self, node: u8) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        let address = self.address(node);
        while !address.is_ready().await {
            self.still_run()?;
            if begin.elapsed() > READY_LIMIT {
                let log = self.log_tail(node);
                bail!("node {node} did not become ready within {READY_LIMIT:?}:\n{log}");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(begin.elapsed())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If the node had ended by itself.
    pub async fn kill(&mut self, node: u8) -> anyhow::Result<()> {
        self.still_run()?;
        let running = self.slot_mut(node).running.take();
        let mut child = running.with_context(|| format!("node {node} does not run"))?;
        child.kill().await?;
        Ok(())
    }

    /// Starts a killed node on its data, without waiting.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn restart(&mut self, node: u8) -> anyhow::Result<()> {
        self.spawn(node)
    }

    /// SIGSTOP or SIGCONT.
    ///
    /// # Errors
    /// If the node does not run.
    pub fn signal(&self, node: u8, signal: Signal) -> anyhow::Result<()> {
        let child = self.slot(node).running.as_ref();
        let id = child.and_then(Child::id);
        let id = i32::try_from(id.with_context(|| format!("node {node} does not run"))?)?;
        kill_process(Pid::from_raw(id).context("a process id is not 0")?, signal)?;
        Ok(())
    }

    /// Puts a new node with an empty disk into the place of one that was killed, with the help of
    /// another, and takes the old one out of the cluster.
    ///
    /// # Errors
    /// If a step fails.
    pub async fn replace(&mut self, node: u8, through: u8, old: u64) -> anyhow::Result<()> {
        let gone = self.data_dir(node);
        self.slot_mut(node).life += 1;
        fs::remove_dir_all(gone)?;
        self.write_config(node)?;
        let new = self.join(node, through).await?.to_string();
        self.spawn(node)?;
        let endpoint = self.address(through).lakehouse;
        let gone = old.to_string();
        let words = ["replace", &gone, "--with", &new, "--endpoint", &endpoint];
        let begin = Instant::now();
        // Refused until the new node has started so far that it answers the others.
        while let Err(error) = self.cluster(through, &words).await {
            let is_early = format!("{error:#}").contains("which is to take over, does not answer");
            ensure!(is_early && begin.elapsed() < READY_LIMIT, error);
            self.still_run()?;
            tokio::time::sleep(POLL).await;
        }
        self.settled(through, Some(old)).await?;
        self.ready(node).await?;
        Ok(())
    }

    /// Every node that should run, runs.
    ///
    /// # Errors
    /// If one ended by itself; the error has its log.
    pub fn still_run(&mut self) -> anyhow::Result<()> {
        for index in 0..self.slots.len() {
            let node = self.slots[index].node;
            if let Some(child) = &mut self.slots[index].running
                && let Some(status) = child.try_wait()?
            {
                let log = self.log_tail(node);
                bail!("node {node} ended by itself ({status}):\n{log}");
            }
        }
        Ok(())
    }

    /// The node that says it leads the catalog, in the newest term if several say so.
    pub async fn leader(&self) -> Option<u8> {
        let mut best: Option<(u64, u8)> = None;
        for node in 1..=self.nodes() {
            if self.slot(node).running.is_none() {
                continue;
            }
            let Ok(status) = self.address(node).status().await else {
                continue;
            };
            let catalog = status.groups.iter().find(|group| group.group == 0);
            if let Some(group) = catalog.filter(|group| group.role == "leader") {
                best = best.max(Some((group.term, node)));
            }
        }
        best.map(|(_, node)| node)
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> u8 {
        u8::try_from(self.slots.len()).expect("made from a u8")
    }

    /// The network, if the nodes have one of their own.
    #[must_use]
    pub fn lab(&self) -> Option<&Lab> {
        self.lab.as_ref()
    }

    /// Where a node serves.
    #[must_use]
    pub fn address(&self, node: u8) -> Address {
        let host = match &self.lab {
            None => "127.0.0.1".to_owned(),
            Some(_) => address(node).to_string(),
        };
        Address {
            node,
            lakehouse: format!("http://{host}:{LAKEHOUSE_PORT}"),
            s3: format!("http://{host}:{S3_PORT}"),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
        }
    }

    /// Lines of all logs that no node writes in a test of this kind: panics and errors. Warnings are
    /// expected, since the network really breaks.
    ///
    /// # Errors
    /// If a log cannot be read.
    pub fn alarms(&self) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for slot in &self.slots {
            for log in &slot.logs {
                let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
                let node = slot.node;
                let lines = alarms(&text).into_iter();
                found.extend(lines.map(|line| format!("node {node}: {line}")));
            }
        }
        Ok(found)
    }

    fn log_tail(&self, node: u8) -> String {
        let last = self.slot(node).logs.last();
        let text = last.and_then(|path| fs::read_to_string(path).ok());
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn slot(&self, node: u8) -> &Slot {
        &self.slots[usize::from(node) - 1]
    }

    fn slot_mut(&mut self, node: u8) -> &mut Slot {
        &mut self.slots[usize::from(node) - 1]
    }
}

/// A killed process may leave half a line at the end; that one is let pass.
fn alarms(log: &str) -> Vec<String> {
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    let is_alarm = |line: &&str| match serde_json::from_str::<Value>(line) {
        Ok(parsed) => parsed["level"] == "ERROR",
        Err(_) => true,
    };
    whole.lines().filter(is_alarm).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_and_errors_are_alarms() {
        let log = "{\"level\":\"WARN\"}\n{\"level\":\"ERROR\"}\nthread panicked\n{\"level\":\"ER";
        assert_eq!(alarms(log).len(), 2);
    }
}
