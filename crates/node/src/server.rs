//! A node with its listening sockets.

use crate::files;
use crate::listen::{self, BindError, Manners, Port, Reserved};
use crate::vigil::Expiry;
use crate::{ClusterPart, ListenConfig, Node, NodeConfig, PortCertificate, StartError, Stores};
use floeberg_env::Env;
use floeberg_pki::PortTls;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Health, readiness and metrics are answered when all places of the port are taken.
const LAKEHOUSE_MANNERS: Manners = Manners {
    probes: &["/healthz", "/readyz", "/readyz/reads", "/metrics"],
    content_type: "application/json",
    full: r#"{"error":{"message":"all connections of this node are taken; send the request again in a moment","type":"ServiceUnavailableException","code":503}}"#,
};

const S3_MANNERS: Manners = Manners {
    probes: &[],
    content_type: "application/xml",
    full: r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>All connections of this node are taken; send the request again in a moment</Message></Error>"#,
};

/// Both ports, reserved before anything else starts.
pub struct Sockets {
    lakehouse: Reserved,
    s3: Reserved,
    tls: Option<PortCertificate>,
}

impl ListenConfig {
    /// Reserves both ports; the flags are named in the error if one is taken.
    ///
    /// # Errors
    /// If a port is taken or the system refuses.
    pub fn bind(
        &self,
        lakehouse_flag: &'static str,
        s3_flag: &'static str,
    ) -> Result<Sockets, BindError> {
        Ok(Sockets {
            lakehouse: Reserved::new(self.lakehouse, lakehouse_flag)?,
            s3: Reserved::new(self.s3, s3_flag)?,
            tls: None,
        })
    }
}

impl Sockets {
    /// Clients speak TLS on both ports.
    #[must_use]
    pub fn with_tls(self, certificate: PortCertificate) -> Self {
        Self {
            tls: Some(certificate),
            ..self
        }
    }

    /// The address of the lakehouse port, with the port the system chose.
    ///
    /// # Errors
    /// If the system does not know.
    pub fn lakehouse_address(&self) -> io::Result<SocketAddr> {
        self.lakehouse.local_addr()
    }

    /// The address of the S3 port, with the port the system chose.
    ///
    /// # Errors
    /// If the system does not know.
    pub fn s3_address(&self) -> io::Result<SocketAddr> {
        self.s3.local_addr()
    }
}

impl PortCertificate {
    /// Whether the files are there, belong together and can be served.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(self, env: &Env) -> Result<(), StartError> {
        let (disk, clock) = (env.disk.clone(), env.clock.clone());
        let loaded = PortTls::load(self.certificate, self.key, disk, clock);
        loaded.map(|_| ()).map_err(StartError::PortCertificate)
    }
}

/// How often the files of the ports' certificate are looked at.
const RELOAD: Duration = Duration::from_secs(5);

async fn port_tls(files: PortCertificate, env: &Env) -> Result<Arc<PortTls>, StartError> {
    let (disk, clock) = (env.disk.clone(), env.clock.clone());
    let load = move || PortTls::load(files.certificate, files.key, disk, clock);
    let loaded = env.tasks.spawn_blocking("port-certificate", load).await;
    let loaded = loaded.map_err(|_| StartError::Stopping)?;
    Ok(Arc::new(loaded.map_err(StartError::PortCertificate)?))
}

/// Takes a new certificate over while the port serves. What the look found is in the log.
async fn reload(
    (tls, expiry): (Arc<PortTls>, Expiry),
    env: Env,
    look: Arc<Notify>,
    stop: CancellationToken,
) {
    loop {
        expiry.set_validity(tls.validity());
        tokio::select! {
            () = tokio::time::sleep(RELOAD) => {}
            () = look.notified() => {}
            () = stop.cancelled() => return,
        }
        let tls = tls.clone();
        let look = env
            .tasks
            .spawn_blocking("port-certificate", move || tls.reload());
        if look.await.is_err() {
            return;
        }
    }
}

/// A serving node.
pub struct Server {
    node: Node,
    /// For connections after a stop was asked for.
    notice: Duration,
    /// Has the files of the certificate looked at.
    look: Arc<Notify>,
    stop: CancellationToken,
    listeners: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts a node on disk and serves. A single node accepts work when this returns; a member may
    /// have to wait for the others, and answers 503 until then.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: NodeConfig, env: Env, sockets: Sockets) -> Result<Self, StartError> {
        let limits = files::affordable(config.limits);
        let tls = match sockets.tls {
            Some(files) => Some(port_tls(files, &env).await?),
            None => None,
        };
        let alone = matches!(config.cluster, ClusterPart::Single);
        let node = Node::start(config, env, Stores::Disk).await?;
        if alone {
            node.ready().await;
        }
        let (stop, look) = (CancellationToken::new(), Arc::new(Notify::new()));
        let numbers = Arc::new(AtomicU64::new(1));
        let port = |name, manners| Port {
            name,
            numbers: numbers.clone(),
            manners,
            open: node.metrics().http.connections(name),
            limits,
            tls: tls
                .as_ref()
                .map(|tls| TlsAcceptor::from(tls.server_config())),
            requests: node.env().tasks.clone(),
            leaving: node.leaving().clone(),
        };
        let lakehouse = hyper_util::service::TowerToHyperService::new(node.lakehouse());
        let (env, tasks) = (node.env(), &node.env().tasks);
        let (reception, s3) = (
            sockets.lakehouse.listen(&env.reception)?,
            sockets.s3.listen(tasks)?,
        );
        if let Some(tls) = tls.clone() {
            let reloading = reload(
                (tls, node.port_expiry()),
                env.clone(),
                look.clone(),
                stop.clone(),
            );
            tasks.spawn("port-certificate", reloading);
        }
        let listeners = vec![
            env.reception.spawn(
                "lakehouse",
                listen::serve(
                    reception,
                    lakehouse,
                    port("lakehouse", LAKEHOUSE_MANNERS),
                    stop.clone(),
                ),
            ),
            tasks.spawn(
                "s3",
                listen::serve(s3, node.s3(), port("s3", S3_MANNERS), stop.clone()),
            ),
        ];
        Ok(Self {
            node,
            notice: limits.notice,
            look,
            stop,
            listeners,
        })
    }

    /// The node behind the sockets.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Looks at the files of the ports' certificate now instead of in a few seconds.
    pub fn reload(&self) {
        self.look.notify_one();
    }

    /// Says that it is not ready and lets others lead, takes no more connections after a moment, lets
    /// open requests finish, and stops the node.
    pub async fn stop(self) {
        tokio::join!(self.node.hand_over(), tokio::time::sleep(self.notice));
        self.stop.cancel();
        for listener in self.listeners {
            if let Err(error) = listener.await {
                tracing::warn!(%error, "a listener ended badly");
            }
        }
        self.node.shutdown().await;
    }
}
