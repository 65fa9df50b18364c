//! Commits: to one table, and to several at once.
//!
//! Both are one decision and one command. The leader checks requirements and applies updates to the
//! newest heads, proposals in flight included; what is replicated are the rows that changed.

use crate::buckets::{BucketInfo, table_bucket};
use crate::create::{claim, new_uuid, settle};
use crate::errors::{CommitError, NoMetadata, NoSuchNamespace, NoSuchTable, Occupant, TableExists};
use crate::heads::{ColdHead, Heads, TableHead};
use crate::load::{Named, StoredTable, named};
use crate::location::{self, Path};
use crate::namespaces::{self, NamespaceInfo};
use crate::publish::{self, Birth, Content, Parts};
use crate::request::{Change, Request};
use crate::seen;
use crate::{Catalog, Outage, Step, keys};
use floeberg_auth::{Authorized, action};
use floeberg_iceberg::{
    Applied, ApplyContext, CreateContext, MetadataLogEntry, RequirementFailed, TableMetadata,
    TableRequirement, TableUpdate, UpdateError, check,
};
use floeberg_metastore::{Cx, Event, Txn};
use floeberg_types::{BucketName, TableId, TableIdent, TimestampMs};
use std::sync::Arc;

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

/// A change and the rows of what its name stands for.
struct Target<'a, 'r> {
    change: &'a Change<'r>,
    namespace: NamespaceInfo,
    table: Option<(StoredTable, Arc<TableHead>)>,
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
        change: &TableChange,
    ) -> Result<CommittedTable, CommitError> {
        let committed = self
            .commit(cx, bucket, std::slice::from_ref(change))
            .await?;
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
        changes: &[TableChange],
    ) -> Result<Vec<CommittedTable>, CommitError> {
        self.commit(cx, bucket, changes).await
    }

    async fn commit(
        &self,
        cx: &Cx,
        bucket: &BucketName,
        changes: &[TableChange],
    ) -> Result<Vec<CommittedTable>, CommitError> {
        let started = self.inner.env.clock.monotonic();
        let request = Request::new(bucket, changes)?;
        let decided = self
            .transact_heads(cx, |txn, heads| {
                decide(txn, cx, heads, self.inner.env.clock.now(), &request)
            })
            .await;
        self.count(&decided);
        let elapsed = self.inner.env.clock.monotonic().saturating_sub(started);
        self.inner
            .metrics
            .commit_seconds
            .observe(elapsed.as_secs_f64());
        decided
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
    request: &Request<'_>,
) -> Result<Step<Vec<CommittedTable>>, CommitError> {
    let decision = Decision {
        cx,
        heads,
        clock,
        request,
        bucket: table_bucket::<CommitError>(txn, request.bucket)?,
    };
    let mut targets = Vec::with_capacity(request.changes.len());
    let mut missing = Vec::new();
    for change in &request.changes {
        decision.goes_on()?;
        match decision.target(txn, change)? {
            Ok(target) => targets.push(target),
            Err(cold) => missing.push(cold),
        }
    }
    if !missing.is_empty() {
        return Ok(Step::Cold(missing));
    }
    if let Some(replayed) = decision.replay(txn, &targets)? {
        return Ok(Step::Done(replayed));
    }
    let mut done = Vec::with_capacity(targets.len());
    for target in &targets {
        decision.goes_on()?;
        let committed = match &target.table {
            Some((table, head)) => decision.update(txn, target, table, head)?,
            None => decision.create(txn, target)?,
        };
        done.push(committed);
    }
    if done
        .iter()
        .any(|table| table.outcome == CommitOutcome::Committed)
    {
        txn.event(event(request.bucket, &done));
    }
    Ok(Step::Done(done))
}

/// One evaluation of a request.
struct Decision<'a> {
    cx: &'a Cx,
    heads: &'a Heads<'a>,
    clock: TimestampMs,
    request: &'a Request<'a>,
    bucket: BucketInfo,
}

impl Decision<'_> {
    /// Ends a decision that nobody waits for: every other commit of the group waits behind it.
    fn goes_on(&self) -> Result<(), Outage> {
        if self.cx.is_over() {
            return Err(Outage::Unavailable);
        }
        Ok(())
    }

    /// Finds what a change is about: a table with its head, or a free name for a table to be created.
    fn target<'c, 'r>(
        &self,
        txn: &Txn<'_>,
        change: &'c Change<'r>,
    ) -> Result<Result<Target<'c, 'r>, ColdHead>, CommitError> {
        let ident = &change.change.ident;
        let namespace = namespaces::find::<CommitError>(txn, self.bucket.id, &ident.namespace)?;
        let Some(namespace) = namespace else {
            return Err(if change.creates {
                NoSuchNamespace {
                    namespace: ident.namespace.clone(),
                }
                .into()
            } else {
                NoSuchTable::named(ident).into()
            });
        };
        let table = match named::<CommitError>(txn, &namespace, &ident.name)? {
            Named::Table(table) if table.row.current.is_none() => {
                return Err(if change.creates {
                    RequirementFailed::TableExists.into()
                } else {
                    NoMetadata {
                        ident: ident.clone(),
                    }
                    .into()
                });
            }
            Named::Table(table) => match self.heads.get(table.id, table.commit) {
                Ok(head) => Some((table, head)),
                Err(cold) => return Ok(Err(cold)),
            },
            Named::Nothing if change.creates => None,
            Named::View if change.creates => {
                let (ident, occupant) = (ident.clone(), Occupant::View);
                return Err(TableExists { ident, occupant }.into());
            }
            Named::Nothing | Named::View => return Err(NoSuchTable::named(ident).into()),
        };
        Ok(Ok(Target {
            change,
            namespace,
            table,
        }))
    }

    /// The answer to a request that was applied before. It comes before any requirement: they fail
    /// because of what the request itself did.
    fn replay(
        &self,
        txn: &Txn<'_>,
        targets: &[Target<'_, '_>],
    ) -> Result<Option<Vec<CommittedTable>>, CommitError> {
        let Some(fingerprint) = &self.request.fingerprint else {
            return Ok(None);
        };
        let mut tables = Vec::with_capacity(targets.len());
        for target in targets {
            let Some((table, head)) = &target.table else {
                return Ok(None);
            };
            let snapshots = &target.change.snapshots;
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

    fn update(
        &self,
        txn: &mut Txn<'_>,
        target: &Target<'_, '_>,
        table: &StoredTable,
        head: &Arc<TableHead>,
    ) -> Result<CommittedTable, CommitError> {
        let change = target.change.change;
        let base = head.metadata();
        check(&change.requirements, Some(base))?;
        let context = ApplyContext {
            now_ms: txn.now().0,
            clock_ms: self.clock.0,
            previous: Some(previous(head)),
        };
        let goes_on = || self.goes_on().is_ok();
        let applied = base.apply_while(&change.updates, &context, &goes_on)?;
        if !applied.changed {
            let outcome = CommitOutcome::Unchanged;
            return Ok(CommittedTable {
                head: head.clone(),
                outcome,
            });
        }
        let metadata = &applied.metadata;
        check_paths(&self.bucket.name, change, metadata)?;
        let path = publish::path_of(&self.bucket.name, metadata)?;
        if metadata.location() != base.location() {
            move_to(txn, &self.bucket, table.id, &path)?;
        }
        self.record_seen(txn, table.id, Some(table), &applied);
        let content = content(&applied);
        let head = publish::advance(txn, self.cx, self.heads.cache, table, &path, &content)?;
        Ok(CommittedTable {
            head,
            outcome: CommitOutcome::Committed,
        })
    }

    /// Creates the table of a change with `assert-create`, in the location it was staged at if it was.
    fn create(
        &self,
        txn: &mut Txn<'_>,
        target: &Target<'_, '_>,
    ) -> Result<CommittedTable, CommitError> {
        let change = target.change.change;
        let bucket = &self.bucket;
        let (id, path) = birthplace(txn, bucket, target)?;
        let context = CreateContext {
            now_ms: txn.now().0,
            uuid: new_uuid(txn),
            location: location::uri(&bucket.name, path.as_str()).into(),
        };
        let goes_on = || self.goes_on().is_ok();
        let applied = TableMetadata::create_while(&change.updates, &context, &goes_on)?;
        location::check_properties(&bucket.name, &applied.metadata)?;
        self.record_seen(txn, id, None, &applied);
        let birth = Birth {
            bucket,
            namespace: &target.namespace,
            name: &change.ident.name,
            id,
            path: &path,
        };
        let head = publish::create(txn, self.cx, self.heads.cache, &birth, &content(&applied))?;
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

fn previous(head: &TableHead) -> MetadataLogEntry {
    MetadataLogEntry::new(head.metadata().last_updated_ms(), head.metadata_location())
}

/// Path properties can only have changed if properties or the location did.
fn check_paths(
    bucket: &BucketName,
    change: &TableChange,
    metadata: &TableMetadata,
) -> Result<(), CommitError> {
    let touches = |update: &TableUpdate| {
        matches!(
            update,
            TableUpdate::SetProperties { .. } | TableUpdate::SetLocation { .. }
        )
    };
    if change.updates.iter().any(touches) {
        location::check_properties(bucket, metadata)?;
    }
    Ok(())
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

fn content(applied: &Applied) -> Content<'_> {
    Content {
        metadata: &applied.metadata,
        parts: Parts::Changed(&applied.changes),
        external_key: None,
        seen: applied.added_snapshots.len() as u64,
    }
}

/// The id and location of a table to be created: those it was staged with, or new ones.
fn birthplace(
    txn: &mut Txn<'_>,
    bucket: &BucketInfo,
    target: &Target<'_, '_>,
) -> Result<(TableId, Path), CommitError> {
    let TableChange { ident, updates, .. } = target.change.change;
    let fresh = TableId::from_bytes(txn.new_id());
    let chosen = updates.iter().rev().find_map(|update| match update {
        TableUpdate::SetLocation { location } => Some(location),
        _ => None,
    });
    let path = match chosen {
        Some(location) => location::parse(&bucket.name, location)?,
        None => location::unique(&ident.namespace, &ident.name, fresh),
    };
    let namespace = &target.namespace;
    let id = settle::<CommitError>(txn, bucket, namespace, &ident.name, &path, fresh)?;
    Ok((id, path))
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
