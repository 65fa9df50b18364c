//! The one list of configuration keys, with their defaults and what they mean.

/// What a key is when the file does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// This value, written as in the file.
    Value(&'static str),
    /// Made from other keys: how, and what that gives in the example.
    Derived {
        /// In words.
        rule: &'static str,
        /// As in the file.
        example: &'static str,
    },
    /// Nothing; an example of a value.
    Unset(&'static str),
    /// There has to be a value, for the reason given in the key's text; an example of one.
    Needed(&'static str),
}

/// A configuration key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Section and name, with a dot between them.
    pub path: &'static str,
    /// What holds without it.
    pub preset: Preset,
    /// What it means, in lines.
    pub text: &'static [&'static str],
}

impl Key {
    /// The section.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }

    /// The name inside its section.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path
            .split_once('.')
            .map_or(self.path, |(_, name)| name)
    }
}

const fn key(path: &'static str, preset: Preset, text: &'static [&'static str]) -> Key {
    Key { path, preset, text }
}

use Preset::{Derived, Needed, Unset, Value};

/// Every key, in the order of the example.
pub const KEYS: &[Key] = &[
    key(
        "cluster.account",
        Value(r#""000000000000""#),
        &["Twelve digits that own what is created; the same on every node."],
    ),
    key(
        "cluster.region",
        Value(r#""us-east-1""#),
        &["Region in ARNs and signatures; the same on every node."],
    ),
    key(
        "data.dir",
        Value(r#""/var/lib/floeberg""#),
        &["Identity, certificates and the state of every group."],
    ),
    key(
        "data.log_dir",
        Derived {
            rule: "`raft` below data.dir",
            example: r#""/var/lib/floeberg/raft""#,
        },
        &[
            "The log of all groups. Every commit waits until this disk has synced it: a fast one",
            "of its own is worth more here than anywhere else.",
        ],
    ),
    key(
        "data.volume_dir",
        Derived {
            rule: "`volume` below data.dir",
            example: r#""/var/lib/floeberg/volume""#,
        },
        &["Object data, the bulk of the bytes."],
    ),
    key(
        "peer.listen",
        Value(r#""0.0.0.0:7000""#),
        &[
            "Where this node listens for other nodes. They speak mutual TLS; clients never come here.",
        ],
    ),
    key(
        "peer.advertise",
        Needed(r#""node1.example:7000""#),
        &[
            "Host and port under which the other nodes reach this one. May be left out if",
            "peer.listen names one address.",
        ],
    ),
    key(
        "peer.seeds",
        Value("[]"),
        &["Members that `floeberg cluster join` asks, for example [\"node1.example:7000\"]."],
    ),
    key(
        "lakehouse.listen",
        Value(r#""0.0.0.0:8181""#),
        &["Iceberg REST, S3 Tables, admin, health and metrics."],
    ),
    key(
        "lakehouse.endpoint",
        Needed(r#""https://node1.example:8181""#),
        &[
            "The address that clients are given: of this node or of a load balancer in front of",
            "all. May be left out if lakehouse.listen names one address.",
        ],
    ),
    key("s3.listen", Value(r#""0.0.0.0:9000""#), &["S3."]),
    key(
        "s3.endpoint",
        Needed(r#""https://node1.example:9000""#),
        &[
            "The address that engines are given for table files. May be left out if s3.listen",
            "names one address.",
        ],
    ),
    key(
        "s3.domain",
        Unset(r#""s3.example""#),
        &["Domain of virtual-host style requests; without it only path style is understood."],
    ),
    key(
        "tls.cert",
        Needed(r#""/etc/floeberg/tls/tls.crt""#),
        &[
            "Certificate chain of both client ports, PEM. Read again when it changes.",
            "Leave cert and key out only together with tls.plain.",
        ],
    ),
    key(
        "tls.key",
        Needed(r#""/etc/floeberg/tls/tls.key""#),
        &["Its private key, PEM."],
    ),
    key(
        "tls.plain",
        Unset(r#""loopback""#),
        &[
            "Clients without TLS: \"loopback\" if both client ports listen on loopback addresses,",
            "\"explicit\" on any address, for example behind a proxy that ends TLS.",
        ],
    ),
    key(
        "keys.file",
        Unset(r#""/etc/floeberg/root-keys""#),
        &[
            "The root key pair: access key and secret, a line each, not readable by others.",
            "FLOEBERG_ROOT_ACCESS_KEY and FLOEBERG_ROOT_SECRET_KEY in the environment go before it.",
        ],
    ),
    key(
        "labels.zone",
        Unset(r#""hall-1""#),
        &["What fails together has equal labels; copies of data are kept apart by them."],
    ),
    key("labels.rack", Unset(r#""r12""#), &["The rack."]),
    key(
        "labels.host",
        Unset(r#""kvm-7""#),
        &["The machine, if several nodes share one."],
    ),
    key(
        "limits.body",
        Value(r#""32 MiB""#),
        &["The largest request body on the lakehouse port; at most 32 MiB, which more counts as."],
    ),
    key(
        "limits.body_stall",
        Value(r#""60s""#),
        &["A request of which no byte arrives for this long is given up."],
    ),
    key(
        "limits.operation_time",
        Value(r#""30s""#),
        &["How long an operation may take before its caller is told that the outcome is open."],
    ),
    key(
        "limits.notice",
        Value(r#""5s""#),
        &[
            "How long a node that is asked to stop still takes connections while /readyz answers 503:",
            "longer than a load balancer in front needs to see that.",
        ],
    ),
    key(
        "limits.drain",
        Value(r#""30s""#),
        &["How long open requests may finish after a stop was asked for."],
    ),
    key(
        "limits.volume_segment",
        Value(r#""1 GiB""#),
        &["Object data is kept in preallocated files of this size."],
    ),
    key(
        "limits.volume_capacity",
        Unset(r#""900 GiB""#),
        &["Disk that object data may take; without it, until the file system is full."],
    ),
    key(
        "limits.snapshot_rate",
        Value(r#""64 MiB""#),
        &["Bytes per second at which a node's state is sent to one that lags or joins."],
    ),
    key(
        "consensus.heartbeat",
        Value(r#""100ms""#),
        &["How often a leader confirms itself. The three times are the same on every node."],
    ),
    key(
        "consensus.election_min",
        Value(r#""500ms""#),
        &[
            "Silence after which a follower campaigns: a random time up to the second, and at least",
            "the first or half of the second and two late heartbeats, whichever is longer.",
        ],
    ),
    key("consensus.election_max", Value(r#""1s""#), &["See above."]),
    key(
        "log.filter",
        Value(r#""warn,floeberg=info,openraft=error,s3s=off""#),
        &["Which lines appear, in the syntax of RUST_LOG."],
    ),
    key(
        "log.format",
        Value(r#""text""#),
        &["\"text\" for people, \"json\" for collectors."],
    ),
];

/// The key of a path.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}
