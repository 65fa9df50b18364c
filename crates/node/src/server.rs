//! A node with its listening sockets.

use crate::files;
use crate::listen::{self, BindError, Port};
use crate::{ListenConfig, Node, NodeConfig, StartError, Stores};
use floeberg_env::Env;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Both listening sockets, bound before anything else starts.
pub struct Sockets {
    lakehouse: TcpListener,
    s3: TcpListener,
}

impl ListenConfig {
    /// Binds both ports; the flags are named in the error if one is taken.
    ///
    /// # Errors
    /// If a port is taken or the system refuses.
    pub async fn bind(
        &self,
        lakehouse_flag: &'static str,
        s3_flag: &'static str,
    ) -> Result<Sockets, BindError> {
        Ok(Sockets {
            lakehouse: listen::bind(self.lakehouse, lakehouse_flag).await?,
            s3: listen::bind(self.s3, s3_flag).await?,
        })
    }
}

impl Sockets {
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

/// A serving node.
pub struct Server {
    node: Node,
    stop: CancellationToken,
    listeners: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts a node on disk, waits until it accepts work, and serves.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: NodeConfig, env: Env, sockets: Sockets) -> Result<Self, StartError> {
        let limits = files::affordable(config.limits);
        let node = Node::start(config, env, Stores::Disk).await?;
        node.ready().await;
        let stop = CancellationToken::new();
        let port = |name| Port {
            name,
            open: node.metrics().http.connections(name),
            limits,
        };
        let lakehouse = hyper_util::service::TowerToHyperService::new(node.lakehouse());
        let tasks = &node.env().tasks;
        let listeners = vec![
            tasks.spawn(
                "lakehouse",
                listen::serve(
                    sockets.lakehouse,
                    lakehouse,
                    port("lakehouse"),
                    stop.clone(),
                ),
            ),
            tasks.spawn(
                "s3",
                listen::serve(sockets.s3, node.s3(), port("s3"), stop.clone()),
            ),
        ];
        Ok(Self {
            node,
            stop,
            listeners,
        })
    }

    /// The node behind the sockets.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Takes no more connections, lets open requests finish, and stops the node.
    pub async fn stop(self) {
        self.stop.cancel();
        for listener in self.listeners {
            if let Err(error) = listener.await {
                tracing::warn!(%error, "a listener ended badly");
            }
        }
        self.node.shutdown().await;
    }
}
