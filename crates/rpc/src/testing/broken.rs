//! The part of the suite in which something is broken: "not sent" and "lost" must be exact.

use super::{Echo, Fabric, LONG, Obey, code_of, gate, request, until_answered};
use crate::{CallError, MAX_BODY, Method, RefusalCode, Routes, Transport};
use bytes::Bytes;
use floeberg_types::NodeId;
use futures::FutureExt as _;
use futures::future::join_all;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const NOBODY: NodeId = NodeId(99);

pub(super) async fn never_sent(fabric: &dyn Fabric) {
    let a = fabric.start(A, Routes::new()).await;
    let echo = Routes::new().on(Method::Propose, Arc::new(Echo));
    fabric.start(B, echo).await;
    let unknown = a.call(NOBODY, request(Method::Propose, "x"), LONG).await;
    assert!(is_not_sent(&unknown), "{unknown:?}");
    let large = request(Method::Propose, vec![0; MAX_BODY + 1]);
    let large = a.call(B, large, LONG).await;
    assert!(is_not_sent(&large), "{large:?}");
    until_answered(a.as_ref(), B, Method::Propose).await;
    fabric.stop(B).await;
    // The first calls may still be handed to the stream that is about to break.
    for _ in 0..1000 {
        let down = a.call(B, request(Method::Propose, "x"), LONG).await;
        if is_not_sent(&down) {
            return;
        }
        assert!(is_lost(&down), "{down:?}");
    }
    panic!("a node that is down was sent calls for ever");
}

pub(super) async fn lost_answers(fabric: &dyn Fabric) {
    let (gate, mut keeper) = gate();
    let a = fabric.start(A, Routes::new()).await;
    let panic = |_: Bytes| panic!("a planted panic");
    let routes = Routes::new()
        .on(Method::Append, gate)
        .on(Method::Vote, Arc::new(Obey(panic)));
    fabric.start(B, routes).await;
    // The patience of the caller ends.
    let short = Duration::from_millis(50);
    let impatient = a.call(B, request(Method::Append, "first"), short);
    let impatient = impatient.await;
    if is_lost(&impatient) {
        keeper.begun.recv().await.expect("it was sent");
    } else {
        // A slow machine may need longer than that to open the stream.
        assert!(is_not_sent(&impatient), "{impatient:?}");
    }
    // The handler ends without an answer.
    let panicked = a.call(B, request(Method::Vote, "x"), LONG).await;
    assert!(is_lost(&panicked), "{panicked:?}");
    // The node goes down while it works.
    let waiting = a.call(B, request(Method::Append, "second"), LONG);
    let stop = async {
        keeper.begun.recv().await.expect("it has begun");
        fabric.stop(B).await;
    };
    let (waiting, ()) = futures::join!(waiting, stop);
    assert!(is_lost(&waiting), "{waiting:?}");
    assert!(keeper.ended.lock().is_empty(), "its handlers are dropped");
}

pub(super) async fn a_dropped_future(fabric: &dyn Fabric) {
    let (gate, mut keeper) = gate();
    let a = fabric.start(A, Routes::new()).await;
    let routes = Routes::new()
        .on(Method::Propose, gate)
        .on(Method::Withdraw, Arc::new(Echo));
    fabric.start(B, routes).await;
    // Polled once, which puts it in the queue, and dropped.
    let dropped = a.call(B, request(Method::Propose, "dropped"), LONG);
    assert!(dropped.now_or_never().is_none());
    let after = a.call(B, request(Method::Withdraw, "x"), LONG).await;
    assert_eq!(after, Ok(Bytes::from("1/0/x")));
    let begun = keeper.begun.recv().await;
    assert_eq!(begun, Some(Bytes::from("dropped")), "it ran all the same");
    keeper.go.add_permits(1);
}

pub(super) async fn a_restarted_peer(fabric: &dyn Fabric) {
    let a = fabric.start(A, Routes::new()).await;
    for life in 0..3_u8 {
        let answer = move |_: Bytes| Ok(Bytes::from(vec![life]));
        let routes = Routes::new().on(Method::ReadIndex, Arc::new(Obey(answer)));
        fabric.start(B, routes).await;
        let answer = until_answered(a.as_ref(), B, Method::ReadIndex).await;
        assert_eq!(answer, [life].as_slice(), "the latest life answers");
        fabric.stop(B).await;
    }
}

pub(super) async fn a_removed_peer(fabric: &dyn Fabric) {
    let (gate, mut keeper) = gate();
    let echo = Routes::new().on(Method::Vote, Arc::new(Echo));
    let a = fabric.start(A, echo).await;
    let b = fabric
        .start(B, Routes::new().on(Method::ShardRead, gate))
        .await;
    until_answered(b.as_ref(), A, Method::Vote).await;
    let waiting = a.call(B, request(Method::ShardRead, "x"), LONG);
    let remove = async {
        keeper.begun.recv().await.expect("it has begun");
        fabric.remove(A, B).await;
    };
    let (waiting, ()) = futures::join!(waiting, remove);
    assert!(is_lost(&waiting), "{waiting:?}");
    let later = a.call(B, request(Method::ShardRead, "x"), LONG).await;
    assert!(is_not_sent(&later), "{later:?}");
    // What comes from it is refused once its old stream is closed.
    for _ in 0..1000 {
        let refused = b.call(A, request(Method::Vote, "x"), LONG).await;
        if code_of(refused.clone()) == Some(RefusalCode::Removed) {
            return;
        }
        assert!(
            !matches!(refused, Err(CallError::Refused(_))),
            "{refused:?}"
        );
    }
    panic!("a removed node was served for ever");
}

/// Calls run while the peer goes down and comes back. What a caller was told must agree with what
/// the peer has seen.
pub(super) async fn unsent_means_unseen(fabric: &dyn Fabric) {
    let seen = Arc::new(Mutex::new(BTreeMap::<Bytes, u32>::new()));
    let routes = || {
        let seen = seen.clone();
        let note = move |body: Bytes| {
            *seen.lock().entry(body).or_default() += 1;
            Ok(Bytes::new())
        };
        Routes::new().on(Method::Propose, Arc::new(Obey(note)))
    };
    let a = fabric.start(A, Routes::new()).await;
    fabric.start(B, routes()).await;
    let callers = join_all((0..8_u32).map(|caller| talk(a.clone(), caller)));
    let trouble = async {
        for _ in 0..5 {
            until_answered(a.as_ref(), B, Method::Propose).await;
            fabric.stop(B).await;
            fabric.start(B, routes()).await;
        }
    };
    let (told, ()) = futures::join!(callers, trouble);
    let seen = seen.lock();
    let mut answered = 0;
    for (body, result) in told.into_iter().flatten() {
        let times = seen.get(&body).copied().unwrap_or(0);
        match result {
            Ok(_) => {
                answered += 1;
                assert_eq!(times, 1, "answered: {body:?}");
            }
            Err(CallError::NotSent { .. }) => assert_eq!(times, 0, "not sent: {body:?}"),
            Err(CallError::Lost { .. }) => assert!(times <= 1, "lost: {body:?}"),
            Err(CallError::Refused(refusal)) => panic!("refused: {refusal:?}"),
        }
    }
    assert!(answered > 0, "some calls got through");
}

type Told = Vec<(Bytes, Result<Bytes, CallError>)>;

async fn talk(a: Arc<dyn Transport>, caller: u32) -> Told {
    let mut told = Vec::new();
    for n in 0..100_u32 {
        let body = Bytes::from(format!("{caller}-{n}"));
        let call = request(Method::Propose, body.clone());
        told.push((body, a.call(B, call, LONG).await));
        tokio::task::yield_now().await;
    }
    told
}

fn is_not_sent(result: &Result<Bytes, CallError>) -> bool {
    matches!(result, Err(CallError::NotSent { .. }))
}

fn is_lost(result: &Result<Bytes, CallError>) -> bool {
    matches!(result, Err(CallError::Lost { .. }))
}
