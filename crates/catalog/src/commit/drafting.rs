//! Drafting a large commit apart from its decision, on rows of one moment: others wait while a decision is
//! made, and for the command that comes of it. What no command should hold is written ahead here too.
//! A draft is good as long as its table is at the version that it builds on.

use super::TableChange;
use super::draft::{Draft, Scene, Target};
use crate::buckets::table_bucket;
use crate::errors::CommitError;
use crate::heads::{ColdHead, HeadCache, Heads, Pinned, VersionToken};
use crate::pieces::{self, Pieces, Place};
use crate::request::Request;
use crate::{Catalog, PieceSizes};
use floeberg_iceberg::{PartChange, TableUpdate};
use floeberg_metastore::{Cx, ReadView};
use floeberg_types::{TimestampMs, limits};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tables that a decision drafts by itself.
const IN_PLACE_TABLES: usize = 16;

/// Updates of a request that a decision drafts by itself.
const IN_PLACE_UPDATES: usize = 1000;

/// The same in bytes of their text.
const IN_PLACE_BYTES: usize = 256 << 10;

/// After so many times the decision drafts whatever has moved on meanwhile, and its command holds what it
/// can: a table that others commit to all the time must not keep a large commit from ever being decided.
const TIMES: u32 = 3;

/// What a command holds of one document where it has to; a little is left for the rest.
const IN_COMMAND_BYTES: usize = limits::COMMAND_BYTES - limits::COMMAND_BYTES / 8;

/// Documents of one request that are written ahead; of more, the command has to hold what is new.
const AHEAD_MAX: usize = pieces::SERIES_OF_CALLER_MAX / 2;

/// Whether a request is drafted before it is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// The decision drafts it.
    Small,
    Large,
}

impl Size {
    pub(crate) fn of(changes: &[TableChange]) -> Self {
        let updates = || changes.iter().flat_map(|change| &change.updates);
        let is_large = changes.len() > IN_PLACE_TABLES
            || updates().count() > IN_PLACE_UPDATES
            || changes.iter().map(text_bytes).sum::<usize>() > IN_PLACE_BYTES;
        match is_large {
            true => Self::Large,
            false => Self::Small,
        }
    }
}

/// Bytes of the text of a change.
fn text_bytes(change: &TableChange) -> usize {
    change.updates.iter().map(TableUpdate::text_bytes).sum()
}

/// The same of the longest one.
pub(super) fn longest_text(changes: &[TableChange]) -> usize {
    changes.iter().map(text_bytes).max().unwrap_or_default()
}

/// A draft that is at hand, and its document if that was written ahead, with what is different by now.
pub(super) struct Ready<'d> {
    pub(super) draft: Arc<Draft>,
    pub(super) ahead: Option<(&'d Pieces, Arc<[PartChange]>)>,
}

/// A document that was written ahead.
struct Ahead {
    written: Arc<Draft>,
    pieces: Pieces,
    /// What turns it into that of the newest draft: little, if others have committed to the table meanwhile.
    since: Arc<[PartChange]>,
}

struct Drafted {
    draft: Arc<Draft>,
    ahead: Option<Ahead>,
}

/// A draft, and what turns the document that was written ahead before into its own.
struct Made {
    number: usize,
    draft: Draft,
    since: Option<Arc<[PartChange]>>,
}

/// Drafts of a request, by the number of their change.
pub(crate) struct Drafts {
    sizes: PieceSizes,
    times: u32,
    /// The decision may be at no earlier time.
    not_after: TimestampMs,
    by_change: BTreeMap<usize, Drafted>,
    place: Place,
}

impl Drafts {
    /// None yet. `place` is that of a request whose documents are large.
    pub(crate) fn new(sizes: PieceSizes, place: Place) -> Self {
        Self {
            sizes,
            times: 0,
            not_after: TimestampMs(i64::MAX),
            by_change: BTreeMap::new(),
            place,
        }
    }

    /// None, and none is asked for any more.
    #[cfg(test)]
    pub(crate) fn of_the_last_time(sizes: PieceSizes) -> Self {
        Self {
            times: TIMES,
            ..Self::new(sizes, Place::default())
        }
    }

    /// A decision could not be made at `now`: its draft may be of the future, if the clock of this node is ahead.
    pub(super) fn looked_at(&mut self, now: TimestampMs) {
        self.not_after = now;
    }

    /// The draft of a change, if its table is still at the version that it builds on.
    pub(super) fn of(
        &self,
        number: usize,
        target: &Target<'_>,
        now: TimestampMs,
    ) -> Option<Ready<'_>> {
        let drafted = self.by_change.get(&number)?;
        let is_good = drafted.draft.base == target.base() && drafted.draft.now <= now;
        let ahead = drafted.ahead.as_ref();
        is_good.then(|| Ready {
            draft: Arc::clone(&drafted.draft),
            ahead: ahead.map(|ahead| (&ahead.pieces, Arc::clone(&ahead.since))),
        })
    }

    /// A draft that a decision has made itself, with what was written ahead for an earlier one.
    pub(super) fn with(&self, number: usize, draft: Draft) -> Ready<'_> {
        let before = self.by_change.get(&number);
        let before = before.and_then(|drafted| drafted.ahead.as_ref());
        let ahead = before.and_then(|ahead| {
            let since = ahead.written.until(&draft);
            let is_little = pieces::weight(&since) <= self.sizes.above;
            is_little.then(|| (&ahead.pieces, since.into()))
        });
        Ready {
            draft: Arc::new(draft),
            ahead,
        }
    }

    /// Whether a decision leaves the draft of a change, the `missing`th that it lacks, to be found apart.
    pub(super) fn asks_for(&self, number: usize, missing: usize) -> bool {
        let before = self.by_change.get(&number);
        let was_large = before.is_some_and(|drafted| drafted.ahead.is_some());
        self.times < TIMES && (was_large || missing > IN_PLACE_TABLES)
    }

    /// Whether the document of a draft has to be written ahead before the command.
    pub(super) fn lacks_pieces(&self, feature_level: u32, ready: &Ready<'_>) -> bool {
        ready.ahead.is_none() && self.goes_ahead(feature_level, &ready.draft)
    }

    fn goes_ahead(&self, feature_level: u32, draft: &Draft) -> bool {
        let applied = &draft.applied;
        let weight = pieces::weight(&applied.changes);
        let document = applied.metadata.rendered_len();
        applied.changed
            && self.sizes.suits(feature_level, weight, document)
            && (self.times < TIMES || weight > IN_COMMAND_BYTES)
    }
}

/// What was found on the rows of one moment.
enum Found {
    Cold(Vec<ColdHead>),
    Drafts {
        made: Vec<Made>,
        /// Numbers of changes that cannot be drafted: the decision says why.
        refused: Vec<usize>,
    },
}

/// What is looked at, apart from the threads of requests.
struct Look {
    catalog: Catalog,
    cx: Cx,
    request: Request,
    not_after: TimestampMs,
    /// Numbers of changes, and the versions and times of their drafts.
    known: BTreeMap<usize, (Option<VersionToken>, TimestampMs)>,
    /// What was written ahead.
    written: BTreeMap<usize, Arc<Draft>>,
}

impl Look {
    fn look(&self, view: &ReadView, pinned: &Pinned) -> Result<Found, CommitError> {
        let cache: &HeadCache = &self.catalog.inner.heads;
        let scene = Scene {
            cx: &self.cx,
            heads: &Heads { cache, pinned },
            now: self.catalog.now().min(self.not_after),
            clock: self.catalog.inner.env.clock.now().min(self.not_after),
            bucket: table_bucket::<CommitError>(view, &self.request.bucket)?,
        };
        let (mut targets, mut cold, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for (number, change) in self.request.changes.iter().enumerate() {
            scene.goes_on()?;
            match scene.target(view, change) {
                Ok(Ok(target)) => targets.push((number, target)),
                Ok(Err(missing)) => cold.push(missing),
                Err(_) => refused.push(number),
            }
        }
        if !cold.is_empty() {
            return Ok(Found::Cold(cold));
        }
        let ids = || self.catalog.inner.env.rng.id128();
        let mut made = Vec::new();
        for (number, target) in targets {
            scene.goes_on()?;
            let known = self.known.get(&number);
            if known.is_some_and(|(base, at)| *base == target.base() && *at <= scene.now) {
                continue;
            }
            match scene.draft(&target, &ids) {
                Ok(draft) => {
                    let written = self.written.get(&number);
                    let since = written.map(|written| written.until(&draft).into());
                    made.push(Made {
                        number,
                        draft,
                        since,
                    });
                }
                Err(_) => refused.push(number),
            }
        }
        Ok(Found::Drafts { made, refused })
    }
}

impl Catalog {
    /// Drafts what `drafts` lacks of a request.
    pub(super) async fn draft(
        &self,
        cx: &Cx,
        request: &Request,
        drafts: &mut Drafts,
        pinned: &mut Pinned,
    ) -> Result<(), CommitError> {
        drafts.times += 1;
        let known = |(number, drafted): (&usize, &Drafted)| {
            let draft = &drafted.draft;
            (*number, (draft.base, draft.now))
        };
        let written = |(number, drafted): (&usize, &Drafted)| {
            let written = drafted.ahead.as_ref().map(|ahead| &ahead.written)?;
            Some((*number, Arc::clone(written)))
        };
        let look = Arc::new(Look {
            catalog: self.clone(),
            cx: cx.clone(),
            request: request.clone(),
            not_after: drafts.not_after,
            known: drafts.by_change.iter().map(known).collect(),
            written: drafts.by_change.iter().filter_map(written).collect(),
        });
        loop {
            let view = self.view().await?;
            let (looking, heads) = (Arc::clone(&look), std::mem::take(pinned));
            let looked = self.step(move || (looking.look(&view, &heads), heads));
            let (found, heads) = looked.await?;
            *pinned = heads;
            match found? {
                Found::Cold(cold) => self.pin(cx, &cold, pinned).await?,
                Found::Drafts { made, refused } => {
                    return self.keep(cx, made, &refused, drafts).await;
                }
            }
        }
    }

    /// Keeps drafts, and writes those documents ahead that no command should hold: none if the request cannot
    /// be done as it looks now.
    async fn keep(
        &self,
        cx: &Cx,
        made: Vec<Made>,
        refused: &[usize],
        drafts: &mut Drafts,
    ) -> Result<(), CommitError> {
        let level = self.inner.store.feature_level();
        let is_little = |since: &Arc<[PartChange]>| pieces::weight(since) <= drafts.sizes.above;
        let is_kept = |made: &Made| made.since.as_ref().is_some_and(is_little);
        // What is of no more use is given up before others are begun.
        let old = made.iter().filter(|made| !is_kept(made));
        let old: Vec<usize> = old
            .map(|made| made.number)
            .chain(refused.iter().copied())
            .collect();
        for number in old {
            let drafted = drafts.by_change.remove(&number);
            if let Some(ahead) = drafted.and_then(|drafted| drafted.ahead) {
                self.give_up(ahead.pieces).await;
            }
        }
        let there = drafts.by_change.values().filter(|d| d.ahead.is_some());
        let is_new = |made: &&Made| made.since.is_none() && drafts.goes_ahead(level, &made.draft);
        if there.count() + made.iter().filter(is_new).count() > AHEAD_MAX {
            // As if it had been tried too often: the command holds them, or is too large.
            drafts.times = TIMES;
        }
        for Made {
            number,
            draft,
            since,
        } in made
        {
            let draft = Arc::new(draft);
            let before = drafts.by_change.remove(&number);
            let before = before.and_then(|drafted| drafted.ahead);
            let ahead = match (before, since) {
                (Some(ahead), Some(since)) => Some(Ahead { since, ..ahead }),
                _ if refused.is_empty() && drafts.goes_ahead(level, &draft) => {
                    let metadata = &draft.applied.metadata;
                    let pieces = self.write_ahead(cx, &mut drafts.place, metadata);
                    Some(Ahead {
                        pieces: pieces.await?,
                        written: Arc::clone(&draft),
                        since: Arc::default(),
                    })
                }
                _ => None,
            };
            drafts.by_change.insert(number, Drafted { draft, ahead });
        }
        if drafts.by_change.values().all(|d| d.ahead.is_none()) {
            // Others need the place more.
            drafts.place = Place::default();
        }
        Ok(())
    }
}
