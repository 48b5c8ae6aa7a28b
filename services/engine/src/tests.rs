//! Operations from their acceptance to their end, against a hub and a cluster that are played.

mod crash;
mod life;
mod pools;
mod refusals;
mod watching;
