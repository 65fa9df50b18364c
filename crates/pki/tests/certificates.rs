//! Authorities, credentials and bundles: made, kept, renewed, refused.
#![allow(clippy::unwrap_used)] // a test; the lint spares only code inside `#[test]`

use floeberg_env::{Env, OpenMode, SimClock, UnsyncedData};
use floeberg_pki::{
    Authority, Credentials, Fingerprint, NODE_LIFETIME, NodeKey, NodeTls, PkiError, Subject,
    TrustBundle, peer_identity,
};
use floeberg_types::{ClusterId, NodeId};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const CLUSTER: ClusterId = ClusterId::from_bytes([0xc1; 16]);
const DAY_MS: i64 = 24 * 3600 * 1000;

fn subject(node: u64) -> Subject {
    Subject {
        cluster: CLUSTER,
        node: NodeId(node),
        names: vec!["node-7.example".into(), "10.0.0.7".into(), "::1".into()],
    }
}

fn make(authority: &Authority, node: u64, env: &Env) -> Credentials {
    let key = NodeKey::generate().unwrap();
    let request = key.request().unwrap();
    let chain = authority.sign(&request, &subject(node), NODE_LIFETIME, env);
    Credentials::new(key, chain.unwrap()).unwrap()
}

fn reason(error: &PkiError) -> String {
    error.to_string()
}

#[test]
fn a_certificate_names_its_node_and_is_renewed_in_time() {
    let (env, _) = Env::simulated(1);
    let authority = Authority::create(CLUSTER, &env).unwrap();
    let key = NodeKey::generate().unwrap();
    let request = key.request().unwrap();
    let chain = authority
        .sign(&request, &subject(7), NODE_LIFETIME, &env)
        .unwrap();
    assert_eq!(peer_identity(&chain[0]).unwrap(), (CLUSTER, NodeId(7)));
    assert!(peer_identity(&chain[1]).is_err(), "an authority is no node");
    let credentials = Credentials::new(key, chain).unwrap();
    assert_eq!(credentials.identity(), (CLUSTER, NodeId(7)));
    let days = |at: floeberg_types::TimestampMs| at.since_ms(env.clock.now()) / DAY_MS;
    assert!((89..=90).contains(&days(credentials.expires())));
    assert!((59..=60).contains(&days(credentials.renew_at())));
}

#[test]
fn the_authority_decides_who_a_request_is_for() {
    let (env, _) = Env::simulated(1);
    let authority = Authority::create(CLUSTER, &env).unwrap();
    let request = NodeKey::generate().unwrap().request().unwrap();
    let sign =
        |request: &[u8], subject: &Subject| authority.sign(request, subject, NODE_LIFETIME, &env);
    assert!(sign(&request, &subject(7)).is_ok());
    assert!(sign(&request, &subject(0)).is_err(), "nobody has id 0");
    let mut unprintable = subject(7);
    unprintable.names.push("knötchen".into());
    let refused = sign(&request, &unprintable).unwrap_err();
    assert!(reason(&refused).contains("knötchen"), "{refused}");
    for at in 0..request.len() {
        let mut damaged = request.clone();
        damaged[at] ^= 1;
        assert!(sign(&damaged, &subject(7)).is_err(), "byte {at}");
    }
    assert!(sign(b"", &subject(7)).is_err());
}

#[test]
fn no_certificate_outlives_its_authority() {
    let (mut env, _) = Env::simulated(1);
    let clock = Arc::new(SimClock::start());
    env.clock = clock.clone();
    let authority = Authority::create(CLUSTER, &env).unwrap();
    clock.jump(3640 * DAY_MS);
    let late = make(&authority, 7, &env);
    assert_eq!(late.expires().since_ms(env.clock.now()) / DAY_MS, 10);
}

#[test]
fn key_and_certificate_must_belong_together() {
    let (env, _) = Env::simulated(1);
    let authority = Authority::create(CLUSTER, &env).unwrap();
    let request = NodeKey::generate().unwrap().request().unwrap();
    let chain = authority
        .sign(&request, &subject(7), NODE_LIFETIME, &env)
        .unwrap();
    let other = NodeKey::generate().unwrap();
    assert!(Credentials::new(other, chain).is_err());
    let none = Credentials::new(NodeKey::generate().unwrap(), Vec::new());
    assert!(none.is_err());
}

#[test]
fn everything_survives_a_crash_once_it_is_saved() {
    let (env, control) = Env::simulated(1);
    let dir = Path::new("/data/pki");
    env.disk.create_dir_all(Path::new("/data")).unwrap();
    env.disk.sync_dir(Path::new("/")).unwrap();
    let disk = env.disk.as_ref();
    assert!(Credentials::load(disk, dir).unwrap().is_none());
    let authority = Authority::create(CLUSTER, &env).unwrap();
    let trust = TrustBundle::new(authority.certificate()).unwrap();
    let credentials = make(&authority, 7, &env);
    authority.save(disk, dir).unwrap();
    trust.save(disk, dir).unwrap();
    credentials.save(disk, dir).unwrap();
    control.crash_disk(UnsyncedData::Lost);
    let back = Authority::load(disk, dir).unwrap().unwrap();
    assert_eq!(back.certificate(), authority.certificate());
    assert_eq!(TrustBundle::load(disk, dir).unwrap().unwrap(), trust);
    let kept = Credentials::load(disk, dir).unwrap().unwrap();
    assert_eq!(kept.expires(), credentials.expires());
    // What the loaded authority signs is believed by those who trust the first.
    let renewed = make(&back, 7, &env);
    renewed.save(disk, dir).unwrap();
    NodeTls::new(&renewed, &trust, env.clock.clone()).unwrap();
}

#[test]
fn damaged_files_are_told_from_absent_ones() {
    let (env, _) = Env::simulated(1);
    let dir = Path::new("/pki");
    let disk = env.disk.as_ref();
    let authority = Authority::create(CLUSTER, &env).unwrap();
    authority.save(disk, dir).unwrap();
    let text = authority.to_secret_pem();
    let other = Authority::create(CLUSTER, &env).unwrap().to_secret_pem();
    let (key, _) = text.split_once("-----BEGIN CERTIFICATE").unwrap();
    let (_, certificate) = other.split_once("-----BEGIN CERTIFICATE").unwrap();
    let mixed = format!("{key}-----BEGIN CERTIFICATE{certificate}");
    let refused = Authority::from_secret_pem(mixed.as_bytes()).unwrap_err();
    assert!(reason(&refused).contains("not the one of"), "{refused}");
    let path = dir.join("authority.pem");
    disk.remove_file(&path).unwrap();
    let file = disk.open(&path, OpenMode::CreateNew).unwrap();
    file.write_at(b"nonsense", 0).unwrap();
    assert!(Authority::load(disk, dir).is_err());
    assert!(TrustBundle::from_pem(b"").is_err());
}

#[test]
fn only_the_owner_may_read_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::real();
    let authority = Authority::create(CLUSTER, &env).unwrap();
    let pki = dir.path().join("pki");
    authority.save(env.disk.as_ref(), &pki).unwrap();
    authority.save(env.disk.as_ref(), &pki).unwrap();
    let mode = std::fs::metadata(pki.join("authority.pem")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let names: Vec<_> = env.disk.list(&pki).unwrap();
    assert_eq!(names, ["authority.pem"], "no draft is left behind");
}

#[test]
fn a_bundle_trusts_several_and_names_the_newest_first() {
    let (env, _) = Env::simulated(1);
    let first = Authority::create(CLUSTER, &env).unwrap();
    let second = Authority::create(CLUSTER, &env).unwrap();
    let (one, two) = (first.fingerprint().unwrap(), second.fingerprint().unwrap());
    assert_ne!(one, two);
    let trust = TrustBundle::new(first.certificate()).unwrap();
    let both = trust.with(second.certificate()).unwrap();
    assert_eq!(both.fingerprints().unwrap(), [two, one]);
    assert_eq!(
        TrustBundle::from_pem(both.to_pem().as_bytes()).unwrap(),
        both
    );
    let again = both.with(first.certificate()).unwrap();
    assert_eq!(again.fingerprints().unwrap(), [one, two]);
    assert_eq!(both.without(two).unwrap(), trust);
    assert!(trust.without(one).is_err(), "a cluster must trust somebody");
    let node = make(&first, 7, &env);
    assert_eq!(node.identity().1, NodeId(7));
    let chain = first
        .sign(
            &NodeKey::generate().unwrap().request().unwrap(),
            &subject(7),
            Duration::from_secs(60),
            &env,
        )
        .unwrap();
    assert!(trust.with(&chain[0]).is_err(), "a node is no authority");
    assert_eq!(Fingerprint::of(&chain[1]).unwrap(), one);
}
