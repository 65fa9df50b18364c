//! S3 protocol adapter: requests and answers of the S3 API on the object use cases.
//!
//! Signatures, routing and XML are s3s's; this crate owns every status code, decodes requests into
//! the model of `floeberg-objects`, and closes what s3s leaves open: anonymous requests are denied,
//! session tokens are checked, trailing checksums are verified, and a body that fails at its end is
//! never published.

mod access;
mod bucket_ops;
mod checksums;
mod decode;
mod errors;
mod head;
mod hosts;
mod list_ops;
mod multipart_ops;
mod object_ops;
mod operations;
mod outer;
mod router;
mod seen;
mod state;
mod tag_ops;
mod xml_tags;

pub use operations::{BodyKind, OPERATIONS, Operation};
pub use outer::{S3Api, service};
pub use state::{S3Settings, S3State};
