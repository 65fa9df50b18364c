//! GET and HEAD: finds an object, judges the conditions and streams the bytes asked for.

use crate::delete::check_version;
use crate::errors::{GetError, NoSuchKey, NoSuchPart, NotModified, Outage, PreconditionFailed};
use crate::model::{Headers, ObjectHead, ObjectKey, ReadConditions, Selection, Verdict};
use crate::ports::{BucketKind, MetadataFile, RenderMetadata};
use crate::rows::{extent_len, head_from_row, part_range};
use crate::service::{Objects, Target, is_metadata_name};
use bytes::Bytes;
use floeberg_auth::{Authorized, action};
use floeberg_env::Peer;
use floeberg_metastore::{ReadView, Rows};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_shards::Shards;
use floeberg_types::{BucketName, ChunkId};
use futures::StreamExt;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use std::ops::Range;

/// One GET or HEAD.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: ObjectKey,
    /// `null`, or nothing.
    pub version: Option<String>,
    /// Which bytes.
    pub selection: Selection,
    /// Conditions.
    pub conditions: ReadConditions,
    /// Whose share the memory of an answer counts against that is not read from a disk piece by piece.
    pub caller: Peer,
}

/// The bytes of an answer, in order.
pub type ReadStream = BoxStream<'static, Result<Bytes, Outage>>;

/// What HEAD answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The object.
    pub head: ObjectHead,
    /// The bytes selected.
    pub range: Range<u64>,
}

/// What GET answers.
pub struct Opened {
    /// The object and the bytes selected.
    pub found: Found,
    /// Exactly the selected bytes. Dropping it stops the reads.
    pub stream: ReadStream,
}

/// Where an object's bytes are.
pub(crate) enum Source {
    Extents(Vec<pb::Extent>),
    Rendered(RenderMetadata),
}

pub(crate) struct Located {
    pub(crate) found: Found,
    pub(crate) tags: crate::model::Tags,
    pub(crate) source: Source,
}

/// A contiguous piece of an answer.
enum Piece {
    Bytes(Bytes),
    Chunk(ChunkId, Range<u64>),
}

impl Objects {
    /// The headers of an object.
    ///
    /// # Errors
    /// See [`GetError`].
    pub async fn head(
        &self,
        _authorized: &Authorized<action::HeadObject>,
        request: &ReadRequest,
    ) -> Result<Found, GetError> {
        Ok(self.locate(request).await?.found)
    }

    /// An object or a part of it. Every byte is verified against its checksum before it is sent.
    ///
    /// # Errors
    /// See [`GetError`].
    pub async fn get(
        &self,
        _authorized: &Authorized<action::GetObject>,
        request: &ReadRequest,
    ) -> Result<Opened, GetError> {
        let located = self.locate(request).await?;
        let stream = self
            .stream(request.caller, located.source, located.found.range.clone())
            .await?;
        let sent = self.metrics.bytes_out.clone();
        let stream = stream.inspect_ok(move |bytes| {
            sent.inc_by(bytes.len() as u64);
        });
        Ok(Opened {
            found: located.found,
            stream: stream.boxed(),
        })
    }

    /// Finds an object and judges conditions and selection.
    pub(crate) async fn locate(&self, request: &ReadRequest) -> Result<Located, GetError> {
        check_version::<GetError>(request.version.as_deref())?;
        let (name, key) = (&request.bucket, &request.key);
        if is_metadata_name(key.as_str())
            && let Some(file) = self.metadata_file(name, key).await?
        {
            return locate_metadata(file, request);
        }
        let look = |view: &ReadView, target: &Target| find(view, target, request);
        let (target, found) = self.look::<_, GetError>(name, key, look).await?;
        let Some((row, range, extents)) = found else {
            return Err(NoSuchKey {
                key: target.key().to_owned(),
            }
            .into());
        };
        let head = head_from_row(&row);
        judge(&head, &request.conditions)?;
        let range = range?;
        let source = Source::Extents(extents);
        Ok(Located {
            found: Found { head, range },
            tags: row.tags,
            source,
        })
    }

    /// The metadata file with this key, if the bucket is one of tables and the catalog serves it.
    async fn metadata_file(
        &self,
        name: &BucketName,
        key: &ObjectKey,
    ) -> Result<Option<MetadataFile>, GetError> {
        let bucket = self.bucket::<GetError>(name).await?;
        if bucket.kind == BucketKind::General {
            return Ok(None);
        }
        Ok(self.tables.metadata_file(bucket.id, key.as_str()).await?)
    }

    /// Opens the bytes of `range`.
    pub(crate) async fn stream(
        &self,
        caller: Peer,
        source: Source,
        range: Range<u64>,
    ) -> Result<ReadStream, Outage> {
        let pieces = match source {
            Source::Rendered(render) => {
                let bytes = render(caller).await?;
                vec![Piece::Bytes(slice(&bytes, &range)?)]
            }
            Source::Extents(extents) => pieces(extents, &range)?,
        };
        let shards = self.shards.clone();
        let opened = futures::stream::iter(pieces).then(move |piece| open(shards.clone(), piece));
        Ok(opened.try_flatten().boxed())
    }
}

/// Opens one piece; a chunk is looked up only when its turn has come.
async fn open(shards: Shards, piece: Piece) -> Result<ReadStream, Outage> {
    match piece {
        Piece::Bytes(bytes) => Ok(futures::stream::once(async move { Ok(bytes) }).boxed()),
        Piece::Chunk(chunk, range) => Ok(shards
            .read(&chunk, range)
            .await?
            .map_err(Outage::from)
            .boxed()),
    }
}

type FoundRow = (pb::ObjectRow, Result<Range<u64>, GetError>, Vec<pb::Extent>);

/// Reads the row and the extents that the selection touches. The extents returned begin at the first
/// one needed, padded so that offsets still count from the object's start.
fn find(
    view: &ReadView,
    target: &Target,
    request: &ReadRequest,
) -> Result<Option<FoundRow>, Outage> {
    let Some(row) = view.get::<pb::ObjectRow>(&target.place.current())? else {
        return Ok(None);
    };
    let mut row = row.value;
    let range = select(&row, request.selection);
    let mut extents = std::mem::take(&mut row.extents);
    if let Ok(range) = &range
        && !row.manifest_offsets.is_empty()
    {
        extents = manifest_extents(view, target, &row, range)?;
    }
    Ok(Some((row, range, extents)))
}

/// The extents of the manifest rows that overlap `range`. Skipped rows are represented by one empty
/// chunk extent of their length, which is never read.
fn manifest_extents(
    view: &ReadView,
    target: &Target,
    row: &pb::ObjectRow,
    range: &Range<u64>,
) -> Result<Vec<pb::Extent>, Outage> {
    let mut extents = Vec::new();
    for (sequence, start) in (0u32..).zip(&row.manifest_offsets) {
        let next = usize::try_from(sequence).expect("a sequence fits memory") + 1;
        let end = row.manifest_offsets.get(next).copied().unwrap_or(row.size);
        if *start >= range.end || end <= range.start {
            extents.push(skipped(end - start));
            continue;
        }
        let key = target.place.manifest(&row.manifest_id, sequence);
        if let Some(manifest) = view.get::<pb::ManifestRow>(&key)? {
            extents.extend(manifest.value.extents);
        }
    }
    Ok(extents)
}

fn skipped(len: u64) -> pb::Extent {
    let chunk = pb::ChunkExtent {
        len,
        ..pb::ChunkExtent::default()
    };
    pb::Extent {
        place: Some(pb::extent::Place::Chunk(chunk)),
    }
}

/// The bytes a selection names.
fn select(row: &pb::ObjectRow, selection: Selection) -> Result<Range<u64>, GetError> {
    match selection {
        Selection::Whole => Ok(0..row.size),
        Selection::Range(range) => Ok(range.resolve(row.size)?),
        Selection::Part(1) if row.parts.is_empty() => Ok(0..row.size),
        Selection::Part(number) => {
            let parts = row.parts.iter().map(|run| run.count).sum::<u32>().max(1);
            part_range(&row.parts, number).ok_or_else(|| NoSuchPart { number, parts }.into())
        }
    }
}

fn judge(head: &ObjectHead, conditions: &ReadConditions) -> Result<(), GetError> {
    match conditions.evaluate(&head.etag, head.modified) {
        Verdict::Serve => Ok(()),
        Verdict::NotModified => Err(NotModified {
            etag: head.etag.clone(),
            modified: head.modified,
        }
        .into()),
        Verdict::Failed(condition) => Err(PreconditionFailed { condition }.into()),
    }
}

fn locate_metadata(file: MetadataFile, request: &ReadRequest) -> Result<Located, GetError> {
    let MetadataFile { entry, render } = file;
    let head = ObjectHead {
        size: entry.len,
        etag: entry.etag,
        modified: entry.modified,
        headers: Headers {
            content_type: "application/json".to_owned(),
            ..Headers::default()
        },
        tag_count: 0,
        checksum: None,
        parts: 0,
        delete_requested: None,
    };
    judge(&head, &request.conditions)?;
    let row = pb::ObjectRow {
        size: head.size,
        ..pb::ObjectRow::default()
    };
    let range = select(&row, request.selection)?;
    let source = Source::Rendered(render);
    Ok(Located {
        found: Found { head, range },
        tags: Default::default(),
        source,
    })
}

fn slice(bytes: &Bytes, range: &Range<u64>) -> Result<Bytes, Outage> {
    let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    if at(range.end) > bytes.len() {
        return Err(Outage::storage(format!(
            "{} bytes were stored where at least {} were promised",
            bytes.len(),
            range.end
        )));
    }
    Ok(bytes.slice(at(range.start)..at(range.end)))
}

/// The pieces of some extents that make up `range`.
fn pieces(extents: Vec<pb::Extent>, range: &Range<u64>) -> Result<Vec<Piece>, Outage> {
    let mut pieces = Vec::new();
    let mut offset = 0;
    for extent in extents {
        let len = extent_len(&extent);
        let (start, end) = (range.start.max(offset), range.end.min(offset + len));
        if start < end {
            let inner = start - offset..end - offset;
            pieces.push(match extent.place {
                Some(pb::extent::Place::Inline(bytes)) => Piece::Bytes(slice(&bytes, &inner)?),
                Some(pb::extent::Place::Chunk(chunk)) => {
                    let id = ChunkId::from_slice(&chunk.chunk_id)
                        .ok_or_else(|| Outage::storage("an extent names no chunk"))?;
                    Piece::Chunk(id, inner)
                }
                None => return Err(Outage::storage("an extent of an unknown kind")),
            });
        }
        offset += len;
    }
    if offset < range.end {
        return Err(Outage::storage(format!(
            "the extents end at {offset}, before the range does at {}",
            range.end
        )));
    }
    Ok(pieces)
}
