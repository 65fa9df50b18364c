//! What those who look after the data itself need to know of the catalog, outside of any request.

use crate::errors::Outage;
use crate::keys;
use crate::rows::{self, BucketRow};
use floeberg_metastore::Rows;
use floeberg_types::BucketId;
use std::collections::BTreeMap;

/// Buckets read at a time.
const PAGE: usize = 1000;

/// The name of every bucket of either kind.
///
/// # Errors
/// A row cannot be read.
pub fn bucket_names(view: &impl Rows) -> Result<BTreeMap<BucketId, String>, Outage> {
    let mut names = BTreeMap::new();
    let mut after = None;
    loop {
        let page = view.scan::<BucketRow>(&keys::buckets(""), after.as_deref(), PAGE)?;
        for (key, row) in &page {
            let id = rows::bucket_id(&row.value.id)?;
            names.insert(id, keys::bucket_name(key).map_err(Outage::storage)?);
        }
        match page.into_iter().next_back() {
            Some((last, _)) => after = Some(last),
            None => return Ok(names),
        }
    }
}
