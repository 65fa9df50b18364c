//! Members as stored messages.

use crate::error::{ChangeError, DamagedMember};
use crate::keys;
use crate::model::{Departure, FeatureLevels, Member, MemberState};
use floeberg_metastore::Rows;
use floeberg_proto::floeberg::members::v1 as pb;
use floeberg_types::{NodeId, TimestampMs};
use std::collections::BTreeMap;

pub(crate) use pb::{ClusterRow, MemberRow};

/// More rows than nodes that a cluster ever had.
const ROWS_MAX: usize = 100_000;

pub(crate) fn features_to_row(features: FeatureLevels) -> pb::FeatureLevels {
    pb::FeatureLevels {
        low: features.low,
        high: features.high,
    }
}

/// A missing range is level 0 only: no binary can work at that.
pub(crate) fn features_from_row(features: Option<pb::FeatureLevels>) -> FeatureLevels {
    let features = features.unwrap_or_default();
    FeatureLevels {
        low: features.low,
        high: features.high,
    }
}

/// Sets state and departure of a row.
pub(crate) fn set_state(row: &mut MemberRow, state: MemberState, now: TimestampMs) {
    let (state, departure) = match state {
        MemberState::Joining => (pb::MemberState::Joining, pb::Departure::Unspecified),
        MemberState::Active => (pb::MemberState::Active, pb::Departure::Unspecified),
        MemberState::Leaving(Departure::Drained) => {
            (pb::MemberState::Leaving, pb::Departure::Drained)
        }
        MemberState::Leaving(Departure::Dead) => (pb::MemberState::Leaving, pb::Departure::Dead),
        MemberState::Drained => (pb::MemberState::Drained, pb::Departure::Drained),
        // How it left stays in the row.
        MemberState::Gone => (pb::MemberState::Gone, row.departure()),
    };
    row.state = state.into();
    row.departure = departure.into();
    row.changed_at_ms = now.0;
}

fn state_of(row: &MemberRow) -> Result<MemberState, DamagedMember> {
    let damaged = |detail| DamagedMember {
        node: NodeId(row.node_id),
        detail,
    };
    Ok(match (row.state(), row.departure()) {
        (pb::MemberState::Joining, _) => MemberState::Joining,
        (pb::MemberState::Active, _) => MemberState::Active,
        (pb::MemberState::Drained, _) => MemberState::Drained,
        (pb::MemberState::Gone, _) => MemberState::Gone,
        (pb::MemberState::Leaving, pb::Departure::Drained) => {
            MemberState::Leaving(Departure::Drained)
        }
        (pb::MemberState::Leaving, pb::Departure::Dead) => MemberState::Leaving(Departure::Dead),
        (pb::MemberState::Leaving, pb::Departure::Unspecified) => {
            return Err(damaged("it leaves, but not how"));
        }
        (pb::MemberState::Unspecified, _) => return Err(damaged("unknown state")),
    })
}

pub(crate) fn member_from_row(row: &MemberRow) -> Result<Member, DamagedMember> {
    Ok(Member {
        id: NodeId(row.node_id),
        address: row.address.clone(),
        labels: row.labels.clone(),
        state: state_of(row)?,
        replaced_by: (row.replaced_by != 0).then_some(NodeId(row.replaced_by)),
        joined_at: TimestampMs(row.joined_at_ms),
        changed_at: TimestampMs(row.changed_at_ms),
        features: features_from_row(row.features),
        version: row.version.clone(),
        start: row.start,
        settings: row.settings.clone(),
    })
}

/// All rows of members, gone ones included.
pub(crate) fn member_rows(rows: &impl Rows) -> Result<Vec<MemberRow>, ChangeError> {
    let found = rows.scan::<MemberRow>(&keys::members(), None, ROWS_MAX)?;
    Ok(found.into_iter().map(|(_, row)| row.value).collect())
}

/// All members, gone ones included.
pub(crate) fn all(rows: &impl Rows) -> Result<BTreeMap<NodeId, Member>, ChangeError> {
    let mut members = BTreeMap::new();
    for row in member_rows(rows)? {
        members.insert(NodeId(row.node_id), member_from_row(&row)?);
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use expect_test::expect;
    use prost::Message as _;

    /// A changed expectation here is a changed format: rows that are stored must stay readable.
    #[test]
    fn golden_rows() {
        let mut row = MemberRow {
            node_id: 3,
            address: "n3:7000".to_owned(),
            labels: [("zone".to_owned(), "z".to_owned())].into(),
            replaced_by: 4,
            joined_at_ms: 5,
            features: Some(pb::FeatureLevels { low: 1, high: 2 }),
            version: "0.1.0".to_owned(),
            csr_hash: Bytes::from_static(&[0xc5; 32]),
            ..MemberRow::default()
        };
        let mut text = format!("{}\n", hex::encode(keys::member(NodeId(3))));
        for state in [
            MemberState::Joining,
            MemberState::Active,
            MemberState::Leaving(Departure::Drained),
            MemberState::Leaving(Departure::Dead),
            MemberState::Gone,
            MemberState::Drained,
        ] {
            set_state(&mut row, state, TimestampMs(6));
            assert_eq!(member_from_row(&row).unwrap().state, state);
            text += &format!("{} {}\n", state.word(), hex::encode(row.encode_to_vec()));
        }
        let cluster = ClusterRow {
            next_node_id: 4,
            feature_level: 1,
            founded_at_ms: 5,
            ..ClusterRow::default()
        };
        text += &format!(
            "{}\ncluster {}\n",
            hex::encode(keys::cluster()),
            hex::encode(cluster.encode_to_vec())
        );
        row.start = 7;
        let cluster = ClusterRow {
            account: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
            ..cluster
        };
        let started = hex::encode(row.encode_to_vec());
        text += &format!(
            "started {started}\nagreed {}\n",
            hex::encode(cluster.encode_to_vec())
        );
        row.settings = [("root keys".to_owned(), "0a1b2c3d".to_owned())].into();
        text += &format!("configured {}\n", hex::encode(row.encode_to_vec()));
        expect![[r#"
            800000000000000003
            joining 080312076e333a373030301a090a047a6f6e6512017a20013004380540064a04080110025205302e312e305a20c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5
            active 080312076e333a373030301a090a047a6f6e6512017a20023004380540064a04080110025205302e312e305a20c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5
            draining 080312076e333a373030301a090a047a6f6e6512017a200328013004380540064a04080110025205302e312e305a20c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5
            dead 080312076e333a373030301a090a047a6f6e6512017a200328023004380540064a04080110025205302e312e305a20c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5
            gone 080312076e333a373030301a090a047a6f6e6512017a200428023004380540064a04080110025205302e312e305a20c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5
            drained 080312076e333a373030301a090a047a6f6e6512017a200528013004380540064a04080110025205302e312e305a20c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5
            81
            cluster 080410011805
            started 080312076e333a373030301a090a047a6f6e6512017a200528013004380540064a04080110025205302e312e305a20c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c56007
            agreed 080410011805220c3030303030303030303030302a0975732d656173742d31
            configured 080312076e333a373030301a090a047a6f6e6512017a200528013004380540064a04080110025205302e312e305a20c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c560076a150a09726f6f74206b65797312083061316232633364
        "#]].assert_eq(&text);
    }

    #[test]
    fn a_row_of_an_unknown_state_is_damage() {
        let row = MemberRow::default();
        assert_eq!(member_from_row(&row).unwrap_err().detail, "unknown state");
        let row = MemberRow {
            state: pb::MemberState::Leaving.into(),
            ..row
        };
        assert!(member_from_row(&row).is_err());
    }
}
