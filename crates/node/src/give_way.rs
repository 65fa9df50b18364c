//! A leader whose disk is down to its reserve hands over to a voter that has room: what leads writes most, and
//! the changes of everybody stop with it.

use crate::groups::NodeGroups;
use crate::room::OwnRoom;
use floeberg_consensus::Standing;
use floeberg_env::Env;
use floeberg_members::Witnesses;
use std::sync::Arc;
use std::time::Duration;

/// Pause between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Pause after a hand-over, because others may elect this node again; it doubles with every further one.
const BACK_OFF: Duration = Duration::from_secs(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(300);

/// Looks at the room of one node.
pub(crate) struct GiveWay {
    pub(crate) groups: NodeGroups,
    pub(crate) room: OwnRoom,
    pub(crate) witnesses: Arc<Witnesses>,
    pub(crate) standing: Standing,
    pub(crate) env: Env,
}

impl GiveWay {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let mut back_off = BACK_OFF;
        loop {
            tokio::time::sleep(LOOK).await;
            let Err(full) = self.room.check() else {
                back_off = BACK_OFF;
                continue;
            };
            if !self.standing.is_cleared() {
                continue;
            }
            let unfit = self.witnesses.full(self.env.clock.now());
            if self.groups.give_way(&unfit).await {
                tracing::warn!("another node takes the lead, which has room: here {full}");
                tokio::time::sleep(back_off).await;
                back_off = (back_off * 2).min(BACK_OFF_MAX);
            }
        }
    }
}
