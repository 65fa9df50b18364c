//! Opening a volume: what the index does not know yet is read from the segments.

use crate::config::{IndexStore, VolumeConfig};
use crate::error::VolumeError;
use crate::format::{ALIGNMENT, RecordKind, record_len};
use crate::index::{Change, Index, Location};
use crate::mark::{Found as Numbered, Numbers};
use crate::scan::{Found, Headers, Integrity, Walk, tombstone};
use crate::segment::{HeadCheck, Segment, SegmentId};
use crate::segments::Active;
use crate::sync::mark;
use floeberg_env::{DiskFile, Env, OpenMode, replace_file};
use floeberg_kv::{Kv, KvError, MemKv, RocksKv};
use floeberg_proto::floeberg::volume::v1::{SegmentRow, VolumeDescriptor};
use floeberg_telemetry::VolumeMetrics;
use prost::Message;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that were durable once and are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: SegmentId,
    /// The damaged bytes of its file.
    pub range: Range<u64>,
}

/// What opening a volume found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segment files.
    pub segments: u64,
    /// Records read because the index did not know them.
    pub scanned_records: u64,
    /// Records that a crash interrupted; none was ever acknowledged.
    pub torn_records: u64,
    /// Corruption in front of the tail; the chunks in it answer a typed error or are gone.
    pub damage: Vec<Damage>,
    /// Live chunks whose segment file is missing.
    pub lost_chunks: u64,
    /// The index could not be read and was built anew.
    pub index_rebuilt: bool,
}

/// An opened volume, before its tasks start.
pub(crate) struct Recovered {
    pub(crate) lock: Arc<dyn DiskFile>,
    /// The settings as this disk allows them.
    pub(crate) config: VolumeConfig,
    pub(crate) volume: [u8; 16],
    pub(crate) index: Index,
    pub(crate) numbers: Numbers,
    pub(crate) segments_dir: PathBuf,
    pub(crate) all: BTreeMap<SegmentId, Arc<Segment>>,
    pub(crate) active: Active,
    pub(crate) report: RecoveryReport,
}

/// Opens everything below `dir`. Blocking.
pub(crate) fn recover(
    dir: &Path,
    config: &VolumeConfig,
    env: &Env,
    metrics: &VolumeMetrics,
) -> Result<Recovered, VolumeError> {
    let segments_dir = dir.join("segments");
    create_durably(env, &segments_dir)?;
    let lock = env.disk.open(&dir.join("LOCK"), OpenMode::Create)?;
    if !lock.lock_exclusive()? {
        return Err(VolumeError::InUse { dir: dir.into() });
    }
    let volume = descriptor(dir, env)?;
    let config = &config.on_disk(env.disk.space(dir)?.total);
    let mut report = RecoveryReport::default();
    let kv = open_index(dir, config, env, &mut report)?;
    let index = Index::open(kv, &volume, metrics.clone())?;
    let rows = index.segment_rows()?;
    let indexed = rows.values().map(|row| row.last_sequence).max();
    let mut recovery = Recovery {
        config,
        env,
        volume,
        index: &index,
        rows,
        numbered: Numbered::new(indexed.unwrap_or(0)),
        report,
    };
    let all = recovery.open_segments(&segments_dir)?;
    recovery.forget_missing(&all)?;
    recovery.catch_up(&all)?;
    let active = recovery.choose_active(&all)?;
    let numbers = recovery.numbered.begin_life(env, dir)?;
    let report = recovery.report;
    Ok(Recovered {
        lock,
        config: config.clone(),
        volume,
        index,
        numbers,
        segments_dir,
        all,
        active,
        report,
    })
}

/// Creates a directory and syncs the name of every level it had to add.
fn create_durably(env: &Env, path: &Path) -> Result<(), VolumeError> {
    let missing = |p: &&Path| !p.as_os_str().is_empty() && !env.disk.exists(p);
    let added: Vec<&Path> = path.ancestors().take_while(missing).collect();
    env.disk.create_dir_all(path)?;
    for level in added {
        let parent = level.parent().filter(|p| !p.as_os_str().is_empty());
        env.disk.sync_dir(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Reads the volume's identity, or gives a new directory one.
fn descriptor(dir: &Path, env: &Env) -> Result<[u8; 16], VolumeError> {
    let path = dir.join("VOLUME");
    if env.disk.exists(&path) {
        let file = env.disk.open(&path, OpenMode::Read)?;
        let mut bytes = vec![0; usize::try_from(file.len()?.min(ALIGNMENT)).unwrap_or(0)];
        file.read_at(&mut bytes, 0)?;
        let id = VolumeDescriptor::decode(&bytes[..])
            .ok()
            .filter(|d| d.format == 1);
        return id
            .and_then(|d| d.volume_id[..].try_into().ok())
            .ok_or(VolumeError::Descriptor { path });
    }
    let volume = env.rng.id128();
    let descriptor = VolumeDescriptor {
        format: 1,
        volume_id: volume.to_vec().into(),
        created_ms: env.clock.now().0,
    };
    let bytes = descriptor.encode_to_vec();
    replace_file(&*env.disk, &path, &bytes, OpenMode::CreateNew)?;
    Ok(volume)
}

fn open_index(
    dir: &Path,
    config: &VolumeConfig,
    env: &Env,
    report: &mut RecoveryReport,
) -> Result<Arc<dyn Kv>, VolumeError> {
    match &config.index {
        IndexStore::Memory(store) => Ok(Arc::new(MemKv::open(store))),
        IndexStore::Rocks(rocks) => {
            let path = dir.join("index");
            match RocksKv::open(&path, rocks) {
                Ok(kv) => Ok(Arc::new(kv)),
                // Only damage is worth a rebuild; a store in use or a full disk is not damage.
                Err(error @ KvError::Corrupt(_)) => {
                    tracing::warn!(%error, "the volume index is unreadable and is built anew");
                    env.disk.remove_dir_all(&path)?;
                    report.index_rebuilt = true;
                    Ok(Arc::new(RocksKv::open(&path, rocks)?))
                }
                Err(error) => Err(error.into()),
            }
        }
    }
}

struct Recovery<'a> {
    config: &'a VolumeConfig,
    env: &'a Env,
    volume: [u8; 16],
    index: &'a Index,
    rows: BTreeMap<SegmentId, SegmentRow>,
    numbered: Numbered,
    report: RecoveryReport,
}

impl Recovery<'_> {
    fn open_segments(
        &mut self,
        dir: &Path,
    ) -> Result<BTreeMap<SegmentId, Arc<Segment>>, VolumeError> {
        let mut all = BTreeMap::new();
        for name in self.env.disk.list(dir)? {
            let Some(id) = SegmentId::from_file_name(&name) else {
                continue;
            };
            let path = dir.join(&name);
            let file = self.env.disk.open(&path, OpenMode::ReadWrite)?;
            let check = Segment::check_head(file.as_ref(), id, &self.volume)?;
            // A crash while the tail was cut leaves a file shorter than its segment.
            let limit = file.len()?.max(match check {
                HeadCheck::Valid { segment_bytes } => segment_bytes,
                HeadCheck::Foreign | HeadCheck::Unreadable => self.config.segment_bytes,
            });
            let segment = Segment::new(id, path, file, self.volume, limit);
            match check {
                HeadCheck::Valid { .. } => {}
                HeadCheck::Foreign => return Err(VolumeError::ForeignSegment { segment: id }),
                HeadCheck::Unreadable if self.was_never_used(&segment)? => {
                    self.env.disk.remove_file(&segment.path)?;
                    continue;
                }
                HeadCheck::Unreadable => self.damage(id, 0..ALIGNMENT),
            }
            all.insert(id, Arc::new(segment));
        }
        self.report.segments = all.len() as u64;
        Ok(all)
    }

    /// A crash during creation leaves a file without a head, and nothing can be in it.
    fn was_never_used(&self, segment: &Segment) -> Result<bool, VolumeError> {
        let known = self.rows.contains_key(&segment.id);
        Ok(!known && Headers::read(segment, ALIGNMENT)?.is_empty())
    }

    fn damage(&mut self, segment: SegmentId, range: Range<u64>) {
        tracing::error!(%segment, ?range, "damaged bytes in front of the tail");
        self.report.damage.push(Damage { segment, range });
    }

    /// Drops the rows of segments that were reclaimed, and counts chunks of files that vanished.
    fn forget_missing(
        &mut self,
        all: &BTreeMap<SegmentId, Arc<Segment>>,
    ) -> Result<(), VolumeError> {
        let mut gone: Vec<SegmentId> = self.rows.keys().copied().collect();
        gone.extend(self.index.used_segments());
        gone.sort_unstable();
        gone.dedup();
        for id in gone.into_iter().filter(|id| !all.contains_key(id)) {
            let live = self.index.usage(id).map_or(0, |u| u.live_chunks);
            if live == 0 {
                self.index.forget(id)?;
            } else {
                tracing::error!(segment = %id, chunks = live, "the file of a segment is missing");
                self.report.lost_chunks += live;
            }
        }
        Ok(())
    }

    /// Brings the index up to date with what the segments hold beyond its marks.
    fn catch_up(&mut self, all: &BTreeMap<SegmentId, Arc<Segment>>) -> Result<(), VolumeError> {
        let mut stored = Vec::new();
        let mut killed = Vec::new();
        let mut scanned = Vec::new();
        let newest = all.keys().next_back().copied();
        for segment in all.values() {
            let row = self.rows.get(&segment.id).copied().unwrap_or_default();
            let from = row.settled.max(ALIGNMENT);
            if row.sealed {
                segment.resume_at(from, row.last_sequence);
                segment.seal();
                continue;
            }
            let known = self.known_records(segment.id, from)?;
            let headers = Headers::read(segment, from)?;
            headers
                .stamps()
                .for_each(|stamp| self.numbered.header(stamp));
            let walk = headers.judge(segment, known)?;
            self.adopt(segment, &walk, &mut stored, &mut killed)?;
            let numbers = walk.records.iter().map(|found| found.header.stamp.sequence);
            let last = numbers.max().unwrap_or(0).max(row.last_sequence);
            segment.resume_at(walk.tail, last);
            if newest != Some(segment.id) {
                segment.seal();
            }
            scanned.push(segment.clone());
        }
        // Tombstones come last: they end every copy of their chunks, wherever it was found.
        stored.append(&mut killed);
        let marks: Vec<_> = scanned.iter().map(|s| (s.id, mark(s))).collect();
        self.index.apply(&stored, &marks)?;
        if !stored.is_empty() {
            self.index.flush()?;
        }
        Ok(())
    }

    /// Starts and ends of the records at or behind `from` that the index knows: at most those that one
    /// segment holds.
    fn known_records(
        &self,
        segment: SegmentId,
        from: u64,
    ) -> Result<BTreeMap<u64, u64>, VolumeError> {
        let mut known = BTreeMap::new();
        self.index.each_record(Some(segment), |record| {
            let start = record.at.offset;
            if start >= from {
                known.insert(start, start + record_len(record.at.length));
            }
        })?;
        Ok(known)
    }

    fn adopt(
        &mut self,
        segment: &Segment,
        walk: &Walk,
        stored: &mut Vec<Change>,
        killed: &mut Vec<Change>,
    ) -> Result<(), VolumeError> {
        for range in &walk.damaged {
            self.damage(segment.id, range.clone());
        }
        for found in &walk.records {
            if found.state == Integrity::Damaged {
                self.damage(segment.id, found.offset..found.offset + found.len);
            } else {
                self.numbered.whole(&found.header.stamp);
            }
            self.adopt_record(segment, found, stored, killed);
        }
        self.report.scanned_records += walk.records.len() as u64;
        self.report.torn_records += walk.torn.len() as u64;
        self.erase_torn(segment, walk)
    }

    fn adopt_record(
        &self,
        segment: &Segment,
        found: &Found,
        stored: &mut Vec<Change>,
        killed: &mut Vec<Change>,
    ) {
        match found.header.kind {
            RecordKind::Gap => {}
            // A damaged chunk stays known, so that reading it says what happened.
            RecordKind::Data => stored.push(Change::Stored {
                chunk: found.header.chunk,
                at: Location {
                    segment: segment.id,
                    offset: found.offset,
                    length: found.header.payload_len,
                },
            }),
            RecordKind::Tombstone => {
                if let Ok(chunks) = tombstone(segment, found) {
                    killed.push(Change::Killed {
                        chunks,
                        tombstone: segment.id,
                    });
                }
            }
        }
    }

    /// Makes the traces of a crash unambiguous, and what survived it durable.
    fn erase_torn(&self, segment: &Segment, walk: &Walk) -> Result<(), VolumeError> {
        let inner = walk.torn.iter().filter(|r| r.start < walk.tail);
        let mut dirty = !walk.records.is_empty();
        for range in inner {
            segment.write_gap(range.start, range.end - range.start)?;
            dirty = true;
        }
        // Records found beyond the mark may still be only in the page cache of the last process.
        if dirty {
            segment.file.sync_data()?;
        }
        Ok(())
    }

    /// Appending goes on in the newest segment, behind a tail that is cut clean.
    fn choose_active(
        &self,
        all: &BTreeMap<SegmentId, Arc<Segment>>,
    ) -> Result<Active, VolumeError> {
        let known = self.rows.keys().chain(all.keys()).max().copied();
        let next = SegmentId(known.map_or(1, |id| id.0 + 1));
        let Some(segment) = all.values().next_back().filter(|s| s.is_open()) else {
            return Ok(Active {
                segment: None,
                next,
            });
        };
        let file = &segment.file;
        file.set_len(segment.tail())?;
        let kept = match file.allocate(segment.limit()) {
            Ok(()) => Some(segment.clone()),
            // Somebody else took what the cut set free. What is stored can still be read and
            // deleted, so the volume opens.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::info!(segment = %segment.id, "sealed, because the disk is full");
                segment.seal();
                None
            }
            Err(error) => return Err(error.into()),
        };
        file.sync_data()?;
        Ok(Active {
            segment: kept,
            next,
        })
    }
}
