//! The service against a naive map, with crashes in between.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use bytes::Bytes;
use floeberg_env::UnsyncedData;
use floeberg_objects::errors::GetError;
use floeberg_objects::{
    Body, ByteRange, CompleteRequest, CompletedPart, CopyRequest, CreateUploadRequest,
    DeleteRequest, Headers, ListFrom, OrphanSweep, Selection, TagMatch, Tags, UploadRef,
    WriteConditions,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::*;

#[derive(Clone, Debug)]
enum Op {
    Put {
        key: &'static str,
        len: usize,
        salt: u8,
    },
    CreateOnly {
        key: &'static str,
        len: usize,
    },
    Copy {
        from: &'static str,
        to: &'static str,
    },
    Multipart {
        key: &'static str,
        parts: Vec<usize>,
        salt: u8,
    },
    Delete {
        key: &'static str,
    },
    Read {
        key: &'static str,
        first: u64,
        last: u64,
    },
    List {
        prefix: &'static str,
        delimiter: Option<&'static str>,
        page: usize,
    },
    Reclaim,
    Crash {
        torn: bool,
    },
}

/// Keys that nest, share prefixes and sort unlike their delimiters.
const KEYS: [&str; 10] = [
    "a",
    "a/",
    "a/b",
    "a/b/c",
    "a-b",
    "a/\u{e9}",
    "b",
    "b//c",
    "b/\u{10ffff}x",
    "z",
];

fn any_key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(KEYS.to_vec())
}

fn any_op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![0usize..80, 200usize..700];
    prop_oneof![
        4 => (any_key(), len.clone(), any::<u8>())
            .prop_map(|(key, len, salt)| Op::Put { key, len, salt }),
        1 => (any_key(), len).prop_map(|(key, len)| Op::CreateOnly { key, len }),
        1 => (any_key(), any_key()).prop_map(|(from, to)| Op::Copy { from, to }),
        2 => (any_key(), proptest::collection::vec(100usize..400, 1..4), any::<u8>())
            .prop_map(|(key, parts, salt)| Op::Multipart { key, parts, salt }),
        2 => any_key().prop_map(|key| Op::Delete { key }),
        3 => (any_key(), 0u64..700, 0u64..700)
            .prop_map(|(key, a, b)| Op::Read { key, first: a.min(b), last: a.max(b) }),
        3 => (
            prop::sample::select(vec!["", "a", "a/", "b/", "q"]),
            prop::sample::select(vec![None, Some("/"), Some("b")]),
            1usize..5,
        )
            .prop_map(|(prefix, delimiter, page)| Op::List { prefix, delimiter, page }),
        1 => Just(Op::Reclaim),
        1 => any::<bool>().prop_map(|torn| Op::Crash { torn }),
    ]
}

/// Objects with the number of chunks each must hold.
type Model = BTreeMap<String, (Vec<u8>, u64)>;

/// Chunks of bytes that came in one request: none up to 64, then 256 each.
fn chunks(len: usize) -> u64 {
    if len <= 64 {
        0
    } else {
        len.div_ceil(256) as u64
    }
}

struct Run {
    world: World,
    node: Option<Node>,
    model: Model,
}

impl Run {
    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    async fn apply(&mut self, op: Op) {
        match op {
            Op::Put { key, len, salt } => {
                let bytes = pattern(len, salt);
                self.node()
                    .put(&self.world, "files", key, &bytes)
                    .await
                    .unwrap();
                self.model
                    .insert(key.to_owned(), (bytes.to_vec(), chunks(len)));
            }
            Op::CreateOnly { key, len } => {
                let bytes = pattern(len, 77);
                let mut request = put_request("files", key, &bytes);
                request.conditions.if_none_match = Some(TagMatch::Any);
                let result = self
                    .node()
                    .objects
                    .put(&self.world.may(), &cx(), request)
                    .await;
                assert_eq!(result.is_ok(), !self.model.contains_key(key));
                if result.is_ok() {
                    self.model
                        .insert(key.to_owned(), (bytes.to_vec(), chunks(len)));
                }
            }
            Op::Copy { from, to } => self.copy(from, to).await,
            Op::Multipart { key, parts, salt } => self.multipart(key, &parts, salt).await,
            Op::Delete { key: object } => {
                let request = DeleteRequest {
                    bucket: bucket("files"),
                    key: key(object),
                    version: None,
                    conditions: WriteConditions::default(),
                };
                let may = self.world.may();
                self.node()
                    .objects
                    .delete(&may, &cx(), &request)
                    .await
                    .unwrap();
                self.model.remove(object);
            }
            Op::Read { key, first, last } => self.read(key, first, last).await,
            Op::List {
                prefix,
                delimiter,
                page,
            } => self.list(prefix, delimiter, page).await,
            Op::Reclaim => {
                self.world.pass(3_000).await;
                self.node().objects.reclaim().await.unwrap();
            }
            Op::Crash { torn } => {
                self.node.take().unwrap().kill().await;
                self.world.crash(if torn {
                    UnsyncedData::Torn
                } else {
                    UnsyncedData::Lost
                });
                self.node = Some(self.world.start().await);
            }
        }
    }

    async fn copy(&mut self, from: &str, to: &str) {
        let request = CopyRequest {
            source: read_request("files", from),
            bucket: bucket("files"),
            key: key(to),
            headers: Some(Headers::default()),
            tags: None,
            conditions: WriteConditions::default(),
            checksum: None,
        };
        let may = (self.world.may(), self.world.may());
        let result = self
            .node()
            .objects
            .copy(&may.0, &may.1, &cx(), request)
            .await;
        match self.model.get(from).cloned() {
            Some((bytes, _)) => {
                result.unwrap();
                let held = chunks(bytes.len());
                self.model.insert(to.to_owned(), (bytes, held));
            }
            None => assert!(result.is_err()),
        }
    }

    async fn multipart(&mut self, object: &str, lens: &[usize], salt: u8) {
        let objects = self.node().objects.clone();
        let request = CreateUploadRequest {
            bucket: bucket("files"),
            key: key(object),
            headers: Headers::default(),
            tags: Tags::new(),
            checksum: None,
            checksum_kind: None,
        };
        let created = objects
            .create_upload(&self.world.may(), &cx(), request)
            .await
            .unwrap()
            .upload;
        let upload = UploadRef {
            bucket: bucket("files"),
            key: key(object),
            upload: created.to_hex(),
        };
        let (mut parts, mut whole, mut held) = (Vec::new(), Vec::new(), 0);
        for (number, len) in (1i64..).zip(lens) {
            let bytes = pattern(*len, salt.wrapping_add(u8::try_from(number).unwrap()));
            whole.extend_from_slice(&bytes);
            held += chunks(*len);
            let may = self.world.may();
            let body = Body::from_bytes(bytes);
            let info = objects
                .upload_part(&may, &cx(), &upload, number, body)
                .await
                .unwrap();
            parts.push(CompletedPart {
                number: info.number,
                etag: info.etag,
                checksum: info.checksum,
            });
        }
        let request = CompleteRequest {
            upload,
            parts,
            conditions: WriteConditions::default(),
            checksum: None,
            size: Some(whole.len() as u64),
        };
        objects
            .complete_upload(&self.world.may(), &cx(), &request)
            .await
            .unwrap();
        self.model.insert(object.to_owned(), (whole, held));
    }

    async fn read(&self, key: &str, first: u64, last: u64) {
        let mut request = read_request("files", key);
        request.selection = Selection::Range(ByteRange::Closed(first, last));
        let got = self.node().read(&self.world, &request).await;
        let Some((bytes, _)) = self.model.get(key) else {
            assert!(matches!(got, Err(GetError::NoSuchKey(_))));
            return;
        };
        let (first, last) = (
            usize::try_from(first).unwrap(),
            usize::try_from(last).unwrap(),
        );
        if first >= bytes.len() {
            assert!(matches!(got, Err(GetError::Range(_))));
        } else {
            assert_eq!(got.unwrap(), bytes[first..bytes.len().min(last + 1)]);
        }
    }

    /// All pages together are what one look at the map gives, whichever way they are continued.
    async fn list(&self, prefix: &str, delimiter: Option<&str>, page: usize) {
        let mut expected: Vec<(String, bool)> = Vec::new();
        for key in self.model.keys().filter(|key| key.starts_with(prefix)) {
            let rolled = delimiter.and_then(|delimiter| {
                let at = key[prefix.len()..].find(delimiter)?;
                Some(key[..prefix.len() + at + delimiter.len()].to_owned())
            });
            let entry = rolled.map_or((key.clone(), false), |common| (common, true));
            if expected.last() != Some(&entry) {
                expected.push(entry);
            }
        }
        for by_token in [true, false] {
            let (mut got, mut from) = (Vec::new(), ListFrom::Start);
            loop {
                let listing = self
                    .node()
                    .page(&self.world, "files", prefix, delimiter, from, page)
                    .await;
                let mut entries: Vec<(String, bool)> = listing
                    .objects
                    .into_iter()
                    .map(|object| (object.key, false))
                    .collect();
                entries.extend(listing.prefixes.into_iter().map(|common| (common, true)));
                assert!(entries.len() <= page);
                entries.sort();
                got.extend(entries);
                let Some(next) = listing.next else { break };
                from = if by_token {
                    ListFrom::Token(next.token)
                } else {
                    ListFrom::After(next.last)
                };
            }
            assert_eq!(got, expected, "prefix {prefix:?}, delimiter {delimiter:?}");
        }
    }

    /// Every object reads back, and nothing but their chunks is left once all graces have passed.
    async fn finish(self) {
        for (key, (bytes, _)) in &self.model {
            assert_eq!(
                &self.node().get(&self.world, "files", key).await.unwrap(),
                bytes
            );
        }
        let mut sweep = OrphanSweep::default();
        for _ in 0..3 {
            self.world.pass(200_000).await;
            self.node().objects.reclaim().await.unwrap();
            self.node().objects.sweep_orphans(&mut sweep).await.unwrap();
        }
        let held: u64 = self.model.values().map(|(_, chunks)| chunks).sum();
        assert_eq!(self.node().volume.stats().live_chunks, held);
        for (key, (bytes, _)) in &self.model {
            assert_eq!(
                &self.node().get(&self.world, "files", key).await.unwrap(),
                bytes
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_service_behaves_like_a_map(
        ops in proptest::collection::vec(any_op(), 1..40), seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new(seed);
            let node = Some(world.start().await);
            let mut run = Run { world, node, model: Model::new() };
            for op in ops {
                run.apply(op).await;
            }
            run.finish().await;
        });
    }
}

#[test]
fn chunk_counts_of_the_model() {
    assert_eq!(
        [chunks(64), chunks(65), chunks(256), chunks(257)],
        [0, 1, 1, 2]
    );
    assert_eq!(pattern(3, 0), Bytes::from_static(&[0, 31, 62]));
}
