//! Sends hostile requests over plain sockets: no client library would.

use super::documents::Documents;
use super::ground::Ground;
use super::shapes::{Key, Shape};
use super::targets::Target;
use crate::process::Endpoints;
use anyhow::Context as _;
use bytes::Bytes;
use floeberg_client::sigv4::{Credentials, Scope, Signable, Signer};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// Addresses that the attack comes from, so that no share of one address bounds it.
const ADDRESSES: u32 = 200;

/// Somebody at many addresses of this machine.
pub(super) struct Attacker {
    lakehouse: SocketAddr,
    s3: SocketAddr,
    right: Signers,
    wrong: Signers,
    ground: Ground,
    documents: Documents,
    sent: AtomicU32,
}

struct Signers {
    lakehouse: Signer,
    s3: Signer,
}

impl Signers {
    fn new(endpoints: &Endpoints, access_key: &str, secret_key: &str) -> Self {
        let signer = |service: &str| {
            let credentials = Credentials {
                access_key: access_key.to_owned(),
                secret_key: secret_key.to_owned(),
                session_token: None,
            };
            let (region, service) = (endpoints.region.clone(), service.to_owned());
            Signer::new(credentials, Scope { region, service })
        };
        Self {
            lakehouse: signer("s3tables"),
            s3: signer("s3"),
        }
    }
}

/// The address in a URI of the node.
pub(super) fn address(uri: &str) -> anyhow::Result<SocketAddr> {
    let uri: http::Uri = uri.parse()?;
    let authority = uri.authority().context("an endpoint has an authority")?;
    Ok(authority.as_str().parse()?)
}

impl Attacker {
    pub(super) fn new(endpoints: &Endpoints, ground: Ground) -> anyhow::Result<Self> {
        let (id, secret) = (&endpoints.access_key, &endpoints.secret_key);
        Ok(Self {
            lakehouse: address(&endpoints.s3tables_uri)?,
            s3: address(&endpoints.s3_uri)?,
            right: Signers::new(endpoints, id, secret),
            wrong: Signers::new(endpoints, id, "a secret that is not the right one"),
            ground,
            documents: Documents::default(),
            sent: AtomicU32::new(0),
        })
    }

    /// The status of the answer; 0 if there was none in time.
    pub(super) async fn attack(&self, target: &Target, shape: Shape, key: Key) -> u16 {
        let to = match target.s3 {
            true => self.s3,
            false => self.lakehouse,
        };
        let (head, body) = self.request(target, shape, key, to);
        let from = self.sent.fetch_add(1, Ordering::Relaxed) % ADDRESSES;
        let from = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 1, 0).to_bits() + 1 + from);
        let sent = send(from, to, shape, head, body);
        let tried = tokio::time::timeout(shape.patience(), sent).await;
        tried.ok().and_then(Result::ok).unwrap_or(0)
    }

    /// Head and body as they go over the wire.
    fn request(&self, target: &Target, shape: Shape, key: Key, to: SocketAddr) -> (Vec<u8>, Bytes) {
        let strange = match shape {
            Shape::LongPath => Some("n".repeat(15_000)),
            Shape::DeepPath => Some(vec!["n"; 200].join("/")),
            _ => None,
        };
        let mut uri = self.ground.fill(target, strange.as_deref());
        if shape == Shape::LongQuery {
            uri.push(if uri.contains('?') { '&' } else { '?' });
            uri.push_str(&"a=b&".repeat(10_000));
        }
        let (body, host) = (self.documents.body(target, shape), to.to_string());
        let mut headers = shape.headers();
        headers.extend(self.credentials(target, shape, key, &uri, &host, &body));
        if shape == Shape::RepeatedPresigned {
            uri.push(if uri.contains('?') { '&' } else { '?' });
            uri.push_str(&presigned(&headers));
            headers.retain(|(name, _)| name != "authorization");
        }
        headers.push(("host".to_owned(), host));
        let framing = match shape.announced(body.len()) {
            Some(0) => None,
            Some(length) => Some(("content-length".to_owned(), length.to_string())),
            None => Some(("transfer-encoding".to_owned(), "chunked".to_owned())),
        };
        headers.extend(framing);
        let mut head = format!("{} {uri} HTTP/1.1\r\n", target.method);
        for (name, value) in &headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let sent = shape.sent(body.len());
        (head.into_bytes(), body.slice(..sent))
    }

    fn credentials(
        &self,
        target: &Target,
        shape: Shape,
        key: Key,
        uri: &str,
        host: &str,
        body: &[u8],
    ) -> Vec<(String, String)> {
        let signers = match key {
            Key::Nobody => return Vec::new(),
            Key::Wrong => &self.wrong,
            Key::Right => &self.right,
        };
        let signer = match target.s3 {
            true => &signers.s3,
            false => &signers.lakehouse,
        };
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let own = shape.headers();
        let own: Vec<_> = own
            .iter()
            .filter(|(name, _)| name.starts_with("x-amz-"))
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let signable = Signable {
            method: target.method,
            host,
            path,
            query,
            headers: &own,
            body,
        };
        let signed = signer
            .sign(&signable, OffsetDateTime::now_utc())
            .into_iter();
        let signed = signed.map(|(name, value)| (name.to_owned(), value));
        signed
            .map(|(name, value)| distorted(shape, name, value))
            .collect()
    }
}

/// A header of the signature, as the shape wants it.
fn distorted(shape: Shape, name: String, value: String) -> (String, String) {
    match (name.as_str(), shape) {
        ("authorization", Shape::RepeatedSigned) => {
            let many = format!("SignedHeaders={}host;", "x;".repeat(15_000));
            (name, value.replace("SignedHeaders=host;", &many))
        }
        ("authorization", Shape::LongKeyId) => {
            let long = format!("Credential=ASIAFLB{}/", "A".repeat(50_000));
            let (kind, rest) = value.split_once("Credential=").unwrap_or_default();
            let scope = rest.split_once('/').unwrap_or_default().1;
            (name, format!("{kind}{long}{scope}"))
        }
        _ => (name, value),
    }
}

/// A presigned query whose list of signed headers repeats one.
fn presigned(headers: &[(String, String)]) -> String {
    let value = |wanted: &str| {
        let found = headers.iter().find(|(name, _)| name == wanted);
        found.map_or("", |(_, value)| value.as_str())
    };
    let authorization = value("authorization");
    let credential = authorization
        .split_once("Credential=")
        .unwrap_or_default()
        .1;
    let credential = credential.split_once(',').unwrap_or_default().0;
    format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={}\
         &X-Amz-Expires=600&X-Amz-SignedHeaders={}host&X-Amz-Signature={}",
        value("x-amz-date"),
        "x%3B".repeat(7_000),
        "0".repeat(64)
    )
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    Ok(socket.connect(to).await?)
}

/// The body in frames, the last one empty.
async fn write_chunked(stream: &mut TcpStream, body: &[u8]) -> anyhow::Result<()> {
    for piece in body.chunks(64 << 10) {
        stream
            .write_all(format!("{:x}\r\n", piece.len()).as_bytes())
            .await?;
        stream.write_all(piece).await?;
        stream.write_all(b"\r\n").await?;
    }
    Ok(stream.write_all(b"0\r\n\r\n").await?)
}

async fn send(
    from: Ipv4Addr,
    to: SocketAddr,
    shape: Shape,
    head: Vec<u8>,
    body: Bytes,
) -> anyhow::Result<u16> {
    let mut stream = connect(from, to).await?;
    // Whoever is refused early may be closed while it still sends; the answer is there all the same.
    let wrote = match shape {
        Shape::SlowHead => {
            let cut = head.len() - 2;
            stream.write_all(&head[..cut]).await?;
            loop {
                tokio::time::sleep(Duration::from_millis(300)).await;
                stream.write_all(b"a: b\r\n").await?;
            }
        }
        Shape::NeverReads => loop {
            stream.write_all(&head).await?;
        },
        Shape::ChunkedBody => {
            stream.write_all(&head).await?;
            write_chunked(&mut stream, &body).await
        }
        _ => {
            stream.write_all(&head).await?;
            stream.write_all(&body).await.map_err(Into::into)
        }
    };
    let mut answer = Vec::new();
    while answer.len() < 12 {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    wrote.or_else(|error| {
        if answer.is_empty() {
            Err(error)
        } else {
            Ok(())
        }
    })?;
    let status = answer.get(9..12).context("no answer")?;
    let status = std::str::from_utf8(status)?.parse()?;
    drain(stream).await?;
    Ok(status)
}

/// Takes what else comes, and nothing if the peer waits for another request.
async fn drain(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.shutdown().await?;
    let mut rest = [0; 64 << 10];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}
