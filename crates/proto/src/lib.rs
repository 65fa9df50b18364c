//! Generated protobuf messages of every byte that Floeberg stores or sends between nodes.
//!
//! The contracts live in `/proto`; this crate only compiles them. Maps are `BTreeMap` so that
//! encoding the same message twice gives the same bytes. No logic belongs here.
#![allow(clippy::all, clippy::pedantic, unused_qualifications)]

include!(concat!(env!("OUT_DIR"), "/floeberg.rs"));
