//! The in-memory network: the suite, and the faults that only it can make.
#![allow(clippy::unwrap_used)] // a test; the lint spares only code inside `#[test]`

use async_trait::async_trait;
use bytes::Bytes;
use floeberg_env::Env;
use floeberg_rpc::memory::MemNetwork;
use floeberg_rpc::testing::{Fabric, LONG, transport_suite};
use floeberg_rpc::{CallError, Handler, Method, Peers, Refusal, Request, Routes, Transport};
use floeberg_types::{GroupId, NodeId};
use futures::future::join_all;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

struct MemFabric {
    net: MemNetwork,
    books: Mutex<BTreeMap<NodeId, Arc<Peers>>>,
}

#[async_trait]
impl Fabric for MemFabric {
    async fn start(&self, node: NodeId, routes: Routes) -> Arc<dyn Transport> {
        let mut books = self.books.lock();
        let own = Arc::new(Peers::new());
        for (other, book) in books.iter() {
            own.set(*other, "memory");
            book.set(node, "memory");
        }
        books.insert(node, own.clone());
        self.net.member(node, routes, own)
    }

    async fn stop(&self, node: NodeId) {
        self.net.down(node);
    }

    async fn remove(&self, at: NodeId, gone: NodeId) {
        self.books.lock()[&at].remove(gone);
    }
}

fn network(seed: u64) -> MemNetwork {
    let (env, _) = Env::simulated(seed);
    MemNetwork::new(&env, seed)
}

async fn suite(net: MemNetwork) {
    let fabric = MemFabric {
        net,
        books: Mutex::default(),
    };
    transport_suite(&fabric).await;
}

#[tokio::test(start_paused = true)]
async fn the_suite_without_delays() {
    suite(network(1)).await;
}

#[tokio::test(start_paused = true)]
async fn the_suite_with_delays() {
    let net = network(2);
    net.delay(Duration::from_micros(100)..Duration::from_millis(20));
    suite(net).await;
}

/// Answers at once and notes what it saw.
struct Note(Arc<Mutex<Vec<(NodeId, Bytes)>>>);

#[async_trait]
impl Handler for Note {
    async fn handle(&self, from: NodeId, request: Request) -> Result<Bytes, Refusal> {
        self.0.lock().push((from, request.body.clone()));
        Ok(request.body)
    }
}

type Seen = Arc<Mutex<Vec<(NodeId, Bytes)>>>;

fn pair(net: &MemNetwork) -> (Arc<dyn Transport>, Seen) {
    let seen = Seen::default();
    let routes = Routes::new();
    for method in Method::ALL {
        routes.add(method, Arc::new(Note(seen.clone())));
    }
    let a = net.node(A, Routes::new());
    net.node(B, routes);
    (a, seen)
}

fn request(method: Method, body: u32) -> Request {
    Request {
        method,
        group: GroupId::CATALOG,
        body: body.to_string().into(),
    }
}

async fn call(a: &Arc<dyn Transport>, body: u32) -> Result<Bytes, CallError> {
    let patience = Duration::from_secs(2);
    a.call(B, request(Method::Vote, body), patience).await
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_lost_at_first_and_unsent_once_it_is_noticed() {
    let net = network(3);
    let (a, seen) = pair(&net);
    call(&a, 1).await.unwrap();
    net.cut(A, B);
    let begun = Instant::now();
    assert!(matches!(call(&a, 2).await, Err(CallError::Lost { .. })));
    assert_eq!(
        begun.elapsed(),
        Duration::from_secs(2),
        "silence, no answer"
    );
    assert!(matches!(call(&a, 3).await, Err(CallError::Lost { .. })));
    assert!(matches!(call(&a, 4).await, Err(CallError::NotSent { .. })));
    net.heal();
    call(&a, 5).await.unwrap();
    let bodies: Vec<_> = seen.lock().iter().map(|(_, body)| body.clone()).collect();
    assert_eq!(bodies, ["1", "5"], "nothing else arrived");
}

#[tokio::test(start_paused = true)]
async fn a_one_way_cut_loses_the_answer_only() {
    let net = network(4);
    let (a, seen) = pair(&net);
    call(&a, 1).await.unwrap();
    net.cut(B, A);
    assert!(matches!(call(&a, 2).await, Err(CallError::Lost { .. })));
    assert_eq!(seen.lock().len(), 2, "the request arrived");
    net.heal();
    net.isolate(A);
    let fresh = a.call(B, request(Method::Append, 3), LONG).await;
    assert!(matches!(fresh, Err(CallError::NotSent { .. })), "no stream");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_went_down_has_no_voice() {
    let net = network(5);
    let (a, seen) = pair(&net);
    net.down(A);
    assert!(matches!(call(&a, 1).await, Err(CallError::NotSent { .. })));
    let again = net.node(A, Routes::new());
    assert!(matches!(call(&a, 2).await, Err(CallError::NotSent { .. })));
    call(&again, 3).await.unwrap();
    assert_eq!(*seen.lock(), [(A, Bytes::from("3"))]);
}

#[tokio::test(start_paused = true)]
async fn losses_agree_with_what_arrived() {
    let net = network(6);
    let (a, seen) = pair(&net);
    net.loss(300);
    net.delay(Duration::from_millis(1)..Duration::from_millis(30));
    let calls = (0..500).map(|n| {
        let a = a.clone();
        async move { call(&a, n).await }
    });
    let told = join_all(calls).await;
    let seen: Vec<Bytes> = seen.lock().iter().map(|(_, body)| body.clone()).collect();
    let (mut unsent, mut lost_seen, mut lost_unseen) = (0, 0, 0);
    for (n, result) in told.iter().enumerate() {
        let arrived = seen.contains(&Bytes::from(n.to_string()));
        match result {
            Ok(_) => assert!(arrived),
            Err(CallError::NotSent { .. }) => {
                assert!(!arrived);
                unsent += 1;
            }
            Err(CallError::Lost { .. }) if arrived => lost_seen += 1,
            Err(CallError::Lost { .. }) => lost_unseen += 1,
            Err(CallError::Refused(refusal)) => panic!("refused: {refusal}"),
        }
    }
    assert!(unsent > 20 && lost_seen > 20 && lost_unseen > 20);
}

/// A run with every kind of fault, as text.
async fn run(seed: u64) -> String {
    let net = network(seed);
    let (a, seen) = pair(&net);
    net.loss(100);
    net.delay(Duration::from_micros(50)..Duration::from_millis(10));
    let methods = [Method::Vote, Method::Append, Method::Propose];
    let started = Instant::now();
    let calls = (0..300).map(|n| {
        let a = a.clone();
        async move {
            let patience = Duration::from_millis(200);
            let method = methods[usize::try_from(n % 3).unwrap()];
            let result = a.call(B, request(method, n), patience).await;
            format!("{n} {result:?} {:?}\n", started.elapsed())
        }
    });
    let lines = join_all(calls).await.concat();
    let seen = seen.lock();
    // Different lanes overtake each other, one lane never.
    let order: Vec<u32> = seen
        .iter()
        .map(|(_, body)| std::str::from_utf8(body).unwrap().parse().unwrap())
        .collect();
    assert!(!order.is_sorted());
    for lane in 0..3 {
        let of_lane = order.iter().filter(|n| **n % 3 == lane);
        assert!(of_lane.is_sorted(), "lane {lane}");
    }
    format!("{lines}{seen:?}")
}

#[test]
fn one_seed_one_run() {
    let once = |seed| {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(run(seed))
    };
    assert_eq!(once(7), once(7));
    assert_ne!(once(7), once(8));
}
