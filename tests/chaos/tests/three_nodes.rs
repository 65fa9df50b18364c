//! Three real nodes under every kind of fault, twice; more rounds are `make chaos`.

use floeberg_test_chaos::sandbox;
use std::process::{Command, Stdio};

#[test]
fn three_nodes_keep_their_promises_under_every_fault() -> anyhow::Result<()> {
    if let Err(reason) = sandbox::is_possible() {
        return sandbox::skip(&reason);
    }
    let done = Command::new(env!("CARGO_BIN_EXE_chaos-rounds"))
        .arg("--floeberg")
        .arg(sandbox::floeberg()?)
        .args(["--nodes", "3", "--rounds", "2"])
        .stdin(Stdio::null())
        .output()?;
    let out = String::from_utf8_lossy(&done.stdout);
    let err = String::from_utf8_lossy(&done.stderr);
    println!("{out}");
    anyhow::ensure!(done.status.success(), "{out}{err}");
    Ok(())
}
