//! LIST: one ordered walk over a bucket's listing rows, merged with the metadata files that the
//! catalog serves, with delimiters skipped over instead of read through.

use crate::errors::{BadToken, ListError, Outage};
use crate::keys;
use crate::model::ListedObject;
use crate::ports::{BucketInfo, BucketKind};
use crate::rows::listed_from_row;
use crate::service::Objects;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use floeberg_auth::{Authorized, action};
use floeberg_metastore::{PageLimit, ReadView};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_types::BucketName;
use std::collections::VecDeque;

/// The most entries of one page.
pub const PAGE_MAX: usize = floeberg_types::limits::PAGE_ITEMS;

/// Rows read at once when a delimiter may skip most of them.
pub(crate) const SKIP_SCAN_PAGE: usize = 64;

/// Where a listing goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListFrom {
    /// At the beginning.
    Start,
    /// Behind this key or common prefix (`marker`, `start-after`, `key-marker`).
    After(String),
    /// Where the page that returned this token ended.
    Token(String),
}

/// One LIST.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// The bucket.
    pub bucket: BucketName,
    /// Only keys that begin with this.
    pub prefix: String,
    /// Keys that hold this behind the prefix are rolled up; never empty.
    pub delimiter: Option<String>,
    /// Where to begin.
    pub from: ListFrom,
    /// At most this many entries, objects and common prefixes together; cut to [`PAGE_MAX`].
    pub max_keys: usize,
}

/// One page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Objects, by key.
    pub objects: Vec<ListedObject>,
    /// Common prefixes, sorted.
    pub prefixes: Vec<String>,
    /// If there is more: how to go on.
    pub next: Option<NextPage>,
}

/// How a listing goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextPage {
    /// Opaque token for [`ListFrom::Token`].
    pub token: String,
    /// The last entry of the page, for [`ListFrom::After`].
    pub last: String,
}

/// An exclusive lower bound in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Bound {
    Start,
    Key(String),
    /// Behind every key that begins with this.
    Prefix(String),
}

impl Bound {
    fn token(&self) -> String {
        let (kind, text) = match self {
            Self::Start => ('s', ""),
            Self::Key(key) => ('k', key.as_str()),
            Self::Prefix(prefix) => ('p', prefix.as_str()),
        };
        BASE64_URL_SAFE_NO_PAD.encode(format!("{kind}{text}"))
    }

    fn from_token(token: &str) -> Result<Self, BadToken> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| BadToken)?;
        let text = String::from_utf8(bytes).map_err(|_| BadToken)?;
        match text.split_at_checked(1) {
            Some(("s", "")) => Ok(Self::Start),
            Some(("k", key)) => Ok(Self::Key(key.to_owned())),
            Some(("p", prefix)) => Ok(Self::Prefix(prefix.to_owned())),
            _ => Err(BadToken),
        }
    }

    /// The bytes that every listed key must be greater than. No UTF-8 text holds the byte FF, so it
    /// sorts behind every continuation of a prefix.
    fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Start => None,
            Self::Key(key) => Some(key.as_bytes().to_vec()),
            Self::Prefix(prefix) => Some([prefix.as_bytes(), &[0xff]].concat()),
        }
    }

    /// As [`Self::bytes`], as text: the last code point is no character, so no name holds it.
    fn text(&self) -> Option<String> {
        match self {
            Self::Start => None,
            Self::Key(key) => Some(key.clone()),
            Self::Prefix(prefix) => Some(format!("{prefix}{}", char::MAX)),
        }
    }

    fn last(&self) -> String {
        match self {
            Self::Start => String::new(),
            Self::Key(text) | Self::Prefix(text) => text.clone(),
        }
    }
}

/// The part of `key` that a delimiter rolls up: through its first occurrence behind the prefix.
pub(crate) fn common_prefix<'k>(
    key: &'k str,
    prefix: &str,
    delimiter: Option<&str>,
) -> Option<&'k str> {
    let delimiter = delimiter?;
    let at = key.get(prefix.len()..)?.find(delimiter)?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

/// A sorted source of entries, read page by page.
struct Cursor {
    page: VecDeque<ListedObject>,
    behind: Bound,
    exhausted: bool,
}

impl Cursor {
    fn new(behind: Bound) -> Self {
        Self {
            page: VecDeque::new(),
            behind,
            exhausted: false,
        }
    }

    fn fill(&mut self, page: Vec<ListedObject>, has_more: bool) {
        self.exhausted = !has_more;
        if let Some(last) = page.last() {
            self.behind = Bound::Key(last.key.clone());
        }
        self.page = page.into();
    }

    fn needs_page(&self) -> bool {
        self.page.is_empty() && !self.exhausted
    }

    /// Forgets everything below `prefix`.
    fn skip(&mut self, prefix: &str) {
        while self
            .page
            .front()
            .is_some_and(|entry| entry.key.starts_with(prefix))
        {
            self.page.pop_front();
        }
        if self.page.is_empty() {
            self.behind = Bound::Prefix(prefix.to_owned());
        }
    }
}

/// Both sources of one listing.
struct Walk<'a> {
    objects: &'a Objects,
    view: ReadView,
    bucket: &'a BucketInfo,
    prefix: &'a str,
    page: usize,
    rows: Cursor,
    files: Cursor,
}

impl Walk<'_> {
    async fn fill(&mut self) -> Result<(), Outage> {
        if self.rows.needs_page() {
            let (page, has_more) = self.row_page().await?;
            self.rows.fill(page, has_more);
        }
        if self.files.needs_page() {
            let page = self.file_page().await?;
            let has_more = page.len() >= self.page;
            self.files.fill(page, has_more);
        }
        Ok(())
    }

    /// Some entries, and whether there are more behind them.
    async fn row_page(&self) -> Result<(Vec<ListedObject>, bool), Outage> {
        let base = keys::bucket_listing(self.bucket.id);
        let scanned = [&base[..], self.prefix.as_bytes()].concat();
        let behind = self.rows.behind.bytes();
        let behind = behind.map(|after| [&base[..], &after].concat());
        let (view, limit) = (self.view.clone(), PageLimit::STEP.at_most(self.page));
        self.objects
            .step_behind(move || {
                let page = view.page::<pb::ListingRow>(&scanned, behind.as_deref(), limit)?;
                let listed = page.rows.into_iter().map(|(key, row)| {
                    let key = keys::parse_listing(&key)?;
                    Ok(listed_from_row(key, row.value))
                });
                Ok((listed.collect::<Result<_, Outage>>()?, page.has_more))
            })
            .await
    }

    async fn file_page(&self) -> Result<Vec<ListedObject>, Outage> {
        let behind = self.files.behind.text();
        let tables = &self.objects.tables;
        let files = tables
            .metadata_files(self.bucket.id, self.prefix, behind.as_deref(), self.page)
            .await?;
        Ok(files
            .into_iter()
            .map(|file| ListedObject {
                key: file.key,
                size: file.len,
                etag: file.etag,
                modified: file.modified,
                checksum: None,
            })
            .collect())
    }

    /// The next entry of both sources in key order. A key in both is listed once.
    async fn next(&mut self) -> Result<Option<ListedObject>, Outage> {
        self.fill().await?;
        let from_rows = match (self.rows.page.front(), self.files.page.front()) {
            (None, None) => return Ok(None),
            (Some(row), Some(file)) => {
                if row.key == file.key {
                    self.files.page.pop_front();
                    true
                } else {
                    row.key < file.key
                }
            }
            (row, _) => row.is_some(),
        };
        let source = if from_rows {
            &mut self.rows
        } else {
            &mut self.files
        };
        Ok(source.page.pop_front())
    }

    fn skip(&mut self, prefix: &str) {
        self.rows.skip(prefix);
        self.files.skip(prefix);
    }
}

impl Objects {
    /// One page of a bucket's objects, including every write acknowledged before the call. Objects
    /// of a table bucket whose deletion was asked for are not listed.
    ///
    /// # Errors
    /// See [`ListError`].
    pub async fn list(
        &self,
        _authorized: &Authorized<action::ListObjects>,
        request: &ListRequest,
    ) -> Result<Listing, ListError> {
        let found = self.bucket_and_rows::<ListError>(&request.bucket).await?;
        let (bucket, view) = found;
        let behind = match &request.from {
            ListFrom::Start => Bound::Start,
            ListFrom::Token(token) => Bound::from_token(token)?,
            // A common prefix given back as a marker stands for everything below it.
            ListFrom::After(text) => {
                match common_prefix(text, &request.prefix, request.delimiter.as_deref()) {
                    Some(common) if common == text => Bound::Prefix(text.clone()),
                    _ => Bound::Key(text.clone()),
                }
            }
        };
        let max = request.max_keys.min(PAGE_MAX);
        if max == 0 {
            return Ok(Listing::default());
        }
        let mut files = Cursor::new(behind.clone());
        files.exhausted = bucket.kind == BucketKind::General;
        let mut walk = Walk {
            objects: self,
            view,
            bucket: &bucket,
            prefix: &request.prefix,
            page: if request.delimiter.is_some() {
                SKIP_SCAN_PAGE
            } else {
                max + 1
            },
            rows: Cursor::new(behind.clone()),
            files,
        };
        Ok(collect(&mut walk, request, max).await?)
    }
}

async fn collect(
    walk: &mut Walk<'_>,
    request: &ListRequest,
    max: usize,
) -> Result<Listing, Outage> {
    let mut listing = Listing::default();
    let mut last = Bound::Start;
    while let Some(entry) = walk.next().await? {
        if listing.objects.len() + listing.prefixes.len() == max {
            listing.next = Some(NextPage {
                token: last.token(),
                last: last.last(),
            });
            break;
        }
        match common_prefix(&entry.key, &request.prefix, request.delimiter.as_deref()) {
            Some(common) => {
                walk.skip(common);
                last = Bound::Prefix(common.to_owned());
                listing.prefixes.push(common.to_owned());
            }
            None => {
                last = Bound::Key(entry.key.clone());
                listing.objects.push(entry);
            }
        }
    }
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_foreign_ones_are_refused() {
        for bound in [
            Bound::Start,
            Bound::Key("a/b ü".to_owned()),
            Bound::Prefix("a/".to_owned()),
        ] {
            assert_eq!(Bound::from_token(&bound.token()), Ok(bound));
        }
        for bad in ["", "%%", "YWJj", "eA"] {
            assert_eq!(Bound::from_token(bad), Err(BadToken), "{bad}");
        }
    }

    #[test]
    fn delimiters_roll_up_behind_the_prefix() {
        assert_eq!(common_prefix("a/b/c", "", Some("/")), Some("a/"));
        assert_eq!(common_prefix("a/b/c", "a/", Some("/")), Some("a/b/"));
        assert_eq!(common_prefix("a/b/c", "a/b/", Some("/")), None);
        assert_eq!(common_prefix("a//c", "a/", Some("/")), Some("a//"));
        assert_eq!(common_prefix("a-b-c", "", Some("-b-")), Some("a-b-"));
        assert_eq!(common_prefix("a/b", "", None), None);
    }
}
