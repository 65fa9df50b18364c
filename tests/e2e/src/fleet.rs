//! A cluster of `floeberg server` processes on the loopback interface, changed by the command line
//! as a person would.

use crate::process::{Endpoints, Memory, copy_dir};
use crate::seat::Seat;
use anyhow::{Context as _, bail, ensure};
use floeberg_client::{Auth, Endpoint, Request};
use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

const ACCESS_KEY: &str = "FLEETROOT00000000001";
const SECRET_KEY: &str = "fleet-root-secret-of-a-test";
/// What takes longer than this fails the test instead of hanging it.
pub const LIMIT: Duration = Duration::from_secs(90);
/// Exit codes of `cluster status` for an answer that says that something is wrong.
const ANSWERED: [i32; 2] = [3, 4];
/// Between two looks at what other processes do.
const POLL: Duration = Duration::from_millis(50);

/// The processes of one cluster, by node id.
#[derive(Debug)]
pub struct Fleet {
    binary: PathBuf,
    dir: PathBuf,
    seats: BTreeMap<u64, Seat>,
    drawn: usize,
}

impl Fleet {
    /// Founds a cluster and lets it grow to `nodes` nodes, 1 to `nodes`.
    ///
    /// # Errors
    /// If a step fails; the error has the node's log.
    pub async fn found(binary: &Path, dir: &Path, nodes: u64) -> anyhow::Result<Self> {
        let mut fleet = Self::prepare(binary, dir)?;
        let config = fleet.config(1)?;
        fleet.cli(&["cluster", "init", "--config", &config]).await?;
        fleet.start(1)?;
        fleet.ready(1).await?;
        for node in 2..=nodes {
            ensure!(fleet.join(1).await? == node, "ids are given out in order");
        }
        let all: Vec<u64> = (1..=nodes).collect();
        fleet.voters(1, &all).await?;
        Ok(fleet)
    }

    /// A place for node 1 with its configuration, and nothing else.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn prepare(binary: &Path, dir: &Path) -> anyhow::Result<Self> {
        let mut fleet = Self {
            binary: binary.to_owned(),
            dir: dir.to_owned(),
            seats: BTreeMap::new(),
            drawn: 0,
        };
        let seat = fleet.draw()?;
        fleet.seats.insert(1, seat);
        Ok(fleet)
    }

    fn draw(&mut self) -> anyhow::Result<Seat> {
        self.drawn += 1;
        Seat::new(self.dir.join(format!("seat-{}", self.drawn)))
    }

    /// Lets a new machine join, starts it, and waits until it serves; its id.
    ///
    /// # Errors
    /// If a step fails.
    pub async fn join(&mut self, through: u64) -> anyhow::Result<u64> {
        let seat = self.draw()?;
        self.admit(seat, through).await
    }

    /// Lets the machine of a node that was stopped and wiped join, under the address it had; its new id.
    ///
    /// # Errors
    /// If a step fails.
    pub async fn rejoin(&mut self, node: u64, through: u64) -> anyhow::Result<u64> {
        let seat = self.seats.remove(&node).context("no such node")?;
        self.admit(seat, through).await
    }

    /// Puts a copy of the data of a node that does not run on another machine, which has addresses of
    /// its own; what the fleet calls that one.
    ///
    /// # Errors
    /// If the node runs, or the data cannot be copied.
    pub fn duplicate(&mut self, node: u64) -> anyhow::Result<u64> {
        let copy = self.draw()?;
        let original = self.seat(node)?;
        ensure!(original.running.is_none(), "node {node} runs");
        copy_dir(&original.data(), &copy.data())?;
        let name = 100 + node;
        self.seats.insert(name, copy);
        Ok(name)
    }

    async fn admit(&mut self, seat: Seat, through: u64) -> anyhow::Result<u64> {
        let token = self.ask(through, &["token", "--ttl", "5m"]).await?;
        let config = seat.config().display().to_string();
        let peer = format!("127.0.0.1:{}", self.seat(through)?.ports[2]);
        let joined = self
            .cli(&[
                "cluster",
                "join",
                "--config",
                &config,
                "--token",
                token.trim(),
                "--peer",
                &peer,
                "--json",
            ])
            .await?;
        let joined: Value = serde_json::from_str(&joined)?;
        let node = joined["node"].as_u64().context("`join` names no node")?;
        self.seats.insert(node, seat);
        self.start(node)?;
        self.ready(node).await?;
        Ok(node)
    }

    /// Runs the binary and returns what it prints.
    ///
    /// # Errors
    /// If it fails; the error has what it says.
    pub async fn cli(&self, words: &[&str]) -> anyhow::Result<String> {
        let done = self.try_cli(words).await?;
        ensure!(
            done.status.success(),
            "`floeberg {}` failed: {}",
            words[..2].join(" "),
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(String::from_utf8(done.stdout)?)
    }

    /// Runs the binary, which may fail.
    ///
    /// # Errors
    /// If it cannot be started or does not end.
    pub async fn try_cli(&self, words: &[&str]) -> anyhow::Result<Output> {
        let mut command = self.command();
        let run = command.args(words).kill_on_drop(true).output();
        let ended = tokio::time::timeout(LIMIT, run).await;
        Ok(ended.with_context(|| format!("`floeberg {}` did not end", words[..2].join(" ")))??)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .env("FLOEBERG_ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("FLOEBERG_ROOT_SECRET_KEY", SECRET_KEY)
            .stdin(Stdio::null());
        command
    }

    /// `floeberg cluster …` against a running node; what it prints.
    ///
    /// # Errors
    /// If it fails.
    pub async fn ask(&self, through: u64, words: &[&str]) -> anyhow::Result<String> {
        let endpoint = self.lakehouse(through)?;
        let head = ["cluster"].iter().chain(words);
        let words: Vec<&str> = head.copied().chain(["--endpoint", &endpoint]).collect();
        let done = self.try_cli(&words).await?;
        let answered =
            done.status.success() || done.status.code().is_some_and(|c| ANSWERED.contains(&c));
        ensure!(
            answered,
            "`{words:?}` failed: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(String::from_utf8(done.stdout)?)
    }

    /// `floeberg cluster …` against a running node, which refuses; why.
    ///
    /// # Errors
    /// If it does not refuse.
    pub async fn refused(&self, through: u64, words: &[&str]) -> anyhow::Result<String> {
        let endpoint = self.lakehouse(through)?;
        let head = ["cluster"].iter().chain(words);
        let all: Vec<&str> = head.copied().chain(["--endpoint", &endpoint]).collect();
        let done = self.try_cli(&all).await?;
        ensure!(!done.status.success(), "`{}` was accepted", words.join(" "));
        Ok(String::from_utf8(done.stderr)?)
    }

    /// What a node says of the cluster.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn status(&self, through: u64) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(
            &self.ask(through, &["status", "--json"]).await?,
        )?)
    }

    /// Waits until what a node says of the cluster is as `wanted`.
    ///
    /// # Errors
    /// If it is not in time, or a node ends by itself.
    pub async fn until(
        &mut self,
        through: u64,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let begin = Instant::now();
        loop {
            let status = self.status(through).await;
            if let Ok(status) = &status
                && wanted(status)
            {
                return Ok(status.clone());
            }
            self.still_run()?;
            ensure!(begin.elapsed() < LIMIT, "still not so: {what}: {status:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until exactly these nodes vote in every group, nobody learns, and all say they are
    /// active.
    ///
    /// # Errors
    /// As [`Self::until`].
    pub async fn voters(&mut self, through: u64, voters: &[u64]) -> anyhow::Result<()> {
        let wanted = Value::from(voters.to_vec());
        let what = format!("{wanted} vote");
        let settled = |status: &Value| {
            let groups = status["groups"].as_array().map_or(&[][..], Vec::as_slice);
            let fits = |group: &Value| {
                group["voters"] == wanted && group["learners"] == Value::Array(Vec::new())
            };
            groups.len() == 2
                && groups.iter().all(fits)
                && voters
                    .iter()
                    .all(|node| state_of(status, *node) == "active")
        };
        self.until(through, &what, settled).await.map(|_| ())
    }

    /// Starts a node on its data, without waiting.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn start(&mut self, node: u64) -> anyhow::Result<()> {
        let mut command = self.command();
        let seat = self.seats.get_mut(&node).context("no such node")?;
        ensure!(seat.running.is_none(), "node {node} runs already");
        seat.starts += 1;
        let child = command
            .args(["server", "--config"])
            .arg(seat.config())
            .stdout(Stdio::null())
            .stderr(File::create(seat.log())?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start node {node}"))?;
        seat.running = Some(child);
        Ok(())
    }

    /// Waits until a node says that it serves.
    ///
    /// # Errors
    /// If it ends or does not get there in time.
    pub async fn ready(&mut self, node: u64) -> anyhow::Result<()> {
        let begin = Instant::now();
        let probe = Endpoint::new(&self.lakehouse(node)?, Auth::None)?;
        let request = Request::new(Method::GET, "/readyz".into());
        loop {
            let asked = tokio::time::timeout(Duration::from_secs(2), probe.send(&request));
            if matches!(asked.await, Ok(Ok(_))) {
                return Ok(());
            }
            self.still_run()?;
            if begin.elapsed() > LIMIT {
                bail!("node {node} is not ready:\n{}", self.log(node)?);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If the node had ended by itself.
    pub async fn kill(&mut self, node: u64) -> anyhow::Result<()> {
        self.still_run()?;
        let seat = self.seats.get_mut(&node).context("no such node")?;
        let mut child = seat.running.take().context("the node does not run")?;
        Ok(child.kill().await?)
    }

    /// Asks a node to stop (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// If it does not end in time, or ends with a failure.
    pub async fn stop(&mut self, node: u64) -> anyhow::Result<()> {
        self.still_run()?;
        self.signal(node, Signal::TERM)?;
        let status = self.ended(node).await?;
        ensure!(
            status.success(),
            "it ended with {status}:\n{}",
            self.log(node)?
        );
        Ok(())
    }

    /// Sends a signal to a node's process.
    ///
    /// # Errors
    /// If the node does not run.
    pub fn signal(&self, node: u64, signal: Signal) -> anyhow::Result<()> {
        let child = self.seat(node)?.running.as_ref();
        let id = child.and_then(Child::id).context("the node does not run")?;
        let pid = Pid::from_raw(i32::try_from(id)?).context("a process id is not 0")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Starts a node that was stopped, and waits until it serves.
    ///
    /// # Errors
    /// As [`Self::ready`].
    pub async fn restart(&mut self, node: u64) -> anyhow::Result<()> {
        self.start(node)?;
        self.ready(node).await
    }

    /// Starts a node that is expected to end by itself; what it says.
    ///
    /// # Errors
    /// If it goes on, or ends as if all were well.
    pub async fn turned_away(&mut self, node: u64) -> anyhow::Result<String> {
        self.start(node)?;
        let status = self.ended(node).await?;
        ensure!(!status.success(), "node {node} started");
        self.log(node)
    }

    /// Waits until a node ends by itself; how.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn ended(&mut self, node: u64) -> anyhow::Result<ExitStatus> {
        let seat = self.seats.get_mut(&node).context("no such node")?;
        let mut child = seat.running.take().context("the node does not run")?;
        let ended = tokio::time::timeout(LIMIT, child.wait()).await;
        Ok(ended.with_context(|| format!("node {node} goes on"))??)
    }

    /// Every node that should run, runs.
    ///
    /// # Errors
    /// If one ended by itself; the error has its log.
    pub fn still_run(&mut self) -> anyhow::Result<()> {
        let mut ended = None;
        for (node, seat) in &mut self.seats {
            if let Some(child) = &mut seat.running
                && let Some(status) = child.try_wait()?
            {
                ended = Some((*node, status));
            }
        }
        match ended {
            None => Ok(()),
            Some((node, status)) => {
                bail!(
                    "node {node} ended by itself ({status}):\n{}",
                    self.log(node)?
                )
            }
        }
    }

    /// What a node has logged since its last start.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn log(&self, node: u64) -> anyhow::Result<String> {
        let log = fs::read(self.seat(node)?.log())?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    /// Waits until a line of a node's log holds `text`.
    ///
    /// # Errors
    /// If none does in time.
    pub async fn logs(&self, node: u64, text: &str) -> anyhow::Result<()> {
        let begin = Instant::now();
        while !self.log(node)?.contains(text) {
            ensure!(
                begin.elapsed() < LIMIT,
                "node {node} does not say `{text}`:\n{}",
                self.log(node)?
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// How much memory a node holds.
    ///
    /// # Errors
    /// If it does not run.
    pub fn memory(&self, node: u64) -> anyhow::Result<Memory> {
        let running = self.seat(node)?.running.as_ref();
        let id = running.and_then(Child::id);
        Memory::of(id.with_context(|| format!("node {node} does not run"))?)
    }

    /// A node's data directory.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn data(&self, node: u64) -> anyhow::Result<PathBuf> {
        Ok(self.seat(node)?.data())
    }

    /// Gives a node that does not run the usual configuration and `more`, sections of TOML.
    ///
    /// # Errors
    /// If there is no such node, or the file cannot be written.
    pub fn configure(&self, node: u64, more: &str) -> anyhow::Result<()> {
        self.seat(node)?.write_config(more)
    }

    /// A node's configuration file, as an argument.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn config(&self, node: u64) -> anyhow::Result<String> {
        Ok(self.seat(node)?.config().display().to_string())
    }

    fn lakehouse(&self, node: u64) -> anyhow::Result<String> {
        Ok(format!("http://127.0.0.1:{}", self.seat(node)?.ports[0]))
    }

    /// Where clients reach a node.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn endpoints(&self, node: u64) -> anyhow::Result<Endpoints> {
        let lakehouse = self.lakehouse(node)?;
        Ok(Endpoints {
            iceberg_uri: format!("{lakehouse}/iceberg"),
            s3tables_uri: lakehouse,
            s3_uri: format!("http://127.0.0.1:{}", self.seat(node)?.ports[1]),
            region: "us-east-1".to_owned(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
        })
    }

    fn seat(&self, node: u64) -> anyhow::Result<&Seat> {
        self.seats
            .get(&node)
            .with_context(|| format!("there is no node {node}"))
    }
}

/// Whether a node has an alarm of a kind.
#[must_use]
pub fn has_alarm(status: &Value, node: u64, kind: &str) -> bool {
    let mut alarms = status["alarms"].as_array().into_iter().flatten();
    alarms.any(|alarm| alarm["node"] == node && alarm["kind"] == kind)
}

/// The state of a member in a cluster's status; empty if it is none.
#[must_use]
pub fn state_of(status: &Value, node: u64) -> &str {
    let members = status["members"].as_array().map_or(&[][..], Vec::as_slice);
    let member = members.iter().find(|member| member["node"] == node);
    member
        .and_then(|member| member["state"].as_str())
        .unwrap_or_default()
}

/// Who leads a group by a cluster's status.
#[must_use]
pub fn leader_of(status: &Value, group: usize) -> Option<u64> {
    status["groups"][group]["leader"].as_u64()
}
