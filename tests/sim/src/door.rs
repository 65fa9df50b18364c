//! The node's two ports without sockets: requests go straight into the real services.

use bytes::Bytes;
use floeberg_client::sigv4::Signable;
use floeberg_client::{Credentials, Scope, sigv4::Signer};
use floeberg_node::Node;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use time::OffsetDateTime;
use tower::ServiceExt as _;

/// Where the S3 port pretends to be.
const S3_HOST: &str = "127.0.0.1:9000";

/// A way into a node for simulated clients, as the root principal.
pub(crate) struct Door {
    node: Node,
    signer: Signer,
    token: String,
}

impl Door {
    pub(crate) fn new(node: Node, access_key: &str, secret_key: &str, region: &str) -> Self {
        let credentials = Credentials {
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            session_token: None,
        };
        let scope = Scope {
            region: region.to_owned(),
            service: "s3".to_owned(),
        };
        let token = node.keys().issue_bearer(node.env().clock.now()).token;
        Self {
            node,
            signer: Signer::new(credentials, scope),
            token,
        }
    }

    /// One request to the lakehouse port.
    pub(crate) async fn lakehouse(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> (StatusCode, Bytes) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1:8181")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.token))
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

    /// One signed request for `/bucket/key` to the S3 port.
    pub(crate) async fn s3(&self, method: &str, path: &str, body: Bytes) -> (StatusCode, Bytes) {
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
        match self.node.s3().oneshot(request).await {
            Ok(answer) => {
                let status = answer.status();
                match answer.into_body().collect().await {
                    Ok(body) => (status, body.to_bytes()),
                    Err(error) => panic!("{method} {path}: the body broke off: {error}"),
                }
            }
            Err(error) => panic!("{method} {path}: {error:?}"),
        }
    }
}
