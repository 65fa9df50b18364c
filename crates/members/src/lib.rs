//! Who belongs to the cluster: how a node joins, leaves, is replaced, and what comes next.
//!
//! Members are rows of group 0. A person's wish changes a row and nothing else ([`Members`]); the
//! [`Keeper`] of every node then brings the groups it leads to what the rows say, one step at a
//! time. Which step that is decides the pure [`plan`], which also says why a wish is refused. Node
//! ids are never given out twice, and a member that is gone keeps its row for ever.
//!
//! The cluster's certificate authority changes in the same way: a row says which phase is reached, and
//! the [`Rotator`] of every member does what the phase asks of it.
//!
//! Members also witness what each of them has acknowledged ([`Witnesses`]), so that one which was put
//! back to an older copy of its disk is noticed before it takes part, and barred ([`Barring`]).
//!
//! [`Home`] is the other half: what a node keeps in its data directory about its membership, and
//! [`RecoveryOrder`], by which a person gives up a lost majority.

mod abandon;
mod agreement;
mod alarm;
mod barred;
mod desk;
mod diverged;
mod error;
mod founding;
mod home;
mod keeper;
mod keys;
mod lost;
mod members;
mod model;
mod placing;
pub mod plan;
mod ports;
mod recovery;
mod rotation;
mod rows;
mod secrets;
#[cfg(test)]
mod testing;
mod witnesses;

pub use abandon::{abandon_others, gone_members, present_members};
pub use agreement::Disagreement;
pub use alarm::{Alarm, AlarmKind, Alarms, Severity};
pub use barred::{Barring, RemovedMark, barring, lift};
pub use desk::{AddressDesk, JoinDesk, JoinReply, JoinRequest, UnreadableReply};
pub use diverged::Diverged;
pub use error::{ChangeError, DamagedMember};
pub use founding::{Applicant, FoundingError, found};
pub use home::{Home, HomeError, Identity, Start};
pub use keeper::{Keeper, KeeperConfig};
pub use lost::LostCopies;
pub use members::{Announcement, ClusterStatus, Members, MembersParts};
pub use model::{Departure, FeatureLevels, Member, MemberState};
pub use placing::{Placing, no_data};
pub use plan::RotationPhase;
pub use plan::{GroupView, Refused};
pub use ports::{Authority, Certified, DataHome, Groups, GroupsError, MemberSecrets, TokenRefused};
pub use recovery::{RecoveryError, RecoveryOrder};
pub use rotation::{AuthorityDesk, Rotation, Rotator, Shown};
pub use secrets::ClusterAuthority;
pub use witnesses::{MarksDesk, Said, Space, Telling, Witnesses};
pub use witnesses::{ask as ask_marks, said as said_of_marks};
