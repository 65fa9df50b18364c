//! Requests on a node that knows the catalog only as it was a short while ago.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use floeberg_objects::errors::{DeleteError, GetError, ListError, Outage, PutError};
use floeberg_objects::{
    BucketKind, DeleteRequest, Deleted, ListFrom, ListRequest, Location, WriteConditions,
};
use support::*;

async fn put(node: &Node, world: &World, name: &str, key: &str) -> Result<(), PutError> {
    let bytes = pattern(10, 1);
    node.put(world, name, key, &bytes).await.map(|_| ())
}

async fn get(node: &Node, world: &World, name: &str, key: &str) -> Result<(), GetError> {
    node.get(world, name, key).await.map(|_| ())
}

async fn delete(
    node: &Node,
    world: &World,
    name: &str,
    object: &str,
) -> Result<Deleted, DeleteError> {
    let request = DeleteRequest {
        bucket: bucket(name),
        key: key(object),
        version: None,
        conditions: WriteConditions::default(),
    };
    node.objects.delete(&world.may(), &cx(), &request).await
}

async fn keys(node: &Node, world: &World, name: &str) -> Result<Vec<String>, ListError> {
    let request = ListRequest {
        bucket: bucket(name),
        prefix: String::new(),
        delimiter: None,
        from: ListFrom::Start,
        max_keys: 1_000,
    };
    let listing = node.objects.list(&world.may(), &request).await?;
    Ok(listing
        .objects
        .into_iter()
        .map(|object| object.key)
        .collect())
}

/// Deletes `files`, which is empty, as another node would.
async fn delete_bucket(node: &Node, world: &World) {
    let name = bucket("files");
    let deleted = node.objects.delete_bucket(&world.may(), &cx(), &name).await;
    deleted.unwrap();
}

#[tokio::test]
async fn a_bucket_that_was_made_again_is_the_new_one_at_once() {
    let world = World::new(1);
    let node = world.start().await;
    world.catalog.stand_still();
    delete_bucket(&node, &world).await;
    // Gone, although the rows of the catalog here still have it.
    assert!(matches!(
        get(&node, &world, "files", "k").await,
        Err(GetError::NoSuchBucket(_))
    ));
    assert!(matches!(
        put(&node, &world, "files", "k").await,
        Err(PutError::NoSuchBucket(_))
    ));
    assert!(matches!(
        keys(&node, &world, "files").await,
        Err(ListError::NoSuchBucket(_))
    ));
    let gone = delete(&node, &world, "files", "k").await;
    assert!(matches!(gone, Err(DeleteError::NoSuchBucket(_))));
    // The new one: what is stored there is read, listed and deleted.
    world.catalog.add("files", BucketKind::General);
    put(&node, &world, "files", "k").await.unwrap();
    get(&node, &world, "files", "k").await.unwrap();
    assert_eq!(keys(&node, &world, "files").await.unwrap(), ["k"]);
    delete(&node, &world, "files", "k").await.unwrap();
    assert!(matches!(
        get(&node, &world, "files", "k").await,
        Err(GetError::NoSuchKey(_))
    ));
    // One that was never known here is found all the same.
    world.catalog.add("younger", BucketKind::General);
    put(&node, &world, "younger", "k").await.unwrap();
}

#[tokio::test]
async fn the_data_plane_goes_on_without_a_catalog() {
    let world = World::new(2);
    let node = world.start().await;
    put(&node, &world, "files", "before").await.unwrap();
    world.catalog.stand_still();
    world.catalog.hide();
    put(&node, &world, "files", "k").await.unwrap();
    get(&node, &world, "files", "k").await.unwrap();
    assert!(matches!(
        get(&node, &world, "files", "none").await,
        Err(GetError::NoSuchKey(_))
    ));
    assert_eq!(keys(&node, &world, "files").await.unwrap(), ["before", "k"]);
    delete(&node, &world, "files", "k").await.unwrap();
    // What the rows here do not show cannot be known.
    let unknown = get(&node, &world, "unknown", "k").await;
    assert!(matches!(
        unknown,
        Err(GetError::Outage(Outage::Unavailable))
    ));
}

#[tokio::test]
async fn an_old_row_decides_no_write_in_a_table_bucket() {
    let world = World::new(3);
    let node = world.start().await;
    world.catalog.set_location("ns/t", Location::Live);
    put(&node, &world, "lake", "ns/t/old").await.unwrap();
    world.catalog.stand_still();
    // Deleted and made again elsewhere.
    world.catalog.add("lake", BucketKind::Table);
    put(&node, &world, "lake", "ns/t/new").await.unwrap();
    // What is missing under the old id is looked for under the new one.
    get(&node, &world, "lake", "ns/t/new").await.unwrap();
    assert_eq!(keys(&node, &world, "lake").await.unwrap(), ["ns/t/new"]);
    // A file of the deleted bucket is found for a short while.
    get(&node, &world, "lake", "ns/t/old").await.unwrap();
    world.catalog.catch_up();
    let old = get(&node, &world, "lake", "ns/t/old").await;
    assert!(matches!(old, Err(GetError::NoSuchKey(_))));
}
