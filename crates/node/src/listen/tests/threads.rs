//! Which threads serve a connection.

use super::*;
use floeberg_env::Threads;

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n";

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
    let listener = entrust(listener, &tasks).unwrap();
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
