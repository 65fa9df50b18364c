//! An S3 port in this process, and a client whose signatures come from AWS's own signer.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../../../objects/tests/support/mod.rs"]
pub mod world;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use floeberg_api_s3::{S3Api, S3Settings, S3State, service};
use floeberg_auth::{Scope, ScopeAccess, VendedCredentials};
use floeberg_http::{Door, Room};
use floeberg_telemetry::HttpMetrics;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use std::convert::Infallible;
use std::io;
use std::time::{Duration, SystemTime};
use tower::Service;
use world::{ACCESS_KEY, Node, SECRET, World};

pub struct Port {
    pub world: World,
    pub node: Node,
    pub api: S3Api,
}

/// Who signs.
#[derive(Clone)]
pub struct Keys {
    pub access_key: String,
    pub secret: String,
    pub token: Option<String>,
}

pub fn root() -> Keys {
    Keys {
        access_key: ACCESS_KEY.to_owned(),
        secret: SECRET.to_owned(),
        token: None,
    }
}

impl From<VendedCredentials> for Keys {
    fn from(given: VendedCredentials) -> Self {
        Self {
            access_key: given.access_key,
            secret: given.secret.expose().to_owned(),
            token: Some(given.session_token),
        }
    }
}

/// What a response came to.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The text of the first element of this name in the body.
    pub fn element(&self, name: &str) -> Option<String> {
        let text = self.text();
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(
            rest.split_once(&format!("</{name}>"))?
                .0
                .replace("&quot;", "\""),
        )
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self
    }

    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!(
            self.element("Code").as_deref(),
            Some(code),
            "{}",
            self.text()
        );
        self.expect(status)
    }
}

/// A request before it is signed.
pub struct Call {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
    hash: Hash,
    keys: Keys,
    region: &'static str,
    host: String,
}

/// How a paced body ends.
pub enum End {
    Complete,
    /// Nothing arrives any more, and the connection stays open.
    Silence,
    /// The client goes.
    Break,
}

enum Hash {
    /// The SHA-256 of the body, as most clients over plain HTTP send it.
    OfBody,
    /// A literal value of `x-amz-content-sha256`.
    Literal(String),
}

pub fn call(method: &'static str, path: &str) -> Call {
    Call {
        method,
        path: path.to_owned(),
        headers: Vec::new(),
        body: Bytes::new(),
        hash: Hash::OfBody,
        keys: root(),
        region: "us-east-1",
        host: "127.0.0.1:9000".to_owned(),
    }
}

impl Call {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub fn hash(mut self, literal: &str) -> Self {
        self.hash = Hash::Literal(literal.to_owned());
        self
    }

    pub fn by(mut self, keys: &Keys) -> Self {
        self.keys = keys.clone();
        self
    }

    pub fn region(mut self, region: &'static str) -> Self {
        self.region = region;
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    fn settings(&self) -> SigningSettings {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings
    }

    fn signed_with(&self, settings: SigningSettings, body: SignableBody<'_>) -> Request<()> {
        let keys = &self.keys;
        let identity = Credentials::new(
            &keys.access_key,
            &keys.secret,
            keys.token.clone(),
            None,
            "test",
        )
        .into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let uri = format!("http://{}{}", self.host, self.path);
        let mut headers = self.headers.clone();
        headers.push(("host".to_owned(), self.host.clone()));
        let pairs = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let signable = SignableRequest::new(self.method, &uri, pairs, body).unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        let mut request = Request::builder().method(self.method).uri(&uri);
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        let mut request = request.body(()).unwrap();
        instructions.apply_to_request_http1x(&mut request);
        request
    }

    pub fn sign(&self) -> Request<()> {
        let body = match &self.hash {
            Hash::OfBody => SignableBody::Bytes(&self.body),
            Hash::Literal(text) => SignableBody::Precomputed(text.clone()),
        };
        self.signed_with(self.settings(), body)
    }

    /// The request as a presigned URL would make it.
    pub fn presign(&self, expires: Duration) -> Request<()> {
        let mut settings = self.settings();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(expires);
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        self.signed_with(settings, SignableBody::UnsignedPayload)
    }

    pub async fn send(self, port: &Port) -> Answer {
        let request = self.sign();
        port.send(request, self.body).await
    }

    /// As [`Self::send`], with the body in frames of unknown total length.
    pub async fn send_chunked(self, port: &Port) -> Answer {
        let request = self.sign().map(|()| {
            let pieces: Vec<Bytes> = self.body.chunks(1000).map(Bytes::copy_from_slice).collect();
            let frames = futures::stream::iter(pieces)
                .map(|piece| Ok::<_, Infallible>(http_body::Frame::data(piece)));
            StreamBody::new(frames)
        });
        let mut api = port.api.clone();
        answer(Service::call(&mut api, request).await.unwrap()).await
    }

    /// As [`Self::send`], with the body byte by byte, a pause before each and `end` after the last.
    pub async fn send_paced(self, port: &Port, pause: Duration, end: End) -> Answer {
        let bytes = self.body.clone().into_iter();
        let frames = futures::stream::iter(bytes).then(move |byte| async move {
            tokio::time::sleep(pause).await;
            Ok(http_body::Frame::data(Bytes::copy_from_slice(&[byte])))
        });
        let gone = || futures::stream::iter([Err(io::Error::from(io::ErrorKind::ConnectionReset))]);
        let frames = match end {
            End::Complete => frames.boxed(),
            End::Silence => frames.chain(futures::stream::pending()).boxed(),
            End::Break => frames.chain(gone()).boxed(),
        };
        let request = self.sign().map(|()| StreamBody::new(frames));
        let mut api = port.api.clone();
        answer(Service::call(&mut api, request).await.unwrap()).await
    }

    /// Changes a header of the signed request.
    pub async fn send_tampered(self, port: &Port, name: &'static str, value: &str) -> Answer {
        let mut request = self.sign();
        let value = HeaderValue::from_str(value).unwrap();
        request
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
        port.send(request, self.body).await
    }
}

async fn answer(response: http::Response<s3s::Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = BodyExt::collect(body).await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

impl Port {
    pub async fn open(seed: u64) -> Self {
        Self::with(seed, |_| {}).await
    }

    pub async fn with(seed: u64, change: impl FnOnce(&mut S3Settings)) -> Self {
        Self::with_room(seed, Room::unlimited(), change).await
    }

    pub async fn with_room(seed: u64, room: Room, change: impl FnOnce(&mut S3Settings)) -> Self {
        let mut world = World::new(seed);
        // Longer than a body may stall, as with the defaults.
        world.config.request_max_ms = 240_000;
        let node = world.start().await;
        let mut settings = S3Settings {
            region: "us-east-1".parse().unwrap(),
            enforce_region: false,
            domains: vec!["s3.lake.example".to_owned()],
            body_stall: Duration::from_secs(60),
        };
        change(&mut settings);
        let api = service(S3State {
            objects: node.objects.clone(),
            keyring: world.keyring.clone(),
            env: world.env.clone(),
            metrics: HttpMetrics::default(),
            room,
            door: Door::new(64 << 20),
            settings,
        });
        Self { world, node, api }
    }

    pub async fn send(&self, mut request: Request<()>, body: Bytes) -> Answer {
        // As every HTTP client does that knows the length.
        request
            .headers_mut()
            .entry(http::header::CONTENT_LENGTH)
            .or_insert_with(|| HeaderValue::from(body.len()));
        let request = request.map(|()| Full::new(body));
        let mut api = self.api.clone();
        answer(Service::call(&mut api, request).await.unwrap()).await
    }

    pub fn vend(&self, prefix: &str, access: ScopeAccess) -> Keys {
        let now = self.world.env.clock.now();
        let scope = Scope {
            bucket: world::bucket("lake"),
            prefix: prefix.to_owned(),
            access,
            expires: now.plus_ms(600_000),
        };
        self.world.keyring.vend(scope, now).into()
    }
}

/// Wraps bytes in unsigned aws-chunked framing with one trailer, as the C++ and Java SDKs do.
pub fn aws_chunked(bytes: &[u8], chunk: usize, trailer: &str) -> Vec<u8> {
    let mut framed = Vec::new();
    for piece in bytes.chunks(chunk) {
        framed.extend_from_slice(format!("{:X}\r\n", piece.len()).as_bytes());
        framed.extend_from_slice(piece);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(format!("0\r\n{trailer}\r\n\r\n").as_bytes());
    framed
}
