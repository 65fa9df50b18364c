//! `keep-lake`: packs what one version of the program writes, so that later versions are tested with it.

use clap::Parser;
use floeberg_test_e2e::kept::Kept;
use std::path::PathBuf;

/// Packs a data directory and a backup that a binary wrote.
#[derive(Parser)]
struct Arguments {
    /// The binary that writes them
    #[arg(long)]
    floeberg: PathBuf,
    /// A new folder below tests/e2e/kept, named after the binary's commit
    folder: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    Kept::write(&arguments.floeberg, &arguments.folder).await
}
