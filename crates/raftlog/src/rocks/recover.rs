//! Opening a log: read every record, check it, and only then let RocksDB change anything.

use super::marker::{Position, SyncMarker};
use super::{framing, options, scan_options};
use crate::record::{Header, Key, Kind, Stored, first_link};
use crate::tail::{Linked, Tail};
use crate::{Corrupt, Damage, LogError, LogRecord};
use bytes::Bytes;
use floeberg_env::Env;
use floeberg_types::GroupId;
use rocksdb::{DB, DBIterator, Direction, IteratorMode};
use std::collections::HashMap;
use std::path::Path;

/// What the store holds.
#[derive(Default)]
pub(super) struct Found {
    pub(super) tails: HashMap<GroupId, Tail>,
    /// Votes saved by all groups together.
    pub(super) votes: u64,
}

/// Opens the database and its marker in `path`, creating both if neither is there.
pub(super) fn open(path: &Path, env: &Env) -> Result<(DB, SyncMarker, Found), LogError> {
    let io = |error: std::io::Error| LogError::engine(&error);
    let disk = env.disk.as_ref();
    let (database, marker_path) = (path.join("db"), path.join("synced"));
    let has_database = disk.exists(&database.join("CURRENT"));
    let marker_lost = || {
        let file = marker_path.display().to_string();
        LogError::from(Corrupt::store(Damage::MarkerLost { file }))
    };
    let marker = if disk.exists(&marker_path) {
        SyncMarker::open(disk, &marker_path).map_err(io)?
    } else {
        None
    };
    let (marker, synced) = match marker {
        Some(found) => found,
        None if has_database => return Err(marker_lost()),
        None => (
            create_marker(path, &marker_path, env).map_err(io)?,
            Position::default(),
        ),
    };
    let found = if has_database {
        framing::check(disk, &database)?;
        let view = DB::open_for_read_only(&options(), &database, false)?;
        check(&view, synced)?
    } else if synced == Position::default() {
        Found::default()
    } else {
        return Err(Corrupt::store(Damage::DatabaseLost).into());
    };
    let mut create = options();
    create.create_if_missing(!has_database);
    let db = DB::open(&create, &database)?;
    disk.sync_dir(path).map_err(io)?;
    Ok((db, marker, found))
}

/// A first marker. Without a database, an unreadable one is left from a creation cut short.
fn create_marker(path: &Path, marker: &Path, env: &Env) -> std::io::Result<SyncMarker> {
    let disk = env.disk.as_ref();
    disk.create_dir_all(path)?;
    if disk.exists(marker) {
        disk.remove_file(marker)?;
    }
    let created = SyncMarker::create(disk, marker)?;
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        disk.sync_dir(parent)?;
    }
    Ok(created)
}

/// Reads the whole store and compares it with what was known to be durable.
fn check(db: &DB, synced: Position) -> Result<Found, LogError> {
    let sequence = db.latest_sequence_number();
    if sequence < synced.sequence {
        let damage = Damage::TailLost {
            expected: synced.sequence,
            found: sequence,
        };
        return Err(Corrupt::store(damage).into());
    }
    let mut found = Found::default();
    read_meta(db, &mut found)?;
    read_groups(db, &mut found)?;
    if found.votes < synced.votes {
        let damage = Damage::VoteLost {
            expected: synced.votes,
            found: found.votes,
        };
        return Err(Corrupt::store(damage).into());
    }
    Ok(found)
}

/// Votes, committed and purged positions; they sort behind all entries.
fn read_meta(db: &DB, found: &mut Found) -> Result<(), LogError> {
    let first = Key::Meta {
        group: GroupId(0),
        kind: Kind::Entry,
    }
    .encode();
    let from = IteratorMode::From(&first, Direction::Forward);
    for row in db.iterator_opt(from, scan_options()) {
        let (key, value) = row?;
        let Some(Key::Meta { group, kind }) = Key::decode(&key) else {
            return Err(Corrupt::store(Damage::Malformed).into());
        };
        let stored = Stored::decode(Key::Meta { group, kind }, value.into())?;
        let Header {
            number, previous, ..
        } = stored.header;
        let tail = found.tails.entry(group).or_insert_with(|| Tail::new(group));
        match kind {
            Kind::Vote => {
                tail.vote = Some(stored.payload);
                tail.votes = number;
                found.votes += number;
            }
            Kind::Committed => tail.committed = Some(stored.payload),
            Kind::Purged => tail.purge(number, stored.payload, previous),
            Kind::Entry => return Err(Corrupt::store(Damage::Malformed).into()),
        }
    }
    Ok(())
}

fn read_groups(db: &DB, found: &mut Found) -> Result<(), LogError> {
    let mut next = Some(GroupId(0));
    while let Some(group) = next {
        // The first record of this group or of the next one that has any.
        let start = Key::Entry { group, index: 0 }.encode();
        let from = IteratorMode::From(&start, Direction::Forward);
        let Some(row) = db.iterator_opt(from, scan_options()).next() else {
            break;
        };
        let (key, _) = row?;
        let (group, index) = match Key::decode(&key) {
            Some(Key::Entry { group, index }) => (group, index),
            Some(Key::Meta { .. }) => break,
            None => return Err(Corrupt::store(Damage::Malformed).into()),
        };
        let tail = found.tails.entry(group).or_insert_with(|| Tail::new(group));
        tail.trimmed = index;
        read_group(db, group, tail)?;
        next = group.0.checked_add(1).map(GroupId);
    }
    Ok(())
}

/// Every record after the purged ones: unbroken, linked, and aware of no vote that is gone.
fn read_group(db: &DB, group: GroupId, tail: &mut Tail) -> Result<(), LogError> {
    let start = tail.next_index();
    let mut rows = entries(db, group, start.unwrap_or(0), None);
    loop {
        let stored = match (tail.next_index(), rows.peek()) {
            (_, None) => return Ok(()),
            (Some(index), Some(_)) => next_entry(&mut rows, group, index)?,
            // A log that was never purged starts anywhere; its first link shows that it is first.
            (None, Some(Ok((key, _)))) => match Key::decode(key) {
                Some(Key::Entry { index, .. }) => next_entry(&mut rows, group, index)?,
                _ => return Err(Corrupt::store(Damage::Malformed).into()),
            },
            (None, Some(Err(_))) => next_entry(&mut rows, group, 0)?,
        };
        let Header {
            number: index,
            previous,
            votes,
            ..
        } = stored.header;
        if previous != tail.next_link() {
            let damage = if tail.next_link() == first_link(group) {
                Damage::Gap { found: index }
            } else {
                Damage::ChainBroken
            };
            return Err(Corrupt::record(group, index, damage).into());
        }
        if votes > tail.votes_mark() {
            let damage = Damage::VoteLost {
                expected: votes.into(),
                found: tail.votes,
            };
            return Err(Corrupt::record(group, index, damage).into());
        }
        let record = LogRecord {
            index,
            bytes: stored.payload,
        };
        tail.push(Linked {
            record,
            crc: stored.crc,
        });
    }
}

/// Stored rows of one group, as RocksDB gives them.
pub(super) type Entries<'a> = std::iter::Peekable<DBIterator<'a>>;

/// Rows of `group` from index `from` up to, not including, `to` or the end of the group.
pub(super) fn entries(db: &DB, group: GroupId, from: u64, to: Option<u64>) -> Entries<'_> {
    let mut options = scan_options();
    let end = match to {
        Some(index) => Key::Entry { group, index }.encode(),
        // One past the last possible index of the group.
        None => {
            let mut end = Key::Entry {
                group,
                index: u64::MAX,
            }
            .encode();
            end.push(0);
            end
        }
    };
    options.set_iterate_upper_bound(end);
    let start = Key::Entry { group, index: from }.encode();
    db.iterator_opt(IteratorMode::From(&start, Direction::Forward), options)
        .peekable()
}

/// The next row, which must be the intact record `index`.
pub(super) fn next_entry(
    rows: &mut Entries<'_>,
    group: GroupId,
    index: u64,
) -> Result<Stored, LogError> {
    match rows.next() {
        Some(Ok((key, value))) => match Key::decode(&key) {
            Some(Key::Entry {
                group: at,
                index: found,
            }) if at == group && found == index => Ok(Stored::decode(
                Key::Entry { group, index },
                Bytes::from(value),
            )?),
            Some(Key::Entry { index: found, .. }) => {
                Err(Corrupt::record(group, index, Damage::Gap { found }).into())
            }
            _ => Err(Corrupt::record(group, index, Damage::Malformed).into()),
        },
        Some(Err(error)) if error.kind() == rocksdb::ErrorKind::Corruption => {
            let damage = Damage::Engine {
                detail: error.into_string(),
            };
            Err(Corrupt::record(group, index, damage).into())
        }
        Some(Err(error)) => Err(error.into()),
        None => Err(Corrupt::record(group, index, Damage::Gap { found: index + 1 }).into()),
    }
}
