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
    let mut request = Request::new(method, format!("/admin/v1/cluster{path}"));
    if let Some(body) = body {
        request = request.json(body.to_string());
    }
    let reply = target.admin()?.send(&request).await;
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

pub async fn remove(node: u64, departure: Departure, target: &Target) -> anyhow::Result<()> {
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
    .await
}

pub async fn replace(old: u64, new: u64, target: &Target) -> anyhow::Result<()> {
    let path = format!("/members/{old}/replace");
    let done = format!("node {new} takes the place of node {old}\n{WATCH}");
    change(target, &path, json!({"with": new}), &done).await
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
