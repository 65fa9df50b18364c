//! A backup is taken while a cluster serves, checked, and put into a new one.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use floeberg_backup::{Begun, ChunkUse, Page};
use floeberg_client::{Auth, Credentials, Endpoint, Request, Scope};
use floeberg_test_e2e::connect::{Clients, FILES, create_buckets};
use floeberg_test_e2e::fleet::{Fleet, LIMIT};
use floeberg_test_e2e::lake::{body, fill, go_on, keep_writing, look, look_at};
use floeberg_test_e2e::process::{Endpoints, Home, binary};
use futures::{StreamExt as _, TryStreamExt as _};
use http::Method;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};
use tokio::process::Command;
use tokio::sync::watch;

/// Between two looks at what another process does.
const POLL: Duration = Duration::from_millis(20);

/// How every volume of these tests is cut, so that a large object has several chunks.
const SEGMENTS: [&str; 2] = ["--segment-bytes", "67108864"];

/// `floeberg backup …` without any keys in the environment.
fn backup(words: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(binary()?);
    command
        .arg("backup")
        .args(words)
        .env_remove("FLOEBERG_CONFIG")
        .kill_on_drop(true);
    Ok(command)
}

/// The keys of a node, and those of another as an S3 service.
fn with_keys(command: &mut Command, node: &Endpoints, store: &Endpoints) {
    command
        .env("FLOEBERG_ROOT_ACCESS_KEY", &node.access_key)
        .env("FLOEBERG_ROOT_SECRET_KEY", &node.secret_key)
        .env("AWS_ACCESS_KEY_ID", &store.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &store.secret_key)
        .env("AWS_ENDPOINT_URL_S3", &store.s3_uri);
}

async fn run(words: &[&str]) -> anyhow::Result<Output> {
    Ok(backup(words)?.output().await?)
}

fn done_well(output: &Output) -> anyhow::Result<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text}");
    Ok(String::from_utf8(output.stdout.clone())?)
}

fn refused(output: &Output, why: &str) -> anyhow::Result<()> {
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "it was accepted");
    ensure!(text.contains(why), "`{why}` is not what it says: {text}");
    Ok(())
}

/// Some file below a directory of a backup.
fn a_file(dir: &Path) -> anyhow::Result<PathBuf> {
    let mut path = dir.to_owned();
    while path.is_dir() {
        let first = fs::read_dir(&path)?.next();
        path = first.context("it is empty")??.path();
    }
    Ok(path)
}

/// A copy that fails at its last step is no backup, and is made again at the same place.
async fn interrupted(fleet: &Fleet, at: &str, create: &[&str]) -> anyhow::Result<()> {
    // The list of files is written under this name first.
    let in_the_way = Path::new(at).join("files.new");
    fs::create_dir_all(&in_the_way)?;
    refused(&fleet.try_cli(create).await?, "files.list")?;
    ensure!(a_file(&Path::new(at).join("chunks")).is_ok());
    fs::remove_dir(&in_the_way)?;
    let half = run(&["verify", "--at", at]).await?;
    refused(&half, "no finished backup")?;
    fleet.cli(create).await?;
    refused(&fleet.try_cli(create).await?, "a backup already")
}

/// What is wrong with a backup is found, and such a backup is not restored.
async fn damage(at: &str, fresh: &str) -> anyhow::Result<()> {
    let restore = ["restore", "--at", at, "--data-dir", fresh];
    let chunk = a_file(&Path::new(at).join("chunks"))?;
    let whole = fs::read(&chunk)?;
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    fs::write(&chunk, flipped)?;
    refused(&run(&["verify", "--at", at]).await?, "another checksum")?;
    refused(&run(&restore).await?, "nothing was restored")?;
    fs::remove_file(&chunk)?;
    refused(&run(&["verify", "--at", at]).await?, "is missing")?;
    fs::write(&chunk, whole)?;

    let manifest = Path::new(at).join("backup.json");
    let text = fs::read_to_string(&manifest)?;
    fs::write(&manifest, text.replace("\"format\": 1", "\"format\": 2"))?;
    let newer = "its format is 2, this version knows 1";
    refused(&run(&["verify", "--at", at]).await?, newer)?;
    refused(&run(&restore).await?, newer)?;
    fs::write(&manifest, text)?;
    done_well(&run(&["verify", "--at", at]).await?)?;
    let elsewhere = [&restore[..], &["--region", "eu-west-1"]].concat();
    refused(&run(&elsewhere).await?, "us-east-1")
}

/// A restore that is killed in the middle leaves a node that does not start.
async fn cut_short(at: &str, restore: &[&str], home: &mut Home) -> anyhow::Result<()> {
    // A pipe gives the chunk once, when the backup is verified; whoever opens it again waits.
    let chunk = a_file(&Path::new(at).join("chunks"))?;
    let aside = Path::new(at).join("aside");
    fs::rename(&chunk, &aside)?;
    mknodat(CWD, &chunk, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let (pipe, whole) = (chunk.clone(), fs::read(&aside)?);
    let gives = std::thread::spawn(move || fs::write(pipe, whole));
    let mut child = backup(restore)?.spawn()?;
    let begin = Instant::now();
    let mark = home.data_dir().join("restoring");
    while !mark.exists() {
        ensure!(child.try_wait()?.is_none(), "it ended before it began");
        ensure!(begin.elapsed() < LIMIT, "it does not begin");
        tokio::time::sleep(POLL).await;
    }
    child.kill().await?;
    gives.join().expect("it does not panic")?;
    fs::rename(&aside, &chunk)?;
    ensure!(mark.exists(), "it was finished before it was killed");
    let ended = home.start_refused().await?;
    ensure!(ended.stderr.contains("partly restored"), "{}", ended.stderr);
    Ok(())
}

/// A node that joined a cluster is not one to restore into.
async fn joined(fleet: &Fleet, dir: &Path, at: &str) -> anyhow::Result<()> {
    let config = Fleet::prepare(&binary()?, dir)?.config(1)?;
    let status = fleet.status(1).await?;
    let peer = status["members"][0]["address"].as_str();
    let peer = peer.context("a member has an address")?;
    let token = fleet.ask(1, &["token"]).await?;
    let join = [
        "cluster",
        "join",
        "--config",
        &config,
        "--peer",
        peer,
        "--token",
        token.trim(),
    ];
    fleet.cli(&join).await?;
    let restore = ["backup", "restore", "--config", &config, "--at", at];
    refused(&fleet.try_cli(&restore).await?, "joins a cluster")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_backed_up_and_restored_into_a_new_node() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let fleet = Fleet::found(&binary()?, &dir.path().join("old"), 3).await?;
    create_buckets(&fleet.endpoints(1)?).await?;
    let clients = Clients::connect(&fleet.endpoints(1)?).await?;
    fill(&clients).await?;
    let before = look(&clients).await?;
    let (done_to, mut done) = watch::channel(0);
    let writing = tokio::spawn(keep_writing(clients, done_to));
    done.wait_for(|done| *done >= 2).await?;
    let at = dir.path().join("backup").display().to_string();
    let endpoint = fleet.endpoints(2)?.s3tables_uri;
    let create = ["backup", "create", "--at", &at, "--endpoint", &endpoint];
    let failed = Instant::now();
    let busy = *done.borrow();
    interrupted(&fleet, &at, &create).await?;
    ensure!(
        *done.borrow() > busy,
        "nobody wrote for {:?}",
        failed.elapsed()
    );
    drop(done);
    writing.await??;
    joined(&fleet, &dir.path().join("joined"), &at).await?;

    let mut home = Home::new(&binary()?, &dir.path().join("new"))?;
    let data = home.data_dir().display().to_string();
    damage(&at, &data).await?;
    let restore = [
        &["restore", "--at", &at, "--data-dir", &data][..],
        &SEGMENTS,
    ]
    .concat();
    cut_short(&at, &restore, &mut home).await?;
    done_well(&run(&restore).await?)?;
    refused(&run(&restore).await?, "has been used")?;

    let node = home.start().await?;
    let restored = Clients::connect(&node.endpoints).await?;
    ensure!(look(&restored).await? == before, "it is another lake");
    let (table, _) = look_at(&restored, "busy").await?;
    let last = table.last_sequence;
    ensure!(last >= busy, "{last} of {busy} commits are there");
    go_on(&restored, &before).await?;
    node.stop().await?;
    refused(&run(&restore).await?, "has been used")
}

/// Payload bytes in the chunks of a node.
async fn stored(fleet: &Fleet, node: u64) -> anyhow::Result<String> {
    let endpoint = Endpoint::new(&fleet.endpoints(node)?.s3tables_uri, Auth::None)?;
    let request = Request::new(Method::GET, "/metrics".into());
    let reply = endpoint.send(&request).await?;
    let text = String::from_utf8_lossy(&reply.body);
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let line = lines.find(|line| line.contains("volume_live_bytes"));
    let value = line.and_then(|line| line.split_whitespace().last());
    Ok(value.context("it does not say")?.to_owned())
}

/// Waits until the nodes have what node 1 has.
async fn copied(fleet: &Fleet, to: &[u64]) -> anyhow::Result<()> {
    let begin = Instant::now();
    for node in to {
        while stored(fleet, *node).await? != stored(fleet, 1).await? {
            ensure!(begin.elapsed() < LIMIT, "node {node} lacks copies");
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_in_a_bucket_is_restored_into_a_cluster() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut store = Home::new(&binary()?, &dir.path().join("store"))?;
    let store = store.start().await?;
    create_buckets(&store.endpoints).await?;
    let mut home = Home::new(&binary()?, &dir.path().join("old"))?;
    let node = home.start().await?;
    create_buckets(&node.endpoints).await?;
    let clients = Clients::connect(&node.endpoints).await?;
    fill(&clients).await?;
    let before = look(&clients).await?;
    let at = |place: &str, words: &[&str]| {
        let mut command = backup(words)?;
        with_keys(
            command.args(["--at", place]),
            &node.endpoints,
            &store.endpoints,
        );
        Ok::<_, anyhow::Error>(command)
    };
    let place = "s3://files/backups/one";
    let create = ["create", "--endpoint", &node.endpoints.s3tables_uri];
    let nowhere = at("s3://absent/one", &create)?.output().await?;
    refused(&nowhere, "NoSuchBucket")?;
    done_well(&at(place, &create)?.output().await?)?;
    refused(&at(place, &create)?.output().await?, "a backup already")?;
    let verified = at(place, &["verify", "--json"])?.output().await?;
    let verified: serde_json::Value = serde_json::from_str(&done_well(&verified)?)?;
    ensure!(verified["faults"] == serde_json::json!([]), "{verified}");

    let mut fleet = Fleet::prepare(&binary()?, &dir.path().join("new"))?;
    let config = fleet.config(1)?;
    let restore = ["restore", "--config", &config];
    let unfounded = at(place, &restore)?.output().await?;
    refused(&unfounded, "cluster init")?;
    fleet.cli(&["cluster", "init", "--config", &config]).await?;
    let data = fleet.data(1)?.display().to_string();
    let single = ["restore", "--data-dir", &data];
    let founded = at(place, &single)?.output().await?;
    refused(&founded, "has been used")?;
    done_well(&at(place, &restore)?.output().await?)?;
    node.stop().await?;
    store.stop().await?;
    fleet.start(1)?;
    fleet.ready(1).await?;
    for _ in 2..=3 {
        fleet.join(1).await?;
    }
    fleet.voters(1, &[1, 2, 3]).await?;
    copied(&fleet, &[2, 3]).await?;
    fleet.kill(1).await?;
    for through in [2, 3] {
        let restored = Clients::connect(&fleet.endpoints(through)?).await?;
        ensure!(look(&restored).await? == before, "node {through} differs");
    }
    go_on(&Clients::connect(&fleet.endpoints(3)?).await?, &before).await
}

/// The admin routes of a node.
struct Admin(Endpoint);

impl Admin {
    fn of(node: &Endpoints) -> anyhow::Result<Self> {
        let credentials = Credentials {
            access_key: node.access_key.clone(),
            secret_key: node.secret_key.clone(),
            session_token: None,
        };
        let scope = Scope {
            region: node.region.clone(),
            service: "s3tables".to_owned(),
        };
        let auth = Auth::sigv4(credentials, scope);
        Ok(Self(Endpoint::new(&node.s3tables_uri, auth)?))
    }

    async fn ask(&self, method: Method, path: String) -> anyhow::Result<Bytes> {
        let request = Request::new(method, format!("/admin/v1/backup{path}"));
        Ok(self.0.send(&request).await?.body)
    }

    async fn begin(&self) -> anyhow::Result<Begun> {
        let begun = self.ask(Method::POST, String::new()).await?;
        Ok(serde_json::from_slice(&begun)?)
    }
}

/// Reads the object index page by page: its chunks, and how many pages there were.
async fn read_index(admin: &Admin, backup: &str) -> anyhow::Result<(Vec<ChunkUse>, u64)> {
    let mut used = Vec::new();
    for number in 0.. {
        let path = format!("/pages/{backup}/1/{number}");
        let bytes = admin.ask(Method::GET, path.clone()).await?;
        // A page whose answer was lost can be had again.
        ensure!(admin.ask(Method::GET, path).await? == bytes);
        let page = Page::decode(bytes).map_err(anyhow::Error::msg)?;
        used.extend(page.rows.iter().flat_map(|row| &row.chunks).copied());
        if page.last {
            return Ok((used, number + 1));
        }
    }
    unreachable!("a page is the last one")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_after_the_beginning_is_in_the_backup() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut home = Home::new(&binary()?, dir.path())?;
    let node = home.start().await?;
    create_buckets(&node.endpoints).await?;
    let s3 = Clients::connect(&node.endpoints).await?.s3;
    // Rows for more pages than a backup that nobody reads keeps in memory.
    let puts = (0..400).map(|n| {
        let s3 = s3.clone();
        async move {
            s3.put_object(FILES, &format!("inline-{n}"), body(15_000))
                .await
        }
    });
    let puts = futures::stream::iter(puts).buffer_unordered(16);
    puts.try_for_each(|_| async { Ok(()) }).await?;
    for name in ["deleted", "replaced"] {
        s3.put_object(FILES, name, body(40_000)).await?;
    }
    let admin = Admin::of(&node.endpoints)?;
    let begun = admin.begin().await?;
    s3.delete_object(FILES, "deleted").await?;
    s3.put_object(FILES, "replaced", body(50_000)).await?;
    s3.put_object(FILES, "later", body(60_000)).await?;
    let (used, pages) = read_index(&admin, &begun.origin.backup).await?;
    ensure!(pages > 2, "{pages} pages");
    ensure!(used.len() == 2, "{used:?}");
    for used in used {
        let id: String = used
            .chunk
            .as_bytes()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let chunk = format!("/chunks/{id}/{}", used.len);
        ensure!(admin.ask(Method::GET, chunk).await? == body(40_000));
    }
    for wrong in ["1/9", "0/1", "7/0", "0/x"] {
        let path = format!("/pages/{}/{wrong}", begun.origin.backup);
        ensure!(admin.ask(Method::GET, path).await.is_err(), "{wrong}");
    }
    // A node stops even if nobody ever asks for rows that it reads.
    admin.begin().await?;
    node.stop().await
}
