//! The commands that talk to a running node, over its admin routes (docs/formats/admin-api.md).

use super::status::{ClusterStatus, Health};
use crate::output::{print_done, print_json};
use crate::target::Target;
use anyhow::Context as _;
use floeberg_client::Request;
use http::Method;
use serde::Deserialize as _;
use serde_json::{Value, json};
use std::time::Duration;

/// How long a node may take to say how things are.
const LOOK_PATIENCE: Duration = Duration::from_secs(15);

/// How long it may take to begin a change. Longer than it gives itself for any of them.
const CHANGE_PATIENCE: Duration = Duration::from_secs(45);

/// Pause between two looks at how far a change is.
const LOOK: Duration = Duration::from_secs(1);

/// Looks without an answer before somebody who waits gives up.
const UNANSWERED: u32 = 60;

/// Whether a change is waited for.
#[derive(Clone, Copy)]
pub enum Until {
    Begun,
    Done,
}

/// How a node leaves.
#[derive(Clone, Copy)]
pub enum Departure {
    Drained,
    Dead,
}

async fn call(
    target: &Target,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<Value> {
    let patience = match method {
        Method::GET => LOOK_PATIENCE,
        _ => CHANGE_PATIENCE,
    };
    let mut request = Request::new(method, format!("/admin/v1/cluster{path}"));
    if let Some(body) = body {
        request = request.json(body.to_string());
    }
    let endpoint = target.admin()?;
    let answered = tokio::time::timeout(patience, endpoint.send(&request)).await;
    let reply = answered.with_context(|| target.silent(patience))?;
    let reply = reply.map_err(|error| target.explain(error))?;
    serde_json::from_slice(&reply.body).context("the node's answer is not JSON")
}

pub async fn token(ttl: Duration, target: &Target) -> anyhow::Result<()> {
    let body = json!({"ttl-seconds": ttl.as_secs()});
    let answer = call(target, Method::POST, "/token", Some(body)).await?;
    if target.json {
        print_json(&answer)?;
        return Ok(());
    }
    let token = answer["token"].as_str();
    // Nothing but the token on standard output, so that scripts can take it from there.
    print_done(false, token.context("the node's answer has no token")?)?;
    Ok(())
}

pub async fn status(target: &Target) -> anyhow::Result<Health> {
    let answer = call(target, Method::GET, "", None).await?;
    let status = ClusterStatus::deserialize(&answer);
    let status = status.context("the node's answer is not a cluster status")?;
    if target.json {
        print_json(&answer)?;
    } else {
        print_done(false, &status.render())?;
    }
    Ok(status.health())
}

async fn change(target: &Target, path: &str, body: Value, done: &str) -> anyhow::Result<()> {
    let answer = call(target, Method::POST, path, Some(body)).await?;
    if target.json {
        print_json(&answer)?;
    }
    print_done(target.json, done)?;
    Ok(())
}

const WATCH: &str = "follow it with: floeberg cluster status";

/// Waits until a node is gone, and says on standard error how far that is.
async fn gone(node: u64, target: &Target) -> anyhow::Result<()> {
    let (mut said, mut unanswered) = (String::new(), 0);
    loop {
        let answer = match call(target, Method::GET, "", None).await {
            Ok(answer) => answer,
            Err(error) if unanswered == UNANSWERED => return Err(error),
            Err(_) => {
                unanswered += 1;
                tokio::time::sleep(LOOK).await;
                continue;
            }
        };
        unanswered = 0;
        let status = ClusterStatus::deserialize(&answer);
        let status = status.context("the node's answer is not a cluster status")?;
        if status.is_gone(node) {
            return print_done(target.json, &format!("node {node} is gone")).map_err(Into::into);
        }
        let progress = status.progress(node);
        if progress != said {
            eprintln!("{progress}");
            said = progress;
        }
        tokio::time::sleep(LOOK).await;
    }
}

pub async fn remove(
    node: u64,
    departure: Departure,
    until: Until,
    target: &Target,
) -> anyhow::Result<()> {
    let (dead, done) = match departure {
        Departure::Drained => (
            false,
            format!("node {node} leaves once its data is elsewhere"),
        ),
        Departure::Dead => (
            true,
            format!("node {node} is given up; others make up for it"),
        ),
    };
    let path = format!("/members/{node}/remove");
    change(
        target,
        &path,
        json!({"dead": dead}),
        &format!("{done}\n{WATCH}"),
    )
    .await?;
    match until {
        Until::Begun => Ok(()),
        Until::Done => gone(node, target).await,
    }
}

pub async fn replace(old: u64, new: u64, until: Until, target: &Target) -> anyhow::Result<()> {
    let path = format!("/members/{old}/replace");
    let done = format!("node {new} takes the place of node {old}\n{WATCH}");
    change(target, &path, json!({"with": new}), &done).await?;
    match until {
        Until::Begun => Ok(()),
        Until::Done => gone(old, target).await,
    }
}

pub async fn rotate_authority(target: &Target) -> anyhow::Result<()> {
    let done = format!("the nodes change to a new authority, one step after the other\n{WATCH}");
    change(target, "/authority", json!({}), &done).await
}

pub async fn transfer_leader(node: u64, group: Option<u32>, target: &Target) -> anyhow::Result<()> {
    let done = match group {
        Some(group) => format!("node {node} leads group {group}"),
        None => format!("node {node} leads every group"),
    };
    change(
        target,
        "/leader",
        json!({"to": node, "group": group}),
        &done,
    )
    .await
}
