//! Health, readiness, metrics, status and the landing page of a node, and the administration of its
//! cluster (docs/formats/admin-api.md).
//!
//! Health checks and scrapers carry no credentials, so `/healthz`, `/readyz`, `/metrics` and `/` are
//! public and say nothing about data; `/admin/v1/` is for verified principals. Paths that no
//! protocol of the port claims end here too.

mod backup;
mod cluster;
mod page;
mod route;
mod status;

pub use route::routes;
pub use status::{Endpoints, GroupRole, GroupStatus, NodeStatus, Probes, Readiness};

use axum::body::Body;
use floeberg_auth::action::{self, Action};
use floeberg_auth::{Authorizer, Denied, Principal, Resource};
use floeberg_backup::Source;
use floeberg_http::{
    Answer, Api, Call, NotRouted, Refusal, RefusalNames, Routed, Shell, json, with_code,
    with_header, with_retry_after,
};
use floeberg_members::Members;
use floeberg_telemetry::NodeMetrics;
use floeberg_types::RequestId;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Method, Response, StatusCode};
use route::{Protected, Public};
use serde::Serialize;
use std::sync::Arc;

/// Where axum mounts this protocol; the last entry takes what nothing else claims.
pub const MOUNTS: &[&str] = &[
    "/",
    "/healthz",
    "/readyz",
    "/readyz/reads",
    "/metrics",
    "/admin/{*rest}",
    "",
];

/// What the routes need of the node.
pub struct AdminState {
    /// Counters to render.
    pub metrics: NodeMetrics,
    /// Questions to the running node.
    pub probes: Probes,
    /// What the landing page shows.
    pub endpoints: Endpoints,
    /// Who may see the status and change the cluster.
    pub authorizer: Authorizer,
    /// The members of the cluster; `None` on a node that belongs to none.
    pub members: Option<Members>,
    /// What backups are made from.
    pub backups: Arc<dyn Source>,
}

/// The routes, to be merged with those of the other protocols.
pub fn router(shell: Shell, state: AdminState) -> axum::Router {
    floeberg_http::router(shell, state, MOUNTS)
}

const REFUSALS: RefusalNames = RefusalNames {
    no_such_route: "NotFoundException",
    wrong_method: "MethodNotAllowedException",
    not_authenticated: "NotAuthorizedException",
    bad_request: "BadRequestException",
    no_room: "InsufficientStorageException",
    busy: "ServiceUnavailableException",
    internal: "InternalServerError",
};

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorModel<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ErrorModel<'a> {
    message: &'a str,
    r#type: &'static str,
    code: u16,
    request_id: String,
}

fn error(status: StatusCode, kind: &'static str, message: &str, id: RequestId) -> Answer {
    let error = ErrorModel {
        message,
        r#type: kind,
        code: status.as_u16(),
        request_id: id.to_uuid_string(),
    };
    with_code(json(status, &ErrorBody { error }), kind)
}

fn text(status: StatusCode, content_type: &str, body: String) -> Answer {
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    let answer = with_header(answer, CONTENT_TYPE, content_type);
    with_header(answer, CACHE_CONTROL, "no-store")
}

/// A warning a line.
fn ready(warnings: &[String]) -> Answer {
    let warnings = warnings
        .iter()
        .map(|warning| format!("warning: {warning}\n"));
    let body = std::iter::once("ready\n".to_owned()).chain(warnings);
    text(StatusCode::OK, PLAIN, body.collect())
}

fn not_ready(body: String) -> Answer {
    with_retry_after(text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, body))
}

fn waiting(what: &str) -> Answer {
    not_ready(format!("waiting for {what}\n"))
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// An answer that is not a success.
struct Failure {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

type Handled = Result<Answer, Failure>;

impl Failure {
    fn answer(&self, request_id: RequestId) -> Answer {
        let answer = error(self.status, self.kind, &self.message, request_id);
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => with_retry_after(answer),
            _ => answer,
        }
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            kind: "ForbiddenException",
            message: denied.to_string(),
        }
    }
}

impl AdminState {
    fn allow<A: Action>(&self, principal: &Principal) -> Result<(), Failure> {
        let allowed = self.authorizer.authorize::<A>(principal, Resource::Cluster);
        allowed.map(|_| ()).map_err(Failure::from)
    }

    fn status(&self, principal: &Principal) -> Handled {
        self.allow::<action::GetClusterStatus>(principal)?;
        Ok(json(StatusCode::OK, &(self.probes.status)()))
    }
}

impl Api for AdminState {
    type Public = Public;
    type Protected = Protected;
    const NAME: &'static str = "admin";
    const REQUEST_ID_HEADERS: &'static [&'static str] = &["x-request-id"];

    fn route(
        &self,
        method: &Method,
        segments: &[&str],
    ) -> Result<Routed<Public, Protected>, NotRouted> {
        route::route(method, segments)
    }

    async fn answer_public(&self, operation: Public, _: Call) -> Answer {
        match operation {
            Public::Landing => {
                let page = page::landing(&self.endpoints);
                let answer = text(StatusCode::OK, "text/html; charset=utf-8", page);
                let policy = "default-src 'none'; style-src 'unsafe-inline'";
                let name = http::header::CONTENT_SECURITY_POLICY;
                with_header(answer, name, policy)
            }
            Public::Health => text(StatusCode::OK, PLAIN, "ok\n".to_owned()),
            Public::Ready => match (self.probes.readiness)().await {
                Readiness::Ready { warnings } => ready(&warnings),
                Readiness::ReadsOnly { why } => not_ready(format!("no new data: {why}\n")),
                Readiness::NotReady { waiting_for } => waiting(&waiting_for),
            },
            Public::ReadsReady => match (self.probes.readiness)().await {
                Readiness::Ready { warnings } => ready(&warnings),
                Readiness::ReadsOnly { why } => ready(&[why]),
                Readiness::NotReady { waiting_for } => waiting(&waiting_for),
            },
            Public::Metrics => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                text(StatusCode::OK, kind, self.metrics.render())
            }
        }
    }

    async fn answer(&self, operation: Protected, call: Call, principal: Principal) -> Answer {
        let handled = match operation {
            Protected::Status => self.status(&principal),
            asked => self.administer(asked, &call, &principal).await,
        };
        handled.unwrap_or_else(|failure| failure.answer(call.request_id))
    }

    fn refuse(&self, refusal: &Refusal, request_id: RequestId) -> Answer {
        let kind = refusal.name(&REFUSALS);
        error(refusal.status(), kind, &refusal.to_string(), request_id)
    }
}
