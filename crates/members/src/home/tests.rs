//! What a data directory keeps, loses in a crash, and refuses.

use super::*;
use floeberg_env::{Env, UnsyncedData};

const ME: Identity = Identity {
    cluster: ClusterId::from_bytes([0xc1; 16]),
    node: NodeId(3),
};

fn home(env: &Env) -> Home {
    Home::new(Path::new("/data"), env.disk.clone())
}

#[test]
fn a_directory_is_taken_once_and_for_ever() {
    let (env, _) = Env::simulated(1);
    let home = home(&env);
    assert!(matches!(home.occupant(), Err(HomeError::Vacant { .. })));
    home.take(ME).unwrap();
    assert_eq!(home.occupant().unwrap(), ME);
    let other = Identity {
        node: NodeId(4),
        ..ME
    };
    let error = home.take(other).unwrap_err();
    assert!(error.to_string().contains("belongs to node 3"), "{error}");
    assert_eq!(home.identity().unwrap(), Some(ME));
}

#[test]
fn only_what_a_join_leaves_may_be_there_before() {
    let (env, _) = Env::simulated(1);
    let stores = vec!["/fast/log".into(), "/data/volume".into()];
    let home = home(&env).with_stores(stores);
    let make = |dir: &str| env.disk.create_dir_all(Path::new(dir)).unwrap();
    home.empty().unwrap();
    for dir in ["/data/pki", "/data/lost+found", "/data/volume/lost+found"] {
        make(dir);
        home.empty().unwrap();
    }
    make("/fast/log");
    home.write("identity.draft", b"half").unwrap();
    home.empty().unwrap();
    for dir in ["/data/raft", "/fast/log/db", "/data/volume/segments"] {
        make(dir);
        let error = home.empty().unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
        env.disk.remove_dir_all(Path::new(dir)).unwrap();
    }
    home.take(ME).unwrap();
    assert!(matches!(home.empty(), Err(HomeError::Taken { .. })));
}

#[test]
fn damage_and_later_formats_are_told_apart() {
    let (env, _) = Env::simulated(1);
    let home = home(&env);
    let id = ME.cluster;
    for (text, expected) in [
        ("{}".to_owned(), "expected JSON"),
        (
            format!(r#"{{"format":2,"cluster_id":"{id}","node_id":1}}"#),
            "newer",
        ),
        (
            format!(r#"{{"format":1,"cluster_id":"{id}","node_id":0}}"#),
            "node id 0",
        ),
        (
            r#"{"format":1,"cluster_id":"x","node_id":1}"#.to_owned(),
            "cluster id",
        ),
    ] {
        home.write(FILE, text.as_bytes()).unwrap();
        let error = home.identity().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn directories_of_single_nodes_and_of_members_are_told_apart() {
    let (env, _) = Env::simulated(1);
    let home = home(&env);
    assert_eq!(home.single().unwrap(), None);
    home.take(ME).unwrap();
    assert_eq!(home.single().unwrap(), Some(ME));
    assert!(matches!(home.member(), Err(HomeError::Single { .. })));
    env.disk.create_dir_all(Path::new("/data/pki")).unwrap();
    assert_eq!(home.member().unwrap(), ME);
    assert!(matches!(home.single(), Err(HomeError::Member { .. })));
}

#[test]
fn starts_are_counted_across_crashes() {
    let (env, control) = Env::simulated(1);
    let home = home(&env);
    env.disk.create_dir_all(Path::new("/data")).unwrap();
    env.disk.sync_dir(Path::new("/")).unwrap();
    let next = || home.next_start(env.rng.as_ref());
    let count = || {
        let start = next()?;
        home.keep_start(start)?;
        Ok::<_, HomeError>(start.number >> 32)
    };
    assert_eq!(next().unwrap().number >> 32, 1);
    assert_eq!(count().unwrap(), 1, "one that was not kept does not count");
    control.crash_disk(UnsyncedData::Lost);
    assert_eq!(count().unwrap(), 2);
    home.write(STARTS, b"many").unwrap();
    assert!(count().is_err());
}

#[test]
fn a_crash_leaves_nobody_or_the_whole_identity() {
    let (env, control) = Env::simulated(1);
    let home = home(&env);
    env.disk.create_dir_all(Path::new("/data")).unwrap();
    env.disk.sync_dir(Path::new("/")).unwrap();
    home.take(ME).unwrap();
    control.crash_disk(UnsyncedData::Lost);
    assert_eq!(home.identity().unwrap(), Some(ME));
}
