//! What the service promises, one rule per test.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(
    clippy::too_many_lines,
    reason = "a rule and everything it forbids reads best whole"
)]

mod support;

use bytes::Bytes;
use floeberg_env::UnsyncedData;
use floeberg_objects::errors::{
    CompleteError, CopyError, DeleteBucketError, DeleteError, GetError, IngestError, PutError,
    UploadPartError,
};
use floeberg_objects::{
    Body, BodyError, ByteRange, CompleteRequest, CompletedPart, CopyPartRequest, CopyRequest,
    CreateUploadRequest, DeleteRequest, Deleted, Headers, ListFrom, ListUploadsRequest, Location,
    OrphanSweep, ReadConditions, Selection, SentChecksum, TagMatch, TagTarget, Tags, UploadRef,
    WriteConditions,
};
use floeberg_types::{Checksum, ChecksumAlgorithm, ChecksumKind};
use futures::StreamExt;
use support::*;

fn delete_request(bucket_name: &str, object: &str) -> DeleteRequest {
    DeleteRequest {
        bucket: bucket(bucket_name),
        key: key(object),
        version: None,
        conditions: WriteConditions::default(),
    }
}

async fn delete(node: &Node, world: &World, bucket: &str, key: &str) -> Deleted {
    node.objects
        .delete(&world.may(), &cx(), &delete_request(bucket, key))
        .await
        .unwrap()
}

async fn begin(node: &Node, world: &World, bucket_name: &str, object: &str) -> UploadRef {
    begin_with(node, world, bucket_name, object, None, None).await
}

async fn begin_with(
    node: &Node,
    world: &World,
    bucket_name: &str,
    object: &str,
    checksum: Option<ChecksumAlgorithm>,
    checksum_kind: Option<ChecksumKind>,
) -> UploadRef {
    let request = CreateUploadRequest {
        bucket: bucket(bucket_name),
        key: key(object),
        headers: Headers {
            content_type: "text/x".to_owned(),
            ..Headers::default()
        },
        tags: Tags::new(),
        checksum,
        checksum_kind,
    };
    let created = node
        .objects
        .create_upload(&world.may(), &cx(), request)
        .await
        .unwrap();
    UploadRef {
        bucket: bucket(bucket_name),
        key: key(object),
        upload: created.upload.to_hex(),
    }
}

async fn part(
    node: &Node,
    world: &World,
    upload: &UploadRef,
    number: i64,
    bytes: &Bytes,
) -> CompletedPart {
    let body = Body::from_bytes(bytes.clone());
    let info = node
        .objects
        .upload_part(&world.may(), &cx(), upload, number, body)
        .await
        .unwrap();
    CompletedPart {
        number: info.number,
        etag: info.etag,
        checksum: info.checksum,
    }
}

fn completion(upload: &UploadRef, parts: &[CompletedPart]) -> CompleteRequest {
    CompleteRequest {
        upload: upload.clone(),
        parts: parts.to_vec(),
        conditions: WriteConditions::default(),
        checksum: None,
        size: None,
    }
}

/// Runs everything due and returns how many chunks are left.
async fn settle(node: &Node, world: &World) -> u64 {
    let mut sweep = OrphanSweep::default();
    for _ in 0..3 {
        world.pass(200_000).await;
        node.objects.reclaim().await.unwrap();
        node.objects.sweep_orphans(&mut sweep).await.unwrap();
    }
    node.volume.stats().live_chunks
}

#[tokio::test]
async fn objects_of_every_size_come_back() {
    let world = World::new(1);
    let node = world.start().await;
    for len in [0usize, 1, 64, 65, 256, 257, 512, 1000] {
        let (name, bytes) = (format!("k/{len}"), pattern(len, 3));
        let written = node.put(&world, "files", &name, &bytes).await.unwrap();
        assert_eq!(written.size, len as u64);
        assert_eq!(node.get(&world, "files", &name).await.unwrap(), bytes);
    }
    assert_eq!(node.keys(&world, "files").await.len(), 8);
    let etag = node
        .put(&world, "files", "e", &Bytes::new())
        .await
        .unwrap()
        .etag;
    assert_eq!(etag, "d41d8cd98f00b204e9800998ecf8427e");
}

#[tokio::test]
async fn ranges_cross_chunks_and_end_with_the_object() {
    let world = World::new(2);
    let node = world.start().await;
    let bytes = pattern(1000, 7);
    node.put(&world, "files", "k", &bytes).await.unwrap();
    for (range, expected) in [
        (ByteRange::Closed(0, 0), 0..1),
        (ByteRange::Closed(250, 260), 250..261),
        (ByteRange::Closed(255, 770), 255..771),
        (ByteRange::From(900), 900..1000),
        (ByteRange::Closed(990, 5000), 990..1000),
        (ByteRange::Last(3), 997..1000),
        (ByteRange::Last(5000), 0..1000),
    ] {
        let mut request = read_request("files", "k");
        request.selection = Selection::Range(range);
        assert_eq!(
            node.read(&world, &request).await.unwrap(),
            bytes[expected],
            "{range:?}"
        );
    }
    let mut request = read_request("files", "k");
    request.selection = Selection::Range(ByteRange::From(1000));
    let error = node.read(&world, &request).await.unwrap_err();
    assert!(matches!(error, GetError::Range(range) if range.size == 1000));
}

#[tokio::test]
async fn a_body_that_fails_at_its_end_is_never_published() {
    let world = World::new(3);
    let node = world.start().await;
    let bytes = pattern(600, 1);
    let md5 = [0; 16];
    let crc = Checksum::new(ChecksumAlgorithm::Crc32, vec![0; 4]).unwrap();
    let failing = || {
        let pieces = [Ok(pattern(600, 1)), Err(BodyError::Sha256Mismatch)];
        futures::stream::iter(pieces).boxed()
    };
    let whole = || Body::from_bytes(bytes.clone());
    let bodies = [
        Body {
            stream: failing(),
            len: Some(600),
            ..whole()
        },
        Body {
            len: Some(601),
            ..whole()
        },
        Body {
            len: Some(599),
            ..whole()
        },
        Body {
            content_md5: Some(md5),
            ..whole()
        },
        Body {
            checksum: SentChecksum::Value(crc),
            ..whole()
        },
        Body {
            checksum: SentChecksum::Trailer(ChecksumAlgorithm::Crc64Nvme, Box::new(|| None)),
            ..whole()
        },
        Body {
            checksum: SentChecksum::Trailer(
                ChecksumAlgorithm::Crc32,
                Box::new(|| Some("AAAAAA==".to_owned())),
            ),
            ..whole()
        },
    ];
    for body in bodies {
        let name = format!("{body:?}");
        let mut request = put_request("files", "k", &bytes);
        request.body = body;
        let error = node
            .objects
            .put(&world.may(), &cx(), request)
            .await
            .unwrap_err();
        assert!(matches!(error, PutError::Ingest(_)), "{name}: {error:?}");
        let got = node.get(&world, "files", "k").await;
        assert!(matches!(got, Err(GetError::NoSuchKey(_))), "{name}");
    }
    node.objects.reclaim().await.unwrap();
    assert_eq!(
        node.volume.stats().live_chunks,
        0,
        "the chunks were given back"
    );
}

#[tokio::test]
async fn conditions_hold_at_the_moment_of_publication() {
    let world = World::new(4);
    let node = world.start().await;
    let put = |conditions: WriteConditions, bytes: Bytes| {
        let mut request = put_request("files", "k", &bytes);
        request.conditions = conditions;
        let objects = node.objects.clone();
        let may = world.may();
        async move { objects.put(&may, &cx(), request).await }
    };
    let absent = || WriteConditions {
        if_none_match: Some(TagMatch::Any),
        if_match: None,
    };
    let is = |etag: &str| WriteConditions {
        if_match: Some(TagMatch::Etag(etag.to_owned())),
        if_none_match: None,
    };
    assert!(matches!(
        put(is("x"), pattern(1, 1)).await,
        Err(PutError::NoSuchKey(_))
    ));
    // Exactly one of many exclusive creators wins.
    let racers: Vec<_> = (0..8u8).map(|n| put(absent(), pattern(100, n))).collect();
    let results = futures::future::join_all(racers).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let failed = |r: &Result<_, PutError>| matches!(r, Err(PutError::Precondition(_)) | Ok(_));
    assert!(results.iter().all(failed));
    let etag = results.into_iter().find_map(Result::ok).unwrap().etag;
    assert!(matches!(
        put(is("x"), pattern(2, 2)).await,
        Err(PutError::Precondition(_))
    ));
    let next = put(is(&etag), pattern(2, 2)).await.unwrap();
    let mut wrong = delete_request("files", "k");
    wrong.conditions = is(&etag);
    let refused = node.objects.delete(&world.may(), &cx(), &wrong).await;
    assert!(matches!(refused, Err(DeleteError::Precondition(_))));
    wrong.conditions = is(&next.etag);
    node.objects
        .delete(&world.may(), &cx(), &wrong)
        .await
        .unwrap();
    assert_eq!(settle(&node, &world).await, 0);
}

#[tokio::test]
async fn a_multipart_object_is_its_listed_parts() {
    let world = World::new(5);
    let node = world.start().await;
    let upload = begin(&node, &world, "files", "m").await;
    let (one, two, three) = (pattern(300, 1), pattern(120, 2), pattern(10, 3));
    part(&node, &world, &upload, 2, &pattern(999, 9)).await;
    let p1 = part(&node, &world, &upload, 1, &one).await;
    let p2 = part(&node, &world, &upload, 2, &two).await;
    part(&node, &world, &upload, 3, &pattern(400, 8)).await;
    let p7 = part(&node, &world, &upload, 7, &three).await;
    assert!(matches!(
        node.get(&world, "files", "m").await,
        Err(GetError::NoSuchKey(_))
    ));
    let parts = node
        .objects
        .list_parts(&world.may(), &upload, 1, 2)
        .await
        .unwrap();
    assert_eq!(
        parts.parts.iter().map(|p| p.number).collect::<Vec<_>>(),
        [2, 3]
    );
    assert_eq!(parts.next, Some(3));
    let request = completion(&upload, &[p1.clone(), p2, p7]);
    let done = node
        .objects
        .complete_upload(&world.may(), &cx(), &request)
        .await
        .unwrap();
    assert!(done.etag.ends_with("-3"), "{}", done.etag);
    let whole = [one.clone(), two.clone(), three.clone()].concat();
    assert_eq!(node.get(&world, "files", "m").await.unwrap(), whole);
    let mut second = read_request("files", "m");
    second.selection = Selection::Part(2);
    assert_eq!(node.read(&world, &second).await.unwrap(), two);
    let head = node.objects.head(&world.may(), &second).await.unwrap().head;
    assert_eq!(
        (head.parts, head.headers.content_type.as_str()),
        (3, "text/x")
    );
    // The same completion again is answered the same, another one is not.
    let again = node
        .objects
        .complete_upload(&world.may(), &cx(), &request)
        .await
        .unwrap();
    assert_eq!(again.etag, done.etag);
    let other = completion(&upload, &[p1]);
    let refused = node
        .objects
        .complete_upload(&world.may(), &cx(), &other)
        .await;
    assert!(matches!(refused, Err(CompleteError::NoSuchUpload(_))));
    assert_eq!(
        settle(&node, &world).await,
        3,
        "two chunks of part 1 and 2, none of part 7"
    );
    let refused = node
        .objects
        .complete_upload(&world.may(), &cx(), &request)
        .await;
    assert!(
        matches!(refused, Err(CompleteError::NoSuchUpload(_))),
        "the memory has ended"
    );
}

/// Others wait while a decision is made, so what it reads then must not grow with the parts.
#[tokio::test]
async fn a_completion_decides_on_a_few_rows_however_many_parts_there_are() {
    let mut world = World::new(7);
    world.config.part_min = 1;
    let node = world.start().await;
    let mut decided_on = Vec::new();
    for (key, count) in [("few", 2), ("many", 2500)] {
        let upload = begin(&node, &world, "files", key).await;
        let mut parts = Vec::new();
        for number in 1..=count {
            let bytes = pattern(3, (number % 251) as u8);
            parts.push(part(&node, &world, &upload, number, &bytes).await);
        }
        let before = node.metrics.rows_decided_on.get();
        let request = completion(&upload, &parts);
        let (may, cx) = (world.may(), cx());
        let done = node.objects.complete_upload(&may, &cx, &request);
        assert!(done.await.unwrap().etag.ends_with(&format!("-{count}")));
        decided_on.push(node.metrics.rows_decided_on.get() - before);
        let whole = node.get(&world, "files", key).await.unwrap();
        assert_eq!(whole.len(), 3 * parts.len());
    }
    assert_eq!(decided_on[0], decided_on[1]);
    assert!(decided_on[0] < 8, "{decided_on:?}");
}

/// A part is replaced while the upload is completed: the object is of the one or the other, or the
/// completion is refused because its part is gone.
#[tokio::test]
async fn a_part_that_is_replaced_meanwhile_is_never_mixed_in() {
    let world = World::new(8);
    let node = world.start().await;
    let (old, new) = (pattern(300, 1), pattern(300, 2));
    let (mut completed_first, mut refused) = (0, 0);
    for round in 0..40 {
        let key = format!("k{round}");
        let upload = begin(&node, &world, "files", &key).await;
        let p1 = part(&node, &world, &upload, 1, &old).await;
        let request = completion(&upload, &[p1]);
        let (may, cx) = (world.may(), cx());
        // In turn either is held back, so that both orders occur.
        let (first, second) = match round % 2 {
            0 => (round * 8, 0),
            _ => (0, round * 8),
        };
        let completing = async {
            for _ in 0..first {
                tokio::task::yield_now().await;
            }
            let done = node.objects.complete_upload(&may, &cx, &request);
            done.await
        };
        let replacing = async {
            for _ in 0..second {
                tokio::task::yield_now().await;
            }
            let (may, body) = (world.may(), Body::from_bytes(new.clone()));
            let replaced = node.objects.upload_part(&may, &cx, &upload, 1, body);
            replaced.await.is_ok()
        };
        match futures::join!(completing, replacing) {
            (Ok(_), _) => {
                completed_first += 1;
                assert_eq!(node.get(&world, "files", &key).await.unwrap(), old);
            }
            (Err(CompleteError::Part(_)), true) => refused += 1,
            (Err(error), _) => panic!("{error}"),
        }
    }
    assert!(
        completed_first > 0 && refused > 0,
        "{completed_first}, {refused}"
    );
    settle(&node, &world).await;
}

#[tokio::test]
async fn completions_that_do_not_fit_are_refused_and_change_nothing() {
    let world = World::new(6);
    let node = world.start().await;
    let upload = begin(&node, &world, "files", "m").await;
    let p1 = part(&node, &world, &upload, 1, &pattern(99, 1)).await;
    let p2 = part(&node, &world, &upload, 2, &pattern(200, 2)).await;
    let run = |parts: Vec<CompletedPart>| {
        let (objects, may, request) = (
            node.objects.clone(),
            world.may(),
            completion(&upload, &parts),
        );
        async move {
            objects
                .complete_upload(&may, &cx(), &request)
                .await
                .unwrap_err()
        }
    };
    assert!(matches!(run(vec![]).await, CompleteError::NoParts(_)));
    assert!(matches!(
        run(vec![p2.clone(), p1.clone()]).await,
        CompleteError::Order(_)
    ));
    assert!(matches!(
        run(vec![p1.clone(), p2.clone()]).await,
        CompleteError::TooSmall(_)
    ));
    let wrong = CompletedPart {
        etag: "00".repeat(16),
        ..p2.clone()
    };
    assert!(matches!(run(vec![wrong]).await, CompleteError::Part(_)));
    let missing = CompletedPart {
        number: 9,
        ..p2.clone()
    };
    assert!(matches!(run(vec![missing]).await, CompleteError::Part(_)));
    let mut request = completion(&upload, std::slice::from_ref(&p2));
    request.size = Some(201);
    let refused = node
        .objects
        .complete_upload(&world.may(), &cx(), &request)
        .await;
    assert!(matches!(refused, Err(CompleteError::Size(_))));
    node.objects
        .abort_upload(&world.may(), &cx(), &upload)
        .await
        .unwrap();
    let body = Body::from_bytes(pattern(5, 5));
    let late = node
        .objects
        .upload_part(&world.may(), &cx(), &upload, 3, body)
        .await;
    assert!(matches!(late, Err(UploadPartError::NoSuchUpload(_))));
    assert_eq!(settle(&node, &world).await, 0);
}

#[tokio::test]
async fn multipart_checksums_are_composite_or_full() {
    let world = World::new(7);
    let node = world.start().await;
    let (one, two) = (pattern(300, 1), pattern(50, 2));
    let whole: Bytes = [one.clone(), two.clone()].concat().into();
    for (algorithm, kind) in [
        (ChecksumAlgorithm::Crc32, ChecksumKind::Composite),
        (ChecksumAlgorithm::Crc32, ChecksumKind::FullObject),
        (ChecksumAlgorithm::Crc64Nvme, ChecksumKind::FullObject),
        (ChecksumAlgorithm::Sha256, ChecksumKind::Composite),
    ] {
        let upload = begin_with(&node, &world, "files", "m", Some(algorithm), Some(kind)).await;
        let p1 = part(&node, &world, &upload, 1, &one).await;
        let p2 = part(&node, &world, &upload, 2, &two).await;
        assert_eq!(p1.checksum.as_ref().unwrap().algorithm(), algorithm);
        let request = completion(&upload, &[p1, p2]);
        let done = node
            .objects
            .complete_upload(&world.may(), &cx(), &request)
            .await
            .unwrap();
        assert_eq!(
            (done.checksum.value.algorithm(), done.checksum.kind),
            (algorithm, kind)
        );
        if kind == ChecksumKind::FullObject {
            let mut plain = put_request("files", "plain", &whole);
            plain.body.checksum = SentChecksum::Algorithm(algorithm);
            let plain = node.objects.put(&world.may(), &cx(), plain).await.unwrap();
            assert_eq!(plain.checksum.value, done.checksum.value);
        }
    }
}

#[tokio::test]
async fn copies_take_bytes_headers_and_tags() {
    let world = World::new(8);
    let node = world.start().await;
    let bytes = pattern(700, 4);
    let mut source = put_request("files", "a", &bytes);
    source.headers.content_type = "text/csv".to_owned();
    source.tags.insert("t".to_owned(), "v".to_owned());
    let etag = node
        .objects
        .put(&world.may(), &cx(), source)
        .await
        .unwrap()
        .etag;
    let copy = |to: &str| CopyRequest {
        source: read_request("files", "a"),
        bucket: bucket("files"),
        key: key(to),
        headers: None,
        tags: None,
        conditions: WriteConditions::default(),
        checksum: None,
    };
    let done = node
        .objects
        .copy(&world.may(), &world.may(), &cx(), copy("b"))
        .await
        .unwrap();
    assert_eq!(done.etag, etag);
    assert_eq!(node.get(&world, "files", "b").await.unwrap(), bytes);
    let head = node
        .objects
        .head(&world.may(), &read_request("files", "b"))
        .await
        .unwrap()
        .head;
    assert_eq!(
        (head.headers.content_type.as_str(), head.tag_count),
        ("text/csv", 1)
    );
    let onto_itself = node
        .objects
        .copy(&world.may(), &world.may(), &cx(), copy("a"))
        .await;
    assert!(matches!(onto_itself, Err(CopyError::ToItself(_))));
    let mut stale = copy("c");
    stale.source.conditions = ReadConditions {
        if_match: Some(TagMatch::Etag("x".to_owned())),
        ..Default::default()
    };
    let stale = node
        .objects
        .copy(&world.may(), &world.may(), &cx(), stale)
        .await;
    assert!(matches!(
        stale,
        Err(CopyError::Source(GetError::Precondition(_)))
    ));
    let upload = begin(&node, &world, "files", "m").await;
    let mut from = read_request("files", "a");
    from.selection = Selection::Range(ByteRange::Closed(100, 399));
    let wanted = CopyPartRequest {
        source: from,
        upload: upload.clone(),
        number: 1,
    };
    let info = node
        .objects
        .copy_part(&world.may(), &world.may(), &cx(), wanted)
        .await
        .unwrap();
    let parts = [CompletedPart {
        number: 1,
        etag: info.etag,
        checksum: None,
    }];
    let request = completion(&upload, &parts);
    node.objects
        .complete_upload(&world.may(), &cx(), &request)
        .await
        .unwrap();
    assert_eq!(
        node.get(&world, "files", "m").await.unwrap(),
        bytes[100..400]
    );
}

#[tokio::test]
async fn tags_are_replaced_and_removed() {
    let world = World::new(9);
    let node = world.start().await;
    node.put(&world, "files", "k", &pattern(10, 0))
        .await
        .unwrap();
    let of = TagTarget {
        bucket: bucket("files"),
        key: key("k"),
        version: None,
    };
    let tags: Tags = [("a".to_owned(), "1".to_owned())].into();
    let may = world.may::<floeberg_auth::action::PutObjectTagging>();
    node.objects
        .set_tags(&may, &cx(), &of, tags.clone())
        .await
        .unwrap();
    assert_eq!(node.objects.tags(&world.may(), &of).await.unwrap(), tags);
    let may = world.may::<floeberg_auth::action::DeleteObjectTagging>();
    node.objects
        .set_tags(&may, &cx(), &of, Tags::new())
        .await
        .unwrap();
    assert_eq!(
        node.objects.tags(&world.may(), &of).await.unwrap(),
        Tags::new()
    );
}

#[tokio::test]
async fn table_files_are_written_once_and_only_below_tables() {
    let world = World::new(10);
    let node = world.start().await;
    let bytes = pattern(300, 1);
    for outside in ["x", "ns/t-2/data/a", "ns/t-1"] {
        let refused = node.put(&world, "lake", outside, &bytes).await;
        assert!(matches!(refused, Err(PutError::Outside(_))), "{outside}");
    }
    let first = node
        .put(&world, "lake", "ns/t-1/data/a", &bytes)
        .await
        .unwrap();
    let again = node
        .put(&world, "lake", "ns/t-1/data/a", &bytes)
        .await
        .unwrap();
    assert_eq!(first, again);
    let other = node
        .put(&world, "lake", "ns/t-1/data/a", &pattern(300, 2))
        .await;
    assert!(matches!(other, Err(PutError::WrittenOnce(_))));
    // The same bytes in other clothes are the same bytes.
    let upload = begin(&node, &world, "lake", "ns/t-1/data/a").await;
    let p1 = part(&node, &world, &upload, 1, &bytes.slice(..200)).await;
    let p2 = part(&node, &world, &upload, 2, &bytes.slice(200..)).await;
    let request = completion(&upload, &[p1, p2]);
    let same = node
        .objects
        .complete_upload(&world.may(), &cx(), &request)
        .await
        .unwrap();
    assert_eq!(same.etag, first.etag);
    assert_eq!(settle(&node, &world).await, 2, "the first copy only");
    world.catalog.set_location("ns/t-9", Location::Staged);
    node.put(&world, "lake", "ns/t-9/metadata/m.avro", &bytes)
        .await
        .unwrap();
    world.catalog.set_location("ns/t-9", Location::Dropped);
    let dropped = node
        .put(&world, "lake", "ns/t-9/metadata/n.avro", &bytes)
        .await;
    assert!(matches!(dropped, Err(PutError::Outside(_))));
}

#[tokio::test]
async fn a_delete_below_a_table_is_a_request() {
    let world = World::new(11);
    let node = world.start().await;
    let (name, bytes) = ("ns/t-1/data/a", pattern(300, 1));
    node.put(&world, "lake", name, &bytes).await.unwrap();
    assert_eq!(
        delete(&node, &world, "lake", name).await,
        Deleted::Requested
    );
    assert_eq!(
        delete(&node, &world, "lake", name).await,
        Deleted::Gone,
        "it was asked before"
    );
    assert!(node.keys(&world, "lake").await.is_empty());
    settle(&node, &world).await;
    assert_eq!(node.get(&world, "lake", name).await.unwrap(), bytes);
    let found = node
        .objects
        .head(&world.may(), &read_request("lake", name))
        .await
        .unwrap();
    assert!(found.head.delete_requested.is_some());
    let other = node.put(&world, "lake", name, &pattern(300, 2)).await;
    assert!(matches!(other, Err(PutError::WrittenOnce(_))));
    node.put(&world, "lake", name, &bytes).await.unwrap();
    assert_eq!(
        node.keys(&world, "lake").await,
        [name],
        "writing it again takes the request back"
    );
}

#[tokio::test]
async fn metadata_files_of_the_catalog_are_served_and_protected() {
    let world = World::new(12);
    let node = world.start().await;
    let name = "ns/t-1/metadata/00002-x.metadata.json";
    world
        .catalog
        .add_metadata_file(name, b"{\"format-version\":2}");
    let own = "ns/t-1/metadata/00001-own.metadata.json";
    node.put(&world, "lake", own, &pattern(100, 1))
        .await
        .unwrap();
    node.put(&world, "lake", "ns/t-1/data/a", &pattern(100, 1))
        .await
        .unwrap();
    assert_eq!(
        node.get(&world, "lake", name).await.unwrap(),
        b"{\"format-version\":2}"
    );
    let mut request = read_request("lake", name);
    request.selection = Selection::Range(ByteRange::Last(3));
    assert_eq!(node.read(&world, &request).await.unwrap(), b":2}");
    let refused = node.put(&world, "lake", name, &pattern(20, 1)).await;
    assert!(matches!(refused, Err(PutError::CatalogFile(_))));
    assert_eq!(
        node.keys(&world, "lake").await,
        ["ns/t-1/data/a", own, name]
    );
    let page = node
        .page(&world, "lake", "ns/t-1/", Some("/"), ListFrom::Start, 10)
        .await;
    assert_eq!(page.prefixes, ["ns/t-1/data/", "ns/t-1/metadata/"]);
    assert_eq!(delete(&node, &world, "lake", name).await, Deleted::Gone);
    assert_eq!(node.get(&world, "lake", name).await.unwrap().len(), 20);
}

#[tokio::test]
async fn only_empty_buckets_are_deleted_and_no_late_write_lands_in_one() {
    let world = World::new(13);
    let node = world.start().await;
    node.put(&world, "files", "k", &pattern(10, 0))
        .await
        .unwrap();
    let run = || async {
        node.objects
            .delete_bucket(&world.may(), &cx(), &bucket("files"))
            .await
    };
    assert!(matches!(run().await, Err(DeleteBucketError::NotEmpty(_))));
    node.put(&world, "files", "k2", &pattern(10, 0))
        .await
        .unwrap();
    for name in ["k", "k2"] {
        delete(&node, &world, "files", name).await;
    }
    // A body that is still streaming while its bucket disappears.
    let (send, receive) = futures::channel::mpsc::unbounded();
    let mut request = put_request("files", "late", &Bytes::new());
    request.body = Body {
        stream: receive.boxed(),
        len: None,
        ..Body::from_bytes(Bytes::new())
    };
    let (objects, may) = (node.objects.clone(), world.may());
    let slow = tokio::spawn(async move { objects.put(&may, &cx(), request).await });
    send.unbounded_send(Ok(pattern(300, 1))).unwrap();
    tokio::task::yield_now().await;
    run().await.unwrap();
    drop(send);
    assert!(matches!(slow.await.unwrap(), Err(PutError::Fenced(_))));
    assert!(matches!(
        run().await,
        Err(DeleteBucketError::NoSuchBucket(_))
    ));
    let table = node
        .objects
        .delete_bucket(&world.may(), &cx(), &bucket("lake"))
        .await;
    assert!(matches!(table, Err(DeleteBucketError::Protected(_))));
    assert_eq!(settle(&node, &world).await, 0);
}

#[tokio::test]
async fn uploads_are_listed_and_abandoned_ones_end() {
    let world = World::new(14);
    let node = world.start().await;
    for name in ["a/1", "a/2", "b", "c/3"] {
        let upload = begin(&node, &world, "files", name).await;
        part(&node, &world, &upload, 1, &pattern(300, 1)).await;
    }
    let list = |delimiter: Option<&str>, key_marker: Option<String>, max_uploads| {
        let request = ListUploadsRequest {
            bucket: bucket("files"),
            prefix: String::new(),
            delimiter: delimiter.map(str::to_owned),
            key_marker,
            upload_marker: None,
            max_uploads,
        };
        let (objects, may) = (node.objects.clone(), world.may());
        async move { objects.list_uploads(&may, &request).await.unwrap() }
    };
    let page = list(Some("/"), None, 2).await;
    assert_eq!(page.prefixes, ["a/"]);
    assert_eq!(
        page.uploads
            .iter()
            .map(|u| u.key.as_str())
            .collect::<Vec<_>>(),
        ["b"]
    );
    let rest = list(Some("/"), page.next.map(|(key, _)| key), 2).await;
    assert_eq!(
        (rest.prefixes, rest.uploads.len(), rest.next),
        (vec!["c/".to_owned()], 0, None)
    );
    assert_eq!(list(None, None, 10).await.uploads.len(), 4);
    assert_eq!(settle(&node, &world).await, 0);
    assert_eq!(list(None, None, 10).await.uploads.len(), 0);
}

#[tokio::test]
async fn acknowledged_objects_survive_a_crash_and_leftovers_are_collected() {
    for fate in [UnsyncedData::Lost, UnsyncedData::Torn] {
        let world = World::new(15);
        let node = world.start().await;
        let bytes = pattern(700, 1);
        node.put(&world, "files", "kept", &bytes).await.unwrap();
        let upload = begin(&node, &world, "files", "m").await;
        let p1 = part(&node, &world, &upload, 1, &pattern(300, 2)).await;
        // Durable chunks that no row accounts for, as a crash before the publication leaves them.
        let mut writer = node.volume.begin().await;
        writer.append(pattern(400, 9)).await.unwrap();
        writer.finish().await.unwrap();
        node.kill().await;
        world.crash(fate);
        let node = world.start().await;
        assert_eq!(node.get(&world, "files", "kept").await.unwrap(), bytes);
        let request = completion(&upload, &[p1]);
        node.objects
            .complete_upload(&world.may(), &cx(), &request)
            .await
            .unwrap();
        assert_eq!(
            node.get(&world, "files", "m").await.unwrap(),
            pattern(300, 2)
        );
        assert_eq!(node.volume.stats().live_chunks, 3 + 2 + 1);
        assert_eq!(settle(&node, &world).await, 3 + 2, "{fate:?}");
    }
}

#[tokio::test]
async fn a_cancelled_upload_leaves_nothing() {
    let world = World::new(16);
    let node = world.start().await;
    let (send, receive) = futures::channel::mpsc::unbounded();
    let mut request = put_request("files", "k", &Bytes::new());
    request.body = Body {
        stream: receive.boxed(),
        len: None,
        ..Body::from_bytes(Bytes::new())
    };
    let (objects, may) = (node.objects.clone(), world.may());
    let put = tokio::spawn(async move { objects.put(&may, &cx(), request).await });
    for _ in 0..5 {
        send.unbounded_send(Ok(pattern(300, 1))).unwrap();
    }
    while node.volume.stats().live_chunks < 2 {
        tokio::task::yield_now().await;
    }
    put.abort();
    assert!(put.await.unwrap_err().is_cancelled());
    node.objects.reclaim().await.unwrap();
    assert_eq!(settle(&node, &world).await, 0);
    assert!(matches!(
        node.get(&world, "files", "k").await,
        Err(GetError::NoSuchKey(_))
    ));
}

#[tokio::test]
async fn very_many_parts_move_to_manifest_rows() {
    let mut world = World::new(17);
    world.config.part_min = 1;
    let node = world.start().await;
    let upload = begin(&node, &world, "files", "m").await;
    let mut parts = Vec::new();
    let mut whole = Vec::new();
    for number in 1..=600u32 {
        let bytes = pattern(70 + (number as usize % 3), number.to_le_bytes()[0]);
        whole.extend_from_slice(&bytes);
        parts.push(part(&node, &world, &upload, i64::from(number), &bytes).await);
    }
    let request = completion(&upload, &parts);
    node.objects
        .complete_upload(&world.may(), &cx(), &request)
        .await
        .unwrap();
    assert_eq!(node.get(&world, "files", "m").await.unwrap(), whole);
    for (first, last) in [(0, 5), (18_000, 18_500), (40_000, 42_000)] {
        let mut request = read_request("files", "m");
        request.selection = Selection::Range(ByteRange::Closed(first, last));
        let expected = &whole[usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()];
        assert_eq!(node.read(&world, &request).await.unwrap(), expected);
    }
    delete(&node, &world, "files", "m").await;
    assert_eq!(settle(&node, &world).await, 0);
}

#[tokio::test]
async fn read_conditions_and_versions() {
    let world = World::new(18);
    let node = world.start().await;
    let etag = node
        .put(&world, "files", "k", &pattern(10, 0))
        .await
        .unwrap()
        .etag;
    let mut request = read_request("files", "k");
    request.version = Some("null".to_owned());
    request.conditions.if_none_match = Some(TagMatch::Etag(etag));
    let error = node.read(&world, &request).await.unwrap_err();
    assert!(matches!(error, GetError::NotModified(_)));
    request.version = Some("other".to_owned());
    let error = node.read(&world, &request).await.unwrap_err();
    assert!(matches!(error, GetError::NoSuchVersion(_)));
    let mut missing = put_request("nowhere", "k", &pattern(1, 1));
    missing.body.len = None;
    let error = node
        .objects
        .put(&world.may(), &cx(), missing)
        .await
        .unwrap_err();
    assert!(matches!(error, PutError::NoSuchBucket(_)));
    let huge = Body {
        len: Some(6 << 30),
        ..Body::from_bytes(Bytes::new())
    };
    let request = floeberg_objects::PutRequest {
        body: huge,
        ..put_request("files", "k", &Bytes::new())
    };
    let error = node
        .objects
        .put(&world.may(), &cx(), request)
        .await
        .unwrap_err();
    assert!(matches!(error, PutError::Ingest(IngestError::TooLarge(_))));
}
