//! Which lines of a node's log call for attention.

use serde_json::Value;

/// The last lines of a log.
#[must_use]
pub fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Lines that are a warning, an error or no log line at all (a panic message, for example).
///
/// A process that was killed may leave half a line at the end; that one is let pass.
#[must_use]
pub fn alarms(log: &str) -> Vec<String> {
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    whole
        .lines()
        .filter(|line| is_alarm(line))
        .map(str::to_owned)
        .collect()
}

fn is_alarm(line: &str) -> bool {
    let Ok(parsed) = serde_json::from_str::<Value>(line) else {
        return true;
    };
    let quiet = matches!(parsed["level"].as_str(), Some("INFO" | "DEBUG" | "TRACE"));
    !quiet && !is_expected(&parsed)
}

/// The Raft library warns when the completion of a write overtakes a change of its vote, which it
/// does to itself whenever a single voter elects itself.
fn is_expected(line: &Value) -> bool {
    let text = line["fields"]["message"].as_str().unwrap_or_default();
    let target = line["target"].as_str().unwrap_or_default();
    line["level"] == "WARN"
        && target == "openraft::core::raft_core"
        && text.starts_with("A message will be ignored because Leader vote changed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_errors_and_panics_are_alarms() {
        let log = concat!(
            "{\"level\":\"INFO\",\"fields\":{\"message\":\"starting\"}}\n",
            "{\"level\":\"WARN\",\"fields\":{\"message\":\"a\"}}\n",
            "{\"level\":\"WARN\",\"fields\":{\"message\":\"A message will be ignored because ",
            "Leader vote changed: x\"},\"target\":\"openraft::core::raft_core\"}\n",
            "thread 'main' panicked at x.rs:1:1:\n",
            "{\"level\":\"ERROR\",\"fields\":{\"message\":\"b\"}}\n",
            "{\"level\":\"INF",
        );
        assert_eq!(alarms(log).len(), 3);
        assert!(alarms("").is_empty());
    }
}
