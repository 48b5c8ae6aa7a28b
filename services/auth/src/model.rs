//! Rows and queries, by what they are about.

pub(crate) mod bindings;
pub(crate) mod blocked;
pub(crate) mod keys;
pub(crate) mod policy;
pub(crate) mod roles;
pub(crate) mod sessions;
pub(crate) mod setup;
