//! Sends the large requests through one node, each one byte or one table larger before.

use super::documents;
use super::ground::{Crowd, NAMESPACE, PARALLEL, Registrable, Written};
use super::report::{Fate, Large, millis};
use crate::connect::Clients;
use crate::table::Observed;
use crate::world::create_table;
use anyhow::{Context as _, bail, ensure};
use floeberg_client::{ClientError, Reply};
use floeberg_types::limits;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use std::time::Duration;
use tokio::time::Instant;

/// Tables between two that are looked at after a refusal.
const LOOKED_AT: usize = 100;

/// When each large request was sent and answered.
pub(super) struct Journal {
    pub(super) began: Instant,
    pub(super) requests: Vec<Large>,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            requests: Vec::new(),
        }
    }

    /// The moments at which a request was sent and answered.
    pub(super) fn span(&self, large: &Large) -> (Instant, Instant) {
        let from = self.began + Duration::from_secs_f64(large.at_s);
        (from, from + Duration::from_secs_f64(large.took_ms / 1000.0))
    }
}

/// How a request that is too large is refused.
struct Refusal {
    status: u16,
    code: &'static str,
    /// The limit, and how much there was instead, if that is said.
    limit: usize,
    found: Option<usize>,
}

/// Sends through one node.
pub(super) struct Sender {
    /// `leader` or `follower`.
    pub(super) through: &'static str,
    pub(super) clients: Clients,
}

/// What was accepted so far.
#[derive(Default)]
pub(super) struct Accepted {
    /// Tables with a large commit.
    pub(super) commits: Vec<String>,
    /// Registered files, the first so many.
    pub(super) files: usize,
    /// Transactions; their snapshots are numbered like them.
    pub(super) transactions: i64,
}

impl Sender {
    async fn accepted(
        &self,
        journal: &mut Journal,
        kind: &'static str,
        request: impl Future<Output = Result<Reply, ClientError>>,
    ) -> anyhow::Result<()> {
        let answer = self.timed(journal, kind, Fate::Accepted, request).await;
        answer.with_context(|| format!("the largest {kind} through the {}", self.through))?;
        Ok(())
    }

    async fn refused(
        &self,
        journal: &mut Journal,
        kind: &'static str,
        wanted: &Refusal,
        request: impl Future<Output = Result<Reply, ClientError>>,
    ) -> anyhow::Result<()> {
        let answer = self.timed(journal, kind, Fate::Refused, request).await;
        let error =
            refusal(answer).with_context(|| format!("a {kind} through the {}", self.through))?;
        let Refusal {
            status,
            code,
            limit,
            found,
        } = wanted;
        let names = |number: &usize| error.message.contains(&number.to_string());
        ensure!(
            error.status.as_u16() == *status
                && error.code == *code
                && names(limit)
                && found.is_none_or(|found| names(&found)),
            "a {kind} above the limit of {limit} through the {}: {error}",
            self.through
        );
        Ok(())
    }

    async fn timed(
        &self,
        journal: &mut Journal,
        kind: &'static str,
        fate: Fate,
        request: impl Future<Output = Result<Reply, ClientError>>,
    ) -> Result<Reply, ClientError> {
        let sent = Instant::now();
        let answer = request.await;
        journal.requests.push(Large {
            kind,
            through: self.through,
            fate,
            at_s: (sent - journal.began).as_secs_f64(),
            took_ms: millis(sent.elapsed()),
        });
        answer
    }

    /// The largest commit to a table of its own, after one of a byte more.
    pub(super) async fn commit(
        &self,
        journal: &mut Journal,
        accepted: &mut Accepted,
    ) -> anyhow::Result<()> {
        // Names of one length, so that every table's rows are as long as the others'.
        let table = format!("commit_{:03}", accepted.commits.len());
        create_table(&self.clients, NAMESPACE, &table).await?;
        let before = self.seen(&table).await?;
        let iceberg = &self.clients.iceberg;
        let send = |bytes| {
            let body = documents::commit(bytes);
            iceberg.update_table(&[NAMESPACE], &table, body)
        };
        let wanted = Refusal {
            status: 413,
            code: "BadRequestException",
            limit: limits::REQUEST_BODY_BYTES,
            found: None,
        };
        let sent = send(limits::REQUEST_BODY_BYTES + 1);
        self.refused(journal, "commit", &wanted, sent).await?;
        ensure!(
            self.seen(&table).await? == before,
            "a refusal changed {table}"
        );
        let sent = send(limits::REQUEST_BODY_BYTES);
        self.accepted(journal, "commit", sent).await?;
        accepted.commits.push(table);
        Ok(())
    }

    /// The largest metadata file becomes a table, after one of a byte more did not.
    pub(super) async fn register(
        &self,
        written: &Written,
        journal: &mut Journal,
        accepted: &mut Accepted,
    ) -> anyhow::Result<()> {
        let file = written.largest.get(accepted.files);
        let Registrable { table, uri, .. } = file.context("too few files")?;
        let iceberg = &self.clients.iceberg;
        let wanted = Refusal {
            status: 400,
            code: "BadRequestException",
            limit: limits::METADATA_FILE_BYTES,
            found: Some(limits::METADATA_FILE_BYTES + 1),
        };
        let sent = iceberg.register_table(&[NAMESPACE], table, &written.longer);
        self.refused(journal, "register", &wanted, sent).await?;
        let exists = iceberg.table_exists(&[NAMESPACE], table).await?;
        ensure!(!exists, "a refusal made {table}");
        let sent = iceberg.register_table(&[NAMESPACE], table, uri);
        self.accepted(journal, "register", sent).await?;
        accepted.files += 1;
        Ok(())
    }

    /// Appends to as many tables at once as may be, after one more was refused.
    pub(super) async fn transaction(
        &self,
        crowd: &[Crowd],
        journal: &mut Journal,
        accepted: &mut Accepted,
    ) -> anyhow::Result<()> {
        let number = accepted.transactions + 1;
        let iceberg = &self.clients.iceberg;
        let wanted = Refusal {
            status: 400,
            code: "BadRequestException",
            limit: limits::TRANSACTION_TABLES,
            found: Some(limits::TRANSACTION_TABLES + 1),
        };
        let body = documents::transaction(NAMESPACE, crowd, number);
        let sent = iceberg.commit_transaction(body);
        self.refused(journal, "transaction", &wanted, sent).await?;
        let (tables, one_more) = crowd.split_at(limits::TRANSACTION_TABLES);
        let some = tables.iter().step_by(LOOKED_AT);
        check_heads(&self.clients, some, accepted.transactions).await?;
        check_heads(&self.clients, one_more.iter(), 0).await?;
        let body = documents::transaction(NAMESPACE, tables, number);
        let sent = iceberg.commit_transaction(body);
        self.accepted(journal, "transaction", sent).await?;
        accepted.transactions = number;
        Ok(())
    }

    async fn seen(&self, table: &str) -> anyhow::Result<Observed> {
        let loaded = self.clients.iceberg.load_table(&[NAMESPACE], table);
        Observed::of(&loaded.await?)
    }
}

fn refusal(answer: Result<Reply, ClientError>) -> anyhow::Result<floeberg_client::ServiceError> {
    match answer {
        Err(ClientError::Service(error)) => Ok(error),
        Err(error) => Err(error).context("no answer to what is too large"),
        Ok(_) => bail!("what is too large was accepted"),
    }
}

/// Every one of the tables has exactly so many snapshots.
pub(super) async fn check_heads(
    through: &Clients,
    tables: impl Iterator<Item = &Crowd>,
    snapshots: i64,
) -> anyhow::Result<()> {
    let looks = stream::iter(tables).map(|table| async move {
        let loaded = through.iceberg.load_table(&[NAMESPACE], &table.name);
        let seen = Observed::of(&loaded.await?)?;
        let ids: Vec<i64> = seen.snapshots.iter().map(|snapshot| snapshot.id).collect();
        let all: Vec<i64> = (1..=snapshots).collect();
        ensure!(
            ids == all,
            "{} has snapshots {ids:?}, not {snapshots}",
            table.name
        );
        Ok(())
    });
    looks.buffer_unordered(PARALLEL).try_collect().await
}

/// Everything that was accepted is there, and nothing else, seen by somebody.
pub(super) async fn check(
    through: &Clients,
    accepted: &Accepted,
    crowd: &[Crowd],
    written: &Written,
) -> anyhow::Result<()> {
    let (in_all, one_more) = crowd.split_at(limits::TRANSACTION_TABLES);
    check_heads(through, in_all.iter(), accepted.transactions).await?;
    check_heads(through, one_more.iter(), 0).await?;
    for table in &accepted.commits {
        let loaded = through.iceberg.load_table(&[NAMESPACE], table).await?;
        let properties = loaded.metadata["properties"].as_object();
        let values = properties.into_iter().flatten();
        let values = values.filter(|(name, _)| name.starts_with("filler-"));
        let bytes: usize = values.filter_map(|(_, v)| v.as_str()).map(str::len).sum();
        let missing = limits::REQUEST_BODY_BYTES - bytes;
        ensure!(
            missing < 64 << 10,
            "{table} has {bytes} bytes of properties"
        );
    }
    for file in &written.largest[..accepted.files] {
        let Registrable {
            table, location, ..
        } = file;
        let loaded = through.iceberg.load_table(&[NAMESPACE], table).await?;
        let seen = Observed::of(&loaded)?;
        ensure!(
            seen.location == *location,
            "{table} is at {}",
            seen.location
        );
        let ids = seen.snapshots.iter().map(|snapshot| snapshot.id);
        ensure!(ids.eq(1..=documents::SNAPSHOTS), "{table} lacks snapshots");
        let bytes = loaded.metadata.to_string().len();
        let missing = limits::METADATA_FILE_BYTES.abs_diff(bytes);
        ensure!(missing < 64 << 10, "{table} has {bytes} bytes");
    }
    Ok(())
}
