//! The handlers behind the real mesh and store. Module `resource` and the hub are doubles; no operation is worked on.

mod refusals;
mod requests;
mod world;
