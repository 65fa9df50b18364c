//! The path of a request through the shell.

use crate::api::{Answer, Api, Call, NotRouted, Routed};
use crate::credentials::{Credentials, HeaderTexts};
use crate::{Access, ErrorCode, Query, Refusal, Room, Segments, body, credentials, request_span};
use axum::body::Body;
use axum::routing::any;
use floeberg_auth::sigv4::ScopeRules;
use floeberg_auth::{Keyring, Principal};
use floeberg_env::Env;
use floeberg_telemetry::{HttpLabels, HttpMetrics};
use floeberg_types::{RequestId, TimestampMs};
use futures::FutureExt;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, header};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument as _;

/// Bounds on one request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest body.
    pub body_bytes: usize,
    /// The longest time in which no byte of a body arrives.
    pub body_stall: Duration,
    /// How long an operation may take before its caller is told that the outcome is open.
    pub operation_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: floeberg_types::limits::REQUEST_BODY_BYTES,
            body_stall: Duration::from_secs(60),
            operation_time: Duration::from_secs(30),
        }
    }
}

/// What all protocols of a node share.
#[derive(Clone)]
pub struct Shell {
    /// Clock and random bytes.
    pub env: Env,
    /// The cluster's keys.
    pub keys: Arc<Keyring>,
    /// The credential scopes that are accepted.
    pub rules: ScopeRules,
    /// Request counters.
    pub metrics: HttpMetrics,
    /// Bounds on one request.
    pub limits: Limits,
    /// Whether the disk takes changes.
    pub room: Room,
}

/// Serves `api` at the given axum paths, all methods.
pub fn router<A: Api>(shell: Shell, api: A, mounts: &[&str]) -> axum::Router {
    let shared = Arc::new((shell, api));
    let mut router = axum::Router::new();
    for mount in mounts {
        let shared = shared.clone();
        let serve = move |request: Request<Body>| {
            let shared = shared.clone();
            async move { shared.0.serve(&shared.1, request).await }
        };
        // The empty mount is everything that no other protocol claims.
        router = match *mount {
            "" => router.fallback(serve),
            path => router.route(path, any(serve)),
        };
    }
    router
}

impl Shell {
    /// Takes one request from its id to its log line.
    pub async fn serve<A: Api>(&self, api: &A, request: Request<Body>) -> Answer {
        let began = self.env.clock.monotonic();
        let arrived = self.env.clock.now();
        let request_id = self.request_id(arrived);
        let id_text = request_id.to_uuid_string();
        let (parts, body) = request.into_parts();
        let mut known = Known {
            operation: "unknown",
            principal: None,
        };
        let work = self
            .run(api, &parts, body, request_id, arrived, &mut known)
            .instrument(request_span(&id_text));
        let mut answer = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(answer)) => answer,
            Ok(Err(refusal)) => refused(api, &refusal, request_id),
            Err(_) => {
                tracing::error!(request_id = %request_id, path = parts.uri.path(), "a request panicked");
                refused(api, &Refusal::Panic, request_id)
            }
        };
        let id = HeaderValue::from_str(&id_text).expect("an id is visible ASCII");
        for name in A::REQUEST_ID_HEADERS {
            let name = HeaderName::from_static(name);
            answer.headers_mut().insert(name, id.clone());
        }
        let took = self.env.clock.monotonic().saturating_sub(began);
        let labels = HttpLabels {
            api: A::NAME,
            operation: known.operation,
            status: answer.status().as_u16(),
        };
        self.metrics.record(labels, took.as_secs_f64());
        let access = Access {
            request_id: &id_text,
            api: A::NAME,
            operation: known.operation,
            method: &parts.method,
            path: parts.uri.path(),
            status: answer.status(),
            code: answer.extensions().get::<ErrorCode>().map(|code| code.0),
            principal: known.principal.as_deref(),
            took,
        };
        access.log();
        answer
    }

    async fn run<A: Api>(
        &self,
        api: &A,
        parts: &Parts,
        body: Body,
        request_id: RequestId,
        arrived: TimestampMs,
        known: &mut Known,
    ) -> Result<Answer, Refusal> {
        let segments = Segments::parse(parts.uri.path()).map_err(Refusal::Path)?;
        let routed = api.route(&parts.method, &segments.as_strs());
        let call = |body| -> Result<Call, Refusal> {
            let raw_query = parts.uri.query().unwrap_or("");
            Ok(Call {
                request_id,
                arrived,
                deadline: tokio::time::Instant::now() + self.limits.operation_time,
                query: Query::parse(raw_query).map_err(Refusal::Query)?,
                headers: parts.headers.clone(),
                body,
            })
        };
        match routed {
            Ok(Routed::Public(operation, name)) => {
                known.operation = name;
                body::check_headers(&parts.headers, &self.limits)?;
                let body = body::read(body, &self.limits).await?;
                Ok(api.answer_public(operation, call(body)?).await)
            }
            Ok(Routed::Protected(operation, name)) => {
                known.operation = name;
                let (principal, body) = self.authenticate(parts, body, arrived).await?;
                known.principal = Some(principal.id.clone());
                // Whatever deletes may go on: it is what makes room.
                if matches!(parts.method, Method::POST | Method::PUT) {
                    self.room.check().map_err(Refusal::NoRoom)?;
                }
                Ok(api.answer(operation, call(body)?, principal).await)
            }
            Err(missing) => {
                // Whoever cannot authenticate learns nothing about which paths exist.
                self.authenticate(parts, body, arrived).await?;
                Err(not_routed(parts, missing))
            }
        }
    }

    async fn authenticate(
        &self,
        parts: &Parts,
        body: Body,
        now: TimestampMs,
    ) -> Result<(Principal, bytes::Bytes), Refusal> {
        let headers = match credentials::is_bearer(parts) {
            true => None,
            false => HeaderTexts::of(parts),
        };
        let pairs = headers.as_ref().map(HeaderTexts::as_pairs);
        let credentials = Credentials::read(parts, pairs.as_deref(), now, &self.rules, &self.keys)?;
        body::check_headers(&parts.headers, &self.limits)?;
        let body = body::read(body, &self.limits).await?;
        let principal = credentials.verify(&body, now, &self.keys)?;
        Ok((principal, body))
    }

    /// A UUID of version 7 (RFC 9562, section 5.7) from the node's clock and random source.
    fn request_id(&self, now: TimestampMs) -> RequestId {
        let mut bytes = self.env.rng.id128();
        bytes[..6].copy_from_slice(&now.0.to_be_bytes()[2..]);
        bytes[6] = 0x70 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        RequestId::from_bytes(bytes)
    }
}

/// What is known of a request for metrics and the log.
struct Known {
    operation: &'static str,
    principal: Option<Arc<str>>,
}

fn not_routed(parts: &Parts, missing: NotRouted) -> Refusal {
    let method = parts.method.to_string();
    match missing {
        NotRouted::Unknown => Refusal::NoSuchRoute {
            method,
            path: parts.uri.path().to_owned(),
        },
        NotRouted::Method(allowed) => Refusal::WrongMethod { method, allowed },
    }
}

fn refused<A: Api>(api: &A, refusal: &Refusal, request_id: RequestId) -> Answer {
    let mut answer = api.refuse(refusal, request_id);
    match refusal {
        Refusal::WrongMethod { allowed, .. } => {
            let allowed = HeaderValue::from_static(allowed);
            answer.headers_mut().insert(header::ALLOW, allowed);
        }
        Refusal::NoCredentials | Refusal::Bearer(_) => {
            let scheme = HeaderValue::from_static("Bearer realm=\"floeberg\"");
            answer
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        Refusal::BodyStalled(_) => {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
        }
        _ => {}
    }
    answer
}
