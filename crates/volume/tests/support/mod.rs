//! A volume on a simulated disk, and short ways to use it.
#![allow(dead_code, reason = "each test file uses its part")]

use bytes::Bytes;
use floeberg_env::{Env, SimControl, UnsyncedData};
use floeberg_kv::MemKvStore;
use floeberg_telemetry::VolumeMetrics;
use floeberg_types::ChunkId;
use floeberg_volume::{
    ChunkRef, IndexStore, ReadError, RecoveryReport, Volume, VolumeConfig, WriteError,
};
use futures::StreamExt;
use std::ops::Range;
use std::path::Path;

pub const DIR: &str = "/disk/volume";
pub const SEGMENT: &str = "/disk/volume/segments/0000000000000001.seg";

/// One disk that outlives the volumes opened on it.
pub struct Bench {
    pub env: Env,
    pub control: SimControl,
    pub store: MemKvStore,
    pub config: VolumeConfig,
    pub metrics: VolumeMetrics,
}

impl Bench {
    pub fn new(seed: u64) -> Self {
        let (env, control) = Env::simulated(seed);
        let store = MemKvStore::new();
        let mut config = VolumeConfig::new(IndexStore::Memory(store.clone()));
        config.segment_bytes = 4 << 20;
        config.max_chunk_bytes = 5 << 19;
        Self {
            env,
            control,
            store,
            config,
            metrics: VolumeMetrics::default(),
        }
    }

    pub async fn open(&self) -> (Volume, RecoveryReport) {
        let metrics = self.metrics.clone();
        Volume::open(
            Path::new(DIR),
            self.config.clone(),
            self.env.clone(),
            metrics,
        )
        .await
        .expect("the volume opens")
    }

    pub fn crash(&self, fate: UnsyncedData) {
        self.control.crash_disk(fate);
        self.store.crash();
    }

    /// The index is gone, as after a broken index directory.
    pub fn lose_index(&mut self) {
        self.store = MemKvStore::new();
        self.config.index = IndexStore::Memory(self.store.clone());
    }
}

/// Bytes that differ in every position class.
pub fn pattern(len: usize, salt: u64) -> Bytes {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(byte).collect()
}

pub async fn put(volume: &Volume, bytes: &Bytes) -> Result<ChunkRef, WriteError> {
    let mut writer = volume.begin().await;
    for piece in bytes.chunks(300_000) {
        writer.append(Bytes::copy_from_slice(piece)).await?;
    }
    writer.finish().await
}

pub async fn get(volume: &Volume, chunk: &ChunkId) -> Result<Vec<u8>, ReadError> {
    collect(volume.read_all(chunk).await?).await
}

pub async fn get_range(
    volume: &Volume,
    chunk: &ChunkId,
    range: Range<u64>,
) -> Result<Vec<u8>, ReadError> {
    collect(volume.read(chunk, range).await?).await
}

pub async fn collect(mut stream: floeberg_volume::ChunkStream) -> Result<Vec<u8>, ReadError> {
    let mut out = Vec::new();
    while let Some(piece) = stream.next().await {
        out.extend_from_slice(&piece?);
    }
    Ok(out)
}
