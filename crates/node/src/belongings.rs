//! Whether the directories of a node are the ones it had when it last ran.
//!
//! Log, rows and volume may be on disks of their own. A disk that is not mounted, was replaced or was
//! emptied looks like a new one, and a node that went on with it would have forgotten its votes and
//! what it has acknowledged: it would no longer be the node that the others count on. So each
//! directory gets a mark at the first start, and a node that misses one does not start.
//!
//! A node by itself also keeps its account and region, which are in every ARN it has given out; members of a
//! cluster agree on theirs in its rows.

use crate::{ClusterPart, NodeConfig, StartError, marks};
use floeberg_env::Env;
use floeberg_members::Identity;

/// The mark in each directory.
const MARK: &str = "floeberg-owner";

/// In the data directory: the marks are made.
const MARKED: &str = "marked";

/// In the data directory of a node by itself: account and region, a space between them.
const NAMES: &str = "names";

/// Fails if a directory is not the node's own; makes the marks at the first start. Blocks.
pub(crate) fn check(config: &NodeConfig, identity: Identity, env: &Env) -> Result<(), StartError> {
    check_names(config, env)?;
    let mark = format!("{} {}\n", identity.cluster, identity.node.0);
    let dirs = [config.log_dir(), config.state_dir(), config.volume_dir()];
    if are_marked(config, env)? {
        for dir in dirs {
            if marks::read(&dir.join(MARK), env)?.as_deref() != Some(mark.as_str()) {
                let path = dir;
                return Err(StartError::Lost { path });
            }
        }
        return Ok(());
    }
    for dir in dirs {
        marks::write(&dir, MARK, &mark, env)?;
    }
    // Last: a crash before it is a first start again.
    marks::write(config.data_dir(), MARKED, &mark, env)
}

fn check_names(config: &NodeConfig, env: &Env) -> Result<(), StartError> {
    if !matches!(config.cluster, ClusterPart::Single) {
        return Ok(());
    }
    let names = format!("{} {}\n", config.account, config.region);
    match marks::read(&config.data_dir().join(NAMES), env)? {
        None => marks::write(config.data_dir(), NAMES, &names, env),
        Some(before) if before == names => Ok(()),
        Some(before) => Err(StartError::Renamed {
            before: before.trim().to_owned(),
            now: names.trim().to_owned(),
        }),
    }
}

/// Whether the node has ever started. Blocks.
pub(crate) fn are_marked(config: &NodeConfig, env: &Env) -> Result<bool, StartError> {
    let marked = marks::read(&config.data_dir().join(MARKED), env)?;
    Ok(marked.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientLimits, ClusterPart, RootKey};
    use floeberg_types::{ClusterId, NodeId};

    const ME: Identity = Identity {
        cluster: ClusterId::from_bytes([0xc1; 16]),
        node: NodeId(2),
    };

    fn config() -> NodeConfig {
        NodeConfig {
            data_dir: "/data".into(),
            account: "000000000000".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            root_key: RootKey::new("AKIAFLOEBERGTEST0001", "a secret long enough").unwrap(),
            s3_endpoint: "http://127.0.0.1:9000".to_owned(),
            lakehouse_endpoint: "http://127.0.0.1:8181".to_owned(),
            s3_domain: None,
            segment_bytes: 64 << 20,
            limits: ClientLimits::default(),
            cluster: ClusterPart::Single,
        }
    }

    #[test]
    fn a_directory_that_is_lost_or_another_nodes_is_noticed() {
        let (env, _) = Env::simulated(1);
        let config = config();
        check(&config, ME, &env).unwrap();
        check(&config, ME, &env).unwrap();
        for dir in [config.log_dir(), config.state_dir(), config.volume_dir()] {
            let (mark, aside) = (dir.join(MARK), dir.join("aside"));
            env.disk.rename(&mark, &aside).unwrap();
            let error = check(&config, ME, &env).unwrap_err().to_string();
            assert!(error.contains(dir.to_str().unwrap()), "{error}");
            assert!(error.contains("cluster join"), "{error}");
            env.disk.rename(&aside, &mark).unwrap();
            check(&config, ME, &env).unwrap();
        }
        let node = NodeId(3);
        let other = Identity { node, ..ME };
        assert!(check(&config, other, &env).is_err());
    }

    #[test]
    fn a_node_by_itself_keeps_its_account_and_region() {
        let (env, _) = Env::simulated(1);
        let config = config();
        check(&config, ME, &env).unwrap();
        let elsewhere = NodeConfig {
            region: "eu-west-1".parse().unwrap(),
            ..config.clone()
        };
        let error = check(&elsewhere, ME, &env).unwrap_err().to_string();
        assert!(error.contains("`000000000000 us-east-1`"), "{error}");
        check(&config, ME, &env).unwrap();
    }

    #[test]
    fn a_crash_at_the_first_start_is_a_first_start_again() {
        let (env, _) = Env::simulated(1);
        let config = config();
        marks::write(&config.log_dir(), MARK, "half a first start\n", &env).unwrap();
        check(&config, ME, &env).unwrap();
        check(&config, ME, &env).unwrap();
    }
}
