//! The part of the suite in which the network works.

use super::{Echo, Fabric, LONG, Obey, code_of, gate, request};
use crate::callee::room_for;
use crate::{CallError, Lane, MAX_BODY, Method, Refusal, RefusalCode, Request, Routes};
use bytes::Bytes;
use floeberg_types::{GroupId, NodeId};
use futures::future::join_all;
use parking_lot::Mutex;
use std::sync::Arc;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

pub(super) async fn answers(fabric: &dyn Fabric) {
    let a = fabric
        .start(A, Routes::new().on(Method::Status, Arc::new(Echo)))
        .await;
    let b = fabric
        .start(B, Routes::new().on(Method::Vote, Arc::new(Echo)))
        .await;
    let vote = Request {
        method: Method::Vote,
        group: GroupId::OBJECTS,
        body: Bytes::from_static(b"x"),
    };
    assert_eq!(a.call(B, vote, LONG).await, Ok(Bytes::from("1/1/x")));
    let status = request(Method::Status, Bytes::new());
    assert_eq!(b.call(A, status, LONG).await, Ok(Bytes::from("2/0/")));
}

pub(super) async fn refusals(fabric: &dyn Fabric) {
    let codes = [
        RefusalCode::NotServing,
        RefusalCode::WrongCluster,
        RefusalCode::WrongNode,
        RefusalCode::Unauthorised,
        RefusalCode::Malformed,
        RefusalCode::UnknownMethod,
        RefusalCode::Busy,
        RefusalCode::Failed,
    ];
    let refuse = move |body: Bytes| Err(Refusal::new(codes[usize::from(body[0])], "no"));
    let a = fabric.start(A, Routes::new()).await;
    fabric
        .start(B, Routes::new().on(Method::Vote, Arc::new(Obey(refuse))))
        .await;
    for (at, code) in (0..).zip(codes) {
        let refused = a.call(B, request(Method::Vote, vec![at]), LONG).await;
        let expected = Refusal::new(code, "no");
        assert_eq!(refused, Err(CallError::Refused(expected)));
    }
    let unserved = a.call(B, request(Method::Append, "x"), LONG).await;
    assert_eq!(code_of(unserved), Some(RefusalCode::NotServing));
}

pub(super) async fn late_handlers(fabric: &dyn Fabric) {
    let routes = Routes::new();
    let a = fabric.start(A, Routes::new()).await;
    fabric.start(B, routes.clone()).await;
    let early = a.call(B, request(Method::Vote, "x"), LONG).await;
    assert_eq!(code_of(early), Some(RefusalCode::NotServing));
    routes.add(Method::Vote, Arc::new(Echo));
    let late = a.call(B, request(Method::Vote, "x"), LONG).await;
    assert_eq!(late, Ok(Bytes::from("1/0/x")));
}

pub(super) async fn many_at_once(fabric: &dyn Fabric) {
    let a = fabric.start(A, Routes::new()).await;
    let methods = [Method::Propose, Method::ReadIndex, Method::Withdraw];
    let routes = Routes::new();
    for method in methods {
        routes.add(method, Arc::new(Echo));
    }
    fabric.start(B, routes).await;
    let calls = (0..600_usize).map(|n| {
        let a = a.clone();
        async move {
            let call = request(methods[n % 3], n.to_string());
            assert_eq!(a.call(B, call, LONG).await, Ok(format!("1/0/{n}").into()));
        }
    });
    join_all(calls).await;
}

pub(super) async fn large_bodies(fabric: &dyn Fabric) {
    let give_back = |body: Bytes| Ok(body);
    let a = fabric.start(A, Routes::new()).await;
    let routes = Routes::new()
        .on(Method::Append, Arc::new(Obey(give_back)))
        .on(Method::ShardRead, Arc::new(Obey(give_back)));
    fabric.start(B, routes).await;
    let batches = (0..32_u8).map(|n| {
        let (a, batch) = (a.clone(), Bytes::from(vec![n; 1 << 20]));
        async move {
            let answer = a
                .call(B, request(Method::Append, batch.clone()), LONG)
                .await;
            assert!(answer == Ok(batch), "batch {n}");
        }
    });
    join_all(batches).await;
    let largest = Bytes::from(vec![7; MAX_BODY]);
    let answer = a.call(B, request(Method::ShardRead, largest.clone()), LONG);
    assert!(answer.await == Ok(largest), "the largest body");
}

pub(super) async fn order_within_a_lane(fabric: &dyn Fabric) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = {
        let seen = seen.clone();
        move |body: Bytes| {
            seen.lock().push(body);
            Ok(Bytes::new())
        }
    };
    let a = fabric.start(A, Routes::new()).await;
    fabric
        .start(B, Routes::new().on(Method::Propose, Arc::new(Obey(note))))
        .await;
    let bodies: Vec<Bytes> = (0..1000_u32).map(|n| n.to_string().into()).collect();
    // Begun one after the other by one task.
    let calls = bodies.iter().map(|body| {
        let (a, body) = (a.clone(), body.clone());
        async move { a.call(B, request(Method::Propose, body), LONG).await }
    });
    assert!(
        join_all(calls)
            .await
            .into_iter()
            .all(|answer| answer.is_ok())
    );
    assert_eq!(*seen.lock(), bodies);
}

pub(super) async fn lanes_do_not_wait_for_each_other(fabric: &dyn Fabric) {
    let (gate, mut keeper) = gate();
    let a = fabric.start(A, Routes::new()).await;
    let routes = Routes::new()
        .on(Method::ShardWrite, gate)
        .on(Method::Vote, Arc::new(Echo));
    fabric.start(B, routes).await;
    let slow = a.call(B, request(Method::ShardWrite, vec![0; 1 << 20]), LONG);
    let quick = async {
        keeper
            .begun
            .recv()
            .await
            .expect("the shard is being written");
        let vote = a.call(B, request(Method::Vote, "x"), LONG).await;
        assert_eq!(vote, Ok(Bytes::from("1/0/x")));
        keeper.go.add_permits(1);
    };
    let (slow, ()) = futures::join!(slow, quick);
    assert!(slow.is_ok());
}

pub(super) async fn a_busy_callee(fabric: &dyn Fabric) {
    let (gate, mut keeper) = gate();
    let a = fabric.start(A, Routes::new()).await;
    fabric
        .start(B, Routes::new().on(Method::ShardRead, gate))
        .await;
    let room = room_for(Lane::Bulk);
    let within = join_all((0..room).map(|_| {
        let a = a.clone();
        async move { a.call(B, request(Method::ShardRead, "x"), LONG).await }
    }));
    let beyond = async {
        for _ in 0..room {
            keeper.begun.recv().await.expect("it has begun");
        }
        let refused = a.call(B, request(Method::ShardRead, "x"), LONG).await;
        assert_eq!(code_of(refused), Some(RefusalCode::Busy));
        keeper.go.add_permits(room);
    };
    let (within, ()) = futures::join!(within, beyond);
    assert!(within.into_iter().all(|answer| answer.is_ok()));
}
