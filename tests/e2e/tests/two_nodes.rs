//! Two nodes run in one process and know nothing of each other: nothing in a node is global.

use anyhow::ensure;
use floeberg_env::Env;
use floeberg_node::{
    ClientLimits, ClusterPart, ListenConfig, NodeConfig, RootKey, Server, StartError,
};
use floeberg_test_e2e::connect::{Clients, LAKE, create_buckets};
use floeberg_test_e2e::process::Endpoints;
use floeberg_test_e2e::table::Observed;
use floeberg_test_e2e::world::{append, create_table, manifest_list};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use tokio::runtime::Runtime;

async fn start(dir: &Path, access_key: &str) -> anyhow::Result<(Server, Endpoints)> {
    let (config, sockets, endpoints) = prepare(dir, access_key).await?;
    Ok((
        Server::start(config, Env::real(), sockets).await?,
        endpoints,
    ))
}

async fn prepare(
    dir: &Path,
    access_key: &str,
) -> anyhow::Result<(NodeConfig, floeberg_node::Sockets, Endpoints)> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let sockets = ListenConfig {
        lakehouse: any,
        s3: any,
    }
    .bind("--port", "--s3-port")?;
    let lakehouse = format!("http://{}", sockets.lakehouse_address()?);
    let s3 = format!("http://{}", sockets.s3_address()?);
    let secret = "not-a-secret-outside-of-this-test";
    let endpoints = Endpoints {
        iceberg_uri: format!("{lakehouse}/iceberg"),
        s3tables_uri: lakehouse.clone(),
        s3_uri: s3.clone(),
        region: "us-east-1".to_owned(),
        access_key: access_key.to_owned(),
        secret_key: secret.to_owned(),
    };
    let config = NodeConfig {
        data_dir: dir.to_owned(),
        account: "000000000000".parse()?,
        region: "us-east-1".parse()?,
        root_key: RootKey::new(access_key, secret)?,
        s3_endpoint: s3,
        lakehouse_endpoint: lakehouse,
        s3_domain: None,
        segment_bytes: 64 << 20,
        limits: ClientLimits::default(),
        cluster: ClusterPart::Single,
    };
    Ok((config, sockets, endpoints))
}

#[test]
fn two_nodes_in_one_process_are_strangers() -> anyhow::Result<()> {
    let (first_dir, second_dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
    // A runtime that ends drops every task, so what is still open then is leaked.
    Runtime::new()?.block_on(side_by_side(first_dir.path(), second_dir.path()))?;
    Runtime::new()?.block_on(again(first_dir.path()))
}

async fn side_by_side(first_dir: &Path, second_dir: &Path) -> anyhow::Result<()> {
    let (first, first_ends) = start(first_dir, "FIRSTNODEKEY00000001").await?;
    let (second, second_ends) = start(second_dir, "SECONDNODEKEY0000001").await?;
    let mut uuids = Vec::new();
    for ends in [&first_ends, &second_ends] {
        // The same names in both.
        create_buckets(ends).await?;
        let clients = Clients::connect(ends).await?;
        clients.iceberg.create_namespace(&["n"]).await?;
        uuids.push(Observed::of(&create_table(&clients, "n", "t").await?)?);
    }
    let clients = Clients::connect(&first_ends).await?;
    let list = manifest_list(&uuids[0].location, 1);
    clients
        .iceberg
        .update_table(&["n"], "t", append(None, 1, 1, &list).render())
        .await?;
    let stranger = Clients::connect(&second_ends).await?;
    let theirs = Observed::of(&stranger.iceberg.load_table(&["n"], "t").await?)?;
    ensure!(theirs == uuids[1], "the second node's table changed");
    // A key of one node opens nothing in the other.
    let mixed = Endpoints {
        access_key: first_ends.access_key.clone(),
        ..second_ends.clone()
    };
    let refused = Clients::connect(&mixed)
        .await
        .expect_err("a foreign key")
        .status();
    ensure!(refused.is_some_and(|s| s.is_client_error()), "{refused:?}");

    let (config, sockets, _) = prepare(first_dir, "FIRSTNODEKEY00000001").await?;
    let third = Server::start(config, Env::real(), sockets).await;
    ensure!(
        matches!(third, Err(StartError::InUse { .. })),
        "the directory is in use"
    );

    first.stop().await;
    second.stop().await;
    Ok(())
}

/// A stopped node has let go of its directory, and left everything in it.
async fn again(dir: &Path) -> anyhow::Result<()> {
    let (node, ends) = start(dir, "FIRSTNODEKEY00000001").await?;
    let clients = Clients::connect(&ends).await?;
    let kept = Observed::of(&clients.iceberg.load_table(&["n"], "t").await?)?;
    ensure!(kept.head == Some(1), "{LAKE} lost its table");
    node.stop().await;
    Ok(())
}
