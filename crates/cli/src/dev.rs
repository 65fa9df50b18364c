//! `floeberg dev`: one node on the loopback interface.

use crate::{banner, keys};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use floeberg_env::{Env, NodeThreads};
use floeberg_node::{ClientLimits, ClusterPart, ListenConfig, NodeConfig, Server};
use floeberg_telemetry::LogFormat;
use floeberg_types::{AccountId, Region};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

/// Size of a preallocated volume segment: 1 GiB.
const SEGMENT_BYTES: u64 = 1 << 30;

#[derive(Args)]
pub struct DevArguments {
    /// Where everything is kept; created if missing
    #[arg(long, default_value = "floeberg-data", env = "FLOEBERG_DATA_DIR")]
    data_dir: PathBuf,
    /// Port of the catalog, the S3 Tables API and metrics; 0 picks a free one
    #[arg(long, default_value_t = 8181)]
    port: u16,
    /// Port of S3; 0 picks a free one
    #[arg(long, default_value_t = 9000)]
    s3_port: u16,
    /// Region in ARNs and signatures
    #[arg(long, default_value = "us-east-1")]
    region: Region,
    /// Twelve digits that own what is created
    #[arg(long, default_value = "000000000000")]
    account: AccountId,
    /// Log lines for people or for collectors
    #[arg(long, value_enum, default_value_t = Format::Text)]
    log_format: Format,
    /// Which log lines appear, in the syntax of RUST_LOG
    #[arg(
        long,
        env = "RUST_LOG",
        default_value = "warn,floeberg=info,openraft=error,s3s=off"
    )]
    log: String,
    /// Write endpoints and keys to this file as JSON once the node serves (mode 0600)
    #[arg(long, hide = true)]
    ready_file: Option<PathBuf>,
    /// Open connections per port; the next ones wait
    #[arg(long, default_value_t = ClientLimits::default().connections)]
    max_connections: usize,
    /// Seconds after which a request is given up of whose body nothing arrives
    #[arg(
        long,
        default_value_t = ClientLimits::default().body_stall.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    body_stall_seconds: u64,
    /// Size of a volume segment in bytes
    #[arg(long, hide = true, default_value_t = SEGMENT_BYTES)]
    segment_bytes: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Runs until SIGINT or SIGTERM.
pub async fn run(arguments: DevArguments) -> anyhow::Result<()> {
    let format = match arguments.log_format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    floeberg_telemetry::init_logs(format, &arguments.log);
    // Both handlers stand before anything is started, so that no signal is lost.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // They are there until the node has stopped.
    let threads = NodeThreads::start(&Handle::current())?;
    let env = Env::real().with_threads(&threads);
    std::fs::create_dir_all(&arguments.data_dir)
        .with_context(|| format!("cannot create {}", arguments.data_dir.display()))?;
    let data_dir = arguments.data_dir.canonicalize()?;
    let root_key = keys::load_or_create(&data_dir, &env)?;
    let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let listen = ListenConfig {
        lakehouse: loopback(arguments.port),
        s3: loopback(arguments.s3_port),
    };
    let sockets = listen.bind("--port", "--s3-port")?;
    let config = NodeConfig {
        data_dir,
        account: arguments.account,
        region: arguments.region,
        root_key,
        s3_endpoint: format!("http://{}", sockets.s3_address()?),
        lakehouse_endpoint: format!("http://{}", sockets.lakehouse_address()?),
        s3_domain: None,
        segment_bytes: arguments.segment_bytes,
        limits: ClientLimits {
            connections: arguments.max_connections,
            body_stall: Duration::from_secs(arguments.body_stall_seconds),
            ..ClientLimits::default()
        },
        cluster: ClusterPart::Single,
    };
    let server = tokio::select! {
        started = Server::start(config.clone(), env, sockets) => started?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    if let Some(path) = &arguments.ready_file {
        write_ready_file(path, &config)?;
    }
    banner::print(&config);
    tokio::select! {
        _ = interrupt.recv() => tracing::info!("interrupted, stopping"),
        _ = terminate.recv() => tracing::info!("asked to stop"),
    }
    server.stop().await;
    Ok(())
}

/// Renamed into place, so that a reader never sees half of it.
fn write_ready_file(path: &Path, config: &NodeConfig) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let text = serde_json::to_string_pretty(&serde_json::json!({
        "iceberg_uri": format!("{}/iceberg", config.lakehouse_endpoint),
        "s3tables_uri": config.lakehouse_endpoint,
        "s3_uri": config.s3_endpoint,
        "region": config.region.as_str(),
        "account": config.account.as_str(),
        "access_key": config.root_key.access_key(),
        "secret_key": config.root_key.secret().expose(),
    }))?;
    let draft = path.with_extension("draft");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&draft, path)?;
    Ok(())
}
