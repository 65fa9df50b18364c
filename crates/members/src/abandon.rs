//! What giving up a lost majority means for the rows of group 0: everyone else is gone, with what
//! they held, and never comes back under an old id.

use crate::error::ChangeError;
use crate::keys;
use crate::model::{Departure, MemberState};
use crate::placing;
use crate::plan::Refused;
use crate::rows::{self, MemberRow};
use floeberg_env::Env;
use floeberg_metastore::{Cx, Rows, Store, Txn};
use floeberg_placement::NodeState;
use floeberg_types::{AccountId, NodeId};

/// Marks every member but `me` as gone and its copies as lost, in one transaction; returns the ids
/// of all that are gone. Doing it again changes nothing.
///
/// # Errors
/// `me` is no member by these rows, or group 0 does not answer.
pub async fn abandon_others(
    store: &Store,
    account: &AccountId,
    env: &Env,
    me: NodeId,
) -> Result<Vec<NodeId>, ChangeError> {
    let cx = Cx::own(account.clone(), env);
    let done = store.transact(&cx, |txn| abandon(txn, me)).await?;
    Ok(done.value)
}

/// Where everyone is who is not gone, as applied here.
///
/// # Errors
/// The rows cannot be read.
pub fn present_members(store: &Store) -> Result<Vec<(NodeId, String)>, ChangeError> {
    let roster = rows::all(&store.local())?;
    let present = roster.values().filter(|m| m.state != MemberState::Gone);
    Ok(present.map(|m| (m.id, m.address.clone())).collect())
}

/// Everyone who is gone, as applied here: their certificates are good for a while yet, so whoever
/// listens has to know before it listens.
///
/// # Errors
/// The rows cannot be read.
pub fn gone_members(store: &Store) -> Result<Vec<NodeId>, ChangeError> {
    let roster = rows::all(&store.local())?;
    let gone = roster.values().filter(|m| m.state == MemberState::Gone);
    Ok(gone.map(|member| member.id).collect())
}

fn abandon(txn: &mut Txn<'_>, me: NodeId) -> Result<Vec<NodeId>, ChangeError> {
    let roster = rows::all(txn)?;
    let own = roster.get(&me).ok_or(Refused::Unknown { node: me })?;
    if own.state == MemberState::Gone {
        return Err(Refused::Gone { node: me }.into());
    }
    if own.state != MemberState::Active {
        // Whatever it was about to become, it is all that is left.
        set_states(txn, me, &[MemberState::Active])?;
    }
    let mut map = placing::read(txn)?;
    let before = map.epoch();
    let mut gone = Vec::new();
    for member in roster.values().filter(|member| member.id != me) {
        gone.push(member.id);
        if member.state != MemberState::Gone {
            let dead = MemberState::Leaving(Departure::Dead);
            set_states(txn, member.id, &[dead, MemberState::Gone])?;
        }
        let held = map.members().get(&member.id).map(|held| held.state);
        if held.is_some_and(|state| state != NodeState::Dead) {
            map = map.with_state(member.id, NodeState::Dead).unwrap_or(map);
        }
    }
    if map.epoch() != before {
        placing::write(txn, &map);
    }
    Ok(gone)
}

/// Leads a row through `states`: each leaves its trace.
fn set_states(txn: &mut Txn<'_>, node: NodeId, states: &[MemberState]) -> Result<(), ChangeError> {
    let found = txn.get::<MemberRow>(&keys::member(node))?;
    let mut row = found.ok_or(Refused::Unknown { node })?.value;
    for state in states {
        rows::set_state(&mut row, *state, txn.now());
    }
    txn.put(keys::member(node), &row);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Lab;
    use floeberg_placement::NodeState;

    #[tokio::test(start_paused = true)]
    async fn everyone_else_is_gone_for_good_and_their_copies_are_dead() {
        let lab = Lab::of(3).await;
        let parts = lab.members.parts.clone();
        let placing = lab.placing();
        for member in lab.members.local_roster().unwrap().values() {
            placing.admit(member).await.unwrap();
        }
        let abandon = || abandon_others(&parts.store, &parts.account, &parts.env, NodeId(2));
        for _ in 0..2 {
            assert_eq!(abandon().await.unwrap(), [NodeId(1), NodeId(3)]);
            let roster = lab.members.local_roster().unwrap();
            let states: Vec<_> = roster.values().map(|member| member.state).collect();
            let (gone, active) = (MemberState::Gone, MemberState::Active);
            assert_eq!(states, [gone, active, gone]);
            let map = placing.local().unwrap();
            assert_eq!(map.takers(), 1);
            assert_eq!(map.members()[&NodeId(1)].state, NodeState::Dead);
        }
        let epoch = placing.local().unwrap().epoch();
        abandon().await.unwrap();
        assert_eq!(placing.local().unwrap().epoch(), epoch);
        assert_eq!(
            lab.join("n9").await,
            NodeId(4),
            "ids are not given out again"
        );
        let stranger = abandon_others(&parts.store, &parts.account, &parts.env, NodeId(9)).await;
        assert!(stranger.is_err());
        let gone = abandon_others(&parts.store, &parts.account, &parts.env, NodeId(3)).await;
        assert!(gone.is_err(), "who is gone goes on with nothing");
    }
}
