//! What the checks on the source tree share. The checks themselves are in `tests/`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the workspace.
///
/// # Panics
/// Never: this crate lies two levels below it.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("two levels up")
        .to_owned()
}

/// What cargo prints when it is run in the workspace.
///
/// # Panics
/// If it fails.
#[must_use]
pub fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    let run = command.args(arguments).current_dir(root()).output();
    let out = run.expect("cargo runs");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    String::from_utf8(out.stdout).expect("cargo prints UTF-8")
}

/// Every `.rs` file below `dir`, in a stable order.
///
/// # Panics
/// If a folder cannot be read.
#[must_use]
pub fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut stack = vec![dir.to_owned()];
    while let Some(dir) = stack.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                stack.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    out.sort();
    out
}

/// The part of a source file before its inline test module.
#[must_use]
pub fn production_part(text: &str) -> &str {
    let end = text
        .find("\n#[cfg(test)]\nmod ")
        .map_or(text.len(), |at| at + 1);
    &text[..end]
}

/// Name, first line number and code lines (blank and comment lines are free) of every function,
/// found by indentation, which rustfmt guarantees.
#[must_use]
pub fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some(name) = function_name(line.trim_start()) else {
            continue;
        };
        let close = format!("{}}}", " ".repeat(indent));
        let mut code = 0;
        for next in &lines[at..] {
            let trimmed = next.trim();
            if !trimmed.is_empty() && !trimmed.starts_with("//") {
                code += 1;
            }
            if *next == close || (code == 1 && (trimmed.ends_with('}') || trimmed.ends_with(';'))) {
                break;
            }
            if trimmed.ends_with(';') && next.len() - next.trim_start().len() == indent {
                break;
            }
        }
        out.push((name, at + 1, code));
    }
    out
}

fn function_name(line: &str) -> Option<String> {
    let mut rest = line;
    for word in [
        "pub(crate) ",
        "pub(super) ",
        "pub ",
        "const ",
        "async ",
        "unsafe ",
    ] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name: String = rest
        .strip_prefix("fn ")?
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_in_code_lines() {
        let text = "impl X {\n    pub async fn a(&self) -> u8 {\n        // free\n\n        1\n    }\n}\nfn b() {}\n";
        assert_eq!(
            functions(text),
            vec![("a".into(), 2, 3), ("b".into(), 8, 1)]
        );
    }
}
