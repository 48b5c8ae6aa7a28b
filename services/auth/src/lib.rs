//! Who somebody is and what they may do: tokens, roles, bindings, and the policy that every module decides by.
//!
//! It keeps no passwords (module `user` checks them) and asks no other module about permissions. **Invariants:** refresh and set-up
//! tokens are stored as hashes; a change of who may do what and its revision are one transaction; there is always an administrator
//! who may act once there was one.

// A variant that is added later must be looked at wherever variants are told apart.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

mod bindings;
mod blocked;
mod config;
mod error;
mod grpc;
mod keys;
mod login;
mod maintenance;
mod model;
mod module;
mod pb;
mod peer;
pub mod permissions;
mod policy;
mod roles;
mod schema;
mod secret;
mod sessions;
mod setup;
mod throttle;

pub use config::Config;
pub use error::Error;
pub use module::{MIGRATIONS, module};
pub use permissions::{BUILT_IN, BuiltIn};
pub use setup::SetupToken;

#[cfg(test)]
mod tests;
