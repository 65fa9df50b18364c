//! This node as the source of backups: the rows of both groups, fixed when one begins and given out
//! page by page, and chunks from wherever they are.

use crate::group_stores::GroupStores;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use floeberg_backup::{Begun, ChunkUse, Origin, Page, Point, Row, Source, SourceError};
use floeberg_env::Env;
use floeberg_metastore::{RawRow, Store, StoreError, keys};
use floeberg_objects::BackupRows;
use floeberg_shards::Shards;
use floeberg_types::{ChunkId, ClusterId, GroupId};
use futures::TryStreamExt as _;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A page ends after so many bytes of rows,
const PAGE_BYTES: usize = 2 << 20;
/// or so many rows.
const PAGE_ROWS: usize = 8192;
/// Rows of a backup nobody has asked for this long are let go.
const IDLE: Duration = Duration::from_secs(600);
/// Backups at a time: each keeps rows on disk that have been replaced since.
const OPEN_MAX: usize = 4;

/// The backups that are being made, by their names.
type AllOpen = Mutex<BTreeMap<String, Arc<Open>>>;

/// What is sent of a page, or why there is none.
type Sent = Result<Page, String>;

/// What this node is, for the manifest.
#[derive(Clone)]
pub(crate) struct About {
    pub(crate) cluster: ClusterId,
    pub(crate) region: String,
    pub(crate) account: String,
}

/// The backups that are being made from this node.
pub(crate) struct Backups {
    about: About,
    stores: GroupStores,
    shards: Shards,
    env: Env,
    open: Arc<AllOpen>,
}

struct Open {
    feeds: BTreeMap<GroupId, tokio::sync::Mutex<Feed>>,
    /// Groups whose last page has not been given out: their rows are still being read.
    unread: AtomicUsize,
    asked: Mutex<Instant>,
}

impl Open {
    fn is_read(&self) -> bool {
        self.unread.load(Ordering::Relaxed) == 0
    }
}

struct Feed {
    pages: mpsc::Receiver<Sent>,
    next: u64,
    /// The page given out last, in case its answer was lost.
    last: Bytes,
}

/// Gathers rows into pages.
struct Pages {
    objects: Option<BackupRows>,
    page: Page,
    bytes: usize,
    to: mpsc::Sender<Sent>,
}

impl Pages {
    fn take(&mut self, row: Option<Result<(Bytes, RawRow), StoreError>>) -> ControlFlow<()> {
        let Some(row) = row else {
            self.page.last = true;
            return self.send();
        };
        let row = row.map_err(|e| e.to_string());
        let row = match row.and_then(|(key, row)| self.row(key, row)) {
            Ok(None) => return ControlFlow::Continue(()),
            Ok(Some(row)) => row,
            Err(error) => {
                tracing::error!(error, "a row cannot be backed up");
                // Whoever asked may be gone.
                let _ = self.to.blocking_send(Err(error));
                return ControlFlow::Break(());
            }
        };
        self.bytes += row.key.len() + row.payload.len();
        self.page.rows.push(row);
        if self.bytes < PAGE_BYTES && self.page.rows.len() < PAGE_ROWS {
            return ControlFlow::Continue(());
        }
        self.send()
    }

    /// Waits until somebody takes the page before; nobody does if the backup was given up.
    fn send(&mut self) -> ControlFlow<()> {
        self.bytes = 0;
        let page = std::mem::take(&mut self.page);
        match self.to.blocking_send(Ok(page)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn row(&mut self, key: Bytes, row: RawRow) -> Result<Option<Row>, String> {
        let usage = key.first() == Some(&keys::tag::USAGE);
        let chunks = match &mut self.objects {
            Some(objects) if !usage => {
                let named = objects
                    .take(&key, &row.payload)
                    .map_err(|e| e.to_string())?;
                let Some(named) = named else { return Ok(None) };
                let chunk = |(chunk, len)| ChunkUse { chunk, len };
                named.into_iter().map(chunk).collect()
            }
            _ => Vec::new(),
        };
        Ok(Some(Row {
            key,
            payload: row.payload,
            chunks,
        }))
    }
}

/// Whether a row is of the state that clients see, by its key.
fn wanted(group: GroupId, key: &[u8]) -> bool {
    match key.first() {
        Some(&keys::tag::USAGE) => true,
        Some(tag) if keys::tag::SYSTEM.contains(tag) || keys::tag::MEMBERS.contains(tag) => false,
        Some(_) => group == GroupId::CATALOG || BackupRows::wanted(key),
        None => false,
    }
}

async fn feed(group: GroupId, store: &Store) -> Result<(Point, Feed), SourceError> {
    let (to, pages) = mpsc::channel(1);
    let mut gather = Pages {
        objects: (group != GroupId::CATALOG).then(BackupRows::default),
        page: Page::default(),
        bytes: 0,
        to,
    };
    let take = move |row| gather.take(row);
    let fixed = store.dump(move |key| wanted(group, key), take).await;
    let applied = fixed.map_err(|error| SourceError::Unavailable(error.to_string()))?;
    let point = Point {
        group: group.0,
        index: applied.last.map_or(0, |last| last.index),
        feature_level: applied.feature_level,
    };
    let feed = Feed {
        pages,
        next: 0,
        last: Bytes::new(),
    };
    Ok((point, feed))
}

impl Backups {
    pub(crate) fn new(about: About, stores: GroupStores, shards: Shards, env: Env) -> Self {
        Self {
            about,
            stores,
            shards,
            env,
            open: Arc::default(),
        }
    }
}

/// Makes room for another backup: those that were read to their end are not needed any more, unless
/// an answer was lost.
fn make_room(open: &AllOpen) -> Result<(), SourceError> {
    let mut open = open.lock();
    if open.len() >= OPEN_MAX {
        open.retain(|_, backup| !backup.is_read());
    }
    if open.len() >= OPEN_MAX {
        let minutes = IDLE.as_secs() / 60;
        return Err(SourceError::Unavailable(format!(
            "{OPEN_MAX} backups are being made from this node: ask another one, or wait {minutes} \
             minutes if they were given up"
        )));
    }
    Ok(())
}

/// Lets go of a backup once nobody asks for it any more.
async fn forget_idle(open: Weak<AllOpen>, name: String) {
    let mut idle_at = Instant::now() + IDLE;
    loop {
        tokio::time::sleep_until(idle_at).await;
        let Some(open) = open.upgrade() else { return };
        let mut open = open.lock();
        let Some(backup) = open.get(&name) else {
            return;
        };
        idle_at = *backup.asked.lock() + IDLE;
        if idle_at <= Instant::now() {
            open.remove(&name);
            return;
        }
    }
}

#[async_trait]
impl Source for Backups {
    async fn begin(&self) -> Result<Begun, SourceError> {
        make_room(&self.open)?;
        let (mut feeds, mut points) = (BTreeMap::new(), Vec::new());
        // One after the other: what a table names was there before the table named it.
        for (group, store) in self.stores.each() {
            let (point, feed) = feed(group, store).await?;
            points.push(point);
            feeds.insert(group, tokio::sync::Mutex::new(feed));
        }
        let backup = ClusterId::from_bytes(self.env.rng.id128()).to_string();
        let open = Arc::new(Open {
            unread: AtomicUsize::new(feeds.len()),
            feeds,
            asked: Mutex::new(Instant::now()),
        });
        self.open.lock().insert(backup.clone(), open);
        let forget = forget_idle(Arc::downgrade(&self.open), backup.clone());
        self.env.tasks.spawn("backup-idle", forget);
        let origin = Origin {
            backup,
            cluster: self.about.cluster.to_string(),
            region: self.about.region.clone(),
            account: self.about.account.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at_ms: self.env.clock.now().0,
        };
        Ok(Begun { origin, points })
    }

    async fn page(&self, backup: &str, group: GroupId, number: u64) -> Result<Bytes, SourceError> {
        let open = self.open.lock().get(backup).cloned();
        let open = open.ok_or(SourceError::Unknown)?;
        *open.asked.lock() = Instant::now();
        let feed = open.feeds.get(&group).ok_or(SourceError::Unknown)?;
        let mut feed = feed.lock().await;
        if number + 1 == feed.next {
            return Ok(feed.last.clone());
        }
        if number != feed.next {
            let (asked, next) = (number, feed.next);
            return Err(SourceError::OutOfOrder { asked, next });
        }
        let page = feed.pages.recv().await.ok_or(SourceError::Unknown)?;
        let page = page.map_err(SourceError::Failed)?;
        if page.last {
            open.unread.fetch_sub(1, Ordering::Relaxed);
        }
        feed.next += 1;
        feed.last = page.encode();
        Ok(feed.last.clone())
    }

    async fn chunk(&self, chunk: ChunkId, len: u64) -> Result<Bytes, SourceError> {
        let unreadable = |error: floeberg_shards::ReadError| SourceError::Chunk {
            chunk,
            reason: error.to_string(),
        };
        if len > self.shards.max_chunk_bytes() {
            let reason = "no chunk is that long".to_owned();
            return Err(SourceError::Chunk { chunk, reason });
        }
        let stream = self.shards.read(&chunk, 0..len).await.map_err(unreadable)?;
        let bytes = stream.try_fold(BytesMut::new(), |mut bytes, piece| async move {
            bytes.extend_from_slice(&piece);
            Ok(bytes)
        });
        Ok(bytes.await.map_err(unreadable)?.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(open: &AllOpen, name: &str, unread: usize) {
        let backup = Open {
            feeds: BTreeMap::new(),
            unread: AtomicUsize::new(unread),
            asked: Mutex::new(Instant::now()),
        };
        open.lock().insert(name.to_owned(), Arc::new(backup));
    }

    #[tokio::test(start_paused = true)]
    async fn a_backup_is_let_go_when_nobody_has_asked_for_long() {
        let open = Arc::new(AllOpen::default());
        begun(&open, "b", 2);
        let begin = Instant::now();
        let forget = tokio::spawn(forget_idle(Arc::downgrade(&open), "b".to_owned()));
        tokio::time::sleep(IDLE / 2).await;
        *open.lock()["b"].asked.lock() = Instant::now();
        forget.await.unwrap();
        assert_eq!(begin.elapsed(), IDLE + IDLE / 2);
        assert!(open.lock().is_empty());
    }

    #[tokio::test]
    async fn what_was_read_makes_room_for_another() {
        let open = AllOpen::default();
        for n in 0..OPEN_MAX {
            make_room(&open).unwrap();
            begun(&open, &n.to_string(), n);
        }
        make_room(&open).unwrap();
        assert_eq!(open.lock().len(), OPEN_MAX - 1);
        begun(&open, "last", 1);
        assert!(matches!(make_room(&open), Err(SourceError::Unavailable(_))));
    }
}
