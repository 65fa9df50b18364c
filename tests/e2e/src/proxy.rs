//! A proxy on the loopback interface that loses replies: the request gets through, its answer does
//! not.

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a client gets instead of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed without a word.
    Cut,
    /// An answer that a proxy made up.
    Status(StatusCode),
}

/// The answer was withheld on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the reply is lost")]
struct Lost;

/// Forwards to one server until dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    client: Client<HttpConnector, Full<Bytes>>,
    armed: Mutex<Option<Fault>>,
    /// Statuses that the server answered to requests whose reply was withheld.
    lost: Mutex<Vec<StatusCode>>,
}

impl Proxy {
    /// Starts in front of `upstream` (`host:port`).
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(upstream: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            armed: Mutex::new(None),
            lost: Mutex::new(Vec::new()),
        });
        let task = tokio::spawn(serve(listener, shared.clone()));
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// The proxy's own address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The reply to the next POST is lost.
    pub fn lose_next(&self, fault: Fault) {
        *self.shared.armed.lock().expect("no holder panics") = Some(fault);
    }

    /// What the server had answered where the reply was lost, since the last call.
    pub fn take_lost(&self) -> Vec<StatusCode> {
        std::mem::take(&mut *self.shared.lost.lock().expect("no holder panics"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move { shared.forward(request).await }
            });
            let builder = hyper::server::conn::http1::Builder::new();
            // A cut connection is what this proxy is for, so its error says nothing new.
            let _ = builder
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Shared {
    async fn forward(&self, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().context("no path")?.as_str();
        parts.uri = format!("http://{}{path}", self.upstream).parse::<Uri>()?;
        let is_post = parts.method == Method::POST;
        let body = body.collect().await?.to_bytes();
        // The Host header stays the client's: it is part of its signature.
        let answer = self
            .client
            .request(Request::from_parts(parts, Full::new(body)))
            .await?;
        let (head, body) = answer.into_parts();
        let answer = Response::from_parts(head, Full::new(body.collect().await?.to_bytes()));
        let fault = if is_post {
            self.armed.lock().expect("no holder panics").take()
        } else {
            None
        };
        let Some(fault) = fault else {
            return Ok(answer);
        };
        self.lost
            .lock()
            .expect("no holder panics")
            .push(answer.status());
        match fault {
            Fault::Cut => Err(Lost.into()),
            Fault::Status(status) => {
                let mut made_up = Response::new(Full::new(Bytes::from_static(b"upstream failed")));
                *made_up.status_mut() = status;
                Ok(made_up)
            }
        }
    }
}
