//! Commits: to one table, and to several at once.
//!
//! Both are one decision and one command. The leader checks requirements and applies updates to the
//! newest heads, proposals in flight included; what is replicated are the rows that changed.

use crate::buckets::{BucketInfo, table_bucket};
use crate::create::{claim, settle};
use crate::errors::CommitError;
use crate::heads::{Heads, Pinned, TableHead};
use crate::load::StoredTable;
use crate::location::{self, Path};
use crate::pieces::Place;
use crate::publish::{self, Birth, Content, Parts};
use crate::request::Request;
use crate::seen;
use crate::{Catalog, Draftable, Step, keys};
use floeberg_auth::{Authorized, action};
use floeberg_iceberg::{Applied, TableRequirement, TableUpdate, UpdateError};
use floeberg_metastore::{Cx, Event, Txn};
use floeberg_types::{BucketName, TableId, TableIdent, TimestampMs};
use std::sync::Arc;

mod draft;
mod drafting;

use draft::{Draft, Scene, Target};
pub(crate) use drafting::{Drafts, Size};
use drafting::{Ready, longest_text};

/// The change of one table (Iceberg REST `CommitTableRequest`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableChange {
    /// The table.
    pub ident: TableIdent,
    /// What must hold of it; `assert-create` alone creates it.
    pub requirements: Vec<TableRequirement>,
    /// What to change, in order.
    pub updates: Vec<TableUpdate>,
}

/// What a commit did to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It made a new version.
    Committed,
    /// The same request had been applied before; the table is as it is now.
    Replayed,
    /// The updates ask for what is already so.
    Unchanged,
}

/// A table after a commit.
#[derive(Clone, Debug)]
pub struct CommittedTable {
    /// The table with its current metadata.
    pub head: Arc<TableHead>,
    /// What the commit did.
    pub outcome: CommitOutcome,
}

impl Catalog {
    /// Commits to one table.
    ///
    /// # Errors
    /// See [`CommitError`]: unless it is an indefinite outage, nothing is or ever will be applied.
    pub async fn commit_table(
        &self,
        _: &Authorized<action::CommitTable>,
        cx: &Cx,
        bucket: &BucketName,
        change: TableChange,
    ) -> Result<CommittedTable, CommitError> {
        let committed = self.commit(cx, bucket, [change].into()).await?;
        Ok(committed
            .into_iter()
            .next()
            .expect("one change has one result"))
    }

    /// Commits to several tables: all of it in one step, or nothing.
    ///
    /// # Errors
    /// See [`CommitError`]: unless it is an indefinite outage, nothing is or ever will be applied.
    pub async fn commit_transaction(
        &self,
        _: &Authorized<action::CommitTransaction>,
        cx: &Cx,
        bucket: &BucketName,
        changes: Vec<TableChange>,
    ) -> Result<Vec<CommittedTable>, CommitError> {
        self.commit(cx, bucket, changes.into()).await
    }

    async fn commit(
        &self,
        cx: &Cx,
        bucket: &BucketName,
        changes: Arc<[TableChange]>,
    ) -> Result<Vec<CommittedTable>, CommitError> {
        let started = self.inner.env.clock.monotonic();
        let (size, bucket) = (Size::of(&changes), bucket.clone());
        let request = match size {
            Size::Small => Request::new(bucket, changes)?,
            // It is read through and hashed.
            Size::Large => self.step(move || Request::new(bucket, changes)).await??,
        };
        let decided = self.decided(cx, &request, size).await;
        self.count(&decided);
        let elapsed = self.inner.env.clock.monotonic().saturating_sub(started);
        self.inner
            .metrics
            .commit_seconds
            .observe(elapsed.as_secs_f64());
        decided
    }

    async fn decided(
        &self,
        cx: &Cx,
        request: &Request,
        size: Size,
    ) -> Result<Vec<CommittedTable>, CommitError> {
        let place = match size {
            Size::Small => Place::default(),
            Size::Large => {
                let longest = longest_text(&request.changes);
                self.place_for(cx, longest).await?
            }
        };
        // Afterwards: who asks again waits for the place of its own first attempt.
        if size == Size::Large
            && let Some(before) = self.recall::<_, CommitError>(cx).await?
        {
            return Ok(before);
        }
        let mut drafts = Drafts::new(self.inner.pieces, place);
        let mut pinned = Pinned::new();
        if size == Size::Large {
            self.draft(cx, request, &mut drafts, &mut pinned).await?;
        }
        loop {
            let decided = self.transact_pinned(cx, &mut pinned, |txn, heads| {
                let clock = self.inner.env.clock.now();
                decide(txn, cx, heads, clock, request, &drafts)
            });
            match decided.await? {
                Draftable::Done(tables) => return Ok(tables),
                Draftable::Lacks(now) => {
                    drafts.looked_at(now);
                    self.draft(cx, request, &mut drafts, &mut pinned).await?;
                }
            }
        }
    }

    fn count(&self, decided: &Result<Vec<CommittedTable>, CommitError>) {
        let metrics = &self.inner.metrics;
        match decided {
            Ok(tables) => {
                for table in tables {
                    match table.outcome {
                        CommitOutcome::Committed => metrics.commits.inc(),
                        CommitOutcome::Replayed => metrics.replays.inc(),
                        CommitOutcome::Unchanged => 0,
                    };
                }
            }
            Err(CommitError::RequirementFailed(_) | CommitError::Update(UpdateError::Stale(_))) => {
                metrics.conflicts.inc();
            }
            Err(_) => {}
        }
    }
}

/// Decides a request. `clock` is the present of whoever decides: log time may be ahead of it.
pub(crate) fn decide(
    txn: &mut Txn<'_>,
    cx: &Cx,
    heads: &Heads<'_>,
    clock: TimestampMs,
    request: &Request,
    drafts: &Drafts,
) -> Result<Step<Draftable<Vec<CommittedTable>>>, CommitError> {
    let scene = Scene {
        cx,
        heads,
        now: txn.now(),
        clock,
        bucket: table_bucket::<CommitError>(txn, &request.bucket)?,
    };
    let mut targets = Vec::with_capacity(request.changes.len());
    let mut missing = Vec::new();
    for change in &*request.changes {
        scene.goes_on()?;
        match scene.target(txn, change)? {
            Ok(target) => targets.push(target),
            Err(cold) => missing.push(cold),
        }
    }
    if !missing.is_empty() {
        return Ok(Step::Lacks(missing));
    }
    let decision = Decision { scene, request };
    if let Some(replayed) = decision.replay(txn, &targets)? {
        return Ok(Step::Done(Draftable::Done(replayed)));
    }
    let Some(ready) = decision.drafts(txn, &targets, drafts)? else {
        return Ok(Step::Done(Draftable::Lacks(txn.now())));
    };
    let mut done = Vec::with_capacity(targets.len());
    for (target, ready) in targets.iter().zip(&ready) {
        decision.scene.goes_on()?;
        done.push(decision.write(txn, target, ready)?);
    }
    if done
        .iter()
        .any(|table| table.outcome == CommitOutcome::Committed)
    {
        txn.event(event(&request.bucket, &done));
    }
    Ok(Step::Done(Draftable::Done(done)))
}

/// One evaluation of a request.
struct Decision<'a> {
    scene: Scene<'a>,
    request: &'a Request,
}

impl Decision<'_> {
    /// The answer to a request that was applied before. It comes before any requirement: they fail
    /// because of what the request itself did.
    fn replay(
        &self,
        txn: &Txn<'_>,
        targets: &[Target<'_>],
    ) -> Result<Option<Vec<CommittedTable>>, CommitError> {
        let Some(fingerprint) = &self.request.fingerprint else {
            return Ok(None);
        };
        let mut tables = Vec::with_capacity(targets.len());
        for (target, snapshots) in targets.iter().zip(&*self.request.snapshots) {
            let Some((table, head)) = &target.table else {
                return Ok(None);
            };
            if !seen::is_replay::<CommitError>(txn, table.id, snapshots, fingerprint)? {
                return Ok(None);
            }
            let outcome = CommitOutcome::Replayed;
            tables.push(CommittedTable {
                head: head.clone(),
                outcome,
            });
        }
        Ok(Some(tables))
    }

    /// What every change makes of its table; `None` if too much of it is still to be found.
    fn drafts<'d>(
        &self,
        txn: &Txn<'_>,
        targets: &[Target<'_>],
        drafts: &'d Drafts,
    ) -> Result<Option<Vec<Ready<'d>>>, CommitError> {
        let mut all = Vec::with_capacity(targets.len());
        let (mut in_place, mut is_large) = (0, false);
        for (number, target) in targets.iter().enumerate() {
            self.scene.goes_on()?;
            let ready = match drafts.of(number, target, txn.now()) {
                Some(ready) => ready,
                None => {
                    in_place += 1;
                    if drafts.asks_for(number, in_place) {
                        return Ok(None);
                    }
                    let draft = self.scene.draft(target, &|| txn.new_id())?;
                    drafts.with(number, draft)
                }
            };
            // The rest is looked at all the same: if the request is refused, nothing is to be written ahead.
            is_large |= drafts.lacks_pieces(txn.feature_level(), &ready);
            all.push(ready);
        }
        Ok((!is_large).then_some(all))
    }

    fn write(
        &self,
        txn: &mut Txn<'_>,
        target: &Target<'_>,
        ready: &Ready<'_>,
    ) -> Result<CommittedTable, CommitError> {
        match &target.table {
            Some((table, head)) => self.update(txn, table, head, ready),
            None => self.create(txn, target, ready),
        }
    }

    fn update(
        &self,
        txn: &mut Txn<'_>,
        table: &StoredTable,
        head: &Arc<TableHead>,
        ready: &Ready<'_>,
    ) -> Result<CommittedTable, CommitError> {
        let Draft { applied, path, .. } = &*ready.draft;
        if !applied.changed {
            let outcome = CommitOutcome::Unchanged;
            return Ok(CommittedTable {
                head: head.clone(),
                outcome,
            });
        }
        if applied.metadata.location() != head.metadata().location() {
            move_to(txn, &self.scene.bucket, table.id, path)?;
        }
        self.record_seen(txn, table.id, Some(table), applied);
        let (cx, cache) = (self.scene.cx, self.scene.heads.cache);
        let head = publish::advance(txn, cx, cache, table, path, &content(ready))?;
        Ok(CommittedTable {
            head,
            outcome: CommitOutcome::Committed,
        })
    }

    /// Creates the table of a change with `assert-create`, in the location it was staged at if it was.
    fn create(
        &self,
        txn: &mut Txn<'_>,
        target: &Target<'_>,
        ready: &Ready<'_>,
    ) -> Result<CommittedTable, CommitError> {
        let Draft {
            applied,
            path,
            new_id,
            ..
        } = &*ready.draft;
        let (bucket, namespace) = (&self.scene.bucket, &target.namespace);
        let name = &target.change.ident.name;
        let id = settle::<CommitError>(txn, bucket, namespace, name, path, *new_id)?;
        self.record_seen(txn, id, None, applied);
        let birth = Birth {
            bucket,
            namespace,
            name,
            id,
            path,
        };
        let (cx, cache) = (self.scene.cx, self.scene.heads.cache);
        let head = publish::create(txn, cx, cache, &birth, &content(ready))?;
        Ok(CommittedTable {
            head,
            outcome: CommitOutcome::Committed,
        })
    }

    fn record_seen(
        &self,
        txn: &mut Txn<'_>,
        id: TableId,
        table: Option<&StoredTable>,
        applied: &Applied,
    ) {
        let Some(fingerprint) = &self.request.fingerprint else {
            return;
        };
        let version = table.map_or(0, |table| table.row.version) + 1;
        let first = seen::next_sequence(table);
        seen::record(
            txn,
            id,
            first,
            version,
            &applied.added_snapshots,
            fingerprint,
        );
    }
}

/// Claims a further location for a table. The old one stays its own: files are still there.
fn move_to(
    txn: &mut Txn<'_>,
    bucket: &BucketInfo,
    table: TableId,
    path: &Path,
) -> Result<(), CommitError> {
    if claim::<CommitError>(txn, bucket, table, path)?.is_none() {
        txn.put(
            keys::location(bucket.id, path.as_str()),
            &location::live_row(table),
        );
    }
    Ok(())
}

fn content<'a>(ready: &'a Ready<'_>) -> Content<'a> {
    let applied = &ready.draft.applied;
    let changes = &applied.changes;
    Content {
        metadata: &applied.metadata,
        parts: match &ready.ahead {
            Some((pieces, since)) => Parts::Rewritten {
                pieces,
                since,
                changes,
            },
            None => Parts::Changed(changes),
        },
        external_key: None,
        seen: seen::watched(&applied.added_snapshots).len() as u64,
    }
}

fn event(bucket: &BucketName, tables: &[CommittedTable]) -> Event {
    if let [table] = tables {
        let info = table.head.info();
        let mut event = publish::event("table.commit", bucket, info.id, &info.ident);
        event
            .details
            .insert("version".to_owned(), info.version.to_string());
        return event;
    }
    let mut event = Event {
        kind: "transaction.commit".to_owned(),
        resource: format!("bucket/{bucket}"),
        ..Event::default()
    };
    for table in tables
        .iter()
        .filter(|table| table.outcome == CommitOutcome::Committed)
    {
        let info = table.head.info();
        event
            .details
            .insert(format!("table/{}", info.id), info.version.to_string());
    }
    event
}
