//! A group that may take part: it begins, campaigns, and stops when the node turns out to be barred.

use crate::raft::{Raft, TypeConfig};
use crate::standing::Standing;
use crate::start::Begin;
use floeberg_types::{GroupId, NodeId};
use openraft::errors::{Fatal, InitializeError, RaftError};
use openraft::impls::BasicNode;
use std::collections::BTreeMap;

/// A group that is built and keeps still.
pub(crate) struct Going {
    pub(crate) raft: Raft,
    pub(crate) node: NodeId,
    pub(crate) begin: Begin,
    /// Where the others reach this node.
    pub(crate) address: String,
}

/// Why the group is not up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GoingError {
    #[error(transparent)]
    Fatal(#[from] Fatal<TypeConfig>),
    #[error(transparent)]
    Initialize(#[from] RaftError<TypeConfig, InitializeError<TypeConfig>>),
}

impl Going {
    /// From now on the group campaigns when it hears of no leader; a single voter does at once.
    pub(crate) async fn begin(&self) -> Result<(), GoingError> {
        self.raft.runtime_config().elect(true);
        if self.raft.is_initialized().await? {
            self.campaign_alone().await
        } else if self.begin == Begin::Alone {
            self.begin_alone().await
        } else {
            Ok(())
        }
    }

    /// Begins once the node is cleared, and stops the group if it is barred, be it later: what it has
    /// is not what it had acknowledged, and nothing may be built on it.
    pub(crate) async fn follow(self, group: GroupId, standing: Standing) {
        let cleared = standing.is_cleared();
        if !cleared
            && standing.decided().await.is_ok()
            && let Err(error) = self.begin().await
        {
            // The library has said why it stopped.
            tracing::debug!(%group, %error, "the group did not begin");
        }
        let why = standing.until_barred().await;
        tracing::info!(%group, %why, "the group takes no part here any more");
        self.raft.runtime_config().elect(false);
        if let Err(error) = self.raft.shutdown().await {
            tracing::debug!(%group, %error, "the group had stopped before");
        }
    }

    /// Makes a pristine group one of this node alone, which then campaigns by itself.
    async fn begin_alone(&self) -> Result<(), GoingError> {
        let alone = BTreeMap::from([(self.node.0, BasicNode::new(&self.address))]);
        self.raft.initialize(alone).await?;
        Ok(())
    }

    /// Lets a single voter lead without waiting for an election timeout: nobody else could win.
    async fn campaign_alone(&self) -> Result<(), GoingError> {
        let voters = self.raft.with_raft_state(|state| {
            let effective = state.membership_state.effective();
            effective.voter_ids().collect::<Vec<_>>()
        });
        if voters.await? == [self.node.0] {
            self.raft.trigger().elect(false).await?;
        }
        Ok(())
    }
}
