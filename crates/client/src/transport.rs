//! Sending one request: address, authentication, timeout, body.

use crate::error::{ClientError, ServiceError};
use crate::sigv4::{Credentials, Scope, Signable, Signer};
use crate::tls::{Connector, NotSecured, Trust};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

const TIMEOUT: Duration = Duration::from_secs(60);

/// How requests prove who sends them.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Not at all.
    None,
    /// A token in the `Authorization` header.
    Bearer(String),
    /// AWS Signature Version 4.
    SigV4(Arc<Signer>),
}

impl Auth {
    /// Signs with `credentials` for `scope`.
    #[must_use]
    pub fn sigv4(credentials: Credentials, scope: Scope) -> Self {
        Self::SigV4(Arc::new(Signer::new(credentials, scope)))
    }
}

/// A request below an endpoint's base path.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Encoded path, starting with a slash.
    pub path: String,
    /// Encoded query without the question mark; may be empty.
    pub query: String,
    /// Headers beyond host, length and authentication; lower-case names.
    pub headers: Vec<(&'static str, String)>,
    /// The body; may be empty.
    pub body: Bytes,
}

impl Request {
    /// A request without query, headers and body.
    #[must_use]
    pub fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            query: String::new(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// With a query of encoded pairs.
    #[must_use]
    pub fn query(mut self, query: String) -> Self {
        self.query = query;
        self
    }

    /// With a JSON body.
    #[must_use]
    pub fn json(mut self, body: impl Into<Bytes>) -> Self {
        self.headers
            .push(("content-type", "application/json".into()));
        self.body = body.into();
        self
    }
}

/// A successful answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// A status from 200 to 299.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// One server, with a pool of connections; clones share the pool.
#[derive(Clone, Debug)]
pub struct Endpoint {
    client: Client<Connector, Full<Bytes>>,
    scheme: &'static str,
    authority: String,
    base_path: String,
    auth: Auth,
}

impl Endpoint {
    /// The server at `uri` (`http[s]://host:port/base`), certified as the system says.
    ///
    /// # Errors
    /// As [`Self::trusting`].
    pub fn new(uri: &str, auth: Auth) -> Result<Self, ClientError> {
        Self::trusting(uri, auth, &Trust::System)
    }

    /// The server at `uri`, certified by `trust` if it is an `https` address.
    ///
    /// # Errors
    /// If the address is not one of HTTP, or there are no authorities to trust.
    pub fn trusting(uri: &str, auth: Auth, trust: &Trust) -> Result<Self, ClientError> {
        let address = || ClientError::Address {
            uri: uri.to_owned(),
        };
        let parsed: Uri = uri.parse().map_err(|_| address())?;
        let authority = parsed.authority().ok_or_else(address)?.as_str().to_owned();
        let (scheme, tls) = match parsed.scheme_str() {
            Some("http") => ("http", None),
            Some("https") => ("https", Some(trust.config()?)),
            _ => return Err(address()),
        };
        if parsed.query().is_some() {
            return Err(address());
        }
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(Connector::new(tls));
        Ok(Self {
            client,
            scheme,
            authority,
            base_path: parsed.path().trim_end_matches('/').to_owned(),
            auth,
        })
    }

    /// The same server and pool with other authentication.
    #[must_use]
    pub fn with_auth(&self, auth: Auth) -> Self {
        Self {
            auth,
            ..self.clone()
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// [`ClientError::Service`] for any status that is not a success.
    pub async fn send(&self, request: &Request) -> Result<Reply, ClientError> {
        let reply = self.in_time(self.exchange(request)).await?;
        match reply.status.is_success() {
            true => Ok(reply),
            false => Err(refused(&reply)),
        }
    }

    /// Sends a request, reads the whole answer and keeps none of it; how many bytes it had.
    ///
    /// # Errors
    /// As [`Endpoint::send`].
    pub async fn drain(&self, request: &Request) -> Result<u64, ClientError> {
        self.in_time(async {
            let mut answer = self.answer(request).await?;
            if !answer.status().is_success() {
                return Err(refused(&self.collected(answer).await?));
            }
            let mut bytes = 0;
            while let Some(frame) = answer.body_mut().frame().await {
                let frame = frame.map_err(|e| self.failed(&e))?;
                bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Ok(bytes)
        })
        .await
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let ended = tokio::time::timeout(TIMEOUT, answer).await;
        ended.map_err(|_| ClientError::Timeout {
            authority: self.authority.clone(),
            seconds: TIMEOUT.as_secs(),
        })?
    }

    async fn exchange(&self, request: &Request) -> Result<Reply, ClientError> {
        let answer = self.answer(request).await?;
        self.collected(answer).await
    }

    async fn answer(&self, request: &Request) -> Result<Response<Incoming>, ClientError> {
        let answer = self.client.request(self.build(request)?).await;
        answer.map_err(|error| self.failed(&error))
    }

    async fn collected(&self, answer: Response<Incoming>) -> Result<Reply, ClientError> {
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|e| self.failed(&e))?;
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> ClientError {
        if let Some(cause) = not_secured(error) {
            return ClientError::Tls {
                authority: self.authority.clone(),
                cause,
            };
        }
        let mut cause = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            cause = format!("{cause}: {inner}");
            source = inner.source();
        }
        ClientError::Transport {
            authority: self.authority.clone(),
            cause,
        }
    }

    fn build(&self, request: &Request) -> Result<http::Request<Full<Bytes>>, ClientError> {
        let path = format!("{}{}", self.base_path, request.path);
        let (mark, query) = if request.query.is_empty() {
            ("", "")
        } else {
            ("?", request.query.as_str())
        };
        let uri = format!("{}://{}{path}{mark}{query}", self.scheme, self.authority);
        let parsed: Uri = uri.parse().map_err(|_| ClientError::Address { uri })?;
        let mut built = http::Request::new(Full::new(request.body.clone()));
        *built.method_mut() = request.method.clone();
        *built.uri_mut() = parsed;
        let headers = built.headers_mut();
        for (name, value) in &request.headers {
            insert(headers, name, value)?;
        }
        match &self.auth {
            Auth::None => {}
            Auth::Bearer(token) => {
                insert(headers, AUTHORIZATION.as_str(), &format!("Bearer {token}"))?;
            }
            Auth::SigV4(signer) => {
                let signed: Vec<(&str, &str)> = request
                    .headers
                    .iter()
                    .map(|(n, v)| (*n, v.as_str()))
                    .collect();
                let signable = Signable {
                    method: request.method.as_str(),
                    host: &self.authority,
                    path: if path.is_empty() { "/" } else { &path },
                    query,
                    headers: &signed,
                    body: &request.body,
                };
                for (name, value) in signer.sign(&signable, OffsetDateTime::now_utc()) {
                    insert(headers, name, &value)?;
                }
            }
        }
        Ok(built)
    }
}

fn refused(reply: &Reply) -> ClientError {
    ServiceError::parse(reply.status, &reply.headers, &reply.body).into()
}

/// What went wrong with TLS, if that is why there is no connection.
fn not_secured(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(NotSecured(cause)) = error.downcast_ref() {
            return Some(cause.clone());
        }
        next = error.source();
    }
    None
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), ClientError> {
    let bad = || ClientError::Header {
        name: name.to_owned(),
    };
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
    let value = HeaderValue::from_str(value).map_err(|_| bad())?;
    headers.insert(parsed, value);
    Ok(())
}
