//! Join tokens and certificate requests, with their bytes pinned. A golden file may gain lines,
//! never change one: a token printed by an older version must still be read.
#![allow(clippy::unwrap_used)] // a test; the lint spares only code inside `#[test]`

use floeberg_env::{Env, SimControl};
use floeberg_pki::{Fingerprint, JoinKey, JoinToken, TokenError, TrustBundle};
use floeberg_types::{ClusterId, TimestampMs};
use std::time::Duration;

const CLUSTER: ClusterId = ClusterId::from_bytes([0xc1; 16]);
const HOUR: Duration = Duration::from_secs(3600);

/// A fixed authority, because its key would otherwise differ from run to run.
const AUTHORITY: &str = include_str!("golden/authority.pem");

fn issued(env: &Env, key: &JoinKey) -> JoinToken {
    let trust = TrustBundle::from_pem(AUTHORITY.as_bytes()).unwrap();
    key.issue(CLUSTER, &trust, HOUR, env).unwrap()
}

fn start() -> (Env, SimControl, JoinKey, JoinToken) {
    let (env, control) = Env::simulated(1);
    let key = JoinKey::from_bytes([7; 32]);
    let token = issued(&env, &key);
    (env, control, key, token)
}

#[tokio::test(start_paused = true)]
async fn a_token_keeps_its_text() {
    let (_, _, _, token) = start();
    let text = format!("{}\n", token.to_secret_text());
    expect_test::expect_file!["golden/token-v1.txt"].assert_eq(&text);
}

#[tokio::test(start_paused = true)]
async fn an_older_token_is_read_and_verified() {
    let text = include_str!("golden/token-v1.txt");
    let token: JoinToken = text.parse().unwrap();
    let key = JoinKey::from_bytes([7; 32]);
    assert_eq!(key.verify(&token, CLUSTER, TimestampMs(0)), Ok(()));
    let trust = TrustBundle::from_pem(AUTHORITY.as_bytes()).unwrap();
    assert_eq!(token.authorities(), trust.fingerprints().unwrap());
    assert_eq!(token.cluster(), CLUSTER);
}

#[tokio::test(start_paused = true)]
async fn a_token_works_for_its_cluster_key_and_time_only() {
    let (env, control, key, token) = start();
    let read: JoinToken = token.to_secret_text().parse().unwrap();
    assert_eq!(read, token);
    let verify = |key: &JoinKey, cluster| key.verify(&read, cluster, env.clock.now());
    assert_eq!(verify(&key, CLUSTER), Ok(()));
    let other = JoinKey::draw(env.rng.as_ref());
    assert_eq!(verify(&other, CLUSTER), Err(TokenError::Forged));
    let elsewhere = ClusterId::from_bytes([9; 16]);
    assert_eq!(
        verify(&key, elsewhere),
        Err(TokenError::WrongCluster(CLUSTER))
    );
    control.jump_clock(3_599_999);
    assert_eq!(verify(&key, CLUSTER), Ok(()));
    control.jump_clock(60_001);
    assert_eq!(verify(&key, CLUSTER), Err(TokenError::Expired(60)));
    assert_ne!(issued(&env, &key).nonce(), token.nonce());
}

#[tokio::test(start_paused = true)]
async fn copying_may_add_spaces_but_every_wrong_character_is_noticed() {
    let (_, _, _, token) = start();
    let text = token.to_secret_text();
    let (head, tail) = text.split_at(40);
    let wrapped = format!("  {head}\n   {tail}\r\n");
    assert_eq!(wrapped.parse::<JoinToken>().unwrap(), token);
    for at in "floeberg-join-".len()..text.len() {
        let mut typed = text.clone().into_bytes();
        typed[at] = if typed[at] == b'A' { b'B' } else { b'A' };
        let typed = String::from_utf8(typed).unwrap();
        assert_eq!(
            typed.parse::<JoinToken>(),
            Err(TokenError::Mistyped),
            "{at}"
        );
        let short = &text[..at];
        assert_eq!(
            short.parse::<JoinToken>(),
            Err(TokenError::Mistyped),
            "{at}"
        );
    }
    assert_eq!("sesame".parse::<JoinToken>(), Err(TokenError::NotAToken));
}

#[tokio::test(start_paused = true)]
async fn nothing_secret_is_in_debug_output() {
    let (_, _, key, token) = start();
    let text = format!("{key:?} {token:?} {:?}", Fingerprint([1; 32]));
    assert!(!text.contains("0707"), "{text}");
    assert!(!text.contains("mac") && !text.contains("nonce"), "{text}");
}
