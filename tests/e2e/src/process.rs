//! One `floeberg dev` process: started, awaited, killed or asked to stop.

use crate::log_lines;
use anyhow::{Context as _, bail, ensure};
use rustix::fs::inotify;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

/// A start that takes longer is reported as a failure instead of hanging the run.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// A stop drains requests for 10 s at most.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Endpoints and keys, as the node writes them once it serves.
#[derive(Clone, Debug, Deserialize)]
pub struct Endpoints {
    /// Iceberg REST, without `/v1`.
    pub iceberg_uri: String,
    /// S3 Tables API.
    pub s3tables_uri: String,
    /// S3.
    pub s3_uri: String,
    /// Region of signatures.
    pub region: String,
    /// Root access key.
    pub access_key: String,
    /// Root secret key.
    pub secret_key: String,
}

/// Where a node lives, and with which binary it is started. Survives any number of starts.
#[derive(Debug)]
pub struct Home {
    binary: PathBuf,
    dir: PathBuf,
    starts: u32,
}

/// A started process that has not necessarily become ready.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ready_file: PathBuf,
    stderr: PathBuf,
    started: Instant,
    /// Tells of files that are renamed into the home.
    watch: pipe::Receiver,
}

/// A process that serves.
#[derive(Debug)]
pub struct Node {
    process: Process,
    /// Where and as whom to reach it.
    pub endpoints: Endpoints,
    /// From spawning the process to the ready file.
    pub startup: Duration,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Now.
    pub resident: u64,
    /// The most that there was.
    pub peak: u64,
}

impl Memory {
    /// Reads what the system says of a process.
    pub(crate) fn of(process: u32) -> anyhow::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let field = |name: &str| -> anyhow::Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next());
            let kib: u64 = kib.with_context(|| format!("no {name}"))?.parse()?;
            Ok(kib << 10)
        };
        Ok(Self {
            resident: field("VmRSS:")?,
            peak: field("VmHWM:")?,
        })
    }
}

/// A process that ended by itself before it served.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Copies a directory and everything below it.
///
/// # Errors
/// As of `std::fs`.
pub fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The binary under test: `FLOEBERG_BIN`, or the one that cargo built beside this test.
///
/// # Errors
/// If there is none.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("FLOEBERG_BIN") {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "FLOEBERG_BIN names no file: {}",
            path.display()
        );
        return Ok(path);
    }
    // Tests are in <target>/debug/deps, binaries in <target>/debug.
    let own = std::env::current_exe()?;
    let beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("floeberg"));
    beside
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "no floeberg binary beside {}: run `make test`, or name it in FLOEBERG_BIN",
                own.display()
            )
        })
}

impl Home {
    /// A home in `dir`, which is created if missing.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn new(binary: &Path, dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self {
            binary: binary.to_owned(),
            dir: dir.to_owned(),
            starts: 0,
        })
    }

    /// The node's data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Starts the process and returns at once.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn spawn(&mut self) -> anyhow::Result<Process> {
        self.starts += 1;
        let ready_file = self.dir.join(format!("ready-{}.json", self.starts));
        let stderr = self.dir.join(format!("stderr-{}.log", self.starts));
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        inotify::add_watch(&watch, &self.dir, inotify::WatchFlags::MOVED_TO)?;
        let child = Command::new(&self.binary)
            .args([
                "dev",
                "--port",
                "0",
                "--s3-port",
                "0",
                "--log-format",
                "json",
            ])
            // The S3 protocol library calls what clients do wrong an error; the default leaves it out, too.
            .args(["--log", "warn,floeberg=info,s3s=off"])
            .args(["--segment-bytes", "67108864"])
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--ready-file")
            .arg(&ready_file)
            .env_remove("FLOEBERG_ROOT_ACCESS_KEY")
            .env_remove("FLOEBERG_ROOT_SECRET_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&stderr)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        // Any descriptor that can be polled and read will do here, not only a pipe's.
        let watch = pipe::Receiver::from_owned_fd_unchecked(watch)?;
        Ok(Process {
            child,
            ready_file,
            stderr,
            started: Instant::now(),
            watch,
        })
    }

    /// Starts the process and waits until it serves.
    ///
    /// # Errors
    /// If it ends instead; the error has its log.
    pub async fn start(&mut self) -> anyhow::Result<Node> {
        match self.spawn()?.ready().await? {
            Ok(node) => Ok(node),
            Err(ended) => bail!(
                "the node did not start ({}):\n{}",
                ended.status,
                ended.stderr
            ),
        }
    }

    /// Starts the process, which is expected to refuse.
    ///
    /// # Errors
    /// If it serves.
    pub async fn start_refused(&mut self) -> anyhow::Result<Ended> {
        match self.spawn()?.ready().await? {
            Ok(_) => bail!("the node started"),
            Err(ended) => Ok(ended),
        }
    }
}

impl Process {
    /// Waits for the ready file or the process's end, whichever comes first.
    ///
    /// # Errors
    /// If neither comes.
    pub async fn ready(self) -> anyhow::Result<Result<Node, Ended>> {
        let stderr = self.stderr.clone();
        tokio::time::timeout(READY_LIMIT, self.await_ready())
            .await
            .with_context(|| {
                let log = fs::read_to_string(&stderr).unwrap_or_default();
                format!("the node neither served nor ended within {READY_LIMIT:?}:\n{log}")
            })?
    }

    async fn await_ready(mut self) -> anyhow::Result<Result<Node, Ended>> {
        let mut events = [0u8; 4096];
        while !self.ready_file.exists() {
            tokio::select! {
                status = self.child.wait() => {
                    let ended = Ended { status: status?, stderr: self.log()? };
                    return Ok(Err(ended));
                }
                events = self.watch.read(&mut events) => {
                    events?;
                }
            }
        }
        let startup = self.started.elapsed();
        let endpoints = serde_json::from_slice(&fs::read(&self.ready_file)?)?;
        Ok(Ok(Node {
            process: self,
            endpoints,
            startup,
        }))
    }

    /// Kills the process as `kill -9` does, and checks what it logged.
    ///
    /// # Errors
    /// If it had ended before, or logged something that calls for attention.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the node ended by itself ({status}):\n{}", self.log()?);
        }
        self.child.kill().await?;
        self.check_log()
    }

    fn log(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.stderr)?).into_owned())
    }

    fn check_log(&self) -> anyhow::Result<()> {
        let log = self.log()?;
        let alarms = log_lines::alarms(&log);
        ensure!(
            alarms.is_empty(),
            "unexpected lines in the node's log:\n{}",
            alarms.join("\n")
        );
        Ok(())
    }
}

impl Node {
    /// Kills the process as `kill -9` does, and checks what it logged.
    ///
    /// # Errors
    /// If it had ended before, or logged something that calls for attention.
    pub async fn kill(self) -> anyhow::Result<()> {
        self.process.kill().await
    }

    /// Asks the process to stop (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// If it does not end, ends with a failure, or logged something that calls for attention.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let id = self
            .process
            .child
            .id()
            .context("the node had ended already")?;
        let pid = Pid::from_raw(i32::try_from(id)?).context("a process id is not 0")?;
        kill_process(pid, Signal::TERM)?;
        let status = tokio::time::timeout(STOP_LIMIT, self.process.child.wait())
            .await
            .with_context(|| format!("the node did not stop within {STOP_LIMIT:?}"))??;
        ensure!(
            status.success(),
            "the node stopped with {status}:\n{}",
            self.process.log()?
        );
        self.process.check_log()
    }

    /// How much memory the process holds.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let id = self.process.child.id();
        Memory::of(id.context("the node had ended already")?)
    }

    /// Begins to measure the most memory anew.
    ///
    /// # Errors
    /// If the process has ended, or the system cannot do so.
    pub fn forget_peak(&self) -> anyhow::Result<()> {
        let id = self.process.child.id();
        let id = id.context("the node had ended already")?;
        // Documented in proc(5): 5 resets the peak of the resident set.
        Ok(fs::write(format!("/proc/{id}/clear_refs"), "5")?)
    }

    /// What the process has logged so far.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        self.process.log()
    }
}
