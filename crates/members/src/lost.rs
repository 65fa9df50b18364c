//! That this node's volume lacks something it had acknowledged: kept in the data directory until every copy is
//! back, because later records of the volume hide it from its mark.

use crate::home::{Home, HomeError};
use floeberg_proto::floeberg::members::v1 as stored;
use floeberg_types::{NodeId, TimestampMs};
use floeberg_volume::VolumeMark;
use prost::Message as _;

const FORMAT: u32 = 1;
const FILE: &str = "lost-copies";

/// What a volume has been found to lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostCopies {
    /// What it had acknowledged, by somebody's word.
    pub known: VolumeMark,
    /// What was there when it was opened.
    pub here: VolumeMark,
    /// Who knew it.
    pub witness: NodeId,
    /// When that was found.
    pub found_at: TimestampMs,
}

impl LostCopies {
    /// Makes it durable. Blocks.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn keep(&self, home: &Home) -> Result<(), HomeError> {
        home.write(FILE, &self.encode())
    }

    /// What a data directory says. Blocks.
    ///
    /// # Errors
    /// There is something that cannot be read: that is no reason to trust the volume.
    pub fn read(home: &Home) -> Result<Option<Self>, HomeError> {
        let path = home.path(FILE);
        let Some(bytes) = home.read(&path)? else {
            return Ok(None);
        };
        let read = Self::decode(&bytes);
        let reason = "it does not say what the volume has lost";
        read.map(Some).ok_or(HomeError::Damaged { path, reason })
    }

    /// Every copy is back. Blocks.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn lift(home: &Home) -> Result<(), HomeError> {
        home.remove(FILE)
    }

    fn encode(&self) -> Vec<u8> {
        let message = stored::LostCopies {
            format: FORMAT,
            known: Some(self.known.to_message()),
            here: Some(self.here.to_message()),
            witness: self.witness.0,
            found_at_ms: self.found_at.0,
        };
        message.encode_to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let message = stored::LostCopies::decode(bytes).ok()?;
        let mark = |mark: Option<_>| VolumeMark::from_message(&mark?).ok();
        (message.format == FORMAT).then_some(())?;
        Some(Self {
            known: mark(message.known)?,
            here: mark(message.here)?,
            witness: NodeId(message.witness),
            found_at: TimestampMs(message.found_at_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use floeberg_env::Env;
    use floeberg_proto::floeberg::volume::v1 as volume;
    use std::path::Path;

    fn mark(sequence: u64) -> VolumeMark {
        VolumeMark::from_message(&volume::VolumeMark {
            format: 1,
            volume_id: vec![0xd1; 16].into(),
            sequence,
        })
        .unwrap()
    }

    #[test]
    fn what_is_lost_stays_lost_until_it_is_lifted() {
        let (env, _) = Env::simulated(1);
        let home = Home::new(Path::new("/data"), env.disk.clone());
        home.prepare().unwrap();
        assert_eq!(LostCopies::read(&home).unwrap(), None);
        let lost = LostCopies {
            known: mark(300),
            here: mark(5),
            witness: NodeId(3),
            found_at: TimestampMs(7),
        };
        lost.keep(&home).unwrap();
        let bytes = home.read(&home.path(FILE)).unwrap().unwrap();
        expect!["0801121708011210d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d118ac021a1608011210d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1180520032807"].assert_eq(&hex::encode(bytes));
        assert_eq!(LostCopies::read(&home).unwrap(), Some(lost));
        LostCopies::lift(&home).unwrap();
        assert_eq!(LostCopies::read(&home).unwrap(), None);
        home.write(FILE, &[0xff]).unwrap();
        assert!(LostCopies::read(&home).is_err());
    }
}
