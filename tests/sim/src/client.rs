//! Simulated clients: random operations through the nodes' real HTTP services.

use crate::cluster::Cluster;
use crate::door::Door;
use crate::tables::{FILES, PREFIX, TABLES, View};
use bytes::Bytes;
use floeberg_env::{Clock as _, Rng, SeededRng};
use floeberg_test_chaos::history::{Answer, Call, Change};
use floeberg_test_chaos::workload::content;
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Objects that all clients write and read.
pub(crate) const OBJECTS: u64 = 6;
/// Objects after those that are written once, to be there at the end.
pub(crate) const KEPT: u64 = 3;
/// Content up to here is kept inline, and no volume has it.
const INLINE: usize = 16 << 10;

/// Bytes of metadata files, which never change.
pub(crate) type Rendered = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// One client with its own random stream.
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) rng: SeededRng,
    pub(crate) rendered: Rendered,
    /// How long it waits for an answer.
    pub(crate) patience: Duration,
    /// The node it asks, if that is up.
    pub(crate) home: u64,
}

/// How a request ended for a client.
pub(crate) enum Asked {
    Done(Bytes),
    Refused(u16),
    Unknown,
}

/// A request on its way.
struct Sending {
    op: u64,
    node: u64,
    door: Arc<Door>,
}

impl Client {
    pub(crate) fn draw(&self, below: u64) -> u64 {
        let rng: &dyn Rng = &self.rng;
        rng.below(below)
    }

    /// The same client once more, with a random stream of its own, at `node`.
    pub(crate) fn twin(&self, node: u64) -> Self {
        let rng: &dyn Rng = &self.rng;
        Self {
            name: format!("{}-{node}", self.name),
            home: node,
            cluster: self.cluster.clone(),
            rng: SeededRng::new(rng.next_u64()),
            rendered: self.rendered.clone(),
            ..*self
        }
    }

    fn draw_id(&self) -> i64 {
        let rng: &dyn Rng = &self.rng;
        i64::try_from(rng.next_u64() >> 2).expect("62 bits")
    }

    /// The home node, or another if that is down; waits for one.
    async fn open(&self, call: Call) -> Sending {
        loop {
            let doors = self.cluster.doors();
            let home = doors.iter().find(|(node, _)| *node == self.home);
            let any = usize::try_from(self.home).unwrap_or(0) % doors.len().max(1);
            if let Some((node, door)) = home.or(doors.get(any)) {
                let op = self.cluster.record.invoke(&self.name, *node, call);
                let (node, door) = (*node, door.clone());
                return Sending { op, node, door };
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Goes to a random node.
    pub(crate) fn wander(&mut self) {
        let doors = self.cluster.doors();
        let count = u64::try_from(doors.len()).unwrap_or(0);
        let at = usize::try_from(self.draw(count)).unwrap_or(0);
        if let Some((node, _)) = doors.get(at) {
            self.home = *node;
        }
    }

    /// One request to the lakehouse port. `503` is a refusal there: it says that nothing was done.
    pub(crate) async fn ask(
        &mut self,
        call: Call,
        request: (&str, &str, Option<&Value>),
        read: impl FnOnce(&Bytes) -> Option<Answer>,
    ) -> Asked {
        let (method, path, body) = request;
        let sending = self.open(call).await;
        let body = Bytes::from(body.map(Value::to_string).unwrap_or_default());
        let answered = sending.door.lakehouse(self.patience, method, path, body);
        let answered = answered.await;
        self.end(&sending, answered, StatusCode::SERVICE_UNAVAILABLE, read)
    }

    /// One request to the S3 port, where only 4xx says that nothing was done.
    async fn ask_s3(
        &mut self,
        call: Call,
        request: (&str, &str, Bytes),
        read: impl FnOnce(&Bytes) -> Option<Answer>,
    ) -> Asked {
        let (method, path, body) = request;
        let sending = self.open(call).await;
        let answered = sending.door.s3(self.patience, method, path, body).await;
        self.end(&sending, answered, StatusCode::TOO_MANY_REQUESTS, read)
    }

    fn end(
        &mut self,
        sending: &Sending,
        answered: Result<(StatusCode, Bytes), &'static str>,
        refusal: StatusCode,
        read: impl FnOnce(&Bytes) -> Option<Answer>,
    ) -> Asked {
        let (op, record) = (sending.op, self.cluster.record.clone());
        let (status, body) = match answered {
            Ok(answer) => answer,
            Err(cause) => {
                record.unknown(op, cause);
                self.cluster.given_up(&sending.door);
                self.wander();
                return Asked::Unknown;
            }
        };
        if status.is_success() {
            match read(&body) {
                Some(answer) => record.ok(op, answer),
                None => record.broken(format!("operation {op}: the answer is not readable")),
            }
            return Asked::Done(body);
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            record.broken(format!("operation {op}: a small change is too large"));
        }
        if status.is_client_error() || status == refusal {
            record.refused(op, status.as_u16());
            if status.is_server_error() {
                self.wander();
            }
            return Asked::Refused(status.as_u16());
        }
        record.unknown(op, status.as_str());
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            let (node, text) = (sending.node, String::from_utf8_lossy(&body).into_owned());
            record.broken(format!("operation {op} to node {node}: 500 {text}"));
        }
        self.wander();
        Asked::Unknown
    }

    /// One random operation, then a random pause.
    pub(crate) async fn step(&mut self) {
        if self.draw(8) == 0 {
            self.wander();
        }
        match self.draw(12) {
            0..=3 => self.commit(1).await,
            4..=5 => self.commit(2).await,
            6..=7 => self.put().await,
            8 => {
                let key = self.key();
                self.get(&key).await;
            }
            _ => {
                let table = self.pick();
                self.load(table).await;
            }
        }
        let pause = Duration::from_millis(5 + self.draw(120));
        tokio::time::sleep(pause).await;
    }

    fn pick(&self) -> &'static str {
        TABLES[usize::try_from(self.draw(4)).expect("below four")]
    }

    fn key(&self) -> String {
        format!("o{}", self.draw(OBJECTS))
    }

    pub(crate) async fn load(&mut self, table: &str) -> Option<View> {
        let path = format!("{PREFIX}/namespaces/ns/tables/{table}");
        let call = Call::Load {
            table: table.to_owned(),
        };
        let view = |body: &Bytes| View::of(&serde_json::from_slice(body).ok()?);
        let read = |body: &Bytes| view(body).map(|view| view.answer());
        match self.ask(call, ("GET", &path, None), read).await {
            Asked::Done(body) => view(&body),
            Asked::Refused(_) | Asked::Unknown => None,
        }
    }

    /// Appends to some tables at once, built on what a node shows of them.
    async fn commit(&mut self, count: usize) {
        let mut tables = TABLES.to_vec();
        while tables.len() > count {
            let at = usize::try_from(self.draw(tables.len() as u64)).expect("below four");
            tables.remove(at);
        }
        let (mut changes, mut bodies) = (Vec::new(), Vec::new());
        for table in tables {
            let Some(view) = self.load(table).await else {
                return;
            };
            let now = self.cluster.wall_clock().now().0;
            let Some((change, body)) = view.append(table, self.draw_id(), now) else {
                return;
            };
            changes.push(change);
            bodies.push(body);
        }
        // Decided here on what was seen there.
        if self.draw(3) == 0 {
            self.wander();
        }
        self.send(&changes, bodies).await;
    }

    async fn send(&mut self, changes: &[Change], mut bodies: Vec<Value>) {
        let (path, body) = match changes {
            [one] => {
                let path = format!("{PREFIX}/namespaces/ns/tables/{}", one.table);
                (path, bodies.remove(0))
            }
            _ => {
                let path = format!("{PREFIX}/transactions/commit");
                (path, json!({"table-changes": bodies}))
            }
        };
        for _ in 0..4 {
            let call = Call::Commit {
                changes: changes.to_vec(),
            };
            let request = ("POST", path.as_str(), Some(&body));
            match self.ask(call, request, |_| Some(Answer::Done)).await {
                Asked::Done(answer) => {
                    self.look_at_metadata(&answer).await;
                    if self.draw(4) == 0 {
                        self.replay(changes, request).await;
                    }
                    return;
                }
                Asked::Refused(503) => {}
                Asked::Refused(_) => return,
                Asked::Unknown if self.draw(4) == 0 => return,
                Asked::Unknown => {}
            }
            tokio::time::sleep(Duration::from_millis(50 + self.draw(200))).await;
        }
    }

    /// A client that lost the answer sends the same request again: it must never fail now.
    async fn replay(&mut self, changes: &[Change], request: (&str, &str, Option<&Value>)) {
        if self.draw(2) == 0 {
            tokio::time::sleep(Duration::from_millis(self.draw(2_000))).await;
            self.wander();
        }
        let call = Call::Commit {
            changes: changes.to_vec(),
        };
        let again = self.ask(call, request, |_| Some(Answer::Done)).await;
        if let Asked::Refused(status) = again
            && status != 503
        {
            let what = format!("{changes:?}, acknowledged before, was answered {status} again");
            self.cluster.record.broken(what);
        }
    }

    async fn look_at_metadata(&mut self, answer: &Bytes) {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        if let Some(location) = answer["metadata-location"].as_str() {
            self.compare_metadata(location).await;
        }
    }

    /// Reads a metadata file and compares it with what it was before; whether it was served.
    pub(crate) async fn compare_metadata(&mut self, location: &str) -> bool {
        let path = location.trim_start_matches("s3://");
        let call = Call::Get {
            key: location.to_owned(),
        };
        let sending = self.open(call).await;
        let answered = sending.door.s3(self.patience, "GET", path, Bytes::new());
        let answered = answered.await;
        let record = self.cluster.record.clone();
        // Which bytes they are is compared here, so the history need not know.
        record.unknown(sending.op, "a metadata file");
        match answered {
            Ok((status, body)) if status.is_success() => {
                let before = self
                    .rendered
                    .lock()
                    .entry(location.to_owned())
                    .or_insert_with(|| body.clone())
                    .clone();
                if before != body {
                    record.broken(format!("metadata file {location} changed its bytes"));
                }
                true
            }
            Ok((status, _)) if status.is_client_error() => {
                record.broken(format!("metadata file {location} was answered {status}"));
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    async fn put(&mut self) {
        let (key, marker) = (self.key(), self.marker());
        self.put_as(key, marker).await;
    }

    /// A random object that is not long: those would take most of a run's time; real processes write them.
    fn marker(&self) -> u64 {
        let rng: &dyn Rng = &self.rng;
        loop {
            let marker = rng.next_u64();
            if !content::is_long(marker) {
                return marker;
            }
        }
    }

    /// Writes the objects that are kept, each until it is acknowledged.
    pub(crate) async fn keep(&mut self) {
        for number in OBJECTS..OBJECTS + KEPT {
            let mut marker = self.marker();
            while content::bytes(marker).len() <= INLINE {
                marker = self.marker();
            }
            while !self.put_as(format!("o{number}"), marker).await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Whether it was acknowledged.
    async fn put_as(&mut self, key: String, marker: u64) -> bool {
        let call = Call::Put {
            key: key.clone(),
            marker,
        };
        let path = format!("{FILES}/{key}");
        let request = ("PUT", path.as_str(), content::bytes(marker));
        let asked = self.ask_s3(call, request, |_| Some(Answer::Done)).await;
        matches!(asked, Asked::Done(_))
    }

    /// Whether there was an answer.
    pub(crate) async fn get(&mut self, key: &str) -> bool {
        let call = Call::Get {
            key: key.to_owned(),
        };
        let sending = self.open(call).await;
        let path = format!("{FILES}/{key}");
        let answered = sending.door.s3(self.patience, "GET", &path, Bytes::new());
        let answered = answered.await;
        if let Ok((StatusCode::NOT_FOUND, _)) = answered {
            let nothing = Answer::Object { marker: None };
            self.cluster.record.ok(sending.op, nothing);
            return true;
        }
        let read = |body: &Bytes| {
            Some(match content::marker(body) {
                Ok(marker) => Answer::Object {
                    marker: Some(marker),
                },
                Err(what) => Answer::Garbled { what },
            })
        };
        let ended = self.end(&sending, answered, StatusCode::SERVICE_UNAVAILABLE, read);
        matches!(ended, Asked::Done(_))
    }
}
