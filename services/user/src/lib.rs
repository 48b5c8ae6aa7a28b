//! People and programs that use the platform: their names, passwords and whether they may act.
//!
//! It decides nothing about permissions (module `auth` does) and issues no tokens. **Invariant:** a password is only ever in memory;
//! what is stored is its argon2id hash, and no answer, log line or audit record holds either.

// A variant that is added later must be looked at wherever variants are told apart.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

mod config;
mod disabled;
mod error;
mod grpc;
mod list;
mod model;
mod module;
mod password;
mod pb;
mod schema;
mod users;

pub use config::{Config, PasswordCost};
pub use error::Error;
pub use module::{MIGRATIONS, module};

#[cfg(test)]
mod tests;
