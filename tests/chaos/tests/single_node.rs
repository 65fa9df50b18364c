//! The whole harness against one real node: load, kill and pause, healing, verification.

use floeberg_test_chaos::sandbox;

#[test]
fn one_node_keeps_its_promises_under_kill_and_pause() -> anyhow::Result<()> {
    let rounds = env!("CARGO_BIN_EXE_chaos-rounds");
    sandbox::pass_rounds(rounds, &["--nodes", "1", "--rounds", "1"])
}
