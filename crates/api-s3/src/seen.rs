//! What becomes known of a request only inside s3s: for metrics and the access log.

use crate::operations;
use floeberg_auth::Principal;
use parking_lot::Mutex;
use std::sync::Arc;

/// Travels with a request through s3s; clones see the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    operation: Option<&'static str>,
    principal: Option<Arc<str>>,
}

impl Seen {
    /// Operations that are not served count as `other`, so that labels of metrics stay few.
    pub(crate) fn operation(&self, name: &str) {
        let known = operations::find(name).map(|known| known.name);
        self.0.lock().operation = known.or(Some("other"));
    }

    pub(crate) fn principal(&self, principal: &Principal) {
        self.0.lock().principal = Some(principal.id.clone());
    }

    pub(crate) fn operation_name(&self) -> &'static str {
        self.0.lock().operation.unwrap_or("unknown")
    }

    pub(crate) fn who(&self) -> Option<Arc<str>> {
        self.0.lock().principal.clone()
    }
}
