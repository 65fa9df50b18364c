//! The part of S3 that the command line, benchmarks and tests use, path-style.

use crate::error::ClientError;
use crate::sigv4::{Credentials, PATH, Scope, UNRESERVED};
use crate::tls::Trust;
use crate::transport::{Auth, Endpoint, Reply, Request};
use crate::xml;
use bytes::Bytes;
use http::Method;
use percent_encoding::utf8_percent_encode;
use std::ops::Range;

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Key.
    pub key: String,
    /// Length in bytes.
    pub size: u64,
    /// ETag with its quotes.
    pub etag: String,
}

/// One page of `ListObjectsV2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPage {
    /// Objects in order of their keys.
    pub objects: Vec<ListedObject>,
    /// Grouped prefixes, if a delimiter was given.
    pub prefixes: Vec<String>,
    /// To be given for the next page; `None` on the last.
    pub next: Option<String>,
}

/// What `HeadObject` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// Length in bytes.
    pub size: u64,
    /// ETag with its quotes.
    pub etag: String,
}

/// A server of the S3 API; clones share connections.
#[derive(Clone, Debug)]
pub struct S3Client {
    endpoint: Endpoint,
}

fn object_path(bucket: &str, key: &str) -> String {
    format!("/{bucket}/{}", utf8_percent_encode(key, PATH))
}

fn answer(operation: &'static str, cause: &str) -> ClientError {
    ClientError::Answer {
        operation,
        cause: cause.to_owned(),
    }
}

fn etag(operation: &'static str, reply: &Reply) -> Result<String, ClientError> {
    let value = reply.headers.get(http::header::ETAG);
    let text = value.and_then(|v| v.to_str().ok());
    text.map(str::to_owned)
        .ok_or_else(|| answer(operation, "no ETag"))
}

impl S3Client {
    /// The server at `uri`, certified as the system says.
    ///
    /// # Errors
    /// As [`Endpoint::trusting`].
    pub fn new(uri: &str, credentials: Credentials, region: &str) -> Result<Self, ClientError> {
        Self::trusting(uri, credentials, region, &Trust::System)
    }

    /// The server at `uri`, certified by `trust`.
    ///
    /// # Errors
    /// As [`Endpoint::trusting`].
    pub fn trusting(
        uri: &str,
        credentials: Credentials,
        region: &str,
        trust: &Trust,
    ) -> Result<Self, ClientError> {
        let scope = Scope {
            region: region.to_owned(),
            service: "s3".to_owned(),
        };
        let endpoint = Endpoint::trusting(uri, Auth::sigv4(credentials, scope), trust)?;
        Ok(Self { endpoint })
    }

    async fn send(&self, method: Method, path: String) -> Result<Reply, ClientError> {
        self.endpoint.send(&Request::new(method, path)).await
    }

    /// `CreateBucket`.
    ///
    /// # Errors
    /// 409 if the name is taken.
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), ClientError> {
        self.send(Method::PUT, format!("/{bucket}"))
            .await
            .map(|_| ())
    }

    /// `DeleteBucket`; it must be empty.
    ///
    /// # Errors
    /// 404 or 409.
    pub async fn delete_bucket(&self, bucket: &str) -> Result<(), ClientError> {
        self.send(Method::DELETE, format!("/{bucket}"))
            .await
            .map(|_| ())
    }

    /// `HeadBucket`.
    ///
    /// # Errors
    /// 404 without such a bucket.
    pub async fn head_bucket(&self, bucket: &str) -> Result<(), ClientError> {
        self.send(Method::HEAD, format!("/{bucket}"))
            .await
            .map(|_| ())
    }

    /// `ListBuckets`: names.
    ///
    /// # Errors
    /// As any call.
    pub async fn list_buckets(&self) -> Result<Vec<String>, ClientError> {
        let reply = self.send(Method::GET, "/".into()).await?;
        let text = String::from_utf8_lossy(&reply.body);
        let buckets = xml::all(&text, "Bucket");
        Ok(buckets
            .iter()
            .filter_map(|b| xml::text(b, "Name"))
            .collect())
    }

    /// `PutObject`; returns the ETag.
    ///
    /// # Errors
    /// As any call.
    pub async fn put_object(
        &self,
        bucket: &str,
        key: &str,
        body: Bytes,
    ) -> Result<String, ClientError> {
        let mut request = Request::new(Method::PUT, object_path(bucket, key));
        request.body = body;
        etag("PutObject", &self.endpoint.send(&request).await?)
    }

    /// `GetObject`, whole.
    ///
    /// # Errors
    /// 404 without such an object.
    pub async fn get_object(&self, bucket: &str, key: &str) -> Result<Bytes, ClientError> {
        Ok(self.send(Method::GET, object_path(bucket, key)).await?.body)
    }

    /// `GetObject` of a byte range, which must not be empty.
    ///
    /// # Errors
    /// 404 without such an object, 416 if the range starts behind its end.
    pub async fn get_range(
        &self,
        bucket: &str,
        key: &str,
        range: Range<u64>,
    ) -> Result<Bytes, ClientError> {
        let mut request = Request::new(Method::GET, object_path(bucket, key));
        let last = range.end.saturating_sub(1);
        request
            .headers
            .push(("range", format!("bytes={}-{last}", range.start)));
        Ok(self.endpoint.send(&request).await?.body)
    }

    /// `HeadObject`.
    ///
    /// # Errors
    /// 404 without such an object.
    pub async fn head_object(&self, bucket: &str, key: &str) -> Result<ObjectHead, ClientError> {
        let reply = self.send(Method::HEAD, object_path(bucket, key)).await?;
        let length = reply.headers.get(http::header::CONTENT_LENGTH);
        let size = length.and_then(|v| v.to_str().ok()?.parse().ok());
        Ok(ObjectHead {
            size: size.ok_or_else(|| answer("HeadObject", "no Content-Length"))?,
            etag: etag("HeadObject", &reply)?,
        })
    }

    /// `DeleteObject`; one that does not exist is no error.
    ///
    /// # Errors
    /// As any call.
    pub async fn delete_object(&self, bucket: &str, key: &str) -> Result<(), ClientError> {
        let path = object_path(bucket, key);
        self.send(Method::DELETE, path).await.map(|_| ())
    }

    /// One page of `ListObjectsV2` below `prefix`; an empty `delimiter` groups nothing.
    ///
    /// # Errors
    /// 404 without such a bucket.
    pub async fn list_objects(
        &self,
        bucket: &str,
        prefix: &str,
        delimiter: &str,
        after: Option<&str>,
    ) -> Result<ObjectPage, ClientError> {
        let encode = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
        let mut query = format!("list-type=2&prefix={}", encode(prefix));
        if !delimiter.is_empty() {
            query += &format!("&delimiter={}", encode(delimiter));
        }
        if let Some(token) = after {
            query += &format!("&continuation-token={}", encode(token));
        }
        let request = Request::new(Method::GET, format!("/{bucket}")).query(query);
        let reply = self.endpoint.send(&request).await?;
        parse_page(&String::from_utf8_lossy(&reply.body))
            .ok_or_else(|| answer("ListObjectsV2", "an object without key or size"))
    }
}

fn parse_page(text: &str) -> Option<ObjectPage> {
    let object = |xml: &&str| {
        Some(ListedObject {
            key: xml::text(xml, "Key")?,
            size: xml::text(xml, "Size")?.parse().ok()?,
            etag: xml::text(xml, "ETag").unwrap_or_default(),
        })
    };
    let contents = xml::all(text, "Contents");
    let grouped = xml::all(text, "CommonPrefixes");
    Some(ObjectPage {
        objects: contents.iter().map(object).collect::<Option<_>>()?,
        prefixes: grouped
            .iter()
            .filter_map(|p| xml::text(p, "Prefix"))
            .collect(),
        next: xml::text(text, "NextContinuationToken"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let page = parse_page(
            "<ListBucketResult><Prefix>a/</Prefix><Contents><Key>a/1&amp;2</Key><ETag>\
             &quot;e&quot;</ETag><Size>5</Size></Contents><CommonPrefixes><Prefix>a/b/</Prefix>\
             </CommonPrefixes><NextContinuationToken>t</NextContinuationToken></ListBucketResult>",
        );
        let object = ListedObject {
            key: "a/1&2".into(),
            size: 5,
            etag: "\"e\"".into(),
        };
        let expected = ObjectPage {
            objects: vec![object],
            prefixes: vec!["a/b/".into()],
            next: Some("t".into()),
        };
        assert_eq!(page, Some(expected));
        assert_eq!(parse_page("<Contents><Key>k</Key></Contents>"), None);
    }
}
