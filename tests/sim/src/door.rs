//! The node's two ports without sockets: requests go straight into the real services.

use crate::life::Life;
use bytes::Bytes;
use floeberg_client::sigv4::Signable;
use floeberg_client::{Credentials, Scope, sigv4::Signer};
use floeberg_node::Node;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use std::future::Future;
use std::time::Duration;
use time::OffsetDateTime;
use tower::ServiceExt as _;

pub(crate) const ACCESS_KEY: &str = "SIMULATIONROOT";
pub(crate) const SECRET_KEY: &str = "simulation-secret";
pub(crate) const REGION: &str = "us-east-1";

/// Where the S3 port pretends to be.
const S3_HOST: &str = "127.0.0.1:9000";

/// A way into a node for simulated clients, as the root principal.
pub(crate) struct Door {
    pub(crate) node: Node,
    life: Life,
    signer: Signer,
}

impl Door {
    pub(crate) fn new(node: Node, life: Life) -> Self {
        let credentials = Credentials {
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            session_token: None,
        };
        let scope = Scope {
            region: REGION.to_owned(),
            service: "s3".to_owned(),
        };
        Self {
            node,
            life,
            signer: Signer::new(credentials, scope),
        }
    }

    /// What `request` is answered within `patience`; nothing if the node dies before.
    async fn answered<T>(
        &self,
        patience: Duration,
        request: impl Future<Output = T>,
    ) -> Result<T, &'static str> {
        tokio::select! {
            biased;
            () = self.life.over.cancelled() => Err("the node died"),
            answer = request => Ok(answer),
            () = tokio::time::sleep(patience) => Err("no answer in time"),
        }
    }

    /// One request to the lakehouse port, or why there is no answer.
    pub(crate) async fn lakehouse(
        &self,
        patience: Duration,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), &'static str> {
        self.answered(patience, self.ask_lakehouse(method, path, body))
            .await
    }

    /// One signed request for `/bucket/key` to the S3 port, or why there is no answer.
    pub(crate) async fn s3(
        &self,
        patience: Duration,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), &'static str> {
        self.answered(patience, self.ask_s3(method, path, body))
            .await?
            .ok_or("the answer broke off")
    }

    async fn ask_lakehouse(&self, method: &str, path: &str, body: Bytes) -> (StatusCode, Bytes) {
        // A new token for each request, so that no jump of the clock makes it an old one.
        let issued = self.node.keys().issue_bearer(self.node.env().clock.now());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1:8181")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", issued.token))
            .body(axum::body::Body::from(body))
            .expect("a well-formed request");
        let answer = self
            .node
            .lakehouse()
            .oneshot(request)
            .await
            .expect("routers are infallible");
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("a body held in memory");
        (status, body.to_bytes())
    }

    async fn ask_s3(&self, method: &str, path: &str, body: Bytes) -> Option<(StatusCode, Bytes)> {
        let path = format!("/{path}");
        let length = body.len().to_string();
        let signable = Signable {
            method,
            host: S3_HOST,
            path: &path,
            query: "",
            headers: &[],
            body: &body,
        };
        // The protocol library compares the date with the machine's clock, so the machine's clock
        // it is; no answer depends on it further than that.
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{S3_HOST}{path}"));
        for (name, value) in self.signer.sign(&signable, OffsetDateTime::now_utc()) {
            request = request.header(name, value);
        }
        let request = request
            .header("host", S3_HOST)
            .header("content-length", length)
            .body(Full::new(body))
            .expect("a well-formed request");
        let answer = self.node.s3().oneshot(request).await.ok()?;
        let status = answer.status();
        let body = answer.into_body().collect().await.ok()?;
        Some((status, body.to_bytes()))
    }
}
