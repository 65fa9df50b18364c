//! `check-history`: checks a recorded history again.

use anyhow::Context as _;
use clap::Parser;
use floeberg_test_chaos::check::check;
use floeberg_test_chaos::history::History;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

/// Checks a history of JSON lines and prints what is wrong with it.
#[derive(Parser)]
struct Arguments {
    /// The history
    file: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let path = arguments.file.display().to_string();
    let file = File::open(&arguments.file).with_context(|| path.clone())?;
    let history = History::read(BufReader::new(file)).context(path)?;
    let found = check(&history);
    println!(
        "{} operations on {} tables, {} objects and {} families of names",
        found.ops, found.tables, found.objects, found.families
    );
    for what in &found.undecided {
        println!("UNDECIDED: {what}");
    }
    for violation in &found.violations {
        println!("BROKEN: {violation}");
    }
    Ok(
        if found.violations.is_empty() && found.undecided.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        },
    )
}
