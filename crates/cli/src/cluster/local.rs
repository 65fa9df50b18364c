//! `cluster init`, `join` and `recover`: on the data directory of this machine, its node stopped.

use super::{InitArguments, JoinArguments, RecoverArguments};
use crate::output::{print_done, print_json};
use anyhow::{Context as _, bail};
use floeberg_env::{Env, OpenMode};
use floeberg_members::{Applicant, FeatureLevels, Home, Identity, RecoveryOrder, found};
use floeberg_settings::Settings;
use serde_json::json;
use std::path::Path;

/// The data directory, which no running node may hold.
fn home(settings: &Settings, env: &Env) -> anyhow::Result<Home> {
    let dir = &settings.data.dir;
    let lock = dir.join("LOCK");
    if env.disk.exists(&lock) {
        let file = env.disk.open(&lock, OpenMode::Create);
        let file = file.with_context(|| format!("cannot open {}", lock.display()))?;
        if !file.lock_exclusive()? {
            bail!(
                "a node runs on {}: stop it first, or use another data.dir",
                dir.display()
            );
        }
    }
    let stores = vec![
        settings.data.log_dir.clone(),
        settings.data.volume_dir.clone(),
    ];
    Ok(Home::new(dir, env.disk.clone()).with_stores(stores))
}

fn report(json: bool, identity: Identity, done: &str, next: &str) -> anyhow::Result<()> {
    let Identity { cluster, node } = identity;
    if json {
        print_json(&json!({"cluster": cluster.to_string(), "node": node.0}))?;
    }
    print_done(
        json,
        &format!("{done} (cluster {cluster}, node {node})\n{next}"),
    )?;
    Ok(())
}

fn start_line(config: &Path) -> String {
    format!(
        "start it with: floeberg server --config {}",
        config.display()
    )
}

pub fn init(arguments: &InitArguments) -> anyhow::Result<()> {
    let settings = arguments.config.load()?;
    let env = Env::real();
    let home = home(&settings, &env)?;
    let identity = found(&home, &settings.peer.advertise, &env)?;
    let next = format!(
        "{}\nthen let the others join: floeberg cluster token",
        start_line(arguments.config.path())
    );
    report(arguments.json, identity, "the cluster is founded", &next)
}

pub async fn join(arguments: &JoinArguments) -> anyhow::Result<()> {
    let settings = arguments.config.load()?;
    let env = Env::real();
    let home = home(&settings, &env)?;
    let members = [&arguments.peers[..], &settings.peer.seeds].concat();
    let applicant = Applicant {
        home: &home,
        token: &arguments.token,
        members: &members,
        address: &settings.peer.advertise,
        labels: settings.labels.to_map(),
        features: FeatureLevels::OF_THIS_BINARY,
        version: env!("CARGO_PKG_VERSION"),
        account: settings.account.as_str(),
        region: settings.region.as_str(),
    };
    let identity = applicant.join(&env).await?;
    let next = start_line(arguments.config.path());
    report(arguments.json, identity, "this node has joined", &next)
}

pub fn recover(arguments: &RecoverArguments) -> anyhow::Result<()> {
    let settings = arguments.config.load()?;
    let env = Env::real();
    let home = home(&settings, &env)?;
    let identity = home.occupant()?;
    if !arguments.i_accept_losing_unreplicated_commits {
        bail!(
            "nothing was done. Node {node} would go on alone, and every commit that it never \
             received would be lost although clients were told that it is durable. If no majority \
             can be brought back, and this is the survivor with the newest log, say so with \
             --i-accept-losing-unreplicated-commits (and read --help first)",
            node = identity.node
        );
    }
    RecoveryOrder::write(&home, env.clock.now())?;
    let next = format!(
        "{}\nit goes on alone from what it has; every other node needs an empty data directory \
         and `floeberg cluster join`, and must never run again with its old data",
        start_line(arguments.config.path())
    );
    report(arguments.json, identity, "the recovery is ordered", &next)
}

#[cfg(test)]
mod tests {
    use crate::{Arguments, run};
    use clap::Parser as _;
    use std::path::Path;

    fn floeberg(config: &Path, words: &[&str]) -> anyhow::Result<()> {
        let config = config.to_str().unwrap();
        let head = ["floeberg", "cluster", words[0], "--config", config];
        let all = head.into_iter().chain(words[1..].iter().copied());
        run(Arguments::try_parse_from(all)?.command).map(|_| ())
    }

    fn config(dir: &Path) -> std::path::PathBuf {
        let file = dir.join("floeberg.toml");
        let text = format!(
            "[data]\ndir = \"{}\"\n[peer]\nlisten = \"127.0.0.1:7000\"\n[lakehouse]\n\
             listen = \"127.0.0.1:8181\"\n[s3]\nlisten = \"127.0.0.1:9000\"\n\
             [tls]\nplain = \"loopback\"\n",
            dir.join("data").display()
        );
        std::fs::write(&file, text).unwrap();
        file
    }

    #[test]
    fn a_cluster_is_founded_once_and_recovery_needs_consent() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let vacant = floeberg(&config, &["recover"]).unwrap_err();
        assert!(
            vacant.to_string().contains("belongs to no cluster yet"),
            "{vacant}"
        );
        floeberg(&config, &["init", "--json"]).unwrap();
        let again = floeberg(&config, &["init"]).unwrap_err();
        assert!(again.to_string().contains("belongs to node 1"), "{again}");
        let order = dir.path().join("data/recover.json");
        let refused = floeberg(&config, &["recover"]).unwrap_err();
        assert!(
            refused.to_string().contains("nothing was done"),
            "{refused}"
        );
        assert!(!order.exists());
        let consent = "--i-accept-losing-unreplicated-commits";
        floeberg(&config, &["recover", consent]).unwrap();
        assert!(order.exists());
        let token = floeberg(&config, &["join", "--token", "x"]).unwrap_err();
        assert!(token.to_string().contains("belongs to node 1"), "{token}");
    }

    #[test]
    fn a_directory_with_the_log_of_another_node_is_no_place_for_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        floeberg(&config, &["init"]).unwrap();
        let data = dir.path().join("data");
        std::fs::remove_file(data.join("identity.json")).unwrap();
        std::fs::create_dir_all(data.join("raft/db")).unwrap();
        for words in [&["init"][..], &["join", "--token", "x"]] {
            let refused = floeberg(&config, words).unwrap_err().to_string();
            assert!(refused.contains("is not empty"), "{refused}");
        }
        std::fs::remove_dir_all(data.join("raft")).unwrap();
        floeberg(&config, &["init"]).unwrap();
    }

    #[test]
    fn a_running_node_keeps_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        floeberg(&config, &["init"]).unwrap();
        let env = floeberg_env::Env::real();
        let lock = dir.path().join("data/LOCK");
        let file = env
            .disk
            .open(&lock, floeberg_env::OpenMode::Create)
            .unwrap();
        assert!(file.lock_exclusive().unwrap());
        let consent = "--i-accept-losing-unreplicated-commits";
        let refused = floeberg(&config, &["recover", consent]).unwrap_err();
        assert!(refused.to_string().contains("stop it first"), "{refused}");
    }
}
