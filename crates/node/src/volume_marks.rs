//! Compares this node's volume with what others know that it has acknowledged (docs/decisions/0008-marks.md).
//!
//! A volume is compared with the mark it was opened with: what is written later gets higher numbers and
//! would hide what is missing. For the same reason a node that is asked for the first time since this
//! start is not told a mark before it has said what it knows.

use crate::StartError;
use floeberg_env::Env;
use floeberg_members::{Home, HomeError, LostCopies, Witnesses};
use floeberg_shards::Holdings;
use floeberg_types::NodeId;
use floeberg_volume::{RaiseError, Volume, VolumeMark};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The comparison of one volume; clones are the same.
#[derive(Clone)]
pub struct VolumeMarks {
    me: NodeId,
    volume: Volume,
    opened: VolumeMark,
    holdings: Holdings,
    home: Home,
    witnesses: Arc<Witnesses>,
    env: Env,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Who has said what it knew before this start.
    heard: BTreeSet<NodeId>,
    lost: Option<LostCopies>,
    /// What the data directory says.
    kept: Option<LostCopies>,
}

/// Why the volume is not trusted again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// The volume refuses a record.
    #[error(transparent)]
    Raise(#[from] RaiseError),
    /// The data directory cannot be written.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The process is ending.
    #[error("the process is ending")]
    Ending,
}

impl VolumeMarks {
    /// Compares a volume that was just opened with what this node itself has kept.
    pub(crate) async fn open(
        (me, volume): (NodeId, &Volume),
        (home, witnesses): (&Home, &Arc<Witnesses>),
        env: &Env,
    ) -> Result<Self, StartError> {
        let (opened, reader) = (volume.mark(), home.clone());
        let read = move || LostCopies::read(&reader);
        let kept = env.tasks.spawn_blocking("read-lost", read).await;
        let kept = kept.map_err(|_| StartError::Stopping)??;
        let marks = Self {
            me,
            volume: volume.clone(),
            opened,
            holdings: Holdings::default(),
            home: home.clone(),
            witnesses: witnesses.clone(),
            env: env.clone(),
            state: Arc::new(Mutex::new(State {
                heard: BTreeSet::new(),
                lost: kept,
                kept,
            })),
        };
        if kept.is_some() {
            marks.holdings.doubt();
        }
        marks.hear(me, witnesses.volume(me));
        Ok(marks)
    }

    /// Whether the volume may lack copies that it had acknowledged.
    #[must_use]
    pub fn are_missed(&self) -> bool {
        self.holdings.are_doubted()
    }

    /// What the volume has acknowledged.
    #[must_use]
    pub fn own(&self) -> VolumeMark {
        self.volume.mark()
    }

    /// What this node knows of the volume of another one.
    #[must_use]
    pub fn known(&self, node: NodeId) -> Option<VolumeMark> {
        self.witnesses.volume(node)
    }

    /// What this node knows of the others.
    pub(crate) const fn witnesses(&self) -> &Arc<Witnesses> {
        &self.witnesses
    }

    /// What is thought of the volume.
    pub(crate) fn holdings(&self) -> Holdings {
        self.holdings.clone()
    }

    /// What may be said to `node` of the volume: nothing that is not known to be whole.
    pub(crate) fn told_to(&self, node: NodeId) -> Option<VolumeMark> {
        let state = self.state.lock();
        let may = state.lost.is_none() && state.heard.contains(&node);
        may.then(|| self.volume.mark())
    }

    /// `witness` says what it knows of the volume, or that it knows nothing.
    pub(crate) fn hear(&self, witness: NodeId, known: Option<VolumeMark>) {
        let mut state = self.state.lock();
        // What it knows later are marks of this start.
        if !state.heard.insert(witness) {
            return;
        }
        let Some(known) = known else { return };
        let replaced = known.volume() != self.opened.volume() && known.sequence() > 0;
        if !replaced && !self.opened.lacks(&known) {
            return;
        }
        self.holdings.doubt();
        if state.lost.is_some_and(|lost| lost.known >= known) {
            return;
        }
        tracing::warn!(
            node = %self.me, %witness, known = known.sequence(), here = self.opened.sequence(),
            "the volume lacks something that it had acknowledged: an older copy of it was put back, or its disk \
             lost writes. What is missing is copied from the other nodes"
        );
        state.lost = Some(LostCopies {
            known,
            here: self.opened,
            witness,
            found_at: self.env.clock.now(),
        });
    }

    /// What the volume lacks, as far as anybody has said.
    pub(crate) fn lost(&self) -> Option<LostCopies> {
        self.state.lock().lost
    }

    /// Makes durable what was found. Blocks.
    pub(crate) fn keep(&self) -> Result<(), HomeError> {
        let (lost, kept) = {
            let state = self.state.lock();
            (state.lost, state.kept)
        };
        let Some(lost) = lost.filter(|_| lost != kept) else {
            return Ok(());
        };
        lost.keep(&self.home)?;
        self.state.lock().kept = Some(lost);
        Ok(())
    }

    /// Every copy is back: the mark is lifted above what was known, and the volume trusted. Whether it is:
    /// somebody may know of more by now.
    pub(crate) async fn trust(&self, lost: LostCopies) -> Result<bool, TrustError> {
        // A volume of another id begins at its own mark.
        if lost.known.volume() == self.opened.volume() {
            self.volume.raise_mark(&lost.known).await?;
        }
        if self.lost() != Some(lost) {
            return Ok(false);
        }
        let home = self.home.clone();
        let lift = move || LostCopies::lift(&home);
        let lifted = self.env.tasks.spawn_blocking("lift-lost", lift).await;
        lifted.map_err(|_| TrustError::Ending)??;
        let mut state = self.state.lock();
        state.kept = None;
        if state.lost != Some(lost) {
            return Ok(false);
        }
        state.lost = None;
        self.holdings.trust();
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
