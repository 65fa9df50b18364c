//! What a whole node does at its edges: clients that stall on a socket, and a disk that is full.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use axum::body::Body;
use floeberg_env::Env;
use floeberg_kv::MemKvStore;
use floeberg_node::{
    ClientLimits, ClusterPart, FatalHook, ListenConfig, MemoryStores, Node, NodeConfig, PieceSizes,
    RootKey, Server, Stores,
};
use floeberg_raftlog::MemLogStore;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower::ServiceExt as _;

const ACCESS_KEY: &str = "AKIAFLOEBERGTEST0001";
const SECRET: &str = "a secret that is long enough for a test";

fn config(data_dir: &Path) -> NodeConfig {
    NodeConfig {
        data_dir: data_dir.to_owned(),
        account: "000000000000".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        root_key: RootKey::new(ACCESS_KEY, SECRET).unwrap(),
        s3_endpoint: "http://127.0.0.1:9000".to_owned(),
        lakehouse_endpoint: "http://127.0.0.1:8181".to_owned(),
        s3_domain: None,
        segment_bytes: 64 << 20,
        limits: ClientLimits {
            body_stall: Duration::from_millis(300),
            ..ClientLimits::default()
        },
        cluster: ClusterPart::Single,
    }
}

/// Query of a presigned `PUT` at `uri`.
fn presigned(uri: &str) -> String {
    let identity =
        aws_credential_types::Credentials::new(ACCESS_KEY, SECRET, None, None, "test").into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(600));
    settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
    let params = aws_sigv4::sign::v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("s3")
        .time(SystemTime::now())
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let host = uri.strip_prefix("http://").unwrap().split('/').next();
    let headers = [("host", host.unwrap())].into_iter();
    let signable = SignableRequest::new("PUT", uri, headers, SignableBody::UnsignedPayload);
    let (signed, _) = sign(signable.unwrap(), &params).unwrap().into_parts();
    let mut request = Request::put(uri).body(()).unwrap();
    signed.apply_to_request_http1x(&mut request);
    let target = request.uri().path_and_query().unwrap();
    target.as_str().to_owned()
}

/// Sends a head and perhaps a part of its body; what comes back until the server closes the
/// connection.
async fn send(address: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let sent = format!("{head}\r\nhost: {address}\r\n{body}");
    stream.write_all(sent.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_body_that_stalls_ends_its_connection_on_both_ports() {
    let dir = tempfile::tempdir().unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listen = ListenConfig {
        lakehouse: any,
        s3: any,
    };
    let sockets = listen.bind("--port", "--s3-port").unwrap();
    let (lakehouse, s3) = (
        sockets.lakehouse_address().unwrap(),
        sockets.s3_address().unwrap(),
    );
    let server = Server::start(config(dir.path()), Env::real(), sockets)
        .await
        .unwrap();
    let half = "content-length: 1000\r\n\r\nhalf of it";
    let answer = send(lakehouse, "POST /iceberg/v1/oauth/tokens HTTP/1.1", half).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    let put = |path: &str| format!("PUT {} HTTP/1.1", presigned(&format!("http://{s3}{path}")));
    let last = "content-length: 0\r\nconnection: close\r\n\r\n";
    let answer = send(s3, &put("/files"), last).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = send(s3, &put("/files/k"), half).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("<Code>RequestTimeout</Code>"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    // What follows a refused request is not taken for the body that it had announced.
    let next = format!(
        "expect: 100-continue\r\ncontent-length: 10\r\n\r\nGET / HTTP/1.1\r\nhost: {s3}\r\n\r\n"
    );
    let answer = send(s3, &put("/nowhere/k"), &next).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_node_says_when_its_disk_takes_no_new_data() {
    let (env, control) = Env::simulated(1);
    let stores = MemoryStores {
        log: MemLogStore::new(),
        catalog: MemKvStore::new(),
        objects: MemKvStore::new(),
        volume_index: MemKvStore::new(),
        pieces: PieceSizes::default(),
        on_fatal: FatalHook(Arc::new(|group, cause| {
            panic!("group {group} failed: {cause}")
        })),
    };
    control.disk().set_capacity(Some(100 << 20));
    let config = config(Path::new("/data"));
    let node = Node::start(config, env, Stores::Memory(stores))
        .await
        .unwrap();
    node.ready().await;
    let ask = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = node.lakehouse().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, String::from_utf8_lossy(&body).into_owned())
    };
    assert_eq!(ask("/readyz").await.0, StatusCode::OK);
    control.disk().set_capacity(Some(10 << 20));
    let (status, body) = ask("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("delete objects"), "{body}");
    assert_eq!(ask("/readyz/reads").await.0, StatusCode::OK);
    control.disk().set_capacity(Some(100 << 20));
    assert_eq!(ask("/readyz").await.0, StatusCode::OK);
    node.shutdown().await;
}
