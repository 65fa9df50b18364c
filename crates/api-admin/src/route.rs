//! The operations of this protocol.

/// Answered to anybody.
#[derive(Clone, Copy, Debug)]
pub enum Public {
    Landing,
    Health,
    Ready,
    ReadsReady,
    Metrics,
}

/// Answered to verified principals.
#[derive(Clone, Copy, Debug)]
pub enum Protected {
    Status,
}
