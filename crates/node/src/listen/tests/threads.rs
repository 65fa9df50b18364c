//! Which threads serve a connection.

use super::*;
use floeberg_env::Threads;

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n";

fn taken_by(listener: TcpListener, tasks: &Tasks) -> TcpListener {
    let listener = listener.into_std().unwrap();
    tasks.within(|| TcpListener::from_std(listener)).unwrap()
}

/// Answers with the name of the thread that answers.
async fn named(requests: &Threads, reception: &Threads) -> Served {
    let (listener, port) = port(10, None).await;
    let port = Port {
        requests: requests.tasks(),
        ..port
    };
    let service = service_fn(|_: http::Request<Incoming>| async {
        let name = std::thread::current().name().unwrap_or("none").to_owned();
        let body = http_body_util::Full::new(Bytes::from(format!("<{name}>")));
        Ok::<_, Infallible>(http::Response::new(body))
    });
    let address = listener.local_addr().unwrap();
    let (open, stop) = (port.open.clone(), CancellationToken::new());
    let (leaving, tasks) = (port.leaving.clone(), reception.tasks());
    let listener = taken_by(listener, &tasks);
    let serving = tasks.spawn("serve", serve(listener, service, port, stop.clone()));
    Served {
        address,
        open,
        leaving,
        stop,
        serving,
    }
}

async fn told(stream: &mut TcpStream, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b">") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "closed");
    }
    let answer = String::from_utf8(answer).unwrap();
    let name = answer.rsplit_once('<').unwrap().1;
    name.trim_end_matches('>').to_owned()
}

#[tokio::test]
async fn a_connection_leaves_the_reception_with_its_first_request_and_not_for_health() {
    let requests = Threads::start("requests", 1).unwrap();
    let reception = Threads::start("reception", 1).unwrap();
    let served = named(&requests, &reception).await;
    let (mut healthy, mut other) = (served.connect().await, served.connect().await);
    for _ in 0..3 {
        assert_eq!(told(&mut healthy, HEALTH).await, "reception");
        assert_eq!(told(&mut other, GET).await, "requests");
    }
    // It has moved for good, and what is served of it there needs the reception no more.
    assert_eq!(told(&mut other, HEALTH).await, "requests");
    let (occupy, occupied) = std::sync::mpsc::channel::<()>();
    let (tell, held) = tokio::sync::oneshot::channel();
    let tasks = reception.tasks();
    tasks.spawn("occupies", async move {
        tell.send(()).unwrap();
        // It ends when the sender is dropped.
        let _ = occupied.recv();
    });
    held.await.unwrap();
    for _ in 0..3 {
        assert_eq!(told(&mut other, GET).await, "requests");
    }
    drop(occupy);
    assert_eq!(told(&mut healthy, HEALTH).await, "reception");
    drop((healthy, other));
    served.stop.cancel();
    served.serving.await.unwrap();
}

/// A body of so many parts that notes who asks for them.
struct Noted {
    left: usize,
    by: Arc<Mutex<Vec<String>>>,
}

impl From<Bytes> for Noted {
    fn from(_: Bytes) -> Self {
        panic!("there is a place")
    }
}

impl hyper::body::Body for Noted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        let name = std::thread::current().name().unwrap_or("none").to_owned();
        self.by.lock().push(name);
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or_default();
        let part = Bytes::from(vec![b'.'; 256 << 10]);
        std::task::Poll::Ready(left.map(|_| Ok(hyper::body::Frame::data(part))))
    }
}

/// The bytes of an answer whose connection goes on.
async fn length(stream: &mut TcpStream, parts: usize) -> usize {
    let head = format!("GET /{parts} HTTP/1.1\r\nhost: h\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n0\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "closed");
    }
    answer.len()
}

/// A port whose answers have as many parts as the path says.
struct NotedPort {
    address: SocketAddr,
    /// Who answered.
    asked: Arc<Mutex<Vec<String>>>,
    /// Who sent.
    by: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    _threads: floeberg_env::NodeThreads,
}

fn here() -> String {
    std::thread::current().name().unwrap_or("none").to_owned()
}

async fn noted() -> NotedPort {
    let threads = floeberg_env::NodeThreads::start(&tokio::runtime::Handle::current()).unwrap();
    let env = floeberg_env::Env::real().with_threads(&threads);
    let (listener, port) = port(10, None).await;
    let port = Port {
        requests: env.tasks.clone(),
        ..port
    };
    let (asked, by) = (
        Arc::<Mutex<Vec<_>>>::default(),
        Arc::<Mutex<Vec<_>>>::default(),
    );
    let (answered, sent) = (asked.clone(), by.clone());
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (answered, by) = (answered.clone(), sent.clone());
        async move {
            answered.lock().push(here());
            let left = request.uri().path().trim_matches('/').parse().unwrap();
            Ok::<_, Infallible>(http::Response::new(Noted { left, by }))
        }
    });
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let listener = taken_by(listener, &env.reception);
    let serve = serve(listener, service, port, stop.clone());
    NotedPort {
        address,
        asked,
        by,
        stop,
        serving: env.reception.spawn("serve", serve),
        _threads: threads,
    }
}

#[tokio::test]
async fn a_large_answer_is_sent_behind_all_else_and_the_next_one_is_not() {
    let port = noted().await;
    let mut stream = TcpStream::connect(port.address).await.unwrap();
    let sent = async |stream: &mut TcpStream, count: usize| -> (usize, usize) {
        assert!(length(stream, count).await > count << 18);
        let by: Vec<String> = std::mem::take(&mut *port.by.lock());
        let behind = by.iter().filter(|name| *name == "behind").count();
        (behind, by.len() - behind)
    };
    assert_eq!(sent(&mut stream, 1).await.0, 0);
    // The library may ask once more before it gives way.
    let (behind, elsewhere) = sent(&mut stream, 20).await;
    assert!(
        behind > 0 && elsewhere <= 5,
        "{behind} behind, {elsewhere} not"
    );
    // A client that is quick asks again before the connection has moved back; then it moves behind that answer.
    let mut asks = 3;
    while sent(&mut stream, 1).await.0 > 0 {
        asks += 1;
        assert!(asks < 10, "it stays behind");
    }
    let asked: Vec<String> = std::mem::take(&mut *port.asked.lock());
    assert_eq!(asked, vec![here(); asks]);
    drop(stream);
    port.stop.cancel();
    port.serving.await.unwrap();
}

/// Streams of HTTP/2 are tasks that stay where they came in: at the reception, and behind what another one sends.
#[tokio::test]
async fn streams_are_answered_among_requests_wherever_they_come_in() {
    let port = noted().await;
    let stream = TcpStream::connect(port.address).await.unwrap();
    let io = TokioIo::new(stream);
    let executor = TokioExecutor::new();
    let opened = hyper::client::conn::http2::handshake(executor, io);
    let (client, connection) = opened.await.unwrap();
    let connection = tokio::spawn(connection);
    let get = async |count: usize| {
        let request = http::Request::get(format!("http://h/{count}"));
        let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
        let answer = client.clone().send_request(request).await.unwrap();
        let body = http_body_util::BodyExt::collect(answer.into_body());
        assert_eq!(body.await.unwrap().to_bytes().len(), count << 18);
    };
    tokio::join!(get(1), get(1), get(30), get(1), get(30));
    for _ in 0..5 {
        tokio::join!(get(30), get(1), get(8), get(1));
    }
    let asked: Vec<String> = std::mem::take(&mut *port.asked.lock());
    assert_eq!(asked, vec![here(); 25]);
    drop(client);
    port.stop.cancel();
    port.serving.await.unwrap();
    connection.abort();
}
