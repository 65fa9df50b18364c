//! What the adapter is built from, and what every handler needs of a request.

use crate::errors::{denied, no_room};
use floeberg_auth::{Action, Authorized, Authorizer, Keyring, Principal, Resource};
use floeberg_env::{Attendance, Env, Peer};
use floeberg_http::{Door, Room};
use floeberg_metastore::Cx;
use floeberg_objects::{ObjectKey, Objects};
use floeberg_telemetry::HttpMetrics;
use floeberg_types::{BucketName, Region, RequestId};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};
use std::sync::Arc;
use std::time::Duration;

/// Settings of the S3 port.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// The region given to clients.
    pub region: Region,
    /// Whether requests signed for another region are refused. On premises clients carry all kinds
    /// of default regions, so the default is to accept them.
    pub enforce_region: bool,
    /// Domains below which `bucket.domain` addresses a bucket. Other hosts are path-style.
    pub domains: Vec<String>,
    /// The longest time in which no byte of a request body arrives.
    pub body_stall: Duration,
}

/// What the adapter is built from.
#[derive(Clone)]
pub struct S3State {
    /// The use cases.
    pub objects: Arc<Objects>,
    /// Access keys and session tokens.
    pub keyring: Arc<Keyring>,
    /// Clock and randomness.
    pub env: Env,
    /// Request counters.
    pub metrics: HttpMetrics,
    /// Whether the disk takes changes.
    pub room: Room,
    /// What is shared with the other port.
    pub door: Door,
    /// Settings.
    pub settings: S3Settings,
}

/// The S3 operations.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) state: Arc<S3State>,
}

impl Api {
    pub(crate) fn objects(&self) -> &Objects {
        &self.state.objects
    }

    /// Who is authenticated; put there by [`crate::access::Gate`].
    pub(crate) fn principal<T>(request: &S3Request<T>) -> S3Result<&Principal> {
        request
            .extensions
            .get::<Principal>()
            .ok_or_else(|| S3Error::with_message(S3ErrorCode::AccessDenied, "not authenticated"))
    }

    /// Allows action `A` on `resource`, after the bucket owner that the client expects was compared.
    pub(crate) fn authorize<A: Action, T>(
        request: &S3Request<T>,
        resource: Resource<'_>,
    ) -> S3Result<Authorized<A>> {
        let principal = Self::principal(request)?;
        for header in [
            "x-amz-expected-bucket-owner",
            "x-amz-source-expected-bucket-owner",
        ] {
            let expected = request.headers.get(header).map(|owner| owner.as_bytes());
            if expected.is_some_and(|owner| owner != principal.account.as_str().as_bytes()) {
                return Err(S3ErrorCode::AccessDenied.into());
            }
        }
        Authorizer.authorize(principal, resource).map_err(denied)
    }

    /// As [`Self::authorize`] for an action that changes something, with the request as its command
    /// and event will name it.
    pub(crate) fn authorize_change<A: Action, T>(
        &self,
        request: &S3Request<T>,
        resource: Resource<'_>,
    ) -> S3Result<(Authorized<A>, Cx)> {
        let authorized = Self::authorize(request, resource)?;
        self.state.room.admit(A::EFFECT).map_err(no_room)?;
        Ok((authorized, self.cx(request)?))
    }

    /// The prefix to list by for whoever asks for `asked`.
    pub(crate) fn listing_prefix<T>(
        request: &S3Request<T>,
        bucket: &BucketName,
        asked: Option<&str>,
    ) -> S3Result<String> {
        let principal = Self::principal(request)?;
        Ok(principal.listing_prefix(bucket, asked.unwrap_or_default()))
    }

    fn cx<T>(&self, request: &S3Request<T>) -> S3Result<Cx> {
        let principal = Self::principal(request)?;
        let request_id = match request.extensions.get::<RequestId>() {
            Some(id) => *id,
            None => RequestId::from_bytes(self.state.env.rng.id128()),
        };
        Ok(Cx {
            request_id,
            account: principal.account.clone(),
            principal: principal.id.clone(),
            deadline: None,
            attendance: Attendance::default(),
            caller: Peer::INSIDE,
            idempotency: None,
        })
    }
}

/// The bucket of a request; s3s has checked its form already.
pub(crate) fn bucket_name(name: &str) -> S3Result<BucketName> {
    BucketName::for_lookup(name)
        .map_err(|error| S3Error::with_message(S3ErrorCode::InvalidBucketName, error.to_string()))
}

/// The object of a request.
pub(crate) fn object_name(bucket: &str, key: &str) -> S3Result<(BucketName, ObjectKey)> {
    let bucket = bucket_name(bucket)?;
    let key = ObjectKey::new(key)
        .map_err(|error| S3Error::with_message(S3ErrorCode::KeyTooLongError, error.to_string()))?;
    Ok((bucket, key))
}

/// An object as what an action is allowed on.
pub(crate) fn object<'a>(bucket: &'a BucketName, key: &'a ObjectKey) -> Resource<'a> {
    Resource::Object {
        bucket,
        key: key.as_str(),
    }
}
