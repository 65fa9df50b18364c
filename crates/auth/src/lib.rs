//! Who asks, and what they may do: principals, signatures, tokens and authorised actions.
//!
//! A request passes two doors. [`sigv4::verify`] or [`Keyring::verify_bearer`] turns credentials
//! into a [`Principal`]; nobody is anonymous. [`Authorizer::authorize`] then turns the principal and
//! a resource into an [`Authorized`] action, which only this crate can make and which every service
//! takes as its first argument: a use case that forgot to ask does not compile.
//!
//! Nothing here reads a clock or keeps state that must survive: temporary credentials and bearer
//! tokens are sealed with keys derived from the root secret and the cluster id, so every node
//! checks them alone, and changing the root secret revokes all of them.

pub mod action;
mod authorizer;
mod bearer;
mod keyring;
mod principal;
mod seal;
pub mod sigv4;
mod vended;

pub use action::{Action, Effect};
pub use authorizer::{Authorized, Authorizer, Denied, Resource};
pub use bearer::{BEARER_LIFETIME_MS, BearerError, BearerToken, RENEWAL_LIFETIME_MS};
pub use keyring::{ClientError, Keyring, LookupError, RootKey, RootKeyError, SecretKey};
pub use principal::{Principal, PrincipalKind, Scope, ScopeAccess};
pub use vended::{VENDED_LIFETIME_MAX_MS, VendedCredentials};
