//! What subcommands print: tables for people, JSON for scripts, errors on standard error.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;
use std::io::{self, Write as _};

/// Prints rows either as an aligned table or as a JSON array of objects.
///
/// # Errors
/// If standard output is closed.
pub fn print_rows(json: bool, columns: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        let objects: Vec<Value> = rows
            .iter()
            .map(|row| {
                let fields = columns.iter().zip(row);
                fields
                    .map(|(name, cell)| ((*name).to_owned(), Value::from(cell.as_str())))
                    .collect()
            })
            .collect();
        return writeln!(out, "{:#}", Value::Array(objects));
    }
    if rows.is_empty() {
        return writeln!(out, "(none)");
    }
    writeln!(out, "{}", render_table(columns, rows))
}

/// Rows as an aligned table with a header.
pub fn render_table(columns: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(columns.iter().map(|c| c.to_uppercase()));
    table.add_rows(rows);
    let text = table.to_string();
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// Prints one JSON document.
///
/// # Errors
/// If standard output is closed.
pub fn print_json(value: &Value) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{value:#}")
}

/// Prints what was done, unless a script is reading.
///
/// # Errors
/// If standard output is closed.
pub fn print_done(json: bool, text: &str) -> io::Result<()> {
    if json {
        return Ok(());
    }
    writeln!(io::stdout().lock(), "{text}")
}

/// Prints an error and its causes, one line each.
pub fn print_error(error: &anyhow::Error) {
    let mut err = io::stderr().lock();
    let mut lines = vec![format!("error: {error}")];
    lines.extend(
        error
            .chain()
            .skip(1)
            .map(|cause| format!("  because: {cause}")),
    );
    if writeln!(err, "{}", lines.join("\n")).is_err() {
        tracing::debug!("standard error is closed");
    }
}
