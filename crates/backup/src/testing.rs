//! A small lake in memory.

use crate::{
    Begun, ChunkUse, DirStore, Made, Origin, Page, Point, Row, Source, SourceError, create,
};
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_types::{ChunkId, GroupId};
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) struct Lake {
    chunks: BTreeMap<ChunkId, Bytes>,
}

impl Lake {
    pub(crate) fn new() -> Self {
        let chunk = |n: u8| {
            let id = ChunkId::from_bytes([n; 16]);
            (id, Bytes::from(vec![n; 100 + usize::from(n)]))
        };
        Self {
            chunks: (0..9).map(chunk).collect(),
        }
    }

    pub(crate) fn lose_a_chunk(&mut self) {
        let last = *self.chunks.keys().next_back().expect("there are some");
        self.chunks.insert(last, Bytes::new());
    }

    fn row(n: u64, chunks: Vec<ChunkUse>) -> Row {
        Row {
            key: Bytes::from(format!("key {n}")),
            payload: Bytes::from(format!("row {n}")),
            chunks,
        }
    }
}

#[async_trait]
impl Source for Lake {
    async fn begin(&self) -> Result<Begun, SourceError> {
        let point = |group| Point {
            group,
            index: 9,
            feature_level: 1,
        };
        let origin = Origin {
            backup: "b".to_owned(),
            cluster: "c".to_owned(),
            region: "r".to_owned(),
            account: "a".to_owned(),
            version: "v".to_owned(),
            at_ms: 1,
        };
        Ok(Begun {
            origin,
            points: vec![point(0), point(1)],
        })
    }

    async fn page(&self, _: &str, group: GroupId, number: u64) -> Result<Bytes, SourceError> {
        let named = |n: u64| {
            let (chunk, bytes) = self.chunks.iter().nth(usize::try_from(n).ok()?)?;
            let len = bytes.len().max(100) as u64;
            Some(ChunkUse { chunk: *chunk, len })
        };
        let rows = (0..3).map(|n| {
            let n = number * 3 + n;
            let chunks = (group == GroupId(1)).then(|| named(n)).flatten();
            Self::row(n, chunks.into_iter().collect())
        });
        let page = Page {
            rows: rows.collect(),
            last: number == 2,
        };
        Ok(page.encode())
    }

    async fn chunk(&self, chunk: ChunkId, _: u64) -> Result<Bytes, SourceError> {
        let found = self.chunks.get(&chunk).filter(|bytes| !bytes.is_empty());
        let reason = "no node has it".to_owned();
        found.cloned().ok_or(SourceError::Chunk { chunk, reason })
    }
}

/// A backup of the lake in `dir`.
pub(crate) async fn made(dir: &Path) -> Made {
    create(&Lake::new(), &DirStore::new(dir)).await.unwrap()
}
