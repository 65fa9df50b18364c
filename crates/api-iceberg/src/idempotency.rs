//! The `Idempotency-Key` header: what a key stands for, and how a refusal becomes its answer.
//!
//! A success is put on record by the catalog, with its effects. A refusal that the catalog decided
//! is put on record here, before it goes out; what says nothing about the request's effects (a
//! missing right, a malformed body, an outage) is never the answer of a key.

use crate::api::{Handled, IcebergState};
use crate::failure::Failure;
use crate::route::{Asked, Operation, PathNames};
use floeberg_auth::Principal;
use floeberg_catalog::Refusal;
use floeberg_http::Call;
use floeberg_metastore::{Cx, Idempotency};
use floeberg_types::BucketName;
use serde_json::Value;
use uuid::{Uuid, Variant};

const HEADER: &str = "idempotency-key";

/// Characters of a refusal's text that are kept: it may quote whole values of the request.
const MESSAGE_MAX: usize = 4096;

/// The key that a request carries.
fn key(call: &Call) -> Result<Option<Uuid>, Failure> {
    let mut given = call.headers.get_all(HEADER).iter();
    let Some(value) = given.next() else {
        return Ok(None);
    };
    let malformed = || {
        let text = "Idempotency-Key must be one UUIDv7 in its hyphenated form";
        Failure::bad_request(text)
    };
    if given.next().is_some() || value.len() != uuid::fmt::Hyphenated::LENGTH {
        return Err(malformed());
    }
    let text = value.to_str().map_err(|_| malformed())?;
    let key = Uuid::try_parse(text).map_err(|_| malformed())?;
    let is_v7 = key.get_variant() == Variant::RFC4122 && key.get_version_num() == 7;
    is_v7.then_some(Some(key)).ok_or_else(malformed)
}

/// A hash over fields, none of which runs into the next one.
struct Fields(blake3::Hasher);

impl Fields {
    fn of(fields: &[&[u8]]) -> [u8; 32] {
        let mut hash = Self(blake3::Hasher::new());
        for field in fields {
            hash.field(field);
        }
        *hash.0.finalize().as_bytes()
    }

    fn field(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }
}

/// A body in the one form that all its spellings share. A client that builds its request again may
/// order the fields of an object otherwise, and is not to be told that it is another request.
fn canonical(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    match serde_json::from_slice(body) {
        Ok(value) => write(&value, &mut out),
        Err(_) => out.extend_from_slice(body),
    }
    out
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            out.push(b'{');
            for (name, value) in fields {
                scalar(&Value::String(name.clone()), out);
                write(value, out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                write(item, out);
                out.push(b',');
            }
            out.push(b']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => scalar(value, out),
    }
}

fn scalar(value: &Value, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, value).expect("a JSON value serializes into memory");
    out.push(b' ');
}

/// What makes a request known when it comes again.
fn idempotency(
    key: Uuid,
    operation: Operation,
    names: &PathNames,
    bucket: &BucketName,
    call: &Call,
    principal: &Principal,
) -> Idempotency {
    let who = [principal.account.as_str(), &*principal.id].map(str::as_bytes);
    let scope = bucket.as_str().as_bytes();
    let purge = call.query.filled("purgeRequested").unwrap_or_default();
    Idempotency {
        id: Fields::of(&[who[0], who[1], scope, key.as_bytes()]),
        fingerprint: Fields::of(&[
            operation.name().as_bytes(),
            scope,
            names.namespace.as_bytes(),
            names.table.as_bytes(),
            purge.as_bytes(),
            &canonical(&call.body),
        ]),
    }
}

impl IcebergState {
    /// The context of a request that changes something.
    pub(crate) fn cx_once(
        &self,
        operation: Operation,
        names: &PathNames,
        call: &Call,
        principal: &Principal,
    ) -> Result<Cx, Failure> {
        let idempotency = match key(call)? {
            None => None,
            Some(key) => {
                let bucket = self.bucket(names)?;
                Some(idempotency(key, operation, names, &bucket, call, principal))
            }
        };
        Ok(Cx {
            idempotency,
            ..self.cx(call, principal)
        })
    }

    /// Answers a request whose use case has refused it: the refusal, once it is the answer of the
    /// request's key. A copy of the request may have been done before that; then its answer.
    pub(crate) async fn refuse(
        &self,
        asked: &Asked,
        call: &Call,
        principal: &Principal,
        failure: Failure,
    ) -> Handled {
        if !asked.operation.is_once() || !call.headers.contains_key(HEADER) {
            return Err(failure);
        }
        let cx = self.cx_once(asked.operation, &asked.names, call, principal)?;
        // The refusal becomes a row, whatever the operation would have done to the room on the disk.
        if let Err(full) = call.room.check() {
            return Err(Failure::no_room(full));
        }
        let refusal = Refusal {
            code: failure.code(),
            kind: failure.kind().to_owned(),
            message: failure.message().chars().take(MESSAGE_MAX).collect(),
        };
        if self.catalog.refuse(&cx, &refusal).await? {
            return Err(failure);
        }
        self.run(asked, call, principal).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_body_are_one_body() {
        let same = [
            r#"{"a":1,"b":{"c":[1,2],"d":null}}"#,
            r#" { "b" : {"d":null, "c":[1, 2]}, "a":1 } "#,
        ];
        assert_eq!(canonical(same[0].as_bytes()), canonical(same[1].as_bytes()));
        let others = [
            r#"{"a":1,"b":{"c":[2,1],"d":null}}"#,
            r#"{"a":1,"b":{"c":[12],"d":null}}"#,
            r#"{"a":"1","b":{"c":[1,2],"d":null}}"#,
            r#"{"a":1,"b":{"c":[1,2]},"d":null}"#,
            r#"{"a":1,"b":{"c":[1,2],"d":null}"#,
        ];
        for other in others {
            assert_ne!(canonical(other.as_bytes()), canonical(same[0].as_bytes()));
        }
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        assert_ne!(Fields::of(&[b"ab", b"c"]), Fields::of(&[b"a", b"bc"]));
    }
}
