//! A network of nodes: one network namespace each, joined by a bridge, with cuts that drop packets
//! in one direction without a word.
//!
//! A cut is a policy routing rule of the receiver that takes what comes from the sender for
//! unroutable. It acts on connections that exist as well as on new ones, needs no packet filter,
//! and tells the sender nothing, as a broken cable would. Addresses of neighbours are fixed, so
//! that a cut does not turn into an answer of the address resolution.

use anyhow::{Context as _, ensure};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Mutex;

/// Where the clients are on the bridge.
const HUB: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);

/// The namespaces of a run; see [`crate::sandbox`].
#[derive(Debug)]
pub struct Lab {
    nodes: u8,
    cuts: Mutex<BTreeSet<(u8, u8)>>,
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let done = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        done.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(())
}

fn ip(line: &str) -> anyhow::Result<()> {
    let words: Vec<&str> = line.split_whitespace().collect();
    run("ip", &words)
}

/// Brings up the loopback interface of the sandbox, which begins without any.
///
/// # Errors
/// If the command fails.
pub fn loopback() -> anyhow::Result<()> {
    ip("link set lo up")
}

/// The address of a node.
#[must_use]
pub fn address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, node)
}

fn hardware(node: u8) -> String {
    format!("02:fb:00:00:00:{node:02x}")
}

impl Lab {
    /// Nodes 1 to `nodes`, all connected.
    ///
    /// # Errors
    /// If the program is not inside its sandbox, or a command fails.
    pub fn build(nodes: u8) -> anyhow::Result<Self> {
        ensure!(
            crate::sandbox::is_inside(),
            "a lab needs its own namespaces"
        );
        std::fs::create_dir_all("/run/netns")?;
        // Names of namespaces stay inside too.
        run("mount", &["-t", "tmpfs", "chaos", "/run/netns"])?;
        ip("link add hub type bridge")?;
        ip(&format!("link set hub address {}", hardware(254)))?;
        ip(&format!("addr add {HUB}/24 dev hub"))?;
        ip("link set hub up")?;
        for node in 1..=nodes {
            add(node, nodes)?;
        }
        Ok(Self {
            nodes,
            cuts: Mutex::default(),
        })
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> u8 {
        self.nodes
    }

    /// A command that runs a program on a node.
    #[must_use]
    pub fn command(node: u8) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("nsenter");
        command.arg(format!("--net=/run/netns/n{node}")).arg("--");
        command
    }

    /// From now on `to` gets nothing from `from`.
    ///
    /// # Errors
    /// If the command fails.
    pub fn cut(&self, from: u8, to: u8) -> anyhow::Result<()> {
        let mut cuts = self.cuts.lock().expect("no holder panics");
        if from != to && cuts.insert((from, to)) {
            let from = address(from);
            ip(&format!("-n n{to} rule add pref 10 from {from} blackhole"))?;
        }
        Ok(())
    }

    /// Neither gets anything from the other.
    ///
    /// # Errors
    /// If a command fails.
    pub fn part(&self, one: u8, other: u8) -> anyhow::Result<()> {
        self.cut(one, other)?;
        self.cut(other, one)
    }

    /// Undoes all cuts.
    ///
    /// # Errors
    /// If a command fails.
    pub fn heal(&self) -> anyhow::Result<()> {
        let mut cuts = self.cuts.lock().expect("no holder panics");
        while let Some((from, to)) = cuts.pop_first() {
            let from = address(from);
            ip(&format!("-n n{to} rule del pref 10 from {from} blackhole"))?;
        }
        Ok(())
    }
}

fn add(node: u8, nodes: u8) -> anyhow::Result<()> {
    ip(&format!("netns add n{node}"))?;
    ip(&format!(
        "link add v{node} type veth peer name eth0 netns n{node}"
    ))?;
    ip(&format!("link set v{node} master hub up"))?;
    let (own, mac) = (address(node), hardware(node));
    ip(&format!("-n n{node} link set eth0 address {mac}"))?;
    ip(&format!("-n n{node} addr add {own}/24 dev eth0"))?;
    ip(&format!("-n n{node} link set lo up"))?;
    ip(&format!("-n n{node} link set eth0 up"))?;
    // Cuts stand in front of the rule that takes packets for the node itself.
    ip(&format!("-n n{node} rule add pref 100 lookup local"))?;
    ip(&format!("-n n{node} rule del pref 0"))?;
    let net = format!("--net=/run/netns/n{node}");
    let no_forwarding = "echo 0 > /proc/sys/net/ipv4/ip_forward";
    run("nsenter", &[&net, "--", "sh", "-c", no_forwarding])?;
    let neighbours = (1..=nodes).chain([HUB.octets()[3]]);
    for other in neighbours.filter(|other| *other != node) {
        let (at, mac) = (address(other), hardware(other));
        ip(&format!(
            "-n n{node} neigh replace {at} lladdr {mac} dev eth0 nud permanent"
        ))?;
    }
    let at = address(node);
    ip(&format!(
        "neigh replace {at} lladdr {mac} dev hub nud permanent"
    ))
}
