//! A world of its own for a run: private network, process and mount namespaces.
//!
//! The program executes itself again inside. Everything that a run makes (interfaces, namespaces,
//! processes) belongs to these namespaces, so the kernel removes all of it when the run ends, in
//! whatever way it ends: the run is process 1 inside, and no process outlives it.

use anyhow::{Context as _, bail};
use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Set for the program inside.
const INSIDE: &str = "FLOEBERG_CHAOS_INSIDE";
/// If set to `required`, a test that cannot run fails instead of saying that it was skipped.
const DEMAND: &str = "FLOEBERG_CHAOS";

/// Whether this program already runs inside.
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// The command that runs `program` inside. Killing the process it becomes kills everything.
fn unshare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--pid", "--mount", "--fork"])
        .args(["--kill-child=SIGKILL", "--mount-proc", "--"])
        .arg(program)
        .env(INSIDE, "1");
    command
}

/// Tries out what a run needs.
///
/// # Errors
/// What is missing, and what to do about it.
pub fn is_possible() -> Result<(), String> {
    let script = "set -e
        mkdir -p /run/netns
        mount -t tmpfs chaos /run/netns
        ip netns add chaos-probe
        ip link add chaos-b type bridge
        ip link add chaos-v type veth peer name eth0 netns chaos-probe
        ip -n chaos-probe rule add pref 10 from 192.0.2.1 blackhole
        nsenter --net=/run/netns/chaos-probe true";
    let done = unshare("sh")
        .arg("-c")
        .arg(script)
        .stdin(Stdio::null())
        .output();
    match done {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(format!(
            "network namespaces cannot be made here (they need root and iproute2): {}",
            String::from_utf8_lossy(&done.stderr).trim()
        )),
        Err(error) => Err(format!("`unshare` (util-linux) cannot be run: {error}")),
    }
}

/// Says why a test is left out.
///
/// # Errors
/// If the environment demands that it runs.
pub fn skip(reason: &str) -> anyhow::Result<()> {
    if std::env::var_os(DEMAND).is_some_and(|demand| demand == "required") {
        bail!("{reason}");
    }
    println!("SKIPPED: {reason}");
    Ok(())
}

/// Replaces this program by itself inside, with the same arguments.
///
/// # Errors
/// Returns only if that fails.
pub fn enter() -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let error = unshare(program).args(std::env::args_os().skip(1)).exec();
    Err(error).context("cannot run `unshare`")
}

/// Runs one test of this test binary inside and hands on its result.
///
/// # Errors
/// If it fails.
pub fn run_test(name: &str) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let status = unshare(program)
        .args(["--exact", name, "--nocapture"])
        .stdin(Stdio::null())
        .status()?;
    if status.success() {
        return Ok(());
    }
    bail!("the test failed inside its namespaces: {status}")
}

/// The binary under test: `FLOEBERG_BIN`, or the one that cargo built beside this test.
///
/// # Errors
/// If there is none.
pub fn floeberg() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("FLOEBERG_BIN") {
        return Ok(PathBuf::from(path));
    }
    // Tests are in <target>/debug/deps, binaries in <target>/debug.
    let own = std::env::current_exe()?;
    let near = own.ancestors().skip(1).take(2);
    let mut beside = near.map(|dir| dir.join("floeberg"));
    beside
        .find(|path| path.is_file())
        .context("no floeberg binary: run `make test`, or name it in FLOEBERG_BIN")
}

/// Runs the program of the rounds, at `rounds`, as a test: fails with all it printed if it finds anything.
///
/// # Errors
/// If namespaces are required and impossible, or a promise was broken.
pub fn pass_rounds(rounds: &str, options: &[&str]) -> anyhow::Result<()> {
    if let Err(reason) = is_possible() {
        return skip(&reason);
    }
    let done = Command::new(rounds)
        .arg("--floeberg")
        .arg(floeberg()?)
        .args(options)
        .stdin(Stdio::null())
        .output()?;
    let out = String::from_utf8_lossy(&done.stdout);
    let err = String::from_utf8_lossy(&done.stderr);
    println!("{out}");
    anyhow::ensure!(done.status.success(), "{out}{err}");
    Ok(())
}
