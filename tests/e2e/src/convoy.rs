//! Several `floeberg server` processes on the loopback interface that are one cluster, named by seat
//! rather than by node id, for tests that restart them under load.

use crate::process::Endpoints;
use anyhow::{Context as _, bail, ensure};
use floeberg_client::{Auth, Credentials, Endpoint, Request, Scope};
use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// A node that does not serve, settle or stop within this time is a failure.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two questions.
const POLL: Duration = Duration::from_millis(20);
const REGION: &str = "us-east-1";
const ACCESS_KEY: &str = "FLEETROOT";
const SECRET_KEY: &str = "fleet-root-secret";

/// A cluster of processes; they end with it.
#[derive(Debug)]
pub struct Convoy {
    binary: PathBuf,
    dir: PathBuf,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    ports: [u16; 3],
    running: Option<Child>,
}

/// Ports that are free now: a configuration file takes no port 0, because others must know it.
fn free_ports() -> anyhow::Result<[u16; 3]> {
    let open = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let held = [open()?, open()?, open()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

impl Convoy {
    /// Founds a cluster of `count` nodes and waits until all of them vote and serve.
    ///
    /// # Errors
    /// If a node does not; the error has its log.
    pub async fn start(binary: &Path, dir: &Path, count: usize) -> anyhow::Result<Self> {
        let mut fleet = Self {
            binary: binary.to_owned(),
            dir: dir.to_owned(),
            nodes: Vec::new(),
        };
        for node in 0..count {
            let ports = free_ports()?;
            fleet.nodes.push(Node {
                ports,
                running: None,
            });
            fs::write(fleet.file(node, "toml"), fleet.config(node))?;
            if node == 0 {
                fleet.cluster(&["init", "--config"], 0, &[]).await?;
            } else {
                fleet.join(node).await?;
            }
            fleet.spawn(node)?;
            fleet.ready(node).await?;
        }
        fleet.settled().await?;
        Ok(fleet)
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Where a node serves.
    #[must_use]
    pub fn endpoints(&self, node: usize) -> Endpoints {
        let [lakehouse, s3, _] = self.nodes[node].ports;
        Endpoints {
            iceberg_uri: format!("http://127.0.0.1:{lakehouse}/iceberg"),
            s3tables_uri: format!("http://127.0.0.1:{lakehouse}"),
            s3_uri: format!("http://127.0.0.1:{s3}"),
            region: REGION.to_owned(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
        }
    }

    /// Asks a node to stop (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// If it does not end, or ends with a failure.
    pub async fn stop(&mut self, node: usize) -> anyhow::Result<()> {
        let mut child = self.nodes[node].running.take().context("it does not run")?;
        let id = child.id().context("it had ended already")?;
        let pid = Pid::from_raw(i32::try_from(id)?).context("a process id is not 0")?;
        kill_process(pid, Signal::TERM)?;
        let status = tokio::time::timeout(LIMIT, child.wait()).await;
        let status = status.context("a node did not stop in time")??;
        ensure!(status.success(), "{status}:\n{}", self.log(node));
        Ok(())
    }

    /// Starts a node that was stopped, and waits until it says that it is ready.
    ///
    /// # Errors
    /// If it does not; the error has its log.
    pub async fn restart(&mut self, node: usize) -> anyhow::Result<()> {
        self.spawn(node)?;
        self.ready(node).await
    }

    /// Starts a node that is expected to end by itself; what it says.
    ///
    /// # Errors
    /// If it goes on.
    pub async fn refused(&self, node: usize) -> anyhow::Result<String> {
        let mut command = self.command();
        command.arg("server").arg("--config");
        let ended = command.arg(self.file(node, "toml")).output();
        let ended = tokio::time::timeout(LIMIT, ended).await?;
        let ended = ended?;
        ensure!(!ended.status.success(), "node {node} started");
        Ok(String::from_utf8(ended.stderr)?)
    }

    /// Asks a node's admin routes.
    ///
    /// # Errors
    /// If it does not answer, or with an error.
    pub async fn admin(
        &self,
        node: usize,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let keys = Credentials {
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            session_token: None,
        };
        let scope = Scope {
            region: REGION.to_owned(),
            service: "s3tables".to_owned(),
        };
        let uri = self.endpoints(node).s3tables_uri;
        let endpoint = Endpoint::new(&uri, Auth::sigv4(keys, scope))?;
        let mut request = Request::new(method, format!("/admin/v1{path}"));
        if let Some(body) = body {
            request = request.json(body.to_string());
        }
        Ok(serde_json::from_slice(
            &endpoint.send(&request).await?.body,
        )?)
    }

    /// The log of a node.
    #[must_use]
    pub fn log(&self, node: usize) -> String {
        fs::read_to_string(self.file(node, "log")).unwrap_or_default()
    }

    /// Where a node keeps its data.
    #[must_use]
    pub fn data_dir(&self, node: usize) -> PathBuf {
        self.dir.join(format!("data{node}"))
    }

    fn file(&self, node: usize, kind: &str) -> PathBuf {
        self.dir.join(format!("node{node}.{kind}"))
    }

    fn config(&self, node: usize) -> String {
        let [lakehouse, s3, peer] = self.nodes[node].ports;
        format!(
            "[data]\ndir = {:?}\n[peer]\nlisten = \"127.0.0.1:{peer}\"\n\
             [lakehouse]\nlisten = \"127.0.0.1:{lakehouse}\"\n[s3]\nlisten = \"127.0.0.1:{s3}\"\n\
             [tls]\nplain = \"loopback\"\n[limits]\nvolume_segment = \"64 MiB\"\nnotice = \"300ms\"\n\
             [log]\nformat = \"json\"\n",
            self.data_dir(node)
        )
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .env("FLOEBERG_ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("FLOEBERG_ROOT_SECRET_KEY", SECRET_KEY)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn cluster(&self, words: &[&str], node: usize, more: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command();
        command.arg("cluster").args(words);
        let done = command.arg(self.file(node, "toml")).args(more).output();
        let done = tokio::time::timeout(LIMIT, done).await??;
        let complaint = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "`cluster {}`: {complaint}", words[0]);
        Ok(String::from_utf8(done.stdout)?)
    }

    /// Makes a machine with an empty data directory a member, through node 0.
    ///
    /// # Errors
    /// If it is not let in.
    pub async fn join(&self, node: usize) -> anyhow::Result<()> {
        let body = serde_json::json!({"ttl-seconds": 300});
        let answer = self.admin(0, Method::POST, "/cluster/token", Some(body));
        let answer = answer.await?;
        let token = answer["token"].as_str().context("no token")?;
        let peer = format!("127.0.0.1:{}", self.nodes[0].ports[2]);
        let more = ["--token", token, "--peer", &peer];
        self.cluster(&["join", "--config"], node, &more).await?;
        Ok(())
    }

    fn spawn(&mut self, node: usize) -> anyhow::Result<()> {
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.file(node, "log"))?;
        let mut command = self.command();
        command.arg("server").arg("--config");
        command.arg(self.file(node, "toml"));
        command.stdout(log.try_clone()?).stderr(log);
        self.nodes[node].running = Some(command.spawn()?);
        Ok(())
    }

    async fn ready(&mut self, node: usize) -> anyhow::Result<()> {
        let begin = Instant::now();
        let uri = self.endpoints(node).s3tables_uri;
        let probe = Endpoint::new(&uri, Auth::None)?;
        let request = Request::new(Method::GET, "/readyz".into());
        while probe.send(&request).await.is_err() {
            let child = self.nodes[node].running.as_mut().context("not started")?;
            if let Some(status) = child.try_wait()? {
                bail!("node {node} ended ({status}):\n{}", self.log(node));
            }
            let log = || self.log(node);
            ensure!(
                begin.elapsed() < LIMIT,
                "node {node} is not ready:\n{}",
                log()
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until every group has as many voters as there are nodes.
    async fn settled(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let status = self.admin(0, Method::GET, "/cluster", None).await;
            let voters = |group: &Value| group["voters"].as_array().map_or(0, Vec::len);
            if let Ok(status) = &status
                && let Some(groups) = status["groups"].as_array()
                && groups.iter().all(|group| voters(group) == self.len())
            {
                return Ok(());
            }
            ensure!(begin.elapsed() < LIMIT, "it does not settle: {status:?}");
            tokio::time::sleep(POLL).await;
        }
    }
}
