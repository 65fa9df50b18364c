//! Whoever runs the cluster: lets nodes join, takes them out, replaces them, by the admin API.

use crate::cluster::Cluster;
use crate::record::short;
use bytes::Bytes;
use floeberg_members::FeatureLevels;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(250);
/// Tries of one step, which are some minutes.
const TRIES: u32 = 600;
/// The feature level that only the newer binary knows.
const NEWEST: u32 = FeatureLevels::OF_THIS_BINARY.high;

/// The person, or the program, that runs the cluster.
pub(crate) struct Operator {
    cluster: Arc<Cluster>,
}

/// A change of who belongs to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A node comes and stays.
    Join,
    /// A node comes, another leaves with its data copied away.
    Remove,
    /// A node comes and takes the place of another.
    Replace,
    /// A node comes; another has lost its machine.
    Dead,
    /// Every node starts again, one after the other, with a newer binary.
    Upgrade,
}

impl Change {
    /// The admin route by which a member goes when `new` has come, and its body, if one goes.
    fn departure(self, new: u64) -> Option<(&'static str, Value)> {
        match self {
            Self::Join | Self::Upgrade => None,
            Self::Remove => Some(("remove", json!({}))),
            Self::Replace => Some(("replace", json!({"with": new}))),
            Self::Dead => Some(("remove", json!({"dead": true}))),
        }
    }
}

impl Operator {
    pub(crate) fn new(cluster: &Arc<Cluster>) -> Self {
        Self {
            cluster: cluster.clone(),
        }
    }

    /// Asks one node after the other until one does it, or says that it never will.
    async fn ask(&self, method: &str, path: &str, body: &Value) -> Option<Value> {
        for turn in 0..TRIES {
            let doors = self.cluster.doors();
            let at = turn as usize % doors.len().max(1);
            if let Some((_, door)) = doors.get(at) {
                let body = Bytes::from(body.to_string());
                let answered = door.lakehouse(PATIENCE, method, path, body).await;
                if let Ok((status, body)) = answered
                    && status.is_success()
                {
                    return serde_json::from_slice(&body).ok();
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    /// The cluster as some node knows it. A node that leaves may not learn that it is gone.
    async fn status(&self, leaving: Option<u64>) -> Option<Value> {
        let doors = self.cluster.doors();
        let doors = doors.iter().filter(|(node, _)| Some(*node) != leaving);
        for (_, door) in doors {
            let path = "/admin/v1/cluster";
            let answered = door.lakehouse(PATIENCE, "GET", path, Bytes::new()).await;
            if let Ok((status, body)) = answered
                && status.is_success()
            {
                return serde_json::from_slice(&body).ok();
            }
        }
        None
    }

    /// Waits until the rows of the cluster are as `is_so` wants them.
    async fn until(&self, is_so: impl Fn(&Value) -> bool) -> bool {
        for _ in 0..TRIES {
            match self.status(None).await {
                Some(status) if is_so(&status) => return true,
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
        false
    }

    /// A new machine joins; returns its node once it has a vote in every group.
    pub(crate) async fn grow(&self) -> Option<u64> {
        let ttl = json!({"ttl-seconds": 86_400});
        let token = self.ask("POST", "/admin/v1/cluster/token", &ttl).await?;
        let node = self.cluster.join(token["token"].as_str()?).await?;
        let voted = self.until(|status| votes_everywhere(status, node)).await;
        voted.then_some(node)
    }

    /// Takes a node out, or replaces it, and waits until it is gone.
    async fn leave(&self, node: u64, how: &str, body: &Value) -> bool {
        let path = format!("/admin/v1/cluster/members/{node}/{how}");
        for _ in 0..TRIES {
            let gone = |status: &Value| state(status, node) == Some("gone");
            match self.status(Some(node)).await {
                Some(status) if gone(&status) => return true,
                Some(status) if state(&status, node) == Some("active") => {
                    self.once(&path, body).await;
                }
                _ => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
        if let Some(status) = self.status(Some(node)).await {
            let (members, waiting) = (&status["members"], &status["waiting"]);
            let what = format!("node {node} does not leave: {members}, waiting {waiting}");
            self.cluster.record.note(what, &[]);
        }
        false
    }

    async fn once(&self, path: &str, body: &Value) {
        let doors = self.cluster.doors();
        let at = usize::try_from(self.cluster.draw(doors.len() as u64)).unwrap_or(0);
        if let Some((_, door)) = doors.get(at) {
            let body = Bytes::from(body.to_string());
            let _ = door.lakehouse(PATIENCE, "POST", path, body).await;
        }
    }

    /// Upgrades node after node; whether the cluster and every group use what only the newer binary knows,
    /// and did not while an older one ran.
    async fn upgrade(&self, members: &[u64]) -> bool {
        for node in members {
            self.cluster.upgrade(*node).await;
            let newer = |status: &Value| member(status, *node)["features"]["high"] == NEWEST;
            if !self.until(newer).await {
                return false;
            }
        }
        for _ in 0..TRIES {
            match self.status(None).await {
                Some(status) if status["feature-level"] == NEWEST && self.cluster.is_upgraded() => {
                    return true;
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
        false
    }

    /// Does `change` and says whether it came about.
    pub(crate) async fn change(&self, change: Change) -> bool {
        let record = &self.cluster.record;
        let members = self.cluster.members();
        let at = usize::try_from(self.cluster.draw(members.len() as u64)).unwrap_or(0);
        let old = members[at];
        record.note(format!("begin {change:?}"), &[old]);
        if change == Change::Upgrade {
            return self.upgrade(&members).await;
        }
        let Some(new) = self.grow().await else {
            record.note("nobody joined", &[]);
            return false;
        };
        record.note("joined", &[new]);
        let Some((how, body)) = change.departure(new) else {
            return true;
        };
        if change == Change::Dead {
            self.cluster.retire(old);
        }
        let gone = self.leave(old, how, &body).await;
        if gone {
            record.note("gone", &[old]);
            self.cluster.retire(old);
        }
        gone
    }
}

fn member(status: &Value, node: u64) -> &Value {
    let members = status["members"].as_array().map_or(&[][..], Vec::as_slice);
    let found = members.iter().find(|member| member["node"] == node);
    found.unwrap_or(&Value::Null)
}

fn state(status: &Value, node: u64) -> Option<&str> {
    member(status, node)["state"].as_str()
}

fn votes_everywhere(status: &Value, node: u64) -> bool {
    let groups = status["groups"].as_array();
    groups.is_some_and(|groups| {
        let votes = |group: &Value| {
            let voters = group["voters"].as_array();
            voters.is_some_and(|voters| voters.contains(&json!(node)))
        };
        !groups.is_empty() && groups.iter().all(votes) && short(node) < u8::MAX
    })
}
