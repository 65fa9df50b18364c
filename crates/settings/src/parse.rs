//! From values by key to [`Settings`]: every rule that a value has to keep.

use crate::check::{self, Scheme};
use crate::document::{Document, Value};
use crate::problem::{Origin, Problem, Problems};
use crate::settings::{
    ClientPort, ClientTls, ConsensusTiming, DataDirs, Labels, Limits, Log, LogStyle, PeerPort,
    Settings,
};
use crate::units;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Stands in for an address that was refused, so that the remaining keys are still looked at.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// Takes values out of a document and collects what is wrong with them.
pub(crate) struct Reader {
    pub(crate) document: Document,
    pub(crate) problems: Vec<Problem>,
}

impl Reader {
    fn refuse(&mut self, path: &str, wrong: impl Display, advice: impl Display) {
        let found = self.document.get(path);
        self.problems.push(Problem {
            origin: found.as_ref().map_or(Origin::Absent, |f| f.origin),
            key: path.to_owned(),
            value: found.map(|f| f.written),
            wrong: wrong.to_string(),
            advice: advice.to_string(),
        });
    }

    /// A text, if there is one; anything else is a problem.
    fn text(&mut self, path: &str) -> Option<String> {
        let found = self.document.get(path)?;
        match found.value {
            // On a command line nobody writes quotes around twelve digits.
            Value::Number(digits) if found.origin == Origin::CommandLine => Some(digits),
            Value::Text(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            Value::Text(_) => {
                self.refuse(path, "it is empty", "give it a value or remove the line");
                None
            }
            _ => {
                self.refuse(path, "it is not a text", "write it between double quotes");
                None
            }
        }
    }

    /// A text that `parse` understands.
    fn parsed<T>(
        &mut self,
        path: &str,
        parse: impl FnOnce(&str) -> Option<T>,
        wrong: &str,
        advice: &str,
    ) -> Option<T> {
        let text = self.text(path)?;
        let value = parse(&text);
        if value.is_none() {
            self.refuse(path, wrong, advice);
        }
        value
    }

    fn path(&mut self, path: &str) -> Option<PathBuf> {
        let absolute = |text: &str| Some(PathBuf::from(text)).filter(|p| p.is_absolute());
        self.parsed(
            path,
            absolute,
            "it does not begin at the root of the file system",
            "write the whole path, beginning with a slash",
        )
    }

    fn listen(&mut self, path: &str) -> SocketAddr {
        let usable = |text: &str| text.parse::<SocketAddr>().ok().filter(|a| a.port() != 0);
        self.parsed(
            path,
            usable,
            "it is not an IP address with a port",
            "write for example \"0.0.0.0:7000\" (all addresses), \"10.0.0.1:7000\" or \"[::]:7000\"",
        )
        .unwrap_or(NOWHERE)
    }

    /// A duration within bounds beyond which nobody means it.
    fn duration(&mut self, path: &str, low: &str, high: &str) -> Duration {
        let stand_in = Duration::from_secs(1);
        let wrong = "it is not a duration above zero";
        let advice = "write a whole number with ms, s, m or h, for example \"30s\"";
        let positive = |text: &str| units::duration(text).filter(|d| !d.is_zero());
        let Some(duration) = self.parsed(path, positive, wrong, advice) else {
            return stand_in;
        };
        let bound = |text| units::duration(text).expect("the bounds are durations");
        if !(bound(low)..=bound(high)).contains(&duration) {
            self.refuse(
                path,
                "nothing works with that",
                format!("write {low} to {high}"),
            );
        }
        duration
    }

    /// As [`Self::bytes`], at least so much that it is of use.
    fn bytes_from(&mut self, path: &str, low: &str) -> u64 {
        let least = units::bytes(low).expect("the bound is a size");
        let bytes = self.bytes(path).unwrap_or(least);
        if bytes < least {
            self.refuse(
                path,
                "nothing works with that",
                format!("write {low} or more"),
            );
        }
        bytes
    }

    fn bytes(&mut self, path: &str) -> Option<u64> {
        let found = self.document.get(path)?;
        let bytes = match &found.value {
            Value::Text(text) => units::bytes(text),
            Value::Number(text) => units::bytes(text),
            _ => None,
        };
        let bytes = bytes.filter(|bytes| *bytes > 0);
        if bytes.is_none() {
            self.refuse(
                path,
                "it is not a size above zero",
                "write a whole number with KiB, MiB, GiB or TiB, for example \"64 MiB\"",
            );
        }
        bytes
    }

    fn label(&mut self, path: &str) -> Option<String> {
        let usable = |text: &str| {
            let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            (text.len() <= 63 && text.bytes().all(legal)).then(|| text.to_owned())
        };
        self.parsed(
            path,
            usable,
            "it is not a label",
            "use at most 63 letters, digits, hyphens, dots and underscores",
        )
    }
}

impl Settings {
    /// Reads a configuration; `overrides` are keys with values that go before the file's.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, overrides: &[(String, String)]) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let Some(mut document) = Document::read(text, &mut problems) else {
            // Whatever else there is to say would be about keys that nobody could read.
            return Err(Problems(problems));
        };
        for (path, value) in overrides {
            document.overlay(path, value, &mut problems);
        }
        let mut reader = Reader { document, problems };
        let settings = reader.settings();
        match settings {
            Some(settings) if reader.problems.is_empty() => Ok(settings),
            _ => {
                let line = |origin: &Origin| match origin {
                    Origin::Line(line) => *line,
                    Origin::CommandLine | Origin::Absent => usize::MAX,
                };
                reader.problems.sort_by_key(|p| line(&p.origin));
                Err(Problems(reader.problems))
            }
        }
    }
}

impl Reader {
    /// `None` only together with a problem; all sections are read before that is decided.
    fn settings(&mut self) -> Option<Settings> {
        let account = self.parsed(
            "cluster.account",
            |text| text.parse().ok(),
            "it is not an account",
            "write twelve digits",
        );
        let region = self.parsed(
            "cluster.region",
            |text| text.parse().ok(),
            "it is not a region",
            "use lower-case letters, digits and hyphens, for example \"us-east-1\"",
        );
        let data = self.data();
        let peer = self.peer();
        let tls = self.tls();
        let lakehouse = self.client_port("lakehouse.listen", "lakehouse.endpoint", tls.as_ref());
        let s3 = self.client_port("s3.listen", "s3.endpoint", tls.as_ref());
        self.check_ports(&[
            ("peer.listen", peer.listen),
            ("lakehouse.listen", lakehouse.listen),
            ("s3.listen", s3.listen),
        ]);
        self.check_plain(&[lakehouse.listen, s3.listen]);
        let s3_domain = self.parsed(
            "s3.domain",
            |text| check::host_port(&format!("{text}:1")).map(|_| text.to_owned()),
            "it is not a domain",
            "write a host name without scheme, port and path",
        );
        let keys_file = self.path("keys.file");
        let labels = Labels {
            zone: self.label("labels.zone"),
            rack: self.label("labels.rack"),
            host: self.label("labels.host"),
        };
        let limits = self.limits();
        let consensus = self.consensus();
        let log = self.log();
        Some(Settings {
            account: account?,
            region: region?,
            data: data?,
            peer,
            lakehouse,
            s3,
            s3_domain,
            tls: tls?,
            keys_file,
            labels,
            limits,
            consensus,
            log: log?,
        })
    }

    fn data(&mut self) -> Option<DataDirs> {
        let dir = self.path("data.dir");
        let log_dir = self.path("data.log_dir");
        let volume_dir = self.path("data.volume_dir");
        let dir = dir?;
        let dirs = DataDirs {
            log_dir: log_dir.unwrap_or_else(|| dir.join("raft")),
            volume_dir: volume_dir.unwrap_or_else(|| dir.join("volume")),
            dir,
        };
        for (key, at) in [
            ("data.log_dir", &dirs.log_dir),
            ("data.volume_dir", &dirs.volume_dir),
        ] {
            if *at == dirs.dir {
                let wrong = "data.dir is the same directory";
                self.refuse(key, wrong, "name one below it, or elsewhere");
            }
        }
        if dirs.log_dir == dirs.volume_dir {
            self.refuse(
                "data.volume_dir",
                "the log has the same directory",
                "give each its own",
            );
        }
        Some(dirs)
    }

    fn peer(&mut self) -> PeerPort {
        let listen = self.listen("peer.listen");
        let reachable = |text: &str| check::is_reachable(text).then(|| text.to_owned());
        let wrong = "other nodes cannot reach that";
        let advice = "write a host name or address with a port, for example \"node1.example:7000\"";
        let advertise = if self.document.written("peer.advertise").is_some() {
            self.parsed("peer.advertise", reachable, wrong, advice)
                .unwrap_or_default()
        } else {
            self.derived("peer.advertise", "peer.listen", listen)
                .map_or_else(String::new, |address| address.to_string())
        };
        let seeds = match self.document.get("peer.seeds").map(|found| found.value) {
            Some(Value::Texts(seeds)) => seeds,
            _ => {
                let advice = "write [\"node1.example:7000\", \"node2.example:7000\"]";
                self.refuse("peer.seeds", "it is not a list of texts", advice);
                Vec::new()
            }
        };
        for bad in seeds.iter().filter(|seed| !check::is_reachable(seed)) {
            self.refuse("peer.seeds", format!("`{bad}`: {wrong}"), advice);
        }
        PeerPort {
            listen,
            advertise,
            seeds,
        }
    }

    /// The one address listened on; if it is all of them, somebody has to say which to give out.
    fn derived(&mut self, path: &str, from: &str, listen: SocketAddr) -> Option<SocketAddr> {
        let named = check::named(listen);
        if named.is_none() {
            let wrong = format!("it is needed, because {from} stands for every address");
            self.refuse(
                path,
                wrong,
                "write under which address others reach this node",
            );
        }
        named
    }

    fn tls(&mut self) -> Option<ClientTls> {
        let (cert, key) = (self.path("tls.cert"), self.path("tls.key"));
        let written = |path: &str| self.document.written(path).is_some();
        let both_written = (written("tls.cert"), written("tls.key"));
        let plain = self.parsed(
            "tls.plain",
            |text| matches!(text, "loopback" | "explicit").then_some(()),
            "it is neither \"loopback\" nor \"explicit\"",
            "remove it to require TLS",
        );
        let plain_written = self.document.written("tls.plain").is_some();
        match (both_written, plain_written) {
            ((true, true), false) => Some(ClientTls::Files {
                cert: cert?,
                key: key?,
            }),
            ((false, false), true) => plain.map(|()| ClientTls::Plain),
            ((false, false), false) => {
                let wrong = "it is needed, because clients speak TLS unless told otherwise";
                let advice = "set tls.cert and tls.key, or tls.plain to do without";
                self.refuse("tls.cert", wrong, advice);
                None
            }
            ((_, _), true) => {
                let wrong = "with it clients do not speak TLS, but a certificate or key is set";
                self.refuse(
                    "tls.plain",
                    wrong,
                    "keep either tls.plain or tls.cert and tls.key",
                );
                None
            }
            ((has_cert, _), false) => {
                let (missing, other) = if has_cert {
                    ("tls.key", "tls.cert")
                } else {
                    ("tls.cert", "tls.key")
                };
                self.refuse(
                    missing,
                    format!("it is needed, because {other} is set"),
                    "set both",
                );
                None
            }
        }
    }

    fn client_port(&mut self, listen: &str, path: &str, tls: Option<&ClientTls>) -> ClientPort {
        let address = self.listen(listen);
        let encrypted = matches!(tls, Some(ClientTls::Files { .. }));
        if self.document.written(path).is_none() {
            let scheme = if encrypted { "https" } else { "http" };
            let endpoint = self.derived(path, listen, address);
            return ClientPort {
                listen: address,
                endpoint: endpoint.map_or_else(String::new, |a| format!("{scheme}://{a}")),
            };
        }
        let found = self.parsed(
            path,
            check::endpoint,
            "it is not the address of a server",
            "write http:// or https://, a host and perhaps a port, without a path",
        );
        if encrypted && found.as_ref().is_some_and(|(s, _)| *s == Scheme::Http) {
            let wrong = "this port speaks TLS (tls.cert)";
            self.refuse(path, wrong, "begin the address with https://");
        }
        ClientPort {
            listen: address,
            endpoint: found.map_or_else(String::new, |(_, endpoint)| endpoint),
        }
    }

    fn check_ports(&mut self, ports: &[(&str, SocketAddr)]) {
        for (at, (path, address)) in ports.iter().enumerate() {
            let same = ports[..at].iter().find(|(_, other)| {
                let overlap = other.ip() == address.ip()
                    || other.ip().is_unspecified()
                    || address.ip().is_unspecified();
                *other != NOWHERE && other.port() == address.port() && overlap
            });
            if let Some((other, _)) = same {
                let wrong = format!("{other} has the same port");
                self.refuse(path, wrong, "give each its own port");
            }
        }
    }

    /// "loopback" promises that nothing leaves the machine.
    fn check_plain(&mut self, listen: &[SocketAddr]) {
        let value = self.document.get("tls.plain").map(|found| found.value);
        let loopback_only = value == Some(Value::Text("loopback".to_owned()));
        if loopback_only && !listen.iter().all(|address| check::is_loopback(*address)) {
            let wrong = "a client port listens on an address that other machines reach";
            let advice = "listen on 127.0.0.1, set up TLS, or write \"explicit\" if the network \
                          between clients and this node may read keys and data";
            self.refuse("tls.plain", wrong, advice);
        }
    }

    fn limits(&mut self) -> Limits {
        let segment_bytes = self.bytes("limits.volume_segment").unwrap_or(1 << 30);
        let bounds = (16 << 20)..=(64 << 30);
        if !bounds.contains(&segment_bytes) || !segment_bytes.is_multiple_of(4096) {
            let wrong = "a segment has 16 MiB to 64 GiB, in steps of 4 KiB";
            self.refuse("limits.volume_segment", wrong, "1 GiB suits most disks");
        }
        let volume_bytes = self.bytes("limits.volume_capacity");
        if volume_bytes.is_some_and(|bytes| bytes < 4 * segment_bytes) {
            let wrong = "not even four segments (limits.volume_segment) fit";
            self.refuse(
                "limits.volume_capacity",
                wrong,
                "raise it or make segments smaller",
            );
        }
        let most = floeberg_types::limits::REQUEST_BODY_BYTES as u64;
        Limits {
            body_bytes: self.bytes_from("limits.body", "64 KiB").min(most),
            body_stall: self.duration("limits.body_stall", "1s", "1h"),
            operation_time: self.duration("limits.operation_time", "1s", "10m"),
            notice: self.duration("limits.notice", "1ms", "10m"),
            drain: self.duration("limits.drain", "1s", "1h"),
            segment_bytes,
            volume_bytes,
            snapshot_bytes_per_second: self.bytes_from("limits.snapshot_rate", "64 KiB"),
        }
    }

    fn consensus(&mut self) -> ConsensusTiming {
        let before = self.problems.len();
        let timing = ConsensusTiming {
            heartbeat: self.duration("consensus.heartbeat", "10ms", "10s"),
            election_min: self.duration("consensus.election_min", "30ms", "1m"),
            election_max: self.duration("consensus.election_max", "45ms", "2m"),
        };
        if self.problems.len() > before {
            return timing;
        }
        if timing.election_min < timing.heartbeat * 3 {
            let wrong = "followers would campaign after two late heartbeats";
            let advice = "make it at least three times consensus.heartbeat";
            self.refuse("consensus.election_min", wrong, advice);
        }
        if timing.election_max < timing.election_min * 3 / 2 {
            let wrong = "followers would often campaign at the same time";
            let advice = "make it at least one and a half times consensus.election_min";
            self.refuse("consensus.election_max", wrong, advice);
        }
        timing
    }

    fn log(&mut self) -> Option<Log> {
        let filter = self.text("log.filter");
        let wrong = filter.as_deref().and_then(check::log_filter);
        if let Some(part) = wrong {
            let wrong = format!("`{part}` is neither a level nor a module with one");
            let advice = "write for example \"warn,floeberg=debug\"; levels are off, error, warn, info, debug, trace";
            self.refuse("log.filter", wrong, advice);
        }
        let style = self.parsed(
            "log.format",
            |text| match text {
                "text" => Some(LogStyle::Text),
                "json" => Some(LogStyle::Json),
                _ => None,
            },
            "there is no such format",
            "write \"text\" or \"json\"",
        );
        Some(Log {
            filter: filter?,
            style: style?,
        })
    }
}

#[cfg(test)]
mod tests;
