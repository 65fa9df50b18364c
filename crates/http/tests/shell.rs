//! What the shell does around a protocol: authentication, limits, refusals and request ids.

#![allow(clippy::unwrap_used)]

use axum::body::Body;
use floeberg_auth::sigv4::{RegionRule, ScopeRules};
use floeberg_auth::{Effect, Keyring, Principal, RootKey};
use floeberg_env::Env;
use floeberg_http::{
    Answer, Api, BodySize, Call, Door, Limits, NoRoom, NotRouted, Refusal, RefusalNames, Room,
    Route, Routed, Shell, json, router, with_code,
};
use floeberg_telemetry::NodeMetrics;
use floeberg_telemetry::testing::CapturedLog;
use floeberg_types::{ClusterId, RequestId};
use futures::StreamExt as _;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tower::ServiceExt;

const ID_HEADER: &str = "x-request-id";

/// Bytes of an answer that is counted.
const LARGE: usize = 300 << 10;

/// How far the operation that computes has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Computing {
    NotYet,
    Now,
    Ended,
}

struct Echo(watch::Sender<Computing>);

#[derive(Debug)]
enum Op {
    Echo(String),
    Log,
    Compute,
    Status(u16),
    Large,
    Panic,
}

impl Api for Echo {
    type Public = ();
    type Protected = Op;
    const NAME: &'static str = "echo";
    const REQUEST_ID_HEADERS: &'static [&'static str] = &[ID_HEADER];

    fn route(&self, method: &Method, segments: &[&str]) -> Result<Routed<(), Op>, NotRouted> {
        let public = |name, body| {
            Ok(Routed::Public(Route {
                operation: (),
                name,
                body,
                effect: Effect::Reads,
            }))
        };
        let protected = |operation, name, body, effect| {
            Ok(Routed::Protected(Route {
                operation,
                name,
                body,
                effect,
            }))
        };
        match (method.as_str(), segments) {
            ("GET", ["open"]) => public("open", BodySize::Nothing),
            ("POST", ["form"]) => public("form", BodySize::Small),
            ("POST", ["echo", name]) => {
                let echo = Op::Echo((*name).to_owned());
                protected(echo, "echo", BodySize::Large, Effect::Needs)
            }
            ("POST", ["purge"]) => protected(Op::Log, "purge", BodySize::Small, Effect::Frees),
            ("POST", ["log"]) => protected(Op::Log, "log", BodySize::Small, Effect::Needs),
            ("POST", ["compute"]) => {
                protected(Op::Compute, "compute", BodySize::Small, Effect::Reads)
            }
            ("POST", ["status", code]) => {
                let code = Op::Status(code.parse().expect("a status"));
                protected(code, "status", BodySize::Small, Effect::Reads)
            }
            ("GET" | "POST", ["large"]) => {
                protected(Op::Large, "large", BodySize::Small, Effect::Reads)
            }
            ("POST", ["panic"]) => protected(Op::Panic, "panic", BodySize::Small, Effect::Reads),
            (_, ["echo", _]) => Err(NotRouted::Method("POST")),
            _ => Err(NotRouted::Unknown),
        }
    }

    async fn answer_public(&self, (): (), _: Call) -> Answer {
        json(StatusCode::OK, &"open")
    }

    async fn answer(&self, operation: Op, call: Call, principal: Principal) -> Answer {
        match operation {
            Op::Echo(name) => {
                let body = String::from_utf8_lossy(&call.body).into_owned();
                json(StatusCode::OK, &(name, body, &*principal.id))
            }
            Op::Log => {
                tracing::info!("something happened");
                json(StatusCode::OK, &())
            }
            Op::Compute => {
                self.0.send_replace(Computing::Now);
                while !call.attendance.is_over() {
                    std::hint::spin_loop();
                }
                self.0.send_replace(Computing::Ended);
                json(StatusCode::OK, &())
            }
            Op::Status(code) => json(StatusCode::from_u16(code).unwrap(), &()),
            Op::Large => json(StatusCode::OK, &"x".repeat(LARGE)),
            Op::Panic => panic!("a bug in an operation"),
        }
    }

    fn refuse(&self, refusal: &Refusal, request_id: RequestId) -> Answer {
        let body = (refusal.to_string(), request_id.to_uuid_string());
        with_code(
            json(refusal.status(), &body),
            refusal.name(&RefusalNames {
                no_such_route: "NoRoute",
                wrong_method: "Method",
                not_authenticated: "Who",
                bad_request: "Bad",
                no_room: "Full",
                busy: "Busy",
                internal: "Bug",
            }),
        )
    }
}

struct Fixture {
    app: axum::Router,
    keys: Arc<Keyring>,
    metrics: NodeMetrics,
    env: Env,
    bodies: floeberg_http::ByteBudget,
    answers: floeberg_http::ByteBudget,
    computing: watch::Receiver<Computing>,
}

fn fixture() -> Fixture {
    fixture_with(Room::unlimited())
}

fn fixture_with(room: Room) -> Fixture {
    let limits = Limits {
        body_bytes: 100,
        ..Limits::default()
    };
    fixture_with_limits(room, limits)
}

fn fixture_with_limits(room: Room, limits: Limits) -> Fixture {
    let door = Door::new(limits.body_bytes);
    let (bodies, answers) = (door.bodies.clone(), door.answers.clone());
    let (env, _) = Env::simulated(7);
    let keys = Arc::new(Keyring::new(
        RootKey::new("AKIAEXAMPLE", "secretkeyexample").unwrap(),
        "000000000000".parse().unwrap(),
        ClusterId::from_bytes([1; 16]),
    ));
    let metrics = NodeMetrics::new();
    let shell = Shell {
        env: env.clone(),
        keys: keys.clone(),
        rules: ScopeRules {
            region: RegionRule::Any,
            services: ScopeRules::CATALOG_SERVICES,
        },
        metrics: metrics.http.clone(),
        limits,
        room,
        door,
    };
    let (stage, computing) = watch::channel(Computing::NotYet);
    Fixture {
        computing,
        app: router(shell, Echo(stage), &["/echo/{*rest}", ""]),
        keys,
        metrics,
        env,
        bodies,
        answers,
    }
}

impl Fixture {
    fn token(&self) -> String {
        format!(
            "Bearer {}",
            self.keys.issue_bearer(self.env.clock.now()).token
        )
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, http::HeaderMap, String) {
        let answer = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (
            parts.status,
            parts.headers,
            String::from_utf8_lossy(&body).into_owned(),
        )
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> (StatusCode, String) {
        let mut request = Request::post(path).header("host", "h");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = request.body(Body::from(body.to_owned())).unwrap();
        let (status, headers, text) = self.send(sent).await;
        assert!(headers.contains_key(ID_HEADER), "{path} has no request id");
        (status, text)
    }
}

#[tokio::test]
async fn an_authenticated_call_reaches_its_operation() {
    let f = fixture();
    let token = f.token();
    let auth = [("authorization", token.as_str())];
    let (status, body) = f.post("/echo/a%2Fb", &auth, "hello").await;
    assert_eq!(
        (status, body.as_str()),
        (StatusCode::OK, r#"["a/b","hello","AKIAEXAMPLE"]"#)
    );
    let page = f.metrics.render();
    assert!(
        page.contains(r#"api="echo",operation="echo",status="200""#),
        "{page}"
    );
}

/// The operation computes without a wait, on another thread than the connection's: who leaves ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_ends_what_it_asked_for() {
    let f = fixture();
    let request = Request::post("/compute").header("host", "h");
    let request = request.header("authorization", f.token());
    let request = request.body(Body::empty()).unwrap();
    let mut sent = Box::pin(f.app.clone().oneshot(request));
    let mut computing = f.computing.clone();
    tokio::select! {
        biased;
        begun = computing.wait_for(|stage| *stage == Computing::Now) => drop(begun.unwrap()),
        answer = &mut sent => panic!("answered: {answer:?}"),
    }
    drop(sent);
    let ended = computing.wait_for(|stage| *stage == Computing::Ended);
    ended.await.unwrap();
}

/// A disk that has room for deletes only.
fn full(free_bytes: u64, reserve_bytes: u64) -> Room {
    let here = NoRoom::Here {
        free_bytes,
        reserve_bytes,
    };
    Room::new(move || Err(here.clone()), || Ok(()))
}

#[tokio::test]
async fn not_even_what_frees_room_goes_on_without_any() {
    let without = || {
        let nodes = "2, 3".to_owned();
        Err(NoRoom::TooFew { nodes })
    };
    let f = fixture_with(Room::new(without, without));
    let token = f.token();
    let auth = [("authorization", token.as_str())];
    let (status, body) = f.post("/purge", &auth, "").await;
    assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE);
    assert!(body.contains("nodes 2, 3"), "{body}");
    assert_eq!(f.post("/status/200", &auth, "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_full_disk_refuses_changes_and_goes_on_reading() {
    let f = fixture_with(full(5 << 20, 9 << 20));
    let token = f.token();
    let auth = [("authorization", token.as_str())];
    let (status, body) = f.post("/echo/a", &auth, "").await;
    assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE);
    assert!(body.contains("5 MiB are free"), "{body}");
    // Whoever is nobody does not learn how full it is.
    assert_eq!(f.post("/echo/a", &[], "").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn nobody_is_anonymous() {
    let f = fixture();
    for headers in [
        &[][..],
        &[("authorization", "Bearer None")],
        &[("authorization", "Basic abc")],
        &[("original-authorization", "Bearer x")],
    ] {
        for path in ["/echo/x", "/nowhere", "/panic"] {
            let (status, body) = f.post(path, headers, "").await;
            let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
            assert!(
                refused.contains(&status),
                "{path} {headers:?} {status} {body}"
            );
        }
    }
    let token = f.token();
    let moved = [("original-authorization", token.as_str())];
    assert_eq!(
        f.post("/echo/x", &moved, "").await.0,
        StatusCode::UNAUTHORIZED
    );
    let open = Request::get("/open").body(Body::empty()).unwrap();
    assert_eq!(f.send(open).await.0, StatusCode::OK);
}

#[tokio::test]
async fn refusals_have_their_status_and_headers() {
    let f = fixture();
    let token = f.token();
    let auth = ("authorization", token.as_str());
    assert_eq!(
        f.post("/nowhere", &[auth], "").await.0,
        StatusCode::NOT_FOUND
    );
    for path in ["/echo//x", "/echo/../x", "/echo/%2e%2e"] {
        assert_eq!(
            f.post(path, &[auth], "").await.0,
            StatusCode::BAD_REQUEST,
            "{path}"
        );
    }
    assert_eq!(
        f.post("/echo/x?a=%ff", &[auth], "").await.0,
        StatusCode::BAD_REQUEST
    );
    let gzip = [auth, ("content-encoding", "gzip")];
    let (status, body) = f.post("/echo/x", &gzip, "").await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(body.contains("`gzip` is not supported"), "{body}");
    let long = "x".repeat(101);
    assert_eq!(
        f.post("/echo/x", &[auth], &long).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let get = Request::get("/echo/x")
        .header("authorization", &token)
        .body(Body::empty())
        .unwrap();
    let (status, headers, _) = f.send(get).await;
    assert_eq!(
        (status, headers["allow"].to_str().unwrap()),
        (StatusCode::METHOD_NOT_ALLOWED, "POST")
    );
    let bare = Request::post("/echo/x").body(Body::empty()).unwrap();
    let (status, headers, _) = f.send(bare).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(headers["www-authenticate"], "Bearer realm=\"floeberg\"");
}

/// A body that is never to be read: it fails the test when it is.
fn untouched() -> Body {
    let unread = futures::stream::poll_fn(
        |_| -> std::task::Poll<Option<std::io::Result<bytes::Bytes>>> {
            panic!("the body was read")
        },
    );
    Body::from_stream(unread)
}

#[tokio::test]
async fn what_the_head_tells_is_checked_before_the_body() {
    let f = fixture();
    let token = f.token();
    let old = f.keys.issue_bearer(floeberg_types::TimestampMs(0)).token;
    let old = format!("Bearer {old}");
    let unknown = "AWS4-HMAC-SHA256 Credential=AKIAOTHER/20261130/us-east-1/s3tables/aws4_request, \
        SignedHeaders=host;x-amz-date, Signature=";
    let unknown = format!("{unknown}{}", "0".repeat(64));
    for (path, headers, status) in [
        ("/echo/x", vec![], StatusCode::UNAUTHORIZED),
        (
            "/echo/x",
            vec![("authorization", "Bearer no")],
            StatusCode::UNAUTHORIZED,
        ),
        (
            "/echo/x",
            vec![("authorization", &*old)],
            StatusCode::UNAUTHORIZED,
        ),
        (
            "/echo/x",
            vec![("authorization", &*unknown)],
            StatusCode::FORBIDDEN,
        ),
        (
            "/nowhere",
            vec![("authorization", &*unknown)],
            StatusCode::FORBIDDEN,
        ),
        (
            "/echo/x",
            vec![("authorization", &*token), ("content-length", "101")],
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
        (
            "/form",
            vec![("content-length", "101")],
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
    ] {
        let mut request = Request::post(path).header("host", "h");
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        let (found, answer, text) = f.send(request.body(untouched()).unwrap()).await;
        assert_eq!(found, status, "{path} {headers:?}: {text}");
        assert_eq!(answer["connection"], "close", "{path} {headers:?}");
    }
    let open = Request::get("/open").body(untouched()).unwrap();
    let (status, headers, _) = f.send(open).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["connection"], "close");
}

#[tokio::test]
async fn public_bodies_are_small_and_routes_choose_theirs() {
    let f = fixture_with_limits(Room::unlimited(), Limits::default());
    let post = |path: &str, bytes: usize| {
        let path = path.to_owned();
        let f = &f;
        async move {
            let auth = ("authorization", &*f.token());
            let body = "x".repeat(bytes);
            f.post(&path, &[auth], &body).await.0
        }
    };
    let small = floeberg_types::limits::SMALL_BODY_BYTES;
    for path in ["/form", "/log", "/nowhere"] {
        assert_ne!(post(path, small).await, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(post(path, small + 1).await, StatusCode::PAYLOAD_TOO_LARGE);
    }
    assert_eq!(post("/echo/x", small + 1).await, StatusCode::OK);
}

#[tokio::test]
async fn only_what_needs_room_is_refused_without_it() {
    let f = fixture_with(full(0, 0));
    let token = f.token();
    let auth = [("authorization", token.as_str())];
    assert_eq!(f.post("/purge", &auth, "").await.0, StatusCode::OK);
    assert_eq!(f.post("/status/200", &auth, "").await.0, StatusCode::OK);
    let refused = f.post("/log?delete", &auth, "").await.0;
    assert_eq!(refused, StatusCode::INSUFFICIENT_STORAGE);
}

#[tokio::test(start_paused = true)]
async fn bodies_of_others_do_not_keep_a_small_one_out() {
    let limits = Limits {
        body_bytes: 64 << 20,
        ..Limits::default()
    };
    let f = fixture_with_limits(Room::unlimited(), limits);
    let peer = |network: u8, connection: u64| floeberg_http::Peer {
        network: floeberg_http::Network::of([10, 0, 0, network].into()),
        connection,
    };
    let send = |who: floeberg_http::Peer, length: usize, body: Body| {
        let mut request = Request::post("/echo/x")
            .header("authorization", f.token())
            .header("content-length", length)
            .body(body)
            .unwrap();
        request.extensions_mut().insert(who);
        f.send(request)
    };
    let silent = || {
        let none = futures::stream::pending::<std::io::Result<bytes::Bytes>>();
        Body::from_stream(none)
    };
    // Two clients promise all that they may hold, and send nothing.
    let large = 30 << 20;
    let crowd = (0..8).map(|i| send(peer(1 + i % 2, i.into()), large, silent()));
    let crowd = futures::future::join_all(crowd.map(Box::pin));
    let valid = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let began = tokio::time::Instant::now();
        let small = send(peer(3, 100), 5, Body::from("hello")).await;
        assert_eq!(small.0, StatusCode::OK);
        assert_eq!(began.elapsed(), Duration::ZERO);
        send(peer(3, 101), large, silent()).await
    };
    let (crowd, refused) = tokio::join!(crowd, valid);
    assert_eq!(refused.0, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.2);
    assert_eq!(refused.1["retry-after"], "1");
    let given_up = crowd.iter().filter(|a| a.0 == StatusCode::REQUEST_TIMEOUT);
    assert_eq!(given_up.count(), 4);
    assert_eq!(f.bodies.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_counts_with_what_becomes_of_it() {
    let f = fixture_with_limits(Room::unlimited(), Limits::default());
    let post = |body: Body| {
        let request = Request::post("/echo/x").header("authorization", f.token());
        f.send(request.body(body).unwrap())
    };
    let values = |many: usize| format!("[{}1]", "1,".repeat(many));
    let most = floeberg_types::limits::BODY_VALUES;
    assert_eq!(post(values(most).into()).await.0, StatusCode::OK);
    let (status, _, text) = post(values(most + 1).into()).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(text.contains("500000 values"), "{text}");
    // While it is worked on, it holds more than its text.
    let begun = futures::stream::iter([std::io::Result::Ok(bytes::Bytes::from(values(10_000)))]);
    let body = Body::from_stream(begun.chain(futures::stream::pending()));
    let looked = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        f.bodies.held()
    };
    let (answer, held) = tokio::join!(post(body), looked);
    assert!(held > 10_000 * 96, "{held}");
    assert_eq!(answer.0, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(f.bodies.held(), 0);
}

/// Sends a body whose bytes come with the given pauses in seconds, and then nothing.
async fn post_paced(f: &Fixture, pauses: &[u64], then: Option<()>) -> (StatusCode, Duration) {
    let bytes = futures::stream::iter(pauses.to_vec()).then(|pause| async move {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"x"))
    });
    let body = match then {
        Some(()) => Body::from_stream(bytes),
        None => Body::from_stream(bytes.chain(futures::stream::pending())),
    };
    let request = Request::post("/echo/x")
        .header("authorization", f.token())
        .header("host", "h")
        .body(body)
        .unwrap();
    let began = tokio::time::Instant::now();
    let (status, ..) = f.send(request).await;
    (status, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_silent_body_is_given_up_and_a_slow_one_is_not() {
    let f = fixture();
    let (status, took) = post_paced(&f, &[10], None).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(took.as_secs(), 70);
    let (status, took) = post_paced(&f, &[50, 50, 50], Some(())).await;
    assert_eq!((status, took.as_secs()), (StatusCode::OK, 150));
}

/// What the access log says of the answers so far.
/// Which levels are written at all is known to the whole process: a test that captures its log must not
/// begin or end beside another.
static LOGS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn access(log: &CapturedLog) -> Vec<serde_json::Value> {
    let lines = log.lines().into_iter();
    let lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap());
    lines
        .filter(|line| line["target"] == "floeberg::access")
        .collect()
}

#[tokio::test]
async fn a_refusal_leaves_one_line_under_the_id_in_its_body() {
    let _alone = LOGS.lock().await;
    let log = CapturedLog::start("warn,floeberg=info");
    let f = fixture();
    let token = f.token();
    let auth = [("authorization", token.as_str())];
    let (_, body) = f.post("/echo/x", &auth, "").await;
    assert!(access(&log).is_empty(), "{body}");
    let (_, body) = f.post("/nowhere?key=secret", &auth, "").await;
    f.post("/echo/x", &[], "").await;
    let lines = access(&log);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0]["level"], "INFO");
    let (_, id): (String, String) = serde_json::from_str(&body).unwrap();
    let fields = &lines[0]["fields"];
    assert_eq!(fields["request_id"], id);
    assert_eq!(fields["method"], "POST");
    assert_eq!(fields["path"], "/nowhere");
    assert_eq!(fields["status"], 404);
    assert_eq!(fields["code"], "NoRoute");
    assert!(fields["micros"].is_u64(), "{fields}");
    assert_eq!(lines[1]["fields"]["principal"], "-");
}

#[tokio::test]
async fn only_a_failure_of_the_server_is_a_warning() {
    let _alone = LOGS.lock().await;
    let log = CapturedLog::start("error,floeberg::access=debug");
    let f = fixture();
    let token = f.token();
    let auth = [("authorization", token.as_str())];
    for (path, level) in [
        ("/echo/x", "DEBUG"),
        ("/status/404", "INFO"),
        ("/status/501", "INFO"),
        ("/status/503", "INFO"),
        ("/status/504", "WARN"),
        ("/status/507", "WARN"),
        ("/panic", "WARN"),
    ] {
        f.post(path, &auth, "").await;
        let line = access(&log).pop().unwrap();
        assert_eq!(line["level"], level, "{path}");
        assert_eq!(line["fields"]["principal"], "AKIAEXAMPLE", "{path}");
    }
}

#[tokio::test]
async fn what_a_request_logs_itself_carries_its_id() {
    let _alone = LOGS.lock().await;
    let log = CapturedLog::start("warn,floeberg=info,shell=info");
    let f = fixture();
    let token = f.token();
    f.post("/log", &[("authorization", token.as_str())], "")
        .await;
    let lines = log.lines();
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["fields"]["message"], "something happened");
    let id = line["span"]["request_id"].as_str().unwrap();
    assert_eq!(id.len(), 36, "{line}");
}

#[tokio::test]
async fn a_panic_is_an_answer_with_the_request_id() {
    let f = fixture();
    let token = f.token();
    let request = Request::post("/panic")
        .header("authorization", &token)
        .header("host", "h")
        .body(Body::empty())
        .unwrap();
    let (status, headers, body) = f.send(request).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let id = headers[ID_HEADER].to_str().unwrap();
    assert!(body.contains(id), "{body}");
    assert_eq!(&id[14..15], "7", "request ids are UUIDs of version 7");
    assert!(!body.contains("a bug in an operation"), "{body}");
}

#[tokio::test]
async fn signed_requests_are_verified_over_path_query_and_body() {
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
    let f = fixture();
    let now = u64::try_from(f.env.clock.now().0).unwrap();
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(now);
    let keys = aws_credential_types::Credentials::new(
        "AKIAEXAMPLE",
        "secretkeyexample",
        None,
        None,
        "test",
    );
    let identity = keys.into();
    let mut settings = SigningSettings::default();
    settings.uri_path_normalization_mode =
        aws_sigv4::http_request::UriPathNormalizationMode::Disabled;
    let params = aws_sigv4::sign::v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("s3tables")
        .time(time)
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let path = "/echo/arn%3Aaws%2Fx?b=2&a=%20";
    let signable = SignableRequest::new(
        "POST",
        format!("http://h{path}"),
        [("host", "h")].into_iter(),
        SignableBody::Bytes(b"body"),
    );
    let (signed, _) = sign(signable.unwrap(), &params).unwrap().into_parts();
    let headers: Vec<_> = signed.headers().collect();
    let (status, body) = f.post(path, &headers, "body").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(
        f.post(path, &headers, "other").await.0,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        f.post("/echo/arn%3Aaws/x", &headers, "body").await.0,
        StatusCode::FORBIDDEN
    );
}

/// What clients have not read yet is bounded: who can ask again is told to, and who has changed something
/// learns so all the same.
#[tokio::test(start_paused = true)]
async fn a_large_answer_counts_until_it_is_read() {
    let f = fixture();
    let ask = async |method: Method| {
        let request = Request::builder().method(method).uri("/large");
        let request = request.header("authorization", f.token());
        let request = request.body(Body::empty()).unwrap();
        f.app.clone().oneshot(request).await.unwrap()
    };
    let unread = ask(Method::GET).await;
    assert!(f.answers.held() > LARGE as u64);
    let body = axum::body::to_bytes(unread.into_body(), usize::MAX).await;
    let body = body.unwrap();
    assert_eq!(body.len(), LARGE + 2);
    assert!(f.answers.held() > LARGE as u64, "its bytes are still there");
    drop(body);
    assert_eq!(f.answers.held(), 0);
    let share = f.answers.shares().network;
    let unread: Vec<_> = futures::stream::iter(0..share / LARGE as u64)
        .then(|_| ask(Method::GET))
        .collect()
        .await;
    let answered = unread
        .iter()
        .filter(|answer| answer.status() == StatusCode::OK);
    let refused = unread
        .iter()
        .filter(|a| a.status() == StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answered.count() + refused.count(), unread.len());
    assert!(f.answers.held() <= share);
    let one_more = ask(Method::GET).await;
    assert_eq!(one_more.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(one_more.headers()["retry-after"], "1");
    assert_eq!(ask(Method::POST).await.status(), StatusCode::OK);
    drop(unread);
    assert_eq!(f.answers.held(), 0);
    assert_eq!(ask(Method::GET).await.status(), StatusCode::OK);
}
