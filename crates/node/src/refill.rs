//! Brings the copies back that this node's volume has lost, and says how far that is.

use crate::volume_marks::VolumeMarks;
use floeberg_consensus::Standing;
use floeberg_env::Env;
use floeberg_members::{AlarmKind, Alarms, LostCopies};
use floeberg_objects::{Objects, Refilled};
use floeberg_telemetry::Gauge;
use std::sync::Arc;
use std::time::Duration;

/// Pause between two looks at whether something is lost.
const LOOK: Duration = Duration::from_secs(1);

/// A write that another node had under way when this one started may count a copy that is lost now, and
/// reach its other nodes only after they were compared. So the last pass begins so long after the start:
/// longer than a piece may take to all of its nodes.
const SETTLED: Duration = Duration::from_secs(20);

/// Pauses after a pass that left something; they double.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Looks after one volume.
pub(crate) struct Refill {
    pub(crate) marks: VolumeMarks,
    pub(crate) objects: Arc<Objects>,
    pub(crate) standing: Standing,
    pub(crate) alarms: Alarms,
    pub(crate) missing: Gauge,
    pub(crate) env: Env,
}

impl Refill {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        loop {
            if let Some(lost) = self.marks.lost() {
                self.say(&lost, None);
                if self.standing.is_cleared() {
                    self.refill(lost).await;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Passes until nothing is missing, or more was found to be lost.
    async fn refill(&self, lost: LostCopies) {
        let begun = self.env.clock.monotonic();
        let mut pause = FIRST_PAUSE;
        while self.marks.lost() == Some(lost) {
            let pass_begun = self.env.clock.monotonic();
            let settled = pass_begun.saturating_sub(begun) >= SETTLED;
            let pass = self.objects.refill(|done| self.say(&lost, Some(done)));
            match pass.await {
                Ok(done) if done.is_complete() && settled => match self.marks.trust(lost).await {
                    Ok(true) => return self.over(&done),
                    Ok(false) => return,
                    Err(error) => {
                        tracing::error!(%error, "the mark of the volume is not raised yet");
                    }
                },
                Ok(done) => {
                    tracing::info!(?done, "looked after what the volume has lost");
                    self.say(&lost, Some(&done));
                }
                Err(error) => tracing::info!(%error, "a look at what the volume has lost stopped"),
            }
            tokio::time::sleep(pause).await;
            // Until then a pass that is due soon is not put off.
            if settled {
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    fn over(&self, done: &Refilled) {
        tracing::info!(
            compared = done.compared,
            "the volume has all its copies again"
        );
        self.missing.set(0);
        self.alarms
            .set(AlarmKind::CopiesLost, None, self.env.clock.now());
    }

    fn say(&self, lost: &LostCopies, done: Option<&Refilled>) {
        let left = done.map_or(0, |done| done.left);
        self.missing.set(i64::try_from(left).unwrap_or(i64::MAX));
        let text = Some(text(lost, done));
        self.alarms
            .set(AlarmKind::CopiesLost, text, self.env.clock.now());
    }
}

fn text(lost: &LostCopies, done: Option<&Refilled>) -> String {
    let mut text = format!(
        "the volume lacks something that it had acknowledged (node {} knew more of it): its copies are \
         compared and copied back from the other nodes by itself; keep those running, and take no other \
         one out, until this is over",
        lost.witness
    );
    let Some(done) = done else { return text };
    text += &format!(
        "; {} chunks compared, {} copied, {} missing",
        done.compared, done.copied, done.left
    );
    if done.nowhere > 0 {
        text += &format!(
            ", {} of them on no other node: put the newer copy of the volume back, or the objects in question \
             are lost",
            done.nowhere
        );
    }
    if !done.silent.is_empty() {
        text += &format!("; nodes {:?} do not say what they have", done.silent);
    }
    text
}
