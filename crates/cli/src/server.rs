//! `floeberg server`: one node of a cluster, as its configuration file says.

use crate::config::ConfigArguments;
use anyhow::bail;
use clap::Args;
use floeberg_env::{Env, NodeThreads};
use floeberg_members::{FeatureLevels, Home};
use floeberg_node::{
    ClientLimits, ClusterPart, Elections, ListenConfig, MemberConfig, NodeConfig, PeerNetwork,
    PortCertificate, Server,
};
use floeberg_settings::{ClientTls, LogStyle, Settings, root_key};
use floeberg_telemetry::LogFormat;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Args)]
pub struct ServerArguments {
    #[command(flatten)]
    config: ConfigArguments,
}

/// Runs until SIGINT or SIGTERM; SIGHUP has it look at its certificate.
pub async fn run(arguments: ServerArguments) -> anyhow::Result<()> {
    let settings = arguments.config.load()?;
    let format = match settings.log.style {
        LogStyle::Text => LogFormat::Text,
        LogStyle::Json => LogFormat::Json,
    };
    floeberg_telemetry::init_logs(format, &settings.log.filter);
    // Both handlers stand before anything is started, so that no signal is lost.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // They are there until the node has stopped.
    let threads = NodeThreads::start(&Handle::current())?;
    let env = Env::real().with_threads(&threads);
    let identity = Home::new(&settings.data.dir, env.disk.clone()).member()?;
    let config = node_config(&settings)?;
    let listen = ListenConfig {
        lakehouse: settings.lakehouse.listen,
        s3: settings.s3.listen,
    };
    let sockets = listen.bind("lakehouse.listen", "s3.listen")?;
    let sockets = match &settings.tls {
        ClientTls::Plain => sockets,
        ClientTls::Files { cert, key } => sockets.with_tls(PortCertificate {
            certificate: cert.clone(),
            key: key.clone(),
        }),
    };
    let server = tokio::select! {
        started = Server::start(config, env, sockets) => started?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    tracing::info!(
        cluster = %identity.cluster,
        node = %identity.node,
        lakehouse = %settings.lakehouse.endpoint,
        s3 = %settings.s3.endpoint,
        "serving"
    );
    let refused = loop {
        tokio::select! {
            _ = interrupt.recv() => tracing::info!("interrupted, stopping"),
            _ = terminate.recv() => tracing::info!("asked to stop"),
            _ = hang_up.recv() => {
                server.reload();
                continue;
            }
            why = server.node().refused() => break Some(why),
        }
        break None;
    };
    server.stop().await;
    match refused {
        None => Ok(()),
        Some(why) => bail!("the cluster does not take this node: {why}"),
    }
}

pub fn node_config(settings: &Settings) -> anyhow::Result<NodeConfig> {
    let keys_file = settings.keys_file.as_deref();
    let root_key = root_key(|name| std::env::var(name).ok(), keys_file)?;
    let (limits, elections) = (&settings.limits, &settings.consensus);
    Ok(NodeConfig {
        data_dir: settings.data.dir.clone(),
        account: settings.account.clone(),
        region: settings.region.clone(),
        root_key,
        s3_endpoint: settings.s3.endpoint.clone(),
        lakehouse_endpoint: settings.lakehouse.endpoint.clone(),
        s3_domain: settings.s3_domain.clone(),
        segment_bytes: limits.segment_bytes,
        limits: ClientLimits {
            body_bytes: usize::try_from(limits.body_bytes).unwrap_or(usize::MAX),
            body_stall: limits.body_stall,
            operation_time: limits.operation_time,
            notice: limits.notice,
            drain: limits.drain,
            ..ClientLimits::default()
        },
        cluster: ClusterPart::Member(Box::new(MemberConfig {
            address: settings.peer.advertise.clone(),
            labels: settings.labels.to_map(),
            log_dir: settings.data.log_dir.clone(),
            volume_dir: settings.data.volume_dir.clone(),
            volume_bytes: limits.volume_bytes,
            snapshot_bytes_per_second: limits.snapshot_bytes_per_second,
            elections: Elections {
                heartbeat: elections.heartbeat,
                min: elections.election_min,
                max: elections.election_max,
            },
            features: FeatureLevels::OF_THIS_BINARY,
            network: PeerNetwork::Tls {
                listen: settings.peer.listen,
            },
        })),
    })
}
