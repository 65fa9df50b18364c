//! `floeberg cluster …`: makes a cluster, lets nodes join it, changes who belongs to it.
//!
//! `init`, `join` and `recover` work on this machine's data directory while its node is stopped; the
//! others talk to a running node, whichever it is.

mod local;
mod remote;
mod status;

use self::remote::Until;
use crate::config::ConfigArguments;
use crate::target::Target;
use clap::{Args, Subcommand};
use floeberg_settings::parse_duration;
use std::process::ExitCode;
use std::time::Duration;

/// What scripts go by.
const STATUS_HELP: &str = "Exit codes: 0 all is well as far as the node that was asked knows; 1 no status could \
be had; 3 everything is served, and something should be looked after; 4 something is not served, or may be lost \
next. `--json` prints the same with each alarm's kind.";

/// Longest life of a join token.
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(Subcommand)]
pub enum ClusterCommand {
    /// Found a cluster: its id, its certificate authority and node 1, in an empty data directory
    Init(InitArguments),
    /// Print a token that lets nodes join for a short time
    Token {
        /// How long it is good, at most 24h
        #[arg(long, default_value = "1h", value_parser = ttl)]
        ttl: Duration,
        #[command(flatten)]
        target: Target,
    },
    /// Make this machine a member of a cluster, in an empty data directory
    Join(JoinArguments),
    /// Show the members, who leads, what is waited for, and what is wrong
    #[command(after_help = STATUS_HELP)]
    Status {
        #[command(flatten)]
        target: Target,
    },
    /// Remove a node; its data is copied to others first
    Remove {
        /// Its number in `cluster status`
        node: u64,
        /// It will never return: give up what is on it. Refused while it answers
        #[arg(long)]
        dead: bool,
        /// Do not return before it is gone; progress is on standard error
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Put a node that has joined in the place of another, which leaves
    Replace {
        /// The node that leaves, dead or alive
        old: u64,
        /// The node that takes its place
        #[arg(long = "with", value_name = "NEW")]
        new: u64,
        /// Do not return before the old one is gone; progress is on standard error
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Let another node lead
    TransferLeader {
        /// The node that shall lead
        node: u64,
        /// Only this group; all without it
        #[arg(long)]
        group: Option<u32>,
        #[command(flatten)]
        target: Target,
    },
    /// Change the authority that certifies the nodes; they take the next one over by themselves
    RotateCa {
        #[command(flatten)]
        target: Target,
    },
    /// Go on with this node alone after a majority is lost for good. LOSES DATA
    #[command(long_about = RECOVER)]
    Recover(RecoverArguments),
}

const RECOVER: &str = "\
Go on with this node alone after a majority of the nodes is lost for good.

What the lost nodes had acknowledged to clients and this node never received is lost: commits \
disappear, and files of tables may be missing. Clients that saw those commits are not told. Nodes \
of the old cluster that come back later must never run again with their old data.

Use it only if no majority can be brought back. Run it on the survivor whose log is the newest: \
compare what `floeberg cluster status --endpoint ...` says of each node's own log. Then stop the node; \
the order is written to its data directory and carried out by its next start.";

#[derive(Args)]
pub struct InitArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct JoinArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// As printed by `floeberg cluster token`
    #[arg(long, env = "FLOEBERG_JOIN_TOKEN", hide_env_values = true)]
    token: String,
    /// Host and port of a member's node-to-node port; asked before those in peer.seeds
    #[arg(long = "peer", value_name = "HOST:PORT")]
    peers: Vec<String>,
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct RecoverArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Says that you have read what is lost (see --help)
    #[arg(long)]
    i_accept_losing_unreplicated_commits: bool,
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
}

fn ttl(text: &str) -> Result<Duration, String> {
    let usable = |ttl: &Duration| !ttl.is_zero() && *ttl <= TTL_MAX;
    parse_duration(text).filter(usable).ok_or_else(|| {
        "write a time of at most 24h with its unit, for example 30m or 1h".to_owned()
    })
}

/// The exit code that says how it went.
pub async fn run(command: ClusterCommand) -> anyhow::Result<ExitCode> {
    let done = match command {
        ClusterCommand::Status { target } => {
            let health = remote::status(&target).await?;
            return Ok(ExitCode::from(health.exit_code()));
        }
        ClusterCommand::Init(arguments) => local::init(&arguments),
        ClusterCommand::Join(arguments) => local::join(&arguments).await,
        ClusterCommand::Recover(arguments) => local::recover(&arguments),
        ClusterCommand::Token { ttl, target } => remote::token(ttl, &target).await,
        ClusterCommand::Remove {
            node,
            dead,
            wait,
            target,
        } => {
            let departure = if dead {
                remote::Departure::Dead
            } else {
                remote::Departure::Drained
            };
            let until = if wait { Until::Done } else { Until::Begun };
            remote::remove(node, departure, until, &target).await
        }
        ClusterCommand::Replace {
            old,
            new,
            wait,
            target,
        } => {
            let until = if wait { Until::Done } else { Until::Begun };
            remote::replace(old, new, until, &target).await
        }
        ClusterCommand::RotateCa { target } => remote::rotate_authority(&target).await,
        ClusterCommand::TransferLeader {
            node,
            group,
            target,
        } => remote::transfer_leader(node, group, &target).await,
    };
    done.map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_a_day_at_most() {
        assert_eq!(ttl("1h"), Ok(Duration::from_secs(3600)));
        for text in ["25h", "0s", "3600", "forever"] {
            assert!(ttl(text).is_err(), "{text}");
        }
    }
}
