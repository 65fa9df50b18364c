//! Which handler serves which method.

use crate::{Handler, Method, Refusal, RefusalCode};
use floeberg_types::NodeId;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The caller of [`Method::Join`] that is not a member yet: it has proven nothing but what is in
/// the body. No member ever has this id.
pub const STRANGER: NodeId = NodeId(0);

/// The handlers of a node. Clones share one table, so that a handler which needs the transport can
/// be added after the transport was made; until then its methods are refused as not served.
#[derive(Clone, Default)]
pub struct Routes {
    handlers: Arc<RwLock<BTreeMap<Method, Arc<dyn Handler>>>>,
    /// Why nothing but [`Method::Marks`] is served, while that is so.
    held: Arc<RwLock<Option<Refusal>>>,
}

impl Routes {
    /// A table without handlers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves `method` by `handler`, which tells groups apart itself.
    #[must_use]
    pub fn on(self, method: Method, handler: Arc<dyn Handler>) -> Self {
        self.add(method, handler);
        self
    }

    /// The same for a table that is already in use; replaces a handler of that method.
    pub fn add(&self, method: Method, handler: Arc<dyn Handler>) {
        self.handlers.write().insert(method, handler);
    }

    /// From now on everything but [`Method::Marks`] is refused.
    pub fn hold(&self, refusal: Refusal) {
        *self.held.write() = Some(refusal);
    }

    /// Serves again.
    pub fn release(&self) {
        *self.held.write() = None;
    }

    /// Lets every handler go; a stopping node breaks cycles with it.
    pub fn clear(&self) {
        // Taken out first: a handler may drop what comes back to this table.
        let handlers = std::mem::take(&mut *self.handlers.write());
        drop(handlers);
    }

    pub(crate) fn find(&self, method: Method) -> Result<Arc<dyn Handler>, Refusal> {
        if method != Method::Marks
            && let Some(refusal) = &*self.held.read()
        {
            return Err(refusal.clone());
        }
        let found = self.handlers.read().get(&method).cloned();
        found.ok_or_else(|| {
            Refusal::new(
                RefusalCode::NotServing,
                format!("this node does not serve {method:?} at the moment"),
            )
        })
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.read().keys()).finish()
    }
}
