//! Deleting a bucket takes a step in the catalog, one in the object group and one in the catalog
//! again: what a crash leaves after each, and what workers do to each other.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use floeberg_env::UnsyncedData;
use floeberg_objects::errors::{DeleteBucketError, Outage, PutError};
use floeberg_objects::{DeleteRequest, DeletionEnd, Reclaimed, WriteConditions};
use support::*;

async fn delete_bucket(node: &Node, world: &World) -> Result<(), DeleteBucketError> {
    let name = bucket("files");
    node.objects.delete_bucket(&world.may(), &cx(), &name).await
}

async fn put(node: &Node, world: &World, key: &str) -> Result<(), PutError> {
    let bytes = pattern(10, 1);
    node.put(world, "files", key, &bytes).await.map(|_| ())
}

async fn delete(node: &Node, world: &World, object: &str) {
    let request = DeleteRequest {
        bucket: bucket("files"),
        key: key(object),
        version: None,
        conditions: WriteConditions::default(),
    };
    let deleted = node.objects.delete(&world.may(), &cx(), &request).await;
    deleted.unwrap();
}

fn is_indefinite(result: &Result<(), DeleteBucketError>) -> bool {
    matches!(result, Err(DeleteBucketError::Outage(Outage::Indefinite)))
}

/// The node ends as in a power loss and starts again.
async fn crash(world: &World, node: Node, fate: UnsyncedData) -> Node {
    node.kill().await;
    world.crash(fate);
    world.start().await
}

/// The four places between the steps of deleting an empty bucket.
fn stops() -> [(Step, Fate); 4] {
    [
        (Step::Begin, Fate::LostBefore),
        (Step::Begin, Fate::LostAfter),
        (Step::Finish, Fate::LostBefore),
        (Step::Finish, Fate::LostAfter),
    ]
}

#[tokio::test]
async fn a_deletion_that_a_crash_stopped_is_ended_by_the_reclaimer() {
    for fate in [UnsyncedData::Lost, UnsyncedData::Torn] {
        for (at, (step, lost)) in stops().into_iter().enumerate() {
            let world = World::new(30);
            let node = world.start().await;
            world.catalog.doom(step, lost);
            assert!(is_indefinite(&delete_bucket(&node, &world).await));
            let node = crash(&world, node, fate).await;
            // Fenced or not: what is acknowledged now must not be lost.
            let late = put(&node, &world, "late").await;
            let ended = node.objects.reclaim().await.unwrap();
            let found = world.catalog.deletion("files");
            assert_eq!(found, None, "stop {at}: nothing stays `deleting`");
            let expected = match (at, &late) {
                (0, Ok(())) => (0, true),
                // The fence was not there yet, so the object came first.
                (1, Ok(())) => (1, true),
                (2, Err(PutError::Fenced(_))) => (1, false),
                (3, Err(PutError::NoSuchBucket(_))) => (0, false),
                other => panic!("{other:?}"),
            };
            let is_there = put(&node, &world, "after").await.is_ok();
            assert_eq!((ended.deletions, is_there), expected, "stop {at}");
            if late.is_ok() {
                assert_eq!(node.keys(&world, "files").await, ["after", "late"]);
            }
            assert_eq!(node.objects.reclaim().await.unwrap(), Reclaimed::default());
        }
    }
}

#[tokio::test]
async fn a_request_that_finds_a_bucket_deleting_goes_on() {
    for (at, (step, lost)) in stops().into_iter().enumerate() {
        let world = World::new(31);
        let node = world.start().await;
        world.catalog.doom(step, lost);
        assert!(is_indefinite(&delete_bucket(&node, &world).await));
        let node = crash(&world, node, UnsyncedData::Lost).await;
        let again = delete_bucket(&node, &world).await;
        match at {
            3 => assert!(matches!(again, Err(DeleteBucketError::NoSuchBucket(_)))),
            _ => again.unwrap(),
        }
        assert_eq!(node.objects.reclaim().await.unwrap(), Reclaimed::default());
        let made = node
            .objects
            .create_bucket(&world.may(), &cx(), bucket("files"))
            .await;
        assert_eq!(made.unwrap().deletion, None);
        put(&node, &world, "k").await.unwrap();
    }
}

/// Objects stand in the way: wherever the worker stops, the bucket works again in the end.
#[tokio::test]
async fn an_aborted_deletion_leaves_a_working_bucket() {
    for (at, lost) in [Fate::LostBefore, Fate::LostAfter].into_iter().enumerate() {
        let world = World::new(32);
        let node = world.start().await;
        put(&node, &world, "k").await.unwrap();
        world.catalog.doom(Step::Abort, lost);
        assert!(is_indefinite(&delete_bucket(&node, &world).await));
        let node = crash(&world, node, UnsyncedData::Lost).await;
        put(&node, &world, "k2").await.unwrap();
        let done = node.objects.reclaim().await.unwrap();
        assert_eq!(done.deletions, 1 - at);
        assert_eq!(world.catalog.deletion("files"), None);
        assert_eq!(node.keys(&world, "files").await, ["k", "k2"]);
        let refused = delete_bucket(&node, &world).await;
        assert!(matches!(refused, Err(DeleteBucketError::NotEmpty(_))));
        put(&node, &world, "k3").await.unwrap();
    }
}

/// One worker saw an object, another did not because it was deleted in between. If the first one's
/// fence were lifted under the second, an acknowledged object would go with the bucket.
#[tokio::test]
async fn workers_of_one_deletion_agree_on_its_end() {
    for finish_first in [false, true] {
        let world = World::new(33);
        let node = world.start().await;
        put(&node, &world, "k").await.unwrap();
        let (aborting, abort) = world.catalog.hold(Step::Abort);
        let (finishing, finish) = world.catalog.hold(Step::Finish);
        let first = async { delete_bucket(&node, &world).await };
        let second = async {
            aborting.await.unwrap();
            delete(&node, &world, "k").await;
            delete_bucket(&node, &world).await
        };
        let director = async {
            finishing.await.unwrap();
            assert!(matches!(
                put(&node, &world, "fenced").await,
                Err(PutError::Fenced(_))
            ));
            if finish_first {
                finish.send(()).unwrap();
                while world.catalog.deletion("files").is_some() {
                    tokio::task::yield_now().await;
                }
                abort.send(()).unwrap();
            } else {
                abort.send(()).unwrap();
                while put(&node, &world, "new").await.is_err() {
                    tokio::task::yield_now().await;
                }
                finish.send(()).unwrap();
            }
        };
        let (first, second, ()) = futures::join!(first, second, director);
        if finish_first {
            first.unwrap();
            second.unwrap();
            let late = put(&node, &world, "late").await;
            assert!(matches!(late, Err(PutError::NoSuchBucket(_))), "{late:?}");
        } else {
            assert!(matches!(first, Err(DeleteBucketError::NotEmpty(_))));
            assert!(matches!(second, Err(DeleteBucketError::NotEmpty(_))));
            assert_eq!(node.keys(&world, "files").await, ["new"]);
            put(&node, &world, "more").await.unwrap();
        }
        assert_eq!(node.objects.reclaim().await.unwrap(), Reclaimed::default());
    }
}

/// Where a worker was held up while its deletion was given up behind its back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeldUp {
    BeforeItsFence,
    AfterItsFence,
    /// And the reclaimer has lifted the fence.
    AfterItsFenceWasLifted,
}

/// A worker that was held up for long neither lifts nor replaces the fence of a later deletion.
#[tokio::test]
async fn a_late_worker_leaves_the_fence_of_a_later_deletion() {
    for case in [
        HeldUp::BeforeItsFence,
        HeldUp::AfterItsFence,
        HeldUp::AfterItsFenceWasLifted,
    ] {
        let world = World::new(34);
        let node = world.start().await;
        let (held, go) = match case {
            HeldUp::BeforeItsFence => world.catalog.hold_after(Step::Begin),
            _ => world.catalog.hold(Step::Finish),
        };
        let (done, is_done) = tokio::sync::oneshot::channel();
        let late = async {
            let end = delete_bucket(&node, &world).await;
            done.send(()).unwrap();
            end
        };
        let director = async {
            held.await.unwrap();
            let files = world.catalog.info("files");
            let aborted = world.catalog.end(&files, 1, DeletionEnd::Aborted);
            assert_eq!(aborted, DeletionEnd::Aborted);
            if case == HeldUp::AfterItsFenceWasLifted {
                assert_eq!(node.objects.reclaim().await.unwrap().fences, 1);
                put(&node, &world, "k").await.unwrap();
                delete(&node, &world, "k").await;
            }
            let (finishing, finish) = world.catalog.hold(Step::Finish);
            let second = async { delete_bucket(&node, &world).await };
            let rest = async {
                finishing.await.unwrap();
                go.send(()).unwrap();
                is_done.await.unwrap();
                let refused = put(&node, &world, "lost").await;
                assert!(matches!(refused, Err(PutError::Fenced(_))), "{case:?}");
                finish.send(()).unwrap();
            };
            let (second, ()) = futures::join!(second, rest);
            second.unwrap();
        };
        let (late, ()) = futures::join!(late, director);
        assert!(matches!(late, Err(DeleteBucketError::NotEmpty(_))));
        assert_eq!(node.objects.reclaim().await.unwrap(), Reclaimed::default());
    }
}

/// A bucket with objects never stops taking more because somebody asked to delete it.
#[tokio::test]
async fn asking_to_delete_a_full_bucket_disturbs_no_writer() {
    let world = World::new(35);
    let node = world.start().await;
    put(&node, &world, "k").await.unwrap();
    let deletes = async {
        for _ in 0..20 {
            let refused = delete_bucket(&node, &world).await;
            assert!(matches!(refused, Err(DeleteBucketError::NotEmpty(_))));
        }
    };
    let puts = async {
        for n in 0..20 {
            put(&node, &world, &format!("k{n}")).await.unwrap();
        }
    };
    futures::join!(deletes, puts);
    assert_eq!(node.keys(&world, "files").await.len(), 21);
    assert_eq!(node.objects.reclaim().await.unwrap(), Reclaimed::default());
}
