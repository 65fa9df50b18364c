//! What clients were promised, and whether the node kept it.

use std::collections::{BTreeMap, BTreeSet};

/// What a client knows of something it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Answered with success: must be there for ever.
    Acknowledged,
    /// Answered with a definite refusal: must never appear.
    Refused,
    /// No answer, or one that says the outcome is unknown: may be there or not, but whole.
    Unknown,
}

/// A snapshot id, unique over the whole run.
pub(crate) type SnapshotId = i64;

/// A promise about one commit request.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// Table name and snapshot for each table of the request.
    pub(crate) parts: Vec<(String, SnapshotId)>,
    pub(crate) fate: Fate,
}

/// A broken promise, in words.
pub(crate) type Violation = String;

/// Everything the clients of a run have seen.
#[derive(Default)]
pub(crate) struct Oracle {
    commits: Vec<Commit>,
    objects: BTreeMap<String, Vec<(Vec<u8>, Fate)>>,
    tables: BTreeMap<String, Fate>,
    rendered: BTreeMap<String, Vec<u8>>,
    seen: BTreeMap<String, BTreeSet<SnapshotId>>,
}

impl Oracle {
    /// Notes a request before it is sent; its fate is unknown until [`Self::settle_commit`].
    pub(crate) fn commit(&mut self, parts: Vec<(String, SnapshotId)>) -> usize {
        self.commits.push(Commit {
            parts,
            fate: Fate::Unknown,
        });
        self.commits.len() - 1
    }

    pub(crate) fn settle_commit(&mut self, at: usize, fate: Fate) {
        self.commits[at].fate = fate;
    }

    pub(crate) fn table(&mut self, name: &str, fate: Fate) {
        let known = self.tables.entry(name.to_owned()).or_insert(fate);
        if fate == Fate::Acknowledged {
            *known = fate;
        }
    }

    /// Names whose creation was acknowledged.
    pub(crate) fn tables(&self) -> Vec<String> {
        let sure = self
            .tables
            .iter()
            .filter(|(_, f)| **f == Fate::Acknowledged);
        sure.map(|(n, _)| n.clone()).collect()
    }

    /// Notes a write before it is sent. A key has one writer, which waits for each answer.
    pub(crate) fn object(&mut self, key: &str, body: Vec<u8>) -> usize {
        let writes = self.objects.entry(key.to_owned()).or_default();
        writes.push((body, Fate::Unknown));
        writes.len() - 1
    }

    pub(crate) fn settle_object(&mut self, key: &str, at: usize, fate: Fate) {
        if let Some(writes) = self.objects.get_mut(key) {
            writes[at].1 = fate;
        }
    }

    pub(crate) fn object_keys(&self) -> Vec<String> {
        self.objects.keys().cloned().collect()
    }

    /// Remembers the bytes of a metadata file, or compares them with what was seen before.
    pub(crate) fn rendered(&mut self, location: &str, bytes: &[u8]) -> Result<(), Violation> {
        match self.rendered.get(location) {
            Some(before) if before != bytes => {
                Err(format!("metadata file {location} changed its bytes"))
            }
            Some(_) => Ok(()),
            None => {
                self.rendered.insert(location.to_owned(), bytes.to_vec());
                Ok(())
            }
        }
    }

    pub(crate) fn rendered_locations(&self) -> Vec<String> {
        self.rendered.keys().cloned().collect()
    }

    /// Checks one GET of an object: the newest acknowledged body, or a later unknown one.
    pub(crate) fn check_object(&self, key: &str, got: Option<&[u8]>) -> Result<(), Violation> {
        let writes = &self.objects[key];
        let sure = writes
            .iter()
            .rposition(|(_, fate)| *fate == Fate::Acknowledged);
        let mut allowed: Vec<Option<&[u8]>> = writes
            .iter()
            .enumerate()
            .filter(|(at, (_, fate))| {
                Some(*at) == sure || (Some(*at) > sure && *fate == Fate::Unknown)
            })
            .map(|(_, (body, _))| Some(body.as_slice()))
            .collect();
        if sure.is_none() {
            allowed.push(None);
        }
        if allowed.contains(&got) {
            return Ok(());
        }
        Err(format!(
            "object {key}: got {:?} bytes, which no write allows ({} writes, newest acknowledged {:?})",
            got.map(<[u8]>::len),
            writes.len(),
            sure
        ))
    }

    /// Checks the snapshots of every table, each as (id, parent) in the order of the metadata.
    pub(crate) fn check_tables(
        &mut self,
        found: &BTreeMap<String, Vec<(SnapshotId, Option<SnapshotId>)>>,
    ) -> Result<(), Violation> {
        for table in self.tables() {
            let chain = found.get(&table).ok_or(format!("table {table} was lost"))?;
            check_chain(&table, chain)?;
        }
        let ids: BTreeMap<&String, BTreeSet<SnapshotId>> = found
            .iter()
            .map(|(t, c)| (t, c.iter().map(|(id, _)| *id).collect()))
            .collect();
        let empty = BTreeSet::new();
        for commit in &self.commits {
            let present: Vec<bool> = commit
                .parts
                .iter()
                .map(|(table, id)| ids.get(table).unwrap_or(&empty).contains(id))
                .collect();
            let whole = present.iter().all(|p| *p == present[0]);
            if !whole {
                return Err(format!("transaction {:?} is half there", commit.parts));
            }
            match (commit.fate, present[0]) {
                (Fate::Acknowledged, false) => {
                    return Err(format!("acknowledged commit {:?} was lost", commit.parts));
                }
                (Fate::Refused, true) => {
                    return Err(format!("refused commit {:?} appeared", commit.parts));
                }
                _ => {}
            }
        }
        for (table, now) in ids {
            let before = self.seen.entry(table.clone()).or_default();
            if let Some(lost) = before.difference(&now).next() {
                return Err(format!("snapshot {lost} of {table} was seen and is gone"));
            }
            before.extend(now);
        }
        Ok(())
    }
}

/// Every snapshot's parent is the one before it: no commit was lost between two others.
fn check_chain(table: &str, chain: &[(SnapshotId, Option<SnapshotId>)]) -> Result<(), Violation> {
    let mut previous = None;
    for (id, parent) in chain {
        if *parent != previous {
            return Err(format!(
                "{table}: snapshot {id} has parent {parent:?}, not {previous:?}"
            ));
        }
        previous = Some(*id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ids: &[(i64, Option<i64>)]) -> BTreeMap<String, Vec<(i64, Option<i64>)>> {
        [("t".to_owned(), ids.to_vec())].into()
    }

    fn oracle(fate: Fate) -> Oracle {
        let mut oracle = Oracle::default();
        oracle.table("t", Fate::Acknowledged);
        let at = oracle.commit(vec![("t".into(), 1)]);
        oracle.settle_commit(at, fate);
        oracle
    }

    #[test]
    fn lost_and_ghost_commits_are_found() {
        assert!(
            oracle(Fate::Acknowledged)
                .check_tables(&found(&[]))
                .is_err()
        );
        assert!(
            oracle(Fate::Refused)
                .check_tables(&found(&[(1, None)]))
                .is_err()
        );
        assert!(oracle(Fate::Unknown).check_tables(&found(&[])).is_ok());
        assert!(
            oracle(Fate::Unknown)
                .check_tables(&found(&[(1, None)]))
                .is_ok()
        );
        assert!(
            oracle(Fate::Acknowledged)
                .check_tables(&found(&[(2, None), (1, None)]))
                .is_err()
        );
    }

    #[test]
    fn half_transactions_and_vanishing_snapshots_are_found() {
        let mut o = oracle(Fate::Acknowledged);
        assert!(o.check_tables(&found(&[(1, None), (5, Some(1))])).is_ok());
        assert!(o.check_tables(&found(&[(1, None)])).is_err());
        let mut o = oracle(Fate::Acknowledged);
        let parts = vec![("t".to_owned(), 2), ("u".to_owned(), 3)];
        o.commit(parts);
        assert!(o.check_tables(&found(&[(1, None), (2, Some(1))])).is_err());
    }

    #[test]
    fn objects_show_the_newest_acknowledged_body_or_an_unknown_one() {
        let mut o = Oracle::default();
        let fates = [
            Fate::Unknown,
            Fate::Acknowledged,
            Fate::Acknowledged,
            Fate::Unknown,
            Fate::Refused,
        ];
        for (body, fate) in fates.into_iter().enumerate() {
            let at = o.object("k", vec![body as u8]);
            o.settle_object("k", at, fate);
        }
        assert!(o.check_object("k", Some(&[2])).is_ok());
        assert!(o.check_object("k", Some(&[3])).is_ok());
        for wrong in [0, 1, 4] {
            assert!(o.check_object("k", Some(&[wrong])).is_err());
        }
        assert!(o.check_object("k", None).is_err());
        assert_eq!(o.object_keys(), ["k"]);
    }
}
