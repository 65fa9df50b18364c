//! A mount namespace of its own for a test that needs disks of a certain size.
//!
//! The test executes itself again inside. What it mounts there nobody else sees, and it is gone when the
//! test ends, in whatever way.

use anyhow::{Context as _, bail, ensure};
use std::path::Path;
use std::process::{Command, Stdio};

/// Set for the test inside.
const INSIDE: &str = "FLOEBERG_E2E_INSIDE";

/// Whether this test already runs inside.
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--mount", "--fork", "--kill-child=SIGKILL"])
        .args(["--mount-proc", "--"])
        .env(INSIDE, "1")
        .stdin(Stdio::null());
    command
}

/// Runs one test of this test binary inside and hands on its result; says so and leaves it out where disks cannot
/// be mounted.
///
/// # Errors
/// If it fails.
pub fn run_test(name: &str) -> anyhow::Result<()> {
    let probe = "mount -t tmpfs -o size=1m probe /mnt";
    let possible = unshare().args(["sh", "-c", probe]).output();
    match possible {
        Ok(done) if done.status.success() => {}
        Ok(done) => {
            let why = String::from_utf8_lossy(&done.stderr).into_owned();
            println!(
                "SKIPPED: disks cannot be mounted here (it needs root): {}",
                why.trim()
            );
            return Ok(());
        }
        Err(error) => {
            println!("SKIPPED: `unshare` (util-linux) cannot be run: {error}");
            return Ok(());
        }
    }
    let program = std::env::current_exe()?;
    let test = unshare()
        .arg(program)
        .args(["--exact", name, "--nocapture"])
        .status()?;
    if !test.success() {
        bail!("the test failed inside its namespaces: {test}");
    }
    Ok(())
}

/// Mounts a file system of `mebibytes` in memory at `dir`, which is made.
///
/// # Errors
/// If that fails, or the test does not run inside.
pub fn mount(dir: &Path, mebibytes: u64) -> anyhow::Result<()> {
    ensure!(is_inside(), "the mount would stay behind");
    std::fs::create_dir_all(dir)?;
    let done = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "disk"])
        .arg(dir)
        .status()
        .context("`mount` cannot be run")?;
    ensure!(done.success(), "no file system at {}", dir.display());
    Ok(())
}
