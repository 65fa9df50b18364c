//! Drafting a large commit apart from its decision, on rows of one moment: others wait while a decision is
//! made, and for the command that comes of it. What no command should hold is written ahead here too.
//! A draft is good as long as its table is at the version that it builds on.

use super::TableChange;
use super::draft::{Draft, Scene, Target};
use crate::buckets::table_bucket;
use crate::errors::CommitError;
use crate::heads::{ColdHead, HeadCache, Heads, TableHead, VersionToken};
use crate::pieces::{self, Pieces};
use crate::{Catalog, Outage, PieceSizes};
use floeberg_iceberg::{Applied, TableUpdate};
use floeberg_metastore::{Cx, ReadView};
use floeberg_types::{BucketName, CommitId, TableId};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Tables that a decision drafts by itself.
const IN_PLACE_TABLES: usize = 16;

/// Updates of a request that a decision drafts by itself.
const IN_PLACE_UPDATES: usize = 1000;

/// The same in bytes of their text.
const IN_PLACE_BYTES: usize = 256 << 10;

/// After so many times the decision drafts whatever has moved on meanwhile: a table that others commit to all
/// the time must not keep a transaction over many from ever being decided.
const TIMES: u32 = 3;

/// Whether a request is drafted before it is decided.
pub(crate) fn is_large(changes: &[TableChange]) -> bool {
    let updates = || changes.iter().flat_map(|change| &change.updates);
    changes.len() > IN_PLACE_TABLES
        || updates().count() > IN_PLACE_UPDATES
        || updates().map(TableUpdate::text_bytes).sum::<usize>() > IN_PLACE_BYTES
}

/// A draft that is at hand, and its document if that was written ahead.
pub(super) struct Ready<'d> {
    draft: Cow<'d, Arc<Draft>>,
    pieces: Option<&'d Pieces>,
}

impl Ready<'_> {
    pub(super) fn new(draft: Draft) -> Self {
        Self {
            draft: Cow::Owned(Arc::new(draft)),
            pieces: None,
        }
    }

    pub(super) fn draft(&self) -> &Draft {
        &self.draft
    }

    pub(super) fn pieces(&self) -> Option<&Pieces> {
        self.pieces
    }
}

struct Drafted {
    draft: Arc<Draft>,
    pieces: Option<Pieces>,
}

/// Drafts by the number of their change.
pub(crate) struct Drafts {
    sizes: PieceSizes,
    times: u32,
    by_change: BTreeMap<usize, Drafted>,
}

impl Drafts {
    /// None yet.
    pub(crate) fn new(sizes: PieceSizes) -> Self {
        Self {
            sizes,
            times: 0,
            by_change: BTreeMap::new(),
        }
    }

    /// None, and none is asked for any more.
    #[cfg(test)]
    pub(crate) fn of_the_last_time(sizes: PieceSizes) -> Self {
        Self {
            times: TIMES,
            ..Self::new(sizes)
        }
    }

    /// The draft of a change, if its table is still at the version that it builds on.
    pub(super) fn of(&self, number: usize, target: &Target<'_>) -> Option<Ready<'_>> {
        let drafted = self.fresh(number, target.base())?;
        Some(Ready {
            draft: Cow::Borrowed(&drafted.draft),
            pieces: drafted.pieces.as_ref(),
        })
    }

    fn fresh(&self, number: usize, base: Option<VersionToken>) -> Option<&Drafted> {
        let drafted = self.by_change.get(&number)?;
        (drafted.draft.base == base).then_some(drafted)
    }

    /// Whether a decision that lacks so many drafts leaves them to be found apart.
    pub(super) fn asks_for(&self, missing: usize) -> bool {
        missing > IN_PLACE_TABLES && self.times < TIMES
    }

    /// Whether the document of a draft is to be written ahead.
    pub(super) fn goes_ahead(&self, feature_level: u32, draft: &Draft) -> bool {
        let Applied {
            metadata,
            changes,
            changed,
            ..
        } = &draft.applied;
        *changed
            && self.sizes.suits(
                feature_level,
                pieces::weight(changes),
                metadata.rendered_len(),
            )
    }
}

type Pinned = HashMap<(TableId, CommitId), Arc<TableHead>>;

/// What was found on the rows of one moment.
struct Found {
    drafts: Vec<(usize, Draft)>,
    cold: Vec<ColdHead>,
}

/// What is looked at, apart from the threads of requests.
struct Look {
    catalog: Catalog,
    cx: Cx,
    bucket: BucketName,
    changes: Vec<TableChange>,
    /// Numbers of changes and the versions of which a draft is there.
    known: BTreeMap<usize, Option<VersionToken>>,
}

impl Look {
    /// A change that cannot be drafted is left to the decision, which says why.
    fn look(&self, view: &ReadView, pinned: &Pinned) -> Result<Found, CommitError> {
        let cache: &HeadCache = &self.catalog.inner.heads;
        let scene = Scene {
            cx: &self.cx,
            heads: &Heads { cache, pinned },
            now: self.catalog.now(),
            clock: self.catalog.inner.env.clock.now(),
            bucket: table_bucket::<CommitError>(view, &self.bucket)?,
        };
        let (mut drafts, mut cold) = (Vec::new(), Vec::new());
        let ids = || self.catalog.inner.env.rng.id128();
        for (number, change) in self.changes.iter().enumerate() {
            scene.goes_on()?;
            match scene.target(view, change) {
                Ok(Ok(target)) if self.known.get(&number) == Some(&target.base()) => {}
                Ok(Ok(target)) => {
                    if let Ok(draft) = scene.draft(&target, &ids) {
                        drafts.push((number, draft));
                    }
                }
                Ok(Err(missing)) => cold.push(missing),
                Err(_) => {}
            }
        }
        Ok(Found { drafts, cold })
    }
}

impl Catalog {
    /// Drafts what `drafts` lacks of a request.
    pub(super) async fn draft(
        &self,
        cx: &Cx,
        bucket: &BucketName,
        changes: &[TableChange],
        drafts: &mut Drafts,
    ) -> Result<(), CommitError> {
        drafts.times += 1;
        let known = |(number, drafted): (&usize, &Drafted)| (*number, drafted.draft.base);
        let look = Arc::new(Look {
            catalog: self.clone(),
            cx: cx.clone(),
            bucket: bucket.clone(),
            changes: changes.to_vec(),
            known: drafts.by_change.iter().map(known).collect(),
        });
        let mut pinned = Pinned::new();
        loop {
            let view = self.view().await?;
            let looking = Arc::clone(&look);
            let looked = self.step(move || {
                let found = looking.look(&view, &pinned);
                (found, pinned)
            });
            let (found, before) = looked.await?;
            pinned = before;
            let Found { drafts: made, cold } = found?;
            if cold.is_empty() {
                return self.keep(cx, bucket, made, drafts).await;
            }
            for cold in &cold {
                if cx.is_over() {
                    return Err(Outage::Unavailable.into());
                }
                if let Some((table, commit, head)) = self.warm(cx.caller, cold).await? {
                    pinned.insert((table, commit), head);
                }
            }
        }
    }

    /// Keeps drafts, and writes those documents ahead that no command should hold.
    async fn keep(
        &self,
        cx: &Cx,
        bucket: &BucketName,
        made: Vec<(usize, Draft)>,
        drafts: &mut Drafts,
    ) -> Result<(), CommitError> {
        for (number, draft) in made {
            // One that builds on an older version is given up before another is begun.
            drafts.by_change.remove(&number);
            let pieces = match drafts.goes_ahead(self.inner.store.feature_level(), &draft) {
                true => {
                    let metadata = &draft.applied.metadata;
                    let ahead = self.write_ahead(cx, bucket, &draft.path, metadata);
                    Some(ahead.await?)
                }
                false => None,
            };
            let draft = Arc::new(draft);
            drafts.by_change.insert(number, Drafted { draft, pieces });
        }
        Ok(())
    }
}
