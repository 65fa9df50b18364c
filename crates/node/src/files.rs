//! Room for open files. The system's usual limit of 1024 is less than one port may have connections,
//! and a store that cannot open a file is worse off than a client that has to wait.

use crate::ClientLimits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that are not connections: the log, the rows, segments.
const STORES: u64 = 2_000;

/// Lets this process open as many files as it may, and bounds connections by what that allows.
pub(crate) fn affordable(limits: ClientLimits) -> ClientLimits {
    let files = raise_limit();
    let connections = files.map_or(limits.connections, |files| {
        limits.connections.min(share(files))
    });
    if connections < limits.connections && limits != ClientLimits::default() {
        tracing::info!(
            connections,
            wanted = limits.connections,
            files,
            "fewer connections per port than configured: raise the limit of open files (ulimit -n)"
        );
    }
    ClientLimits {
        connections,
        ..limits
    }
}

/// Connections of one of two ports.
fn share(files: u64) -> usize {
    let connections = files.saturating_sub(STORES).max(files / 2);
    usize::try_from(connections / 2).unwrap_or(usize::MAX)
}

/// The limit of open files after it was raised; `None` if there is none.
fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(error) => {
            tracing::info!(%error, "the limit of open files could not be raised");
            limit.current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_keep_their_files() {
        assert_eq!(share(1_024), 256);
        assert_eq!(share(20_000), 9_000);
        assert!(share(1 << 20) > 10_000);
    }

    #[test]
    fn a_limit_is_never_raised_by_the_system() {
        let wanted = ClientLimits {
            connections: 7,
            ..ClientLimits::default()
        };
        assert_eq!(affordable(wanted), wanted);
    }
}
