//! The file that makes a backup one: written last, read first.

use crate::source::{Origin, Point};
use serde::{Deserialize, Serialize};

/// Its name below the backup's own directory or prefix.
pub const MANIFEST: &str = "backup.json";

/// Layout of the manifest and of everything it leads to.
const FORMAT: u32 = 1;

/// What was read of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GroupPart {
    /// Where it was.
    #[serde(flatten)]
    pub point: Point,
    /// Pages of rows.
    pub pages: u64,
    /// Rows on them.
    pub rows: u64,
}

/// What a backup is and consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    format: u32,
    /// What it is of.
    #[serde(flatten)]
    pub origin: Origin,
    /// Each group in the order in which it was read.
    pub groups: Vec<GroupPart>,
    /// How many files there are besides this one and their list.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// BLAKE3 of the list of files, which has theirs.
    pub files_blake3: String,
}

impl Manifest {
    /// The manifest of a finished copy.
    pub(crate) fn new(origin: Origin, groups: Vec<GroupPart>) -> Self {
        Self {
            format: FORMAT,
            origin,
            groups,
            files: 0,
            bytes: 0,
            files_blake3: String::new(),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("plain fields always serialise")
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// It is something else, in words.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        // The format first: a later one may have other fields.
        let head: Head = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if head.format != FORMAT {
            return Err(format!(
                "its format is {}, this version knows {FORMAT}: use a newer floeberg",
                head.format
            ));
        }
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    /// A changed expectation here is a changed format: backups that were made must stay readable.
    #[test]
    fn golden_manifest() {
        let origin = Origin {
            backup: "0d9ae1f6-6f0c-4b8e-8f52-3c2b6a9d1e77".to_owned(),
            cluster: "c1c1c1c1-c1c1-c1c1-c1c1-c1c1c1c1c1c1".to_owned(),
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            version: "0.1.0".to_owned(),
            at_ms: 1_790_000_000_000,
        };
        let part = |group| GroupPart {
            point: Point {
                group,
                index: 100 + u64::from(group),
                feature_level: 1,
            },
            pages: 1,
            rows: 7,
        };
        let manifest = Manifest {
            files: 2,
            bytes: 4096,
            files_blake3: "ab".repeat(32),
            ..Manifest::new(origin, vec![part(0), part(1)])
        };
        let text = String::from_utf8(manifest.encode()).unwrap();
        expect![[r#"
            {
              "format": 1,
              "backup": "0d9ae1f6-6f0c-4b8e-8f52-3c2b6a9d1e77",
              "cluster": "c1c1c1c1-c1c1-c1c1-c1c1-c1c1c1c1c1c1",
              "region": "us-east-1",
              "account": "000000000000",
              "version": "0.1.0",
              "at-ms": 1790000000000,
              "groups": [
                {
                  "group": 0,
                  "index": 100,
                  "feature-level": 1,
                  "pages": 1,
                  "rows": 7
                },
                {
                  "group": 1,
                  "index": 101,
                  "feature-level": 1,
                  "pages": 1,
                  "rows": 7
                }
              ],
              "files": 2,
              "bytes": 4096,
              "files-blake3": "abababababababababababababababababababababababababababababababab"
            }"#]]
        .assert_eq(&text);
        assert_eq!(Manifest::decode(text.as_bytes()), Ok(manifest));
        let newer = text.replace("\"format\": 1", "\"format\": 2");
        assert!(Manifest::decode(newer.as_bytes()).is_err());
    }
}
