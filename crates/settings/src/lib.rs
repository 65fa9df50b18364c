//! The configuration file of a cluster node: which keys there are, and the typed, checked result.
//!
//! [`KEYS`] is the one list of keys: parsing takes defaults from it, unknown keys are compared with
//! it, and [`example`] prints it. [`Settings::parse`] reports every problem of a file at once, each
//! with its line, its key, its value and what to do. Nothing secret stands in the file; [`root_key`]
//! finds the root key pair.

mod check;
mod document;
mod example;
mod keys;
mod nearest;
mod parse;
mod problem;
mod secrets;
mod settings;
mod units;

pub use example::example;
pub use keys::{KEYS, Key, Preset};
pub use problem::{Origin, Problem, Problems};
pub use secrets::{ACCESS_KEY, RootKeyProblem, SECRET_KEY, root_key};
pub use settings::{
    ClientPort, ClientTls, ConsensusTiming, DataDirs, Labels, Limits, Log, LogStyle, PeerPort,
    Settings,
};
pub use units::duration as parse_duration;
