//! The one place that decides whether a principal may take an action.

use crate::action::{Action, Reach};
use crate::{Principal, PrincipalKind, Scope, ScopeAccess};
use floeberg_types::BucketName;
use std::fmt;
use std::marker::PhantomData;

/// What an action is asked on.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// The cluster: lists of buckets, status.
    Cluster,
    /// A bucket of either kind.
    Bucket(&'a BucketName),
    /// A namespace of a table bucket.
    Namespace {
        /// The table bucket.
        bucket: &'a BucketName,
        /// The namespace as its client wrote it, levels joined with a dot.
        namespace: &'a str,
    },
    /// A table.
    Table {
        /// The table bucket.
        bucket: &'a BucketName,
        /// The namespace, levels joined with a dot.
        namespace: &'a str,
        /// The table's name.
        table: &'a str,
    },
    /// One object.
    Object {
        /// The bucket.
        bucket: &'a BucketName,
        /// The object's key.
        key: &'a str,
    },
    /// All objects whose key begins with a prefix.
    Listing {
        /// The bucket.
        bucket: &'a BucketName,
        /// The prefix asked for; empty for the whole bucket.
        prefix: &'a str,
    },
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the cluster"),
            Self::Bucket(bucket) => write!(f, "bucket {bucket}"),
            Self::Namespace { bucket, namespace } => {
                write!(f, "namespace {namespace} of bucket {bucket}")
            }
            Self::Table {
                bucket,
                namespace,
                table,
            } => write!(f, "table {namespace}.{table} of bucket {bucket}"),
            Self::Object { bucket, key } => write!(f, "object {bucket}/{key}"),
            Self::Listing { bucket, prefix } => write!(f, "objects below {bucket}/{prefix}"),
        }
    }
}

/// The principal may not take the action on the resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{principal} is not allowed to {action} on {resource}")]
pub struct Denied {
    /// Who asked.
    pub principal: String,
    /// The action's name.
    pub action: &'static str,
    /// What it was asked on.
    pub resource: String,
}

/// Proof that a principal may take action `A`. Only [`Authorizer::authorize`] makes it.
pub struct Authorized<A: Action> {
    principal: Principal,
    action: PhantomData<A>,
}

impl<A: Action> Authorized<A> {
    /// Who was allowed.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }
}

impl<A: Action> Clone for Authorized<A> {
    fn clone(&self) -> Self {
        Self {
            principal: self.principal.clone(),
            action: PhantomData,
        }
    }
}

impl<A: Action> fmt::Debug for Authorized<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorized<{}>({})", A::NAME, self.principal.id)
    }
}

/// Decides who may do what. Root may do everything; vended credentials may act on objects inside
/// their prefix and ask whether their bucket exists.
#[derive(Clone, Copy, Debug, Default)]
pub struct Authorizer;

impl Authorizer {
    /// Allows action `A` on `resource`, or says who was denied what.
    ///
    /// # Errors
    /// [`Denied`] when the principal may not.
    pub fn authorize<A: Action>(
        &self,
        principal: &Principal,
        resource: Resource<'_>,
    ) -> Result<Authorized<A>, Denied> {
        let allowed = match &principal.kind {
            PrincipalKind::Root => true,
            PrincipalKind::Vended(scope) => vended_may(scope, A::REACH, resource),
        };
        if allowed {
            Ok(Authorized {
                principal: principal.clone(),
                action: PhantomData,
            })
        } else {
            Err(Denied {
                principal: principal.id.to_string(),
                action: A::NAME,
                resource: resource.to_string(),
            })
        }
    }
}

fn vended_may(scope: &Scope, reach: Reach, resource: Resource<'_>) -> bool {
    let writes = scope.access == ScopeAccess::ReadWrite;
    match (reach, resource) {
        (Reach::BucketProbe, Resource::Bucket(bucket)) => *bucket == scope.bucket,
        (Reach::ReadObjects, Resource::Object { bucket, key }) => {
            *bucket == scope.bucket && scope.covers_key(key)
        }
        (Reach::ReadObjects, Resource::Listing { bucket, prefix }) => {
            *bucket == scope.bucket && scope.covers_listing(prefix)
        }
        (Reach::WriteObjects, Resource::Object { bucket, key }) => {
            writes && *bucket == scope.bucket && scope.covers_key(key)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{
        CommitTable, CreateBucket, DeleteObject, GetObject, HeadBucket, ListObjects, PutObject,
    };
    use floeberg_types::TimestampMs;
    use std::sync::Arc;

    fn bucket(name: &str) -> BucketName {
        BucketName::for_tables(name).unwrap()
    }

    fn principal(kind: PrincipalKind) -> Principal {
        Principal {
            id: "someone".into(),
            account: "000000000000".parse().unwrap(),
            kind,
        }
    }

    fn vended(access: ScopeAccess) -> Principal {
        principal(PrincipalKind::Vended(Arc::new(Scope {
            bucket: bucket("lake"),
            prefix: "ns/t-1".to_owned(),
            access,
            expires: TimestampMs(1),
        })))
    }

    fn may<A: Action>(who: &Principal, resource: Resource<'_>) -> bool {
        Authorizer.authorize::<A>(who, resource).is_ok()
    }

    #[test]
    fn root_may_do_everything() {
        let root = principal(PrincipalKind::Root);
        assert!(may::<CreateBucket>(&root, Resource::Cluster));
        let lake = bucket("lake");
        assert!(may::<DeleteObject>(
            &root,
            Resource::Object {
                bucket: &lake,
                key: "any"
            }
        ));
    }

    #[test]
    fn vended_credentials_stay_inside_their_prefix() {
        let (lake, other) = (bucket("lake"), bucket("other"));
        let inside = Resource::Object {
            bucket: &lake,
            key: "ns/t-1/data/a",
        };
        let outside = Resource::Object {
            bucket: &lake,
            key: "ns/t-2/data/a",
        };
        let elsewhere = Resource::Object {
            bucket: &other,
            key: "ns/t-1/data/a",
        };
        let reader = vended(ScopeAccess::Read);
        let writer = vended(ScopeAccess::ReadWrite);
        assert!(may::<GetObject>(&reader, inside) && may::<GetObject>(&writer, inside));
        assert!(!may::<PutObject>(&reader, inside) && may::<PutObject>(&writer, inside));
        assert!(!may::<DeleteObject>(&reader, inside) && may::<DeleteObject>(&writer, inside));
        for who in [&reader, &writer] {
            assert!(!may::<GetObject>(who, outside) && !may::<GetObject>(who, elsewhere));
            assert!(!may::<PutObject>(who, outside) && !may::<PutObject>(who, elsewhere));
            assert!(may::<HeadBucket>(who, Resource::Bucket(&lake)));
            assert!(!may::<HeadBucket>(who, Resource::Bucket(&other)));
            let below = Resource::Listing {
                bucket: &lake,
                prefix: "ns/t-1/metadata/",
            };
            assert!(may::<ListObjects>(who, below));
            let all = Resource::Listing {
                bucket: &lake,
                prefix: "",
            };
            assert!(!may::<ListObjects>(who, all));
            let table = Resource::Table {
                bucket: &lake,
                namespace: "ns",
                table: "t",
            };
            assert!(!may::<CommitTable>(who, table));
            assert!(!may::<CommitTable>(who, inside));
        }
    }

    #[test]
    fn a_denial_names_the_action_and_the_resource() {
        let lake = bucket("lake");
        let denied = Authorizer
            .authorize::<PutObject>(
                &vended(ScopeAccess::Read),
                Resource::Object {
                    bucket: &lake,
                    key: "ns/t-1/x",
                },
            )
            .unwrap_err();
        assert_eq!(
            denied.to_string(),
            "someone is not allowed to PutObject on object lake/ns/t-1/x"
        );
    }
}
