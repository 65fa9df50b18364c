//! Every rule of the configuration, and what is said when one is broken.

use super::*;
use crate::keys::KEYS;

/// The least that a usable file says.
const LEAST: &str = "
[peer]
advertise = \"node1:7000\"
[lakehouse]
endpoint = \"http://lake.example\"
[s3]
endpoint = \"http://s3.example:9000/\"
[tls]
plain = \"explicit\"
";

fn set(pairs: &[(&str, &str)]) -> Result<Settings, Problems> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Settings::parse(LEAST, &pairs.iter().map(owned).collect::<Vec<_>>())
}

fn only(result: Result<Settings, Problems>) -> Problem {
    let Problems(mut problems) = result.expect_err("a problem");
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.remove(0)
}

#[test]
fn the_least_file_gets_every_default() {
    let settings = Settings::parse(LEAST, &[]).unwrap();
    assert_eq!(settings.account.as_str(), "000000000000");
    assert_eq!(settings.data.dir, PathBuf::from("/var/lib/floeberg"));
    assert_eq!(
        settings.data.log_dir,
        PathBuf::from("/var/lib/floeberg/raft")
    );
    assert_eq!(settings.peer.listen.port(), 7000);
    assert_eq!(settings.peer.seeds, Vec::<String>::new());
    assert_eq!(settings.lakehouse.endpoint, "http://lake.example");
    assert_eq!(settings.s3.endpoint, "http://s3.example:9000");
    assert_eq!(settings.tls, ClientTls::Plain);
    assert_eq!(settings.limits.segment_bytes, 1 << 30);
    assert_eq!(settings.limits.volume_bytes, None);
    assert_eq!(settings.consensus.heartbeat, Duration::from_millis(100));
    assert_eq!(settings.log.style, LogStyle::Text);
    assert!(settings.labels.to_map().is_empty());
}

#[test]
fn addresses_follow_from_what_is_listened_on() {
    let settings = Settings::parse(
        "[peer]\nlisten = \"10.0.0.1:7000\"\n[lakehouse]\nlisten = \"10.0.0.1:8181\"\n\
         [s3]\nlisten = \"[::1]:9000\"\n[tls]\ncert = \"/c\"\nkey = \"/k\"\n",
        &[],
    )
    .unwrap();
    assert_eq!(settings.peer.advertise, "10.0.0.1:7000");
    assert_eq!(settings.lakehouse.endpoint, "https://10.0.0.1:8181");
    assert_eq!(settings.s3.endpoint, "https://[::1]:9000");
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_one() {
    let text = format!("{LEAST}[cluster]\nregion = \"eu-1\"\nacount = \"1\"\n");
    let problem = only(Settings::parse(&text, &[]));
    assert_eq!(
        (problem.origin, problem.key.as_str()),
        (Origin::Line(12), "cluster.acount")
    );
    assert!(problem.advice.contains("`cluster.account`"), "{problem}");
    let problem = only(Settings::parse(&format!("region = \"x\"\n{LEAST}"), &[]));
    assert_eq!(problem.origin, Origin::Line(1));
    assert!(problem.advice.contains("`cluster.region`"), "{problem}");
    let problem = only(Settings::parse(
        &format!("{LEAST}[limit]\ndrain = \"1s\"\n"),
        &[],
    ));
    assert!(
        problem
            .to_string()
            .starts_with("line 10: limit: there is no such key"),
        "{problem}"
    );
    let problem = only(set(&[("peer.advertize", "a:1")]));
    assert!(
        problem.to_string().starts_with("--set: peer.advertize: "),
        "{problem}"
    );
    assert!(problem.advice.contains("`peer.advertise`"), "{problem}");
}

#[test]
fn what_is_not_toml_is_refused_with_its_line() {
    let problem = only(
        Settings::parse("[cluster]\nregion = eu\n", &[]).map_err(|problems| {
            // The keys that are then missing are problems too.
            Problems(
                problems
                    .0
                    .into_iter()
                    .filter(|p| p.key.is_empty())
                    .collect(),
            )
        }),
    );
    assert_eq!(problem.origin, Origin::Line(2));
    assert!(problem.wrong.contains("not TOML"), "{problem}");
}

#[test]
fn every_broken_rule_names_key_value_and_what_to_do() {
    for (key, value, said) in [
        ("cluster.account", "12", "twelve digits"),
        ("cluster.region", "EU 1", "lower-case"),
        ("data.log_dir", "/var/lib/floeberg", "name one below it"),
        ("log.filter", "wran,floeberg=info", "levels are off"),
        ("log.filter", "warn,floeberg=inof", "levels are off"),
        ("data.dir", "data", "beginning with a slash"),
        (
            "data.volume_dir",
            "/var/lib/floeberg/raft",
            "give each its own",
        ),
        ("peer.listen", "7000", "0.0.0.0:7000"),
        ("peer.listen", "0.0.0.0:0", "0.0.0.0:7000"),
        ("peer.advertise", "0.0.0.0:7000", "host name or address"),
        ("peer.advertise", "node1", "host name or address"),
        ("peer.seeds", "[\"node2\"]", "host name or address"),
        ("peer.seeds", "node2:7000", "write ["),
        ("lakehouse.endpoint", "lake.example", "http://"),
        (
            "lakehouse.endpoint",
            "http://lake.example/iceberg",
            "without a path",
        ),
        ("lakehouse.listen", "0.0.0.0:7000", "its own port"),
        ("s3.listen", "127.0.0.1:8181", "its own port"),
        ("s3.domain", "http://s3", "host name"),
        ("tls.plain", "yes", "require TLS"),
        ("tls.plain", "loopback", "explicit"),
        ("tls.cert", "/c", "keep either"),
        ("keys.file", "keys", "beginning with a slash"),
        ("labels.zone", "hall 1", "63 letters"),
        ("limits.body", "0", "64 MiB"),
        ("limits.body", "1 GB", "64 MiB"),
        ("limits.drain", "30", "ms, s, m or h"),
        ("limits.drain", "0s", "ms, s, m or h"),
        ("limits.drain", "10ms", "1s to 1h"),
        ("limits.operation_time", "1ms", "1s to 10m"),
        ("limits.operation_time", "1h", "1s to 10m"),
        ("limits.body", "1 KiB", "64 KiB or more"),
        ("limits.snapshot_rate", "1", "64 KiB or more"),
        ("limits.volume_segment", "1 MiB", "1 GiB"),
        ("limits.volume_segment", "33554433", "1 GiB"),
        ("limits.volume_capacity", "2 GiB", "raise it"),
        ("consensus.election_min", "200ms", "three times"),
        ("consensus.election_max", "600ms", "one and a half times"),
        ("log.format", "xml", "json"),
        ("log.filter", "", "remove the line"),
        ("log.filter", "true", "double quotes"),
    ] {
        let problem = only(set(&[(key, value)]));
        assert!(problem.advice.contains(said), "{key} = {value}: {problem}");
        assert!(problem.to_string().contains("; "), "{problem}");
        if problem.key == key {
            assert_eq!(problem.value.as_deref(), Some(value));
        } else {
            assert_eq!((key, problem.key.as_str()), ("tls.cert", "tls.plain"));
        }
    }
}

#[test]
fn tls_is_the_rule_and_both_files_belong_together() {
    let without = LEAST.replace("plain = \"explicit\"", "");
    let problem = only(Settings::parse(&without, &[]));
    assert_eq!(problem.key, "tls.cert");
    assert!(problem.advice.contains("tls.plain"), "{problem}");
    let half = |key: &str| LEAST.replace("plain = \"explicit\"", &format!("{key} = \"/x\""));
    let problem = |key| {
        Settings::parse(&half(key), &[]).unwrap_err().0[0]
            .key
            .clone()
    };
    assert_eq!(
        (problem("cert"), problem("key")),
        ("tls.key".to_owned(), "tls.cert".to_owned())
    );
    let files = "[tls]\ncert = \"/c\"\nkey = \"/k\"";
    let http = LEAST.replace("[tls]\nplain = \"explicit\"", files);
    let Problems(problems) = Settings::parse(&http, &[]).unwrap_err();
    let keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(
        keys,
        ["lakehouse.endpoint", "s3.endpoint"],
        "http:// would not work"
    );
    assert!(Settings::parse(&http.replace("http://", "https://"), &[]).is_ok());
}

#[test]
fn missing_addresses_are_named() {
    let Problems(problems) = Settings::parse("[tls]\nplain = \"explicit\"\n", &[]).unwrap_err();
    let keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(
        keys,
        ["peer.advertise", "lakehouse.endpoint", "s3.endpoint"]
    );
    assert!(
        problems
            .iter()
            .all(|p| p.origin == Origin::Absent && p.value.is_none())
    );
}

#[test]
fn overrides_go_before_the_file_and_need_no_quotes() {
    let settings = set(&[
        ("peer.advertise", "\"node9:7000\""),
        ("labels.zone", "hall-2"),
        ("peer.seeds", "[\"a:1\", \"b:2\"]"),
        ("limits.body", "1048576"),
    ])
    .unwrap();
    assert_eq!(settings.peer.advertise, "node9:7000");
    assert_eq!(settings.labels.to_map()["zone"], "hall-2");
    assert_eq!(settings.peer.seeds, ["a:1", "b:2"]);
    assert_eq!(settings.limits.body_bytes, 1 << 20);
}

/// Budgets are made for bodies of a limit; a file that asks for more, as the default once did, still works.
#[test]
fn a_body_is_at_most_what_the_budgets_are_made_for() {
    let most = floeberg_types::limits::REQUEST_BODY_BYTES as u64;
    assert_eq!(set(&[]).unwrap().limits.body_bytes, most);
    let larger = set(&[("limits.body", "\"64 MiB\"")]).unwrap();
    assert_eq!(larger.limits.body_bytes, most);
}

/// A key that is listed but never read would be accepted and ignored.
#[test]
fn every_key_is_looked_at() {
    for key in KEYS {
        let problems = set(&[(key.path, "[[1]]")]).unwrap_err();
        let named = problems.0.iter().any(|p| p.key == key.path);
        assert!(named, "{} took nonsense: {problems}", key.path);
    }
}
