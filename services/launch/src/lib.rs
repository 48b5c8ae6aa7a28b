//! How the platform's modules become processes: all of them in one (`upm dev`), or some of them each (`upm serve`), with the same
//! code path; and the command-line client.
//!
//! Invariant: a module cannot tell whether another one is in the same process: it gets a channel either way.

mod ca;
pub mod cli;
mod config;
mod dev;
mod hosted;
mod noun;
mod platform;
mod serve;
