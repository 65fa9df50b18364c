//! Connections with and without TLS, and which authorities a server may be certified by.

use crate::error::ClientError;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

/// Names a file of authorities, as OpenSSL reads it.
const VARIABLE: &str = "SSL_CERT_FILE";

/// Where systems keep the authorities they trust.
const SYSTEM_FILES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How long a server may take to prove who it is.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// Who may certify a server that is reached by `https://`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// The authorities of the file that `SSL_CERT_FILE` names, or else of the system.
    #[default]
    System,
    /// Only the authorities of this file, PEM.
    File(PathBuf),
}

impl Trust {
    /// The settings of connections to servers that these authorities certify.
    ///
    /// # Errors
    /// If there is no file, or none of its certificates can be used.
    pub(crate) fn config(&self) -> Result<ClientConfig, ClientError> {
        let file = self.file()?;
        let unusable = |reason: &dyn fmt::Display| ClientError::Trust {
            file: file.display().to_string(),
            reason: reason.to_string(),
        };
        let text = std::fs::read(&file).map_err(|e| unusable(&e))?;
        let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
        let mut roots = RootCertStore::empty();
        // Systems trust a few certificates that rustls cannot read; the others are enough.
        let (usable, _) = roots.add_parsable_certificates(certificates.map_err(|e| unusable(&e))?);
        if usable == 0 {
            return Err(unusable(&"it holds no certificate in PEM that can be used"));
        }
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| unusable(&e))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn file(&self) -> Result<PathBuf, ClientError> {
        if let Self::File(file) = self {
            return Ok(file.clone());
        }
        if let Some(named) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) {
            return Ok(named.into());
        }
        let found = SYSTEM_FILES.iter().map(Path::new).find(|p| p.is_file());
        let none = || ClientError::Trust {
            file: SYSTEM_FILES[0].to_owned(),
            reason: format!(
                "neither it nor another of the system's usual files is there; name one in {VARIABLE}"
            ),
        };
        found.map(Path::to_owned).ok_or_else(none)
    }
}

/// Why a connection was not secured: no byte of a request has been sent.
#[derive(Debug)]
pub(crate) struct NotSecured(pub(crate) String);

impl fmt::Display for NotSecured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotSecured {}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Opens connections; `https` ones only if it has TLS.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    tls: Option<TlsConnector>,
}

impl Connector {
    pub(crate) fn new(tls: Option<ClientConfig>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let tls = tls.map(|config| TlsConnector::from(Arc::new(config)));
        Self { tcp, tls }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = self.tls.is_some();
        f.debug_struct("Connector").field("tls", &tls).finish()
    }
}

impl Service<Uri> for Connector {
    type Response = Link;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Link, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or_default().to_owned();
        let (opening, tls) = (self.tcp.call(uri), self.tls.clone());
        Box::pin(async move {
            let plain = opening.await?;
            let Some(tls) = tls else {
                return Ok(Link::Plain(plain));
            };
            let secured = secure(&tls, &host, plain.into_inner()).await;
            Ok(Link::Secured(Box::new(TokioIo::new(
                secured.map_err(NotSecured)?,
            ))))
        })
    }
}

async fn secure(
    tls: &TlsConnector,
    host: &str,
    plain: TcpStream,
) -> Result<TlsStream<TcpStream>, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(|e| e.to_string())?;
    match tokio::time::timeout(HANDSHAKE, tls.connect(name, plain)).await {
        Ok(Ok(secured)) => Ok(secured),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no TLS handshake within {} s", HANDSHAKE.as_secs())),
    }
}

/// An open connection.
pub(crate) enum Link {
    Plain(TokioIo<TcpStream>),
    Secured(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(io) => io.connected(),
            Self::Secured(io) => io.inner().get_ref().0.connected(),
        }
    }
}

/// Calls a method on whichever stream it is.
macro_rules! either {
    ($link:expr, $io:ident => $call:expr) => {
        match $link.get_mut() {
            Link::Plain(io) => {
                let $io = Pin::new(io);
                $call
            }
            Link::Secured(io) => {
                let $io = Pin::new(io.as_mut());
                $call
            }
        }
    };
}

impl Read for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_read(cx, buf))
    }
}

impl Write for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Secured(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_shutdown(cx))
    }
}
