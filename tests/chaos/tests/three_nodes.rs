//! Three real nodes under every kind of fault, twice; more rounds are `make chaos`.

use floeberg_test_chaos::sandbox;

#[test]
fn three_nodes_keep_their_promises_under_every_fault() -> anyhow::Result<()> {
    let rounds = env!("CARGO_BIN_EXE_chaos-rounds");
    sandbox::pass_rounds(rounds, &["--nodes", "3", "--rounds", "2"])
}
