//! Whether a node may take part: whoever lacks what it has acknowledged may not.

use crate::mark::{AckMark, Witness};
use floeberg_types::{GroupId, NodeId};
use std::fmt;
use tokio::sync::watch;

/// Whether this node takes part in its groups; shared by all of them. Clones are the same.
#[derive(Clone, Debug)]
pub struct Standing(watch::Sender<Place>);

/// What a group has to know of the node that it is a part of.
#[derive(Clone, Debug)]
pub struct Footing {
    /// Whether the node takes part. While it is not cleared the group neither votes nor stores nor
    /// campaigns, and a single voter does not lead.
    pub standing: Standing,
    /// What is known of the others in this group, and is learned from their answers.
    pub witness: Witness,
}

impl Footing {
    /// Of a node that has nobody to ask.
    #[must_use]
    pub fn alone() -> Self {
        Self {
            standing: Standing::cleared(),
            witness: Witness::default(),
        }
    }
}

/// See [`Standing`].
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// It has not been compared with the others yet: it neither votes nor stores.
    Asking,
    /// It takes part.
    Cleared,
    /// It never takes part again; why.
    Barred(Barred),
}

/// Why a node takes no part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Barred {
    /// It has lost something that it had acknowledged.
    Forgot(Forgot),
    /// A person has to act first; what is to be said about it.
    Held(String),
}

/// What a node has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgot {
    /// In which group.
    pub group: GroupId,
    /// Who knows of it.
    pub witness: NodeId,
    /// What it had acknowledged.
    pub known: AckMark,
    /// What it has now.
    pub here: AckMark,
}

impl fmt::Display for Forgot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this node has lost what it had acknowledged: in group {} node {} knows of {}, and here is {}",
            self.group, self.witness, self.known, self.here
        )
    }
}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forgot(forgot) => forgot.fmt(f),
            Self::Held(why) => f.write_str(why),
        }
    }
}

impl Standing {
    /// Of a node that has to be compared first.
    #[must_use]
    pub fn asking() -> Self {
        Self(watch::Sender::new(Place::Asking))
    }

    /// Of a node that has nobody to ask.
    #[must_use]
    pub fn cleared() -> Self {
        Self(watch::Sender::new(Place::Cleared))
    }

    /// Lets the node take part, unless it is barred.
    pub fn clear(&self) {
        self.0.send_if_modified(|place| {
            let asking = *place == Place::Asking;
            if asking {
                *place = Place::Cleared;
            }
            asking
        });
    }

    /// The node never takes part again. What was said first stands.
    pub fn bar(&self, why: Barred) {
        self.0.send_if_modified(|place| {
            let news = !matches!(place, Place::Barred(_));
            if news {
                *place = Place::Barred(why);
            }
            news
        });
    }

    /// Whether it takes part.
    #[must_use]
    pub fn is_cleared(&self) -> bool {
        *self.0.borrow() == Place::Cleared
    }

    /// Why it never will, if so.
    #[must_use]
    pub fn barred(&self) -> Option<Barred> {
        match &*self.0.borrow() {
            Place::Barred(why) => Some(why.clone()),
            Place::Asking | Place::Cleared => None,
        }
    }

    /// Waits until the node is barred.
    pub async fn until_barred(&self) -> Barred {
        let mut place = self.0.subscribe();
        loop {
            if let Some(why) = self.barred() {
                return why;
            }
            // The sender is `self`.
            let _ = place.changed().await;
        }
    }

    /// Waits until it takes part; why, if it never will.
    ///
    /// # Errors
    /// The node is barred.
    pub async fn decided(&self) -> Result<(), Barred> {
        let mut place = self.0.subscribe();
        loop {
            if let Some(why) = self.barred() {
                return Err(why);
            }
            if self.is_cleared() {
                return Ok(());
            }
            // The sender is `self`.
            let _ = place.changed().await;
        }
    }

    /// `witness` knows that this node has acknowledged `known` in `group`, and `here` is what it has.
    /// Both are compared here and nowhere else: what others hear of this node may come late, but this node
    /// cannot have less than what it ever let out.
    pub fn compare(&self, group: GroupId, witness: NodeId, known: AckMark, here: AckMark) {
        if known > here && self.barred().is_none() {
            let forgot = Forgot {
                group,
                witness,
                known,
                here,
            };
            tracing::error!("{forgot}");
            self.bar(Barred::Forgot(forgot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(term: u64, accepted: Option<u64>) -> AckMark {
        AckMark {
            term,
            node: NodeId(1),
            committed: true,
            accepted,
        }
    }

    #[tokio::test]
    async fn who_is_barred_is_never_cleared() {
        let (standing, two) = (Standing::asking(), NodeId(2));
        assert!(!standing.is_cleared());
        standing.compare(GroupId(1), two, mark(3, Some(5)), mark(4, None));
        assert_eq!(standing.barred(), None, "a later promise outweighs entries");
        standing.compare(GroupId(1), two, mark(3, Some(5)), mark(3, Some(4)));
        standing.compare(GroupId(0), two, mark(9, None), mark(3, Some(4)));
        standing.clear();
        assert!(!standing.is_cleared());
        let why = standing.decided().await.unwrap_err();
        assert_eq!(
            why.to_string(),
            "this node has lost what it had acknowledged: in group 1 node 2 knows of entry 5 of term 3 \
             led by node 1, and here is entry 4 of term 3 led by node 1"
        );
    }

    #[tokio::test]
    async fn who_is_cleared_may_be_barred_later() {
        let standing = Standing::asking();
        standing.clear();
        standing.decided().await.unwrap();
        standing.bar(Barred::Held("removed".to_owned()));
        assert!(!standing.is_cleared());
        assert_eq!(standing.until_barred().await.to_string(), "removed");
    }
}
