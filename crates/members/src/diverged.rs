//! The mark of a node whose rows differ from what the others agree on: it must not serve them again,
//! and only a person may say otherwise, by removing the file.

use crate::home::{Home, HomeError};
use floeberg_types::{GroupId, TimestampMs};
use serde::{Deserialize, Serialize};

const FORMAT: u32 = 1;
const FILE: &str = "diverged.json";

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    group: u32,
    index: u64,
    here: String,
    others: String,
    found_at_ms: i64,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diverged {
    /// The group whose rows differ.
    pub group: GroupId,
    /// The last log entry that both digests cover.
    pub index: u64,
    /// The digest of this node's rows, in hexadecimal.
    pub here: String,
    /// The digest that a majority has.
    pub others: String,
    /// When it was found.
    pub found_at: TimestampMs,
}

impl Diverged {
    /// Marks a data directory, durably.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn mark(&self, home: &Home) -> Result<(), HomeError> {
        let stored = Stored {
            format: FORMAT,
            group: self.group.0,
            index: self.index,
            here: self.here.clone(),
            others: self.others.clone(),
            found_at_ms: self.found_at.0,
        };
        let text = serde_json::to_vec_pretty(&stored).expect("six plain fields always serialise");
        home.write(FILE, &text)
    }

    /// The mark of a data directory, if it has one.
    ///
    /// # Errors
    /// There is one that cannot be read: that is no reason to start.
    pub fn read(home: &Home) -> Result<Option<Self>, HomeError> {
        let path = home.path(FILE);
        let Some(bytes) = home.read(&path)? else {
            return Ok(None);
        };
        let damaged = HomeError::Damaged {
            path,
            reason: "it is no mark of a diverged node",
        };
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|_| damaged)?;
        // A later format says at least as much.
        Ok(Some(Self {
            group: GroupId(stored.group),
            index: stored.index,
            here: stored.here,
            others: stored.others,
            found_at: TimestampMs(stored.found_at_ms),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use floeberg_env::Env;
    use std::path::Path;

    #[test]
    fn a_mark_stays_and_a_damaged_one_is_an_error() {
        let (env, _) = Env::simulated(1);
        let home = Home::new(Path::new("/data"), env.disk.clone());
        home.prepare().unwrap();
        assert_eq!(Diverged::read(&home).unwrap(), None);
        let mark = Diverged {
            group: GroupId(1),
            index: 2048,
            here: "aa".to_owned(),
            others: "bb".to_owned(),
            found_at: TimestampMs(5),
        };
        mark.mark(&home).unwrap();
        assert_eq!(Diverged::read(&home).unwrap(), Some(mark));
        let text = home.read(&home.path(FILE)).unwrap().unwrap();
        expect![[r#"
            {
              "format": 1,
              "group": 1,
              "index": 2048,
              "here": "aa",
              "others": "bb",
              "found_at_ms": 5
            }"#]]
        .assert_eq(&String::from_utf8(text).unwrap());
        home.write(FILE, b"{").unwrap();
        assert!(Diverged::read(&home).is_err());
    }
}
