//! Listings: pages of one moment, read in bounded steps; a token is the last key of a page, opaque to
//! clients.

use crate::Catalog;
use crate::errors::{ListingRefused, Outage};
use bytes::Bytes;
use floeberg_metastore::{PageLimit, ReadView, RowMessage, StoreError};

/// Bytes of names and properties in one answer. A client that asks for pages gets a shorter one where
/// it would have more; one that does not is refused.
pub const LISTING_BYTES_MAX: usize = 32 << 20;

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

/// One step of a listing: where it begins, and how many items it may return. Rows that are not of the
/// kind that is listed count too, so it may return fewer and still not be at the end.
pub(crate) struct ListStep {
    pub token: Option<String>,
    pub size: usize,
}

/// How much an item adds to an answer, roughly.
pub(crate) trait Listed {
    fn bytes(&self) -> usize;
}

pub(crate) enum PageError {
    Token(ListingRefused),
    Store(StoreError),
}

/// Lists decoded rows below `prefix`. Tokens hold the part of a key behind `scope`, the part of the
/// prefix that every request of one listing shares.
pub(crate) fn list<M: RowMessage>(
    view: &ReadView,
    scope: &[u8],
    prefix: &[u8],
    step: &ListStep,
) -> Result<Page<(Bytes, M)>, PageError> {
    let unknown = || PageError::Token(ListingRefused::UnknownToken);
    let after = match step.token.as_deref() {
        None | Some("") => None,
        Some(token) => {
            let tail = hex::decode(token).map_err(|_| unknown())?;
            Some([scope, &tail].concat())
        }
    };
    if after
        .as_ref()
        .is_some_and(|after| !after.starts_with(prefix))
    {
        return Err(unknown());
    }
    let limit = PageLimit::STEP.at_most(step.size);
    let found = view.page::<M>(prefix, after.as_deref(), limit);
    let found = found.map_err(PageError::Store)?;
    let last = found.rows.last().filter(|_| found.has_more);
    let next = last.map(|(key, _)| hex::encode(&key[scope.len()..]));
    let items = found.rows.into_iter();
    Ok(Page {
        items: items.map(|(key, row)| (key, row.value)).collect(),
        next,
    })
}

impl Catalog {
    /// Puts a page together from steps over one view, which others take turns with.
    pub(crate) async fn gather<T, E>(
        &self,
        wanted: &PageRequest,
        list: impl Fn(&ReadView, &ListStep) -> Result<Page<T>, E> + Clone + Send + 'static,
    ) -> Result<Page<T>, E>
    where
        T: Listed + Send + 'static,
        E: From<Outage> + From<ListingRefused> + Send + 'static,
    {
        let view = self.view().await?;
        let size = wanted.size.unwrap_or(usize::MAX).max(1);
        let mut token = wanted.token.clone();
        let (mut items, mut bytes) = (Vec::new(), 0);
        loop {
            let step = ListStep {
                token,
                size: (size - items.len()).min(PageLimit::STEP.rows),
            };
            let (view, list) = (view.clone(), list.clone());
            let found = self.step_behind(move || {
                // Looked at where the rows are read: it may have waited for its place.
                if view.is_expired() {
                    return Err(ListingRefused::TooSlow.into());
                }
                list(&view, &step)
            });
            let found: Page<T> = found.await??;
            bytes += found.items.iter().map(Listed::bytes).sum::<usize>();
            items.extend(found.items);
            let next = found.next;
            if next.is_none() || items.len() >= size {
                return Ok(Page { items, next });
            }
            if bytes >= LISTING_BYTES_MAX {
                return match wanted.size {
                    Some(_) => Ok(Page { items, next }),
                    None => Err(ListingRefused::TooLarge.into()),
                };
            }
            token = next;
        }
    }
}
