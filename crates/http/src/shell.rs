//! The path of a request through the shell.

use crate::api::{Answer, Api, Call, NotRouted, Routed};
use crate::body::{self, Gathered, Hashing, Reading};
use crate::credentials::{Credentials, HeaderTexts};
use crate::reply::Counted;
use crate::{
    Access, BodySize, Door, ErrorCode, Query, Refusal, Room, Segments, credentials, peer_of,
    request_span, with_retry_after,
};
use axum::body::Body;
use axum::routing::any;
use floeberg_auth::sigv4::{ScopeRules, SignatureError};
use floeberg_auth::{Keyring, Principal};
use floeberg_env::{Attendance, Env};
use floeberg_telemetry::{HttpLabels, HttpMetrics};
use floeberg_types::limits::ANSWER_UNCOUNTED_BYTES;
use floeberg_types::{RequestId, TimestampMs};
use futures::FutureExt;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Version, header};
use http_body::Body as _;
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
    /// What is shared with the other port.
    pub door: Door,
}

/// Serves `api` at the given axum paths, all methods.
pub fn router<A: Api>(shell: Shell, api: A, mounts: &[&str]) -> axum::Router {
    let shared = Arc::new((shell, Arc::new(api)));
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
    pub async fn serve<A: Api>(&self, api: &Arc<A>, request: Request<Body>) -> Answer {
        let began = self.env.clock.monotonic();
        let arrived = self.env.clock.now();
        let request_id = self.request_id(arrived);
        let id_text = request_id.to_uuid_string();
        let (parts, body) = request.into_parts();
        let mut known = Known {
            operation: "unknown",
            principal: None,
            body_read: body.is_end_stream(),
        };
        let work = self
            .run(api, &parts, body, request_id, arrived, &mut known)
            .instrument(request_span(&id_text));
        let mut answer = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(answer)) => answer,
            Ok(Err(refusal)) => refused(&**api, &refusal, request_id),
            Err(_) => {
                tracing::error!(request_id = %request_id, operation = known.operation, "a request panicked");
                refused(&**api, &Refusal::Panic, request_id)
            }
        };
        answer = self.counted(&**api, answer, &parts, request_id).await;
        // HTTP/2 ends a stream by itself; on HTTP/1 the rest of the body is in the way of what is next.
        if !known.body_read && parts.version < Version::HTTP_2 {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
        }
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
            principal: known.principal.as_ref().map(|who| &*who.id),
            took,
        };
        access.log();
        answer
    }

    async fn run<A: Api>(
        &self,
        api: &Arc<A>,
        parts: &Parts,
        body: Body,
        request_id: RequestId,
        arrived: TimestampMs,
        known: &mut Known,
    ) -> Result<Answer, Refusal> {
        let segments = Segments::parse(parts.uri.path()).map_err(Refusal::Path)?;
        let routed = api.route(&parts.method, &segments.as_strs());
        let call = |body, attendance| -> Result<Call, Refusal> {
            let raw_query = parts.uri.query().unwrap_or("");
            Ok(Call {
                request_id,
                arrived,
                deadline: tokio::time::Instant::now() + self.limits.operation_time,
                attendance,
                query: Query::parse(raw_query).map_err(Refusal::Query)?,
                headers: parts.headers.clone(),
                peer: peer_of(&parts.extensions),
                body,
                room: self.room.clone(),
            })
        };
        match routed {
            Ok(Routed::Public(route)) => {
                known.operation = route.name;
                let read = self.read(parts, body, route.body, Hashing::Nothing, known);
                let gathered = read.await?;
                let call = call(gathered.bytes.clone(), Attendance::default())?;
                Ok(api.answer_public(route.operation, call).await)
            }
            Ok(Routed::Protected(route)) => {
                known.operation = route.name;
                let read = self.authenticate(parts, body, route.body, arrived, known);
                let gathered = read.await?;
                let principal = known.principal.clone().ok_or(Refusal::NoCredentials)?;
                self.room.admit(route.effect).map_err(Refusal::NoRoom)?;
                let call = call(gathered.bytes.clone(), Attendance::default())?;
                let api = Arc::clone(api);
                let work = move |attendance| {
                    let call = Call { attendance, ..call };
                    async move {
                        let answer = api.answer(route.operation, call, principal).await;
                        // What was read stays accounted for as long as it is worked on.
                        drop(gathered);
                        answer
                    }
                    .in_current_span()
                };
                let answered = self.env.tasks.attended("request", work).await;
                answered.map_err(|error| match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Refusal::Panic,
                })
            }
            Err(missing) => {
                // Whoever cannot authenticate learns nothing about which paths exist.
                let read = self.authenticate(parts, body, BodySize::Small, arrived, known);
                read.await?;
                Err(not_routed(parts, missing))
            }
        }
    }

    /// Counts what is to be held until the client has read it. A client that can ask again is told to, if
    /// there is no room for that; an answer to a change is given all the same.
    async fn counted<A: Api>(
        &self,
        api: &A,
        answer: Answer,
        parts: &Parts,
        request_id: RequestId,
    ) -> Answer {
        // A body that does not know its length is not in memory.
        let length = answer.body().size_hint().exact();
        let length = length.and_then(|bytes| usize::try_from(bytes).ok());
        let Some(length) = length.filter(|bytes| *bytes > ANSWER_UNCOUNTED_BYTES) else {
            return answer;
        };
        if answer.extensions().get::<Counted>().is_some() {
            return answer;
        }
        let (head, body) = answer.into_parts();
        let Ok(body) = axum::body::to_bytes(body, length).await else {
            return refused(api, &Refusal::Panic, request_id);
        };
        let counted = self.door.count(peer_of(&parts.extensions), body.clone());
        match counted.await {
            Ok(body) => Answer::from_parts(head, Body::from(body)),
            Err(exhausted) if parts.method == Method::GET => {
                refused(api, &Refusal::Busy(exhausted), request_id)
            }
            Err(_) => Answer::from_parts(head, Body::from(body)),
        }
    }

    async fn authenticate(
        &self,
        parts: &Parts,
        body: Body,
        size: BodySize,
        now: TimestampMs,
        known: &mut Known,
    ) -> Result<Gathered, Refusal> {
        let checked = self.check_in(parts, body, size, now, known).await;
        if let Err(Refusal::Signature(SignatureError::Mismatch) | Refusal::Bearer(_)) = &checked {
            self.door.guesses.slow(peer_of(&parts.extensions)).await;
        }
        checked
    }

    /// What the head tells comes before a byte of the body is read.
    async fn check_in(
        &self,
        parts: &Parts,
        body: Body,
        size: BodySize,
        now: TimestampMs,
        known: &mut Known,
    ) -> Result<Gathered, Refusal> {
        let headers = match credentials::is_bearer(parts) {
            true => None,
            false => HeaderTexts::of(parts),
        };
        let pairs = headers.as_ref().map(HeaderTexts::as_pairs);
        let credentials = Credentials::read(parts, pairs.as_deref(), now, &self.rules, &self.keys)?;
        let hashing = credentials.hashing();
        let gathered = self.read(parts, body, size, hashing, known).await?;
        let principal = credentials.finish(gathered.sha256, now, &self.keys)?;
        known.principal = Some(principal);
        Ok(gathered)
    }

    async fn read(
        &self,
        parts: &Parts,
        body: Body,
        size: BodySize,
        hashing: Hashing,
        known: &mut Known,
    ) -> Result<Gathered, Refusal> {
        let body = match size {
            BodySize::Nothing => Body::empty(),
            BodySize::Small | BodySize::Medium | BodySize::Large => {
                body::check_headers(&parts.headers, size.bytes(self.limits.body_bytes))?;
                body
            }
        };
        let reading = Reading {
            limit: size.bytes(self.limits.body_bytes),
            stall: self.limits.body_stall,
            budget: &self.door.bodies,
            peer: peer_of(&parts.extensions),
        };
        let gathered = reading.gather(&parts.headers, body, hashing).await?;
        known.body_read |= size != BodySize::Nothing;
        Ok(gathered)
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
    principal: Option<Principal>,
    /// Whether nothing of the body is left that the client may still be sending.
    body_read: bool,
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
        Refusal::Busy(_) => answer = with_retry_after(answer),
        _ => {}
    }
    answer
}
