//! A small cluster in memory whose clients interleave by chance: it answers rightly, or with one
//! planted bug. What it writes is a history as a run would record it.

use floeberg_test_chaos::history::{
    Answer, Call, Change, Event, Final, Line, NameCall, Snapshot, digest,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};

/// What the cluster does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    None,
    /// Acknowledges a commit and forgets it.
    AckedCommitLost,
    /// Answers 409 and applies the commit.
    ConflictApplied,
    /// Answers 503 and applies the commit.
    UnavailableApplied,
    /// Answers 409 although the assertion is true.
    FalseConflict,
    /// Does not check what a commit asserts.
    CasUnchecked,
    /// Applies a repeated commit again.
    AppliedTwice,
    /// Applies only the first table of a transaction.
    TransactionTorn,
    /// Loads from a follower that lags.
    StaleLoad,
    /// Loads a commit that is later thrown away.
    DirtyLoad,
    /// One node lacks the last commit in the end.
    NodeLags,
    /// Loads the right head with another history below it.
    OtherHistory,
    /// Acknowledges an object and forgets it.
    ObjectLost,
    /// Reads an object's earlier bytes.
    ObjectStale,
    /// Reads bytes of another object.
    ObjectMixedUp,
    /// Refuses an object and keeps it.
    ObjectRefusedKept,
    /// Renames a table and keeps the old name too.
    RenameHalf,
    /// Acknowledges a drop and forgets it.
    DropLost,
    /// Lets two clients create one table.
    CreatedTwice,
    /// Drops a namespace with a table in it.
    FullSpaceDropped,
    /// Answers 404 for a table that is there.
    FalseNotFound,
}

pub const BUGS: [Bug; 20] = [
    Bug::AckedCommitLost,
    Bug::ConflictApplied,
    Bug::UnavailableApplied,
    Bug::FalseConflict,
    Bug::CasUnchecked,
    Bug::AppliedTwice,
    Bug::TransactionTorn,
    Bug::StaleLoad,
    Bug::DirtyLoad,
    Bug::NodeLags,
    Bug::OtherHistory,
    Bug::ObjectLost,
    Bug::ObjectStale,
    Bug::ObjectMixedUp,
    Bug::ObjectRefusedKept,
    Bug::RenameHalf,
    Bug::DropLost,
    Bug::CreatedTwice,
    Bug::FullSpaceDropped,
    Bug::FalseNotFound,
];

const TABLES: [&str; 3] = ["t0", "t1", "t2"];
const KEYS: [&str; 3] = ["k0", "k1", "k2"];
const CLIENTS: usize = 6;

/// A request on its way.
struct Pending {
    op: u64,
    call: Call,
    /// Once it has taken effect.
    answer: Option<Result<Answer, u16>>,
}

pub struct Simulated {
    bug: Bug,
    rng: StdRng,
    now: u64,
    next: u64,
    lines: Vec<Line>,
    clients: Vec<Option<Pending>>,
    /// Client names change after an unknown outcome, since the old request may still be under way.
    names: Vec<u64>,
    /// A commit to be sent again by each client.
    again: Vec<Option<Call>>,
    /// Requests without an answer that may yet take effect.
    adrift: Vec<Pending>,
    tables: BTreeMap<String, Vec<Snapshot>>,
    /// Markers of each object, the oldest first.
    objects: BTreeMap<String, Vec<u64>>,
    spaces: BTreeSet<(String, Option<String>)>,
}

impl Simulated {
    pub fn new(bug: Bug, seed: u64) -> Self {
        let tables = TABLES.map(|name| (name.to_owned(), Vec::new()));
        Self {
            bug,
            rng: StdRng::seed_from_u64(seed),
            now: 0,
            next: 1,
            lines: Vec::new(),
            clients: (0..CLIENTS).map(|_| None).collect(),
            names: vec![0; CLIENTS],
            again: vec![None; CLIENTS],
            adrift: Vec::new(),
            tables: tables.into(),
            objects: BTreeMap::new(),
            spaces: BTreeSet::new(),
        }
    }

    /// Runs so many steps, lets everything end, and looks at everything.
    pub fn run(mut self, steps: usize) -> Vec<Line> {
        for _ in 0..steps {
            let client = self.rng.random_range(0..CLIENTS);
            self.step(client);
            if self.rng.random_ratio(1, 20) && !self.adrift.is_empty() {
                let at = self.rng.random_range(0..self.adrift.len());
                let late = self.adrift.swap_remove(at);
                // Nobody hears this answer.
                let _ = self.apply(&late.call);
            }
        }
        for client in 0..CLIENTS {
            if self.clients[client].is_some() {
                self.advance(client);
            }
        }
        self.look();
        self.lines
    }

    fn emit(&mut self, event: Event) {
        self.now += self.rng.random_range(1..5);
        let at = self.now;
        self.lines.push(Line { at, event });
    }

    fn invoke(&mut self, client: &str, call: Call) -> u64 {
        let op = self.next;
        self.next += 1;
        let client = client.to_owned();
        self.emit(Event::Invoke {
            op,
            client,
            node: 1,
            call,
        });
        op
    }

    fn step(&mut self, client: usize) {
        if self.clients[client].is_some() {
            if self.is_lost(client) {
                self.lose(client);
            } else {
                self.advance(client);
            }
            return;
        }
        let call = match self.again[client].take() {
            Some(call) => call,
            None => self.choose(),
        };
        let name = format!("c{client}-{}", self.names[client]);
        let op = self.invoke(&name, call.clone());
        self.clients[client] = Some(Pending {
            op,
            call,
            answer: None,
        });
    }

    /// Changes of names are lost seldom: they are not sent again, so each one that is lost explains
    /// almost anything from then on.
    fn is_lost(&mut self, client: usize) -> bool {
        let pending = self.clients[client].as_ref();
        let is_name = pending.is_some_and(|p| matches!(p.call, Call::Name { .. }));
        self.rng.random_ratio(1, if is_name { 150 } else { 12 })
    }

    /// The client gives up; the request may have had its effect, or may have it later, or never.
    fn lose(&mut self, client: usize) {
        let pending = self.clients[client].take().expect("checked");
        let cause = "connection lost".to_owned();
        self.emit(Event::Info {
            op: pending.op,
            cause,
        });
        self.names[client] += 1;
        // A commit is sent again only once its first attempt is over.
        let repeat = matches!(pending.call, Call::Commit { .. }) && self.rng.random_ratio(2, 3);
        if repeat {
            self.again[client] = Some(pending.call);
        } else if pending.answer.is_none() && self.rng.random_ratio(1, 2) {
            self.adrift.push(pending);
        }
    }

    /// Lets a request take effect, or answers it.
    fn advance(&mut self, client: usize) {
        let mut pending = self.clients[client].take().expect("checked");
        let Some(answer) = pending.answer.take() else {
            pending.answer = Some(self.apply(&pending.call));
            self.clients[client] = Some(pending);
            return;
        };
        let op = pending.op;
        match answer {
            Ok(answer) => self.emit(Event::Ok { op, answer }),
            Err(status) => {
                let code = String::new();
                self.emit(Event::Fail { op, status, code });
            }
        }
    }

    /// Whether the planted bug shows this time; where there are few occasions, always.
    fn shows(&mut self, bug: Bug) -> bool {
        let is_rare = matches!(
            bug,
            Bug::AppliedTwice
                | Bug::ObjectRefusedKept
                | Bug::RenameHalf
                | Bug::DropLost
                | Bug::CreatedTwice
                | Bug::FullSpaceDropped
                | Bug::FalseNotFound
        );
        self.bug == bug && (is_rare || self.rng.random_ratio(1, 6))
    }

    fn choose(&mut self) -> Call {
        match self.rng.random_range(0..12) {
            0..3 => self.choose_commit(),
            3..5 => {
                let table = TABLES[self.rng.random_range(0..TABLES.len())].to_owned();
                Call::Load { table }
            }
            5..8 => {
                let key = KEYS[self.rng.random_range(0..KEYS.len())].to_owned();
                let marker = self.rng.random();
                match self.rng.random_range(0..2) {
                    0 => Call::Put { key, marker },
                    _ => Call::Get { key },
                }
            }
            _ => Call::Name {
                family: "f".to_owned(),
                call: self.choose_name(),
            },
        }
    }

    fn choose_commit(&mut self) -> Call {
        let count = self.rng.random_range(1..=2);
        let first = self.rng.random_range(0..TABLES.len());
        let tables = (0..count).map(|offset| TABLES[(first + offset) % TABLES.len()]);
        let changes = tables
            .map(|table| {
                let head = self.tables[table].last().map(|s| s.id);
                let stale = self.rng.random_ratio(1, 4);
                Change {
                    table: table.to_owned(),
                    parent: if stale { Some(0) } else { head },
                    snapshot: self.rng.random_range(1..i64::MAX),
                }
            })
            .collect();
        Call::Commit { changes }
    }

    fn choose_name(&mut self) -> NameCall {
        let space = |rng: &mut StdRng| ["fa", "fb"][rng.random_range(0..2)].to_owned();
        let table = |rng: &mut StdRng| (space(rng), ["x", "y"][rng.random_range(0..2)].to_owned());
        let rng = &mut self.rng;
        match rng.random_range(0..9) {
            0 => NameCall::CreateSpace { space: space(rng) },
            1 => NameCall::DropSpace { space: space(rng) },
            2 | 3 => NameCall::CreateTable { at: table(rng) },
            4 => NameCall::DropTable { at: table(rng) },
            5 => loop {
                let (from, to) = (table(rng), table(rng));
                if from != to {
                    break NameCall::Rename { from, to };
                }
            },
            6 | 7 => NameCall::Exists { at: table(rng) },
            _ => NameCall::List { space: space(rng) },
        }
    }

    fn apply(&mut self, call: &Call) -> Result<Answer, u16> {
        match call {
            Call::Commit { changes } => self.commit(changes),
            Call::Load { table } => Ok(self.load(table)),
            Call::Put { key, marker } => self.put(key, *marker),
            Call::Get { key } => Ok(self.get(key)),
            Call::Name { call, .. } => self.name(call),
        }
    }

    fn commit(&mut self, changes: &[Change]) -> Result<Answer, u16> {
        let is_there = |c: &Change| self.tables[&c.table].iter().any(|s| s.id == c.snapshot);
        let replay = changes.iter().all(is_there);
        if replay && !self.shows(Bug::AppliedTwice) {
            return Ok(Answer::Done);
        }
        let head = |c: &Change| self.tables[&c.table].last().map(|s| s.id);
        let holds = replay || changes.iter().all(|c| head(c) == c.parent);
        if !holds && !self.shows(Bug::CasUnchecked) {
            if self.shows(Bug::ConflictApplied) {
                self.push(changes);
            }
            return Err(409);
        }
        if self.shows(Bug::UnavailableApplied) {
            self.push(changes);
            return Err(503);
        }
        if changes.len() == 1 && self.shows(Bug::FalseConflict) {
            return Err(409);
        }
        if self.shows(Bug::AckedCommitLost) {
            return Ok(Answer::Done);
        }
        if changes.len() > 1 && self.shows(Bug::TransactionTorn) {
            self.push(&changes[..1]);
        } else {
            self.push(changes);
        }
        Ok(Answer::Done)
    }

    fn push(&mut self, changes: &[Change]) {
        for change in changes {
            let chain = self.tables.get_mut(&change.table).expect("a known table");
            let parent = chain.last().map(|s| s.id);
            let sequence = i64::try_from(chain.len()).expect("short") + 1;
            chain.push(Snapshot {
                id: change.snapshot,
                parent,
                sequence,
            });
        }
    }

    fn load(&mut self, table: &str) -> Answer {
        let chain = self.tables[table].clone();
        let (stale, other) = (self.shows(Bug::StaleLoad), self.shows(Bug::OtherHistory));
        let dirty = self.shows(Bug::DirtyLoad);
        let shown = if stale {
            &chain[..chain.len() / 2]
        } else {
            &chain[..]
        };
        let mut ids: Vec<i64> = shown.iter().map(|s| s.id).collect();
        if dirty {
            ids.push(self.rng.random_range(1..i64::MAX));
        }
        let head = ids.last().copied();
        if other && ids.len() > 2 {
            ids.swap(0, 1);
        }
        Answer::Table {
            head,
            length: ids.len(),
            digest: digest(ids),
        }
    }

    fn put(&mut self, key: &str, marker: u64) -> Result<Answer, u16> {
        if self.rng.random_ratio(1, 5) {
            if self.shows(Bug::ObjectRefusedKept) {
                self.objects.entry(key.to_owned()).or_default().push(marker);
            }
            return Err(503);
        }
        if self.shows(Bug::ObjectLost) {
            self.objects.remove(key);
        } else {
            self.objects.entry(key.to_owned()).or_default().push(marker);
        }
        Ok(Answer::Done)
    }

    fn get(&mut self, key: &str) -> Answer {
        let mut of = key;
        if self.shows(Bug::ObjectMixedUp) {
            of = KEYS[self.rng.random_range(0..KEYS.len())];
        }
        let written = self.objects.get(of).cloned().unwrap_or_default();
        let back = if self.shows(Bug::ObjectStale) { 3 } else { 1 };
        let at = written.len().checked_sub(back);
        Answer::Object {
            marker: at.map(|at| written[at]),
        }
    }

    fn name(&mut self, call: &NameCall) -> Result<Answer, u16> {
        let table = |(space, name): &(String, String)| (space.clone(), Some(name.clone()));
        let space_of = |space: &String| (space.clone(), None);
        match call {
            NameCall::CreateSpace { space } => match self.spaces.insert(space_of(space)) {
                true => Ok(Answer::Done),
                false => Err(409),
            },
            NameCall::DropSpace { space } => {
                let full = self.spaces.iter().any(|(s, t)| s == space && t.is_some());
                if !self.spaces.contains(&space_of(space)) {
                    return Err(404);
                }
                if full && !self.shows(Bug::FullSpaceDropped) {
                    return Err(409);
                }
                self.spaces.retain(|(s, _)| s != space);
                Ok(Answer::Done)
            }
            NameCall::CreateTable { at } => {
                if !self.spaces.contains(&space_of(&at.0)) {
                    return Err(404);
                }
                if self.spaces.insert(table(at)) || self.shows(Bug::CreatedTwice) {
                    return Ok(Answer::Done);
                }
                Err(409)
            }
            NameCall::DropTable { at } => {
                if !self.spaces.contains(&table(at)) || self.shows(Bug::FalseNotFound) {
                    return Err(404);
                }
                if !self.shows(Bug::DropLost) {
                    self.spaces.remove(&table(at));
                }
                Ok(Answer::Done)
            }
            NameCall::Rename { from, to } => {
                if !self.spaces.contains(&table(from)) || !self.spaces.contains(&space_of(&to.0)) {
                    return Err(404);
                }
                if self.spaces.contains(&table(to)) {
                    return Err(409);
                }
                if !self.shows(Bug::RenameHalf) {
                    self.spaces.remove(&table(from));
                }
                self.spaces.insert(table(to));
                Ok(Answer::Done)
            }
            NameCall::Exists { at } => Ok(Answer::Exists {
                exists: self.spaces.contains(&table(at)),
            }),
            NameCall::List { space } => {
                let inside = self.spaces.iter().filter(|(s, _)| s == space);
                let names = inside.filter_map(|(_, t)| t.clone()).collect();
                let is_there = self.spaces.contains(&space_of(space));
                Ok(Answer::Tables {
                    tables: is_there.then_some(names),
                })
            }
        }
    }

    /// What a run looks at in the end.
    fn look(&mut self) {
        for node in 1..=2 {
            for table in TABLES {
                let chain = self.tables[table].clone();
                let lags = node == 2 && self.bug == Bug::NodeLags;
                let shown = chain.len() - usize::from(lags && !chain.is_empty());
                self.emit(Event::Final(Final {
                    node,
                    table: table.to_owned(),
                    head: shown.checked_sub(1).map(|at| chain[at].id),
                    snapshots: chain[..shown].to_vec(),
                }));
            }
            let keys = KEYS.map(|key| Call::Get {
                key: key.to_owned(),
            });
            let lists = ["fa", "fb"].map(|space| Call::Name {
                family: "f".to_owned(),
                call: NameCall::List {
                    space: space.to_owned(),
                },
            });
            for call in keys.into_iter().chain(lists) {
                let op = self.invoke("verifier", call.clone());
                if let Ok(answer) = self.apply(&call) {
                    self.emit(Event::Ok { op, answer });
                }
            }
        }
    }
}
