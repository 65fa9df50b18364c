//! A commit whose reply is lost is applied once: sent again verbatim, it is answered with success
//! and changes nothing.

use anyhow::{Context as _, ensure};
use floeberg_client::{AppendCommit, IcebergClient, transaction_body};
use floeberg_test_e2e::connect::{Clients, catalog, create_buckets};
use floeberg_test_e2e::process::{Home, binary};
use floeberg_test_e2e::proxy::{Fault, Proxy};
use floeberg_test_e2e::table::Observed;
use floeberg_test_e2e::world::{append, create_table, manifest_list};
use http::StatusCode;

const SPACE: &str = "n";
const FAULTS: [Fault; 5] = [
    Fault::Cut,
    Fault::Status(StatusCode::INTERNAL_SERVER_ERROR),
    Fault::Status(StatusCode::BAD_GATEWAY),
    Fault::Status(StatusCode::SERVICE_UNAVAILABLE),
    Fault::Status(StatusCode::GATEWAY_TIMEOUT),
];

/// Which call is tried.
#[derive(Clone, Copy, Debug)]
enum Call {
    UpdateTable,
    CommitTransaction,
}

struct Lab {
    direct: IcebergClient,
    through: IcebergClient,
    proxy: Proxy,
}

impl Lab {
    async fn observe(&self, table: &str) -> anyhow::Result<Observed> {
        Observed::of(&self.direct.load_table(&[SPACE], table).await?)
    }

    async fn send(
        &self,
        client: &IcebergClient,
        call: Call,
        body: &str,
    ) -> Result<(), floeberg_client::ClientError> {
        let body = body.to_owned();
        let sent = match call {
            Call::UpdateTable => client.update_table(&[SPACE], "a", body).await,
            Call::CommitTransaction => client.commit_transaction(body).await,
        };
        sent.map(|_| ())
    }

    /// An append of `snapshot` to each table that the call covers.
    fn body(call: Call, tables: &[(&str, &Observed)], snapshot: i64) -> String {
        let lists: Vec<String> = tables
            .iter()
            .map(|(_, t)| manifest_list(&t.location, snapshot))
            .collect();
        let changes: Vec<(&str, AppendCommit<'_>)> = tables
            .iter()
            .zip(&lists)
            .map(|((name, t), list)| (*name, append(t.head, snapshot, t.last_sequence + 1, list)))
            .collect();
        match call {
            Call::UpdateTable => changes[0].1.render(),
            Call::CommitTransaction => transaction_body(&[SPACE], &changes),
        }
    }
}

#[tokio::test]
async fn a_commit_whose_reply_is_lost_is_there_exactly_once() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut home = Home::new(&binary()?, dir.path())?;
    let node = home.start().await?;
    create_buckets(&node.endpoints).await?;
    let clients = Clients::connect(&node.endpoints).await?;
    clients.iceberg.create_namespace(&[SPACE]).await?;
    for table in ["a", "b"] {
        create_table(&clients, SPACE, table).await?;
    }
    let upstream = node
        .endpoints
        .s3tables_uri
        .strip_prefix("http://")
        .context("plain HTTP")?;
    let proxy = Proxy::start(upstream).await?;
    let through = catalog(
        &node.endpoints,
        &format!("http://{}/iceberg", proxy.address()),
    )
    .await?;
    let lab = Lab {
        direct: clients.iceberg.clone(),
        through,
        proxy,
    };
    let mut snapshot = 0;
    for call in [Call::UpdateTable, Call::CommitTransaction] {
        for fault in FAULTS {
            snapshot += 10;
            lose(&lab, call, fault, snapshot)
                .await
                .with_context(|| format!("{call:?}, {fault:?}"))?;
        }
    }
    node.stop().await
}

/// Loses the reply to one commit, sends it again alone, twice at once, and after a later commit.
async fn lose(lab: &Lab, call: Call, fault: Fault, snapshot: i64) -> anyhow::Result<()> {
    let (a, b) = (lab.observe("a").await?, lab.observe("b").await?);
    let tables: &[(&str, &Observed)] = match call {
        Call::UpdateTable => &[("a", &a)],
        Call::CommitTransaction => &[("a", &a), ("b", &b)],
    };
    let body = Lab::body(call, tables, snapshot);
    lab.proxy.lose_next(fault);
    let lost = lab.send(&lab.through, call, &body).await;
    let seen = lost.expect_err("the reply was withheld").status();
    let expected = match fault {
        Fault::Cut => None,
        Fault::Status(status) => Some(status),
    };
    ensure!(seen == expected, "the client saw {seen:?}");
    let answered = lab.proxy.take_lost();
    ensure!(
        matches!(answered[..], [status] if status.is_success()),
        "{answered:?}"
    );
    let applied = (lab.observe("a").await?, lab.observe("b").await?);
    let count = |t: &Observed| t.snapshots.iter().filter(|s| s.id == snapshot).count();
    ensure!(count(&applied.0) == 1, "the commit got through");
    lab.send(&lab.through, call, &body)
        .await
        .context("sent again")?;
    let (first, second) = futures::join!(
        lab.send(&lab.direct, call, &body),
        lab.send(&lab.through, call, &body)
    );
    first.context("sent again twice at once")?;
    second.context("sent again twice at once")?;
    let repeated = (lab.observe("a").await?, lab.observe("b").await?);
    ensure!(repeated == applied, "sending again changed something");
    let later = Lab::body(Call::UpdateTable, &[("a", &applied.0)], snapshot + 1);
    lab.send(&lab.direct, Call::UpdateTable, &later)
        .await
        .context("a later commit")?;
    let grown = lab.observe("a").await?;
    lab.send(&lab.through, call, &body)
        .await
        .context("sent again after a later commit")?;
    ensure!(
        lab.observe("a").await? == grown,
        "sending again changed something"
    );
    ensure!(
        grown.snapshots.len() == a.snapshots.len() + 2,
        "each commit once"
    );
    // The same snapshot id with other contents is another commit, and no replay.
    let same = Lab::body(Call::UpdateTable, &[("a", &a)], snapshot);
    let forged = same.replace("\"append\"", "\"overwrite\"");
    let refused = lab.send(&lab.direct, Call::UpdateTable, &forged).await;
    let status = refused
        .expect_err("another commit with a used snapshot id")
        .status();
    ensure!(status == Some(StatusCode::CONFLICT), "{status:?}");
    Ok(())
}
