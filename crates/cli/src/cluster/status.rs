//! The body of `GET /admin/v1/cluster`, and how it is shown to people.

use crate::output::render_table;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterStatus {
    cluster: String,
    node: u64,
    feature_level: u32,
    members: Vec<Member>,
    groups: Vec<Group>,
    waiting: Vec<Waiting>,
    #[serde(default)]
    local: Vec<Local>,
    rotation: Option<Rotation>,
    #[serde(default)]
    disagreements: Vec<Disagreement>,
    #[serde(default)]
    taking_no_part: Vec<Barred>,
    #[serde(default)]
    alarms: Vec<Alarm>,
}

/// Something that is wrong with a node.
#[derive(Deserialize)]
struct Alarm {
    node: u64,
    kind: String,
    severity: String,
    text: String,
}

/// How a cluster is, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Nothing is wrong as far as the node that was asked knows.
    Well,
    /// Everything is served, and something should be looked after.
    Warning,
    /// Something is not served, or may be lost next.
    Critical,
}

impl Health {
    /// The exit code of `cluster status`; 1 is for a status that could not be had.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Warning => 3,
            Self::Critical => 4,
        }
    }
}

/// A node that takes no part.
#[derive(Deserialize)]
struct Barred {
    node: u64,
    text: String,
}

/// A setting that members should have alike.
#[derive(Deserialize)]
struct Disagreement {
    setting: String,
    values: Vec<Setting>,
}

#[derive(Deserialize)]
struct Setting {
    value: String,
    nodes: Vec<u64>,
}

/// The last change of the authority.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Rotation {
    number: u64,
    phase: String,
    #[serde(default)]
    waiting_for: Vec<u64>,
}

/// What the node that answers has of a group itself.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Local {
    group: u32,
    role: String,
    last_term: Option<u64>,
    last_index: Option<u64>,
    applied: Option<u64>,
    #[serde(default)]
    diverged: Vec<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Member {
    node: u64,
    address: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    state: String,
    replaced_by: Option<u64>,
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Group {
    group: u32,
    /// Why nothing more is known.
    error: Option<String>,
    leader: Option<u64>,
    term: Option<u64>,
    #[serde(default)]
    voters: Vec<u64>,
    #[serde(default)]
    learners: Vec<u64>,
    #[serde(default)]
    progress: Vec<Progress>,
}

#[derive(Deserialize)]
struct Progress {
    node: u64,
    reachable: bool,
    behind: Option<u64>,
}

#[derive(Deserialize)]
struct Waiting {
    group: u32,
    #[serde(default)]
    reason: String,
    text: String,
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn list(nodes: &[u64]) -> String {
    let texts: Vec<_> = nodes.iter().map(u64::to_string).collect();
    if texts.is_empty() {
        "-".to_owned()
    } else {
        texts.join(" ")
    }
}

impl ClusterStatus {
    /// Whether a node is out for good.
    pub fn is_gone(&self, node: u64) -> bool {
        let mut members = self.members.iter();
        members.any(|member| member.node == node && member.state == "gone")
    }

    /// How far the departure of a node is, in a line.
    pub fn progress(&self, node: u64) -> String {
        let state = self.members.iter().find(|member| member.node == node);
        let state = state.map_or("no member", |member| &member.state);
        let mut waiting: Vec<&str> = self.waiting.iter().map(|w| &*w.text).collect();
        waiting.dedup();
        match waiting.is_empty() {
            true => format!("node {node} is {state}"),
            false => format!("node {node} is {state}: {}", waiting.join("; ")),
        }
    }

    /// The worst of what is known.
    pub fn health(&self) -> Health {
        let alarms = self.alarms.iter().map(|alarm| match &*alarm.severity {
            "warning" => Health::Warning,
            _ => Health::Critical,
        });
        let leaderless = self.groups.iter().any(|group| group.leader.is_none());
        let diverged = self.local.iter().any(|local| !local.diverged.is_empty());
        // Who led before goes on to call itself the leader.
        let alone = self.waiting.iter().any(|w| w.reason == "no-majority");
        let critical = leaderless || alone || diverged || !self.taking_no_part.is_empty();
        let silent = self.silent().next().is_some();
        let unlike = !self.disagreements.is_empty();
        let own = match (critical, silent || unlike) {
            (true, _) => Health::Critical,
            (false, true) => Health::Warning,
            (false, false) => Health::Well,
        };
        alarms.chain([own]).max().unwrap_or(own)
    }

    /// Members that should answer and do not.
    fn silent(&self) -> impl Iterator<Item = u64> {
        let expected = |member: &&Member| !matches!(&*member.state, "gone" | "dead");
        let members = self.members.iter().filter(expected);
        let nodes = members.map(|member| member.node);
        nodes.filter(|node| self.answers(*node) == "no")
    }

    /// Members, groups, and what is waited for.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let head = format!(
            "cluster {}, feature level {} (as node {} sees it)",
            self.cluster, self.feature_level, self.node
        );
        let parts = [
            head,
            String::new(),
            self.members(),
            String::new(),
            self.groups(),
            String::new(),
            self.own_log(),
        ];
        for part in parts {
            writeln!(out, "{part}").expect("writing to a string never fails");
        }
        for group in &self.groups {
            if let Some(error) = &group.error {
                writeln!(out, "\n{error}").expect("writing to a string never fails");
            }
        }
        for waiting in &self.waiting {
            writeln!(out, "\ngroup {} waits: {}", waiting.group, waiting.text)
                .expect("writing to a string never fails");
        }
        for local in self.local.iter().filter(|local| !local.diverged.is_empty()) {
            let (group, nodes) = (local.group, list(&local.diverged));
            writeln!(
                out,
                "\nDIVERGED in group {group}: the rows of node {} differ from those of node {nodes}; \
                 see the runbook about a diverged digest",
                self.node
            )
            .expect("writing to a string never fails");
        }
        self.troubles(&mut out);
        if let Some(rotation) = self.rotation.as_ref().filter(|r| r.phase != "done") {
            let Rotation { number, phase, .. } = rotation;
            let nodes = list(&rotation.waiting_for);
            writeln!(
                out,
                "\nchange {number} of the authority: phase {phase}, waits for nodes {nodes}"
            )
            .expect("writing to a string never fails");
        }
        out.trim_end().to_owned()
    }

    fn troubles(&self, out: &mut String) {
        for node in self.silent() {
            writeln!(out, "\nWARNING node {node} does not answer")
                .expect("writing to a string never fails");
        }
        for alarm in &self.alarms {
            let Alarm {
                node,
                kind,
                severity,
                text,
            } = alarm;
            let severity = severity.to_uppercase();
            writeln!(out, "\n{severity} node {node}, {kind}: {text}")
                .expect("writing to a string never fails");
        }
        for Barred { node, text } in &self.taking_no_part {
            writeln!(
                out,
                "\nTAKES NO PART: node {node}: {text}; see the runbook about a node that has forgotten"
            )
            .expect("writing to a string never fails");
        }
        for Disagreement { setting, values } in &self.disagreements {
            let values = values.iter();
            let values = values.map(|has| format!("{} on nodes {}", has.value, list(&has.nodes)));
            let values: Vec<_> = values.collect();
            writeln!(
                out,
                "\nNOT ALIKE: {setting}: {}; configure every node alike and restart those that change",
                values.join("; ")
            )
            .expect("writing to a string never fails");
        }
    }

    /// Whether a node answers, as far as any leader knows.
    fn answers(&self, node: u64) -> &'static str {
        let mut known = self
            .groups
            .iter()
            .flat_map(|group| &group.progress)
            .filter(|progress| progress.node == node)
            .peekable();
        match (known.peek().is_some(), known.any(|p| p.reachable)) {
            (false, _) => "-",
            (true, true) => "yes",
            (true, false) => "no",
        }
    }

    fn members(&self) -> String {
        let columns = ["node", "address", "state", "answers", "labels", "version"];
        let rows = self.members.iter().map(|member| {
            let labels: Vec<_> = member
                .labels
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let state = match member.replaced_by {
                Some(new) => format!("{}, replaced by {new}", member.state),
                None => member.state.clone(),
            };
            vec![
                member.node.to_string(),
                member.address.clone(),
                state,
                self.answers(member.node).to_owned(),
                labels.join(" "),
                member.version.clone(),
            ]
        });
        render_table(&columns, &rows.collect::<Vec<_>>())
    }

    fn own_log(&self) -> String {
        let columns = ["own log", "role", "last term", "last index", "applied"];
        let rows = self.local.iter().map(|local| {
            vec![
                format!("group {}", local.group),
                local.role.clone(),
                number(local.last_term),
                number(local.last_index),
                number(local.applied),
            ]
        });
        render_table(&columns, &rows.collect::<Vec<_>>())
    }

    fn groups(&self) -> String {
        let columns = ["group", "leader", "term", "voters", "learners", "behind"];
        let rows = self.groups.iter().map(|group| {
            let behind = group.progress.iter().filter_map(|progress| {
                let node = progress.node;
                match progress.behind {
                    Some(0) => None,
                    Some(behind) => Some(format!("{node}:{behind}")),
                    // A voter or learner of which nothing was heard since the leader began to lead.
                    None => (group.voters.contains(&node) || group.learners.contains(&node))
                        .then(|| format!("{node}:?")),
                }
            });
            let behind: Vec<_> = behind.collect();
            vec![
                group.group.to_string(),
                number(group.leader),
                number(group.term),
                list(&group.voters),
                list(&group.learners),
                if behind.is_empty() {
                    "-".to_owned()
                } else {
                    behind.join(" ")
                },
            ]
        });
        render_table(&columns, &rows.collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the contract; whoever serves the route is tested against the same text.
    fn documented() -> ClusterStatus {
        let text = include_str!("../../../../docs/formats/admin-api.md");
        let from = text
            .find("```json status\n")
            .expect("the example of a status");
        let text = &text[from + "```json status\n".len()..];
        let text = &text[..text.find("```").expect("its end")];
        serde_json::from_str(text).expect("the documented status is what we read")
    }

    #[test]
    fn the_documented_status_is_shown() {
        let shown = documented().render();
        let lines: Vec<_> = shown
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for line in [
            "NODE ADDRESS STATE ANSWERS LABELS VERSION",
            "2 node2.example:7000 active yes zone=hall-1 0.1.0",
            "3 node3.example:7000 dead, replaced by 4 no zone=hall-2 0.1.0",
            "0 1 7 1 2 3 4 3:40000 4:12000",
            "1 - - - - -",
            "group 1 has no leader that can be reached; nothing was changed, try again",
            "group 0 leader 7 81234 81234",
            "group 0 waits: node 4 still lacks 12000 log entries",
        ] {
            assert!(lines.iter().any(|l| l == line), "{line}\n{shown}");
        }
        let unlike = "NOT ALIKE: root keys: 3f1c on nodes 1 2; 9b27 on nodes 4; ";
        assert!(shown.contains(unlike), "{shown}");
        let barred = "TAKES NO PART: node 3: this node has lost what it had acknowledged";
        assert!(shown.contains(barred), "{shown}");
        let alarm = "WARNING node 2, copies-owed: 12 chunks lack a copy";
        assert!(shown.contains(alarm), "{shown}");
        assert_eq!(documented().health(), Health::Critical);
        assert!(!documented().is_gone(3));
        let progress = documented().progress(3);
        assert_eq!(
            progress,
            "node 3 is dead: node 4 still lacks 12000 log entries"
        );
        assert!(!shown.contains("DIVERGED"));
        let mut status = documented();
        status.taking_no_part.clear();
        for group in &mut status.groups {
            group.leader = Some(1);
        }
        assert_eq!(status.health(), Health::Warning);
        status.waiting[0].reason = "no-majority".to_owned();
        assert_eq!(status.health(), Health::Critical);
        status.local[1].diverged = vec![3];
        let shown = status.render();
        assert!(
            shown.contains("DIVERGED in group 1: the rows of node 1 differ from those of node 3")
        );
    }
}
