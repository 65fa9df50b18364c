//! The whole harness against one real node: load, kill and pause, healing, verification.

use floeberg_test_chaos::sandbox;
use std::process::{Command, Stdio};

#[test]
fn one_node_keeps_its_promises_under_kill_and_pause() -> anyhow::Result<()> {
    if let Err(reason) = sandbox::is_possible() {
        return sandbox::skip(&reason);
    }
    let done = Command::new(env!("CARGO_BIN_EXE_chaos-rounds"))
        .arg("--floeberg")
        .arg(sandbox::floeberg()?)
        .args(["--nodes", "1", "--rounds", "1"])
        .stdin(Stdio::null())
        .output()?;
    let out = String::from_utf8_lossy(&done.stdout);
    let err = String::from_utf8_lossy(&done.stderr);
    println!("{out}");
    anyhow::ensure!(done.status.success(), "{out}{err}");
    Ok(())
}
