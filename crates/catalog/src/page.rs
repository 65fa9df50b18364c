//! Paging of listings: a token is the last key of a page, opaque to clients.

use crate::errors::InvalidPageToken;
use bytes::Bytes;
use floeberg_metastore::{Rows, StoreError};
use floeberg_state::RowMessage;

/// Which page of a listing is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// The token that the page before ended with; `None` for the first page.
    pub token: Option<String>,
    /// At most this many items; `None` for all that are left.
    pub size: Option<usize>,
}

/// One page of a listing, in order of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The token of the next page, if there is one.
    pub next: Option<String>,
}

impl<T> Page<T> {
    pub(crate) fn try_map<U, E>(self, f: impl FnMut(T) -> Result<U, E>) -> Result<Page<U>, E> {
        Ok(Page {
            items: self.items.into_iter().map(f).collect::<Result<_, E>>()?,
            next: self.next,
        })
    }
}

pub(crate) enum PageError {
    Token(InvalidPageToken),
    Store(StoreError),
}

/// Lists decoded rows below `prefix`. Tokens hold the part of a key behind `scope`, the part of the
/// prefix that every request of one listing shares.
pub(crate) fn list<M: RowMessage>(
    rows: &impl Rows,
    scope: &[u8],
    prefix: &[u8],
    request: &PageRequest,
) -> Result<Page<(Bytes, M)>, PageError> {
    let after = match request.token.as_deref() {
        None | Some("") => None,
        Some(token) => {
            let tail = hex::decode(token).map_err(|_| PageError::Token(InvalidPageToken))?;
            Some([scope, &tail].concat())
        }
    };
    if after
        .as_ref()
        .is_some_and(|after| !after.starts_with(prefix))
    {
        return Err(PageError::Token(InvalidPageToken));
    }
    let size = request.size.unwrap_or(usize::MAX).max(1);
    let more = size.saturating_add(1);
    let mut found = rows
        .scan::<M>(prefix, after.as_deref(), more)
        .map_err(PageError::Store)?;
    let next = (found.len() > size).then(|| {
        found.truncate(size);
        hex::encode(&found[size - 1].0[scope.len()..])
    });
    let items = found
        .into_iter()
        .map(|(key, row)| (key, row.value))
        .collect();
    Ok(Page { items, next })
}
