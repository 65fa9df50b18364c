//! What this member knows of the others' acknowledgements: kept through restarts, told to whoever asks.

use crate::alarm::{Alarm, AlarmKind};
use crate::home::{Home, HomeError};
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_consensus::{AckMark, Barred, Footing, Standing, Witness};
use floeberg_env::Clock;
use floeberg_proto::floeberg::members::v1 as stored;
use floeberg_proto::floeberg::rpc::v1 as pb;
use floeberg_proto::floeberg::volume::v1 as volume;
use floeberg_rpc::{CallError, Handler, Method, Refusal, RefusalCode, Request};
use floeberg_types::{GroupId, NodeId, TimestampMs};
use floeberg_volume::VolumeMark;
use parking_lot::Mutex;
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Layout of the file and of the messages.
const FORMAT: u32 = 1;
const FILE: &str = "witness";

/// What a node said longer ago of what is wrong with it is not known to be so any more, in ms.
const FRESH_MS: i64 = 15_000;

/// The longest reason that is kept of a refusal, in bytes.
const REFUSAL_MAX: usize = 512;

/// What is known of every other node, in every group of this one. As large as the cluster.
pub struct Witnesses {
    groups: BTreeMap<GroupId, Witness>,
    /// What the volume of each node has acknowledged, this node's own included.
    volumes: Mutex<BTreeMap<NodeId, VolumeMark>>,
    /// For what the others have room, by their own word, and when they said so.
    spaces: Mutex<BTreeMap<NodeId, (Space, TimestampMs)>>,
    /// Nodes that take no part, by their own word.
    refused: Mutex<BTreeMap<NodeId, String>>,
    /// What is wrong with the others, by their own word, and when they said so.
    troubles: Mutex<BTreeMap<NodeId, (Vec<Alarm>, TimestampMs)>>,
    /// What the file holds.
    kept: Mutex<Vec<u8>>,
}

/// For what a node has room on its disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Its log and its rows are above their reserve.
    pub commands: bool,
    /// Its volume takes a chunk of any length.
    pub chunks: bool,
}

/// What a member says of itself when it asks.
#[derive(Clone, Copy, Debug)]
pub struct Telling<'a> {
    /// What it has acknowledged, group by group.
    pub own: &'a BTreeMap<GroupId, AckMark>,
    /// What its volume has acknowledged; `None`: that is not to be said.
    pub volume: Option<VolumeMark>,
    /// Why it takes no part, if so.
    pub barred: Option<&'a Barred>,
    /// What is wrong with it.
    pub alarms: &'a [Alarm],
    /// For what it has room.
    pub space: Space,
}

/// What a node answered that was asked for marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It knows this of who asked, group by group; nothing of a group is no evidence.
    Known {
        /// By group.
        marks: BTreeMap<GroupId, AckMark>,
        /// Of the volume; `None` is no evidence.
        volume: Option<VolumeMark>,
        /// Its wall time.
        clock_ms: i64,
    },
    /// It is of a version that keeps no marks.
    NoMarks,
    /// It does not take the node that asks for a member any more.
    Removed,
    /// Nothing that counts; why.
    Nothing(String),
}

impl Witnesses {
    /// What a data directory says, for a node with these groups. Blocks.
    ///
    /// # Errors
    /// The file is damaged or of a later version, or the disk refuses.
    pub fn load(home: &Home, groups: impl Iterator<Item = GroupId>) -> Result<Self, HomeError> {
        let known = Self::none(groups);
        let path = home.path(FILE);
        let Some(bytes) = home.read(&path)? else {
            return Ok(known);
        };
        let reason = "it does not say what others have acknowledged";
        let file = stored::WitnessFile::decode(&bytes[..]);
        let file = file.map_err(|_| HomeError::Damaged {
            path: path.clone(),
            reason,
        })?;
        if file.format > FORMAT {
            let format = file.format;
            return Err(HomeError::TooNew { path, format });
        }
        for node in file.nodes {
            let id = NodeId(node.node);
            known.hear(id, &node.groups);
            known.hear_volume(id, read_volume(node.volume.as_ref()));
            if !node.refusal.is_empty() {
                known.refused.lock().insert(id, node.refusal);
            }
        }
        *known.kept.lock() = bytes;
        Ok(known)
    }

    /// Of a node that has heard of nobody.
    #[must_use]
    pub fn none(groups: impl Iterator<Item = GroupId>) -> Self {
        Self {
            groups: groups.map(|group| (group, Witness::default())).collect(),
            volumes: Mutex::default(),
            spaces: Mutex::default(),
            refused: Mutex::default(),
            troubles: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// What a group has to know of this node, whose standing is `standing`.
    #[must_use]
    pub fn footing(&self, group: GroupId, standing: &Standing) -> Footing {
        Footing {
            standing: standing.clone(),
            witness: self.groups.get(&group).cloned().unwrap_or_default(),
        }
    }

    /// Nodes that take no part, and why, as they said themselves.
    #[must_use]
    pub fn refused(&self) -> BTreeMap<NodeId, String> {
        self.refused.lock().clone()
    }

    /// What is wrong with the others, as they have said of late.
    #[must_use]
    pub fn alarms(&self, now: TimestampMs) -> Vec<(NodeId, Alarm)> {
        let troubles = self.troubles.lock();
        let fresh = troubles
            .iter()
            .filter(|(_, (_, said))| now.since_ms(*said) < FRESH_MS);
        let each = fresh.flat_map(|(node, (alarms, _))| alarms.iter().map(|a| (*node, a.clone())));
        each.collect()
    }

    fn trouble(&self, node: NodeId, alarms: &[pb::Alarm], now: TimestampMs) {
        let alarms = alarms.iter().take(AlarmKind::ALL.len());
        let alarms = alarms.filter_map(Alarm::from_pb).collect();
        self.troubles.lock().insert(node, (alarms, now));
    }

    /// The highest marks of all other nodes in `group`.
    #[must_use]
    pub fn marks(&self, group: GroupId) -> BTreeMap<NodeId, AckMark> {
        self.groups
            .get(&group)
            .map(Witness::all)
            .unwrap_or_default()
    }

    /// The highest mark of a node's volume that was heard of.
    #[must_use]
    pub fn volume(&self, node: NodeId) -> Option<VolumeMark> {
        self.volumes.lock().get(&node).copied()
    }

    /// A node says what its volume has acknowledged; of another volume than before, only the new one counts.
    pub fn hear_volume(&self, node: NodeId, mark: Option<VolumeMark>) {
        let Some(mark) = mark else { return };
        let mut volumes = self.volumes.lock();
        let known = volumes.entry(node).or_insert(mark);
        if known.volume() != mark.volume() || known.lacks(&mark) {
            *known = mark;
        }
    }

    /// The other nodes whose log and rows are down to their reserve, as they have said of late.
    #[must_use]
    pub fn full(&self, now: TimestampMs) -> BTreeSet<NodeId> {
        self.without(now, |space| space.commands)
    }

    /// Those whose volume takes no chunks.
    #[must_use]
    pub fn full_of_chunks(&self, now: TimestampMs) -> BTreeSet<NodeId> {
        self.without(now, |space| space.chunks)
    }

    fn without(&self, now: TimestampMs, has: impl Fn(&Space) -> bool) -> BTreeSet<NodeId> {
        let spaces = self.spaces.lock();
        let without = spaces
            .iter()
            .filter(|(_, (space, said))| !has(space) && now.since_ms(*said) < FRESH_MS);
        without.map(|(node, _)| *node).collect()
    }

    /// Forgets nodes that are no members any more.
    pub fn dismiss(&self, gone: &BTreeSet<NodeId>) {
        for node in gone {
            self.groups.values().for_each(|known| known.dismiss(*node));
            self.volumes.lock().remove(node);
            self.spaces.lock().remove(node);
            self.refused.lock().remove(node);
            self.troubles.lock().remove(node);
        }
    }

    /// Makes what is known durable, if it is news. Blocks.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn keep(&self, home: &Home) -> Result<(), HomeError> {
        let bytes = self.encode();
        let mut kept = self.kept.lock();
        if *kept != bytes {
            home.write(FILE, &bytes)?;
            *kept = bytes;
        }
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let refused = self.refused.lock();
        let known = self
            .groups
            .values()
            .flat_map(|known| known.all().into_keys());
        let volumes = self.volumes.lock().clone();
        let known = known.chain(volumes.keys().copied());
        let nodes: BTreeSet<NodeId> = known.chain(refused.keys().copied()).collect();
        let nodes = nodes.into_iter().map(|node| stored::WitnessedNode {
            node: node.0,
            groups: self.known(node),
            refusal: refused.get(&node).cloned().unwrap_or_default(),
            volume: volumes.get(&node).map(VolumeMark::to_message),
        });
        let file = stored::WitnessFile {
            format: FORMAT,
            nodes: nodes.collect(),
        };
        file.encode_to_vec()
    }

    fn known(&self, node: NodeId) -> Vec<stored::GroupMark> {
        let known = self.groups.iter().filter_map(|(group, known)| {
            let mark = known.known(node)?;
            Some(group_mark(*group, &mark))
        });
        known.collect()
    }

    /// Marks of groups that are not here, or of a later version, say nothing.
    fn hear(&self, node: NodeId, marks: &[stored::GroupMark]) {
        for (group, mark) in read_marks(marks) {
            if let Some(known) = self.groups.get(&group) {
                known.hear(node, mark);
            }
        }
    }

    /// Who says nothing is of an earlier version, and has room as far as anybody knows.
    fn note_space(&self, node: NodeId, said: Option<pb::Space>, now: TimestampMs) {
        if let Some(pb::Space { commands, chunks }) = said {
            let space = Space { commands, chunks };
            self.spaces.lock().insert(node, (space, now));
        }
    }

    /// `node` says whether it takes part.
    fn note(&self, node: NodeId, refusal: &str) {
        let mut refused = self.refused.lock();
        if refusal.is_empty() {
            if refused.remove(&node).is_some() {
                tracing::info!(%node, "the node takes part again");
            }
            return;
        }
        let end = refusal.floor_char_boundary(REFUSAL_MAX);
        if refused.insert(node, refusal[..end].to_owned()).is_none() {
            tracing::error!(%node, "the node takes no part: {}", &refusal[..end]);
        }
    }
}

fn group_mark(group: GroupId, mark: &AckMark) -> stored::GroupMark {
    stored::GroupMark {
        group: group.0,
        mark: Some(mark.to_pb()),
    }
}

fn read_marks(marks: &[stored::GroupMark]) -> impl Iterator<Item = (GroupId, AckMark)> {
    marks.iter().filter_map(|mark| {
        let read = AckMark::from_pb(mark.mark.as_ref()?)?;
        Some((GroupId(mark.group), read))
    })
}

/// A mark of a later version says nothing.
fn read_volume(mark: Option<&volume::VolumeMark>) -> Option<VolumeMark> {
    let read = VolumeMark::from_message(mark?);
    read.inspect_err(|error| tracing::debug!(%error, "a volume's mark is not understood"))
        .ok()
}

/// Asks a member what it knows of this one, which says of itself what `telling` has.
#[must_use]
pub fn ask(telling: Telling<'_>) -> Request {
    let own = telling.own.iter();
    let message = pb::MarksRequest {
        format: FORMAT,
        own: own.map(|(group, mark)| group_mark(*group, mark)).collect(),
        refusal: telling.barred.map(ToString::to_string).unwrap_or_default(),
        alarms: telling.alarms.iter().map(Alarm::to_pb).collect(),
        own_volume: telling.volume.as_ref().map(VolumeMark::to_message),
        space: Some(pb::Space {
            commands: telling.space.commands,
            chunks: telling.space.chunks,
        }),
    };
    Request {
        method: Method::Marks,
        group: GroupId::CATALOG,
        body: message.encode_to_vec().into(),
    }
}

/// What an answer to [`ask`] says.
#[must_use]
pub fn said(answer: Result<Bytes, CallError>) -> Said {
    match answer {
        Ok(body) => match pb::MarksReply::decode(body) {
            Ok(reply) if reply.format == FORMAT => Said::Known {
                marks: read_marks(&reply.known).collect(),
                volume: read_volume(reply.known_volume.as_ref()),
                clock_ms: reply.clock_ms,
            },
            Ok(reply) => Said::Nothing(format!("format {} is not known here", reply.format)),
            Err(error) => Said::Nothing(error.to_string()),
        },
        Err(CallError::Refused(refusal)) => match refusal.code {
            RefusalCode::UnknownMethod => Said::NoMarks,
            RefusalCode::Removed => Said::Removed,
            _ => Said::Nothing(refusal.message),
        },
        Err(error) => Said::Nothing(error.to_string()),
    }
}

/// Answers [`Method::Marks`], also before this node takes part itself.
pub struct MarksDesk {
    /// What is known.
    pub witnesses: Arc<Witnesses>,
    /// Whoever is barred has lost what it knew of others, too.
    pub standing: Standing,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl Handler for MarksDesk {
    async fn handle(&self, from: NodeId, request: Request) -> Result<Bytes, Refusal> {
        if let Some(why) = self.standing.barred() {
            return Err(Refusal::new(RefusalCode::Forgot, why.to_string()));
        }
        let malformed = |text: String| Refusal::new(RefusalCode::Malformed, text);
        let message = pb::MarksRequest::decode(request.body);
        let message = message.map_err(|error| malformed(error.to_string()))?;
        if message.format != FORMAT {
            let text = format!("format {} is not known here", message.format);
            return Err(malformed(text));
        }
        // Before it is heard: what is asked for is what it does not say itself.
        let reply = pb::MarksReply {
            format: FORMAT,
            known: self.witnesses.known(from),
            clock_ms: self.clock.now().0,
            known_volume: self
                .witnesses
                .volume(from)
                .as_ref()
                .map(VolumeMark::to_message),
        };
        let now = self.clock.now();
        self.witnesses.trouble(from, &message.alarms, now);
        self.witnesses.note_space(from, message.space, now);
        self.witnesses.hear(from, &message.own);
        self.witnesses
            .hear_volume(from, read_volume(message.own_volume.as_ref()));
        self.witnesses.note(from, &message.refusal);
        Ok(reply.encode_to_vec().into())
    }
}

#[cfg(test)]
mod tests;
