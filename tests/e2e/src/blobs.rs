//! What every object may contain, by what was asked and answered.

use crate::content::Content;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet};

/// Bucket and key.
pub type Name = (String, String);

/// The contents of an object: its parts, one after the other.
pub type Blob = Vec<Content>;

/// The bytes of an object.
#[must_use]
pub fn bytes(blob: &[Content]) -> Bytes {
    match blob {
        [one] => one.bytes(),
        parts => {
            let mut all = BytesMut::new();
            parts
                .iter()
                .for_each(|part| all.extend_from_slice(&part.bytes()));
            all.freeze()
        }
    }
}

/// A promise about an object that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It should be there.
    #[error("{name:?}: the object is not there, but should have {len} bytes")]
    Lost {
        /// The object.
        name: Name,
        /// The length that was acknowledged.
        len: usize,
    },
    /// It should not be there.
    #[error("{name:?}: the object is there with {len} bytes, but should not be")]
    Resurrected {
        /// The object.
        name: Name,
        /// Its length.
        len: usize,
    },
    /// Its bytes are none of those that it may have.
    #[error("{name:?}: the object's {len} bytes are none of {allowed} it may have")]
    Altered {
        /// The object.
        name: Name,
        /// Its length.
        len: usize,
        /// How many contents are possible.
        allowed: usize,
    },
    /// A listing does not agree with the objects.
    #[error("{name:?}: the listing says {listed:?}, but {expected:?} is right")]
    Listing {
        /// The object.
        name: Name,
        /// The listed length, if listed.
        listed: Option<u64>,
        /// The right length, if it is to be listed.
        expected: Option<u64>,
    },
}

/// All objects that were ever written, with what each may be: `None` stands for absence.
#[derive(Debug, Default)]
pub struct Blobs {
    possible: BTreeMap<Name, Vec<Option<Blob>>>,
    touched: BTreeSet<Name>,
}

/// How a request for a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Acknowledged.
    Done,
    /// Refused.
    Refused,
    /// Not known.
    Unknown,
}

impl Blobs {
    /// A change is sent. Only one may be under way for a name.
    pub fn begin(&mut self, name: &Name, target: Option<Blob>) {
        self.touched.insert(name.clone());
        self.possible
            .entry(name.clone())
            .or_insert_with(|| vec![None])
            .push(target);
    }

    /// The change that was sent last has ended.
    pub fn end(&mut self, name: &Name, ending: Ending) {
        let possible = self.possible.get_mut(name).expect("only begun changes end");
        match ending {
            Ending::Done => {
                possible.drain(..possible.len() - 1);
            }
            Ending::Refused => {
                possible.pop();
            }
            Ending::Unknown => {}
        }
    }

    /// The object was read: checks it, and from then on it must be that.
    ///
    /// # Errors
    /// If it is not what it may be.
    pub fn observe(&mut self, name: &Name, found: Option<&Bytes>) -> Result<(), Violation> {
        let possible = self
            .possible
            .get_mut(name)
            .expect("only known objects are read");
        let matches = |candidate: &Option<Blob>| match (candidate, found) {
            (None, None) => true,
            (Some(blob), Some(found)) => is(blob, found),
            _ => false,
        };
        // The latest first: it is the likeliest.
        if let Some(index) = possible.iter().rposition(matches) {
            *possible = vec![possible.swap_remove(index)];
            return Ok(());
        }
        let name = name.clone();
        let longest = possible.iter().flatten().map(|blob| length(blob)).max();
        Err(match (found, longest) {
            (None, len) => Violation::Lost {
                name,
                len: len.unwrap_or(0),
            },
            (Some(found), None) => Violation::Resurrected {
                name,
                len: found.len(),
            },
            (Some(found), Some(_)) => Violation::Altered {
                name,
                len: found.len(),
                allowed: possible.len(),
            },
        })
    }

    /// Compares a listing of `bucket` below `prefix`, after every object there was observed.
    ///
    /// # Errors
    /// If an object is missing, too much or of another length.
    pub fn check_listing(
        &self,
        bucket: &str,
        prefix: &str,
        listed: &BTreeMap<String, u64>,
    ) -> Result<(), Violation> {
        let expected: BTreeMap<&str, u64> = self
            .possible
            .iter()
            .filter(|((b, key), _)| b == bucket && key.starts_with(prefix))
            .filter_map(|((_, key), possible)| {
                let blob = possible.first()?.as_ref()?;
                Some((key.as_str(), length(blob) as u64))
            })
            .collect();
        let names: BTreeSet<&str> = expected
            .keys()
            .copied()
            .chain(listed.keys().map(String::as_str))
            .collect();
        for key in names {
            let (listed, expected) = (listed.get(key).copied(), expected.get(key).copied());
            if listed != expected {
                let name = (bucket.to_owned(), key.to_owned());
                return Err(Violation::Listing {
                    name,
                    listed,
                    expected,
                });
            }
        }
        Ok(())
    }

    /// The objects changed since the last call.
    pub fn take_touched(&mut self) -> BTreeSet<Name> {
        std::mem::take(&mut self.touched)
    }

    /// All names.
    #[must_use]
    pub fn names(&self) -> Vec<Name> {
        self.possible.keys().cloned().collect()
    }

    /// Names in `bucket` below `prefix` whose object is certain to be there.
    #[must_use]
    pub fn present(&self, bucket: &str, prefix: &str) -> Vec<Name> {
        let here = |(b, key): &Name| b == bucket && key.starts_with(prefix);
        let certain = |possible: &Vec<Option<Blob>>| matches!(possible[..], [Some(_)]);
        let found = self
            .possible
            .iter()
            .filter(|(name, p)| here(name) && certain(p));
        found.map(|(name, _)| name.clone()).collect()
    }
}

fn length(blob: &[Content]) -> usize {
    blob.iter().map(|part| part.len).sum()
}

/// Whether `found` is `blob`; lengths are compared before bytes are made.
fn is(blob: &[Content], found: &Bytes) -> bool {
    length(blob) == found.len() && bytes(blob) == *found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(seed: u64, len: usize) -> Blob {
        vec![Content { seed, len }]
    }

    fn name() -> Name {
        ("b".to_owned(), "p/k".to_owned())
    }

    fn changed(endings: &[(Option<Blob>, Ending)]) -> Blobs {
        let mut blobs = Blobs::default();
        for (target, ending) in endings {
            blobs.begin(&name(), target.clone());
            blobs.end(&name(), *ending);
        }
        blobs
    }

    #[test]
    fn an_unknown_change_is_there_or_not_and_stays_so() {
        let (old, new) = (content(1, 10), content(2, 10));
        let history = [
            (Some(old.clone()), Ending::Done),
            (Some(new.clone()), Ending::Unknown),
        ];
        for (seen, other) in [(&old, &new), (&new, &old)] {
            let mut blobs = changed(&history);
            assert_eq!(blobs.observe(&name(), Some(&bytes(seen))), Ok(()));
            assert_eq!(blobs.observe(&name(), Some(&bytes(seen))), Ok(()));
            let flipped = blobs.observe(&name(), Some(&bytes(other)));
            assert!(matches!(flipped, Err(Violation::Altered { .. })));
        }
        let lost = changed(&history).observe(&name(), None);
        assert!(matches!(lost, Err(Violation::Lost { .. })));
    }

    #[test]
    fn half_an_object_and_a_refused_one_are_found() {
        let blob = content(1, 10);
        let whole = bytes(&blob);
        let half = changed(&[(Some(blob.clone()), Ending::Unknown)])
            .observe(&name(), Some(&whole.slice(..5)));
        assert!(matches!(half, Err(Violation::Altered { .. })));
        let refused = changed(&[(Some(blob.clone()), Ending::Refused)]);
        let mut refused = refused;
        let found = refused.observe(&name(), Some(&whole));
        assert!(matches!(found, Err(Violation::Resurrected { .. })));
        let mut deleted = changed(&[(Some(blob), Ending::Done), (None, Ending::Done)]);
        assert_eq!(deleted.observe(&name(), None), Ok(()));
        let found = deleted.observe(&name(), Some(&whole));
        assert!(matches!(found, Err(Violation::Resurrected { .. })));
    }

    #[test]
    fn a_listing_has_every_object_once_with_its_length() {
        let blobs = changed(&[(Some(content(1, 10)), Ending::Done)]);
        let listing = |entries: &[(&str, u64)]| {
            let listed = entries
                .iter()
                .map(|(key, len)| ((*key).to_owned(), *len))
                .collect();
            blobs.check_listing("b", "p/", &listed)
        };
        assert_eq!(listing(&[("p/k", 10)]), Ok(()));
        for wrong in [&[][..], &[("p/k", 9)], &[("p/k", 10), ("p/l", 1)]] {
            assert!(matches!(listing(wrong), Err(Violation::Listing { .. })));
        }
    }

    #[test]
    fn parts_follow_each_other() {
        let blob = [Content { seed: 1, len: 3 }, Content { seed: 2, len: 4 }];
        assert_eq!(bytes(&blob)[..3], blob[0].bytes()[..]);
        assert_eq!(bytes(&blob)[3..], blob[1].bytes()[..]);
    }
}
