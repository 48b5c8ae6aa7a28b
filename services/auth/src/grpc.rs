//! The gRPC face: convert, call, convert.

mod auth;
mod policy;
mod roles;

pub(crate) use auth::AuthHandler;
pub(crate) use policy::PolicyHandler;
pub(crate) use roles::RoleHandler;
