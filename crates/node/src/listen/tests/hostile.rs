//! What a port does about clients that take all and give nothing.

use super::*;
use http::header::{CONNECTION, HeaderValue};

/// Answers every request as `answer` does, without a look at its body.
async fn answering<F>(connections: usize, answer: F) -> Served
where
    F: Fn(&str) -> http::Response<http_body_util::Full<Bytes>> + Clone + Send + Sync + 'static,
{
    let (listener, port) = port(connections, None).await;
    let service = service_fn(move |request: http::Request<Incoming>| {
        let answer = answer(request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    start(listener, port, service)
}

fn body(bytes: impl Into<Bytes>) -> http::Response<http_body_util::Full<Bytes>> {
    http::Response::new(http_body_util::Full::new(bytes.into()))
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_loses_its_place() {
    let served = answering(10, |_| body(vec![7; 16 << 20])).await;
    let mut greedy = served.connect().await;
    greedy.write_all(GET).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(served.open.get(), 1);
    tokio::time::sleep(WRITE_PATIENCE + Duration::from_secs(1)).await;
    assert_eq!(served.open.get(), 0);
    // Also one that sends requests as long as anybody takes them.
    let mut pipeline = served.connect().await;
    let sends = async { while pipeline.write_all(&GET.repeat(1_000)).await.is_ok() {} };
    let day = Duration::from_secs(86_400);
    tokio::time::timeout(day, sends).await.unwrap();
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let served = answering(10, |_| {
        let mut refusal = body(&b"refused"[..]);
        *refusal.status_mut() = http::StatusCode::UNAUTHORIZED;
        let close = HeaderValue::from_static("close");
        refusal.headers_mut().insert(CONNECTION, close);
        refusal
    })
    .await;
    for megabytes in [1, 5, 20] {
        let mut stream = served.connect().await;
        let length = megabytes << 20;
        let head = format!("PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // All of it before a byte is read, as simple clients do.
        stream.write_all(&vec![7; length]).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        assert!(answer.ends_with("refused"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn health_is_answered_when_all_places_are_taken() {
    let served = served(2, Duration::ZERO).await;
    let (mut first, mut second) = (served.connect().await, served.connect().await);
    served.ask(&mut first).await;
    served.ask(&mut second).await;
    let mut probe = served.connect().await;
    let health = b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n";
    probe.write_all(health).await.unwrap();
    answer(&mut probe).await;
    // What is no probe waits, and is told so in the end.
    let mut other = served.connect().await;
    other.write_all(GET).await.unwrap();
    let mut told = String::new();
    other.read_to_string(&mut told).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    assert!(told.contains("retry-after: 1"), "{told}");
    assert!(told.contains("connection: close"), "{told}");
    assert_eq!(served.open.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn connections_beyond_the_share_of_a_client_are_closed() {
    let served = served(100, Duration::ZERO).await;
    let mut crowd = Vec::new();
    for _ in 0..75 + places::ANTEROOM_OF_NETWORK {
        crowd.push(served.connect().await);
    }
    let mut beyond = served.connect().await;
    assert_eq!(closed(&mut beyond).await, 0);
    assert_eq!(served.open.get(), 75);
    // From another address of this machine there are places left.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut neighbour = socket.connect(served.address).await.unwrap();
    served.ask(&mut neighbour).await;
    assert_eq!(served.open.get(), 76);
}
