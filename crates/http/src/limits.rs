//! How much of a request is taken before anybody knows who sends it, and how much of all together.

use std::time::Duration;

/// How long a request waits for others' bodies to be answered before it is told to come again.
pub const BODY_PATIENCE: Duration = floeberg_env::SHARE_PATIENCE;

/// The longest time, in times of a permitted stall, that a body may take however small it is.
pub const BODY_STALLS_MAX: u32 = 5;

/// The slowest body of the lakehouse port in bytes per second, beyond that time. It is held in memory
/// and its sender is not always known yet.
pub const BODY_RATE_MIN: u64 = 16 << 10;

/// Wrong secrets from one network that are answered at once.
pub const GUESSES_FREE: u32 = 20;

/// The longest time that the answer to a wrong secret is held back.
pub const GUESS_DELAY_MAX: Duration = Duration::from_secs(2);

/// How long a network has to be quiet to be forgotten.
pub const GUESS_MEMORY: Duration = Duration::from_secs(60);

/// Networks whose wrong secrets are counted at one time.
pub const GUESSERS_MAX: usize = 4096;
