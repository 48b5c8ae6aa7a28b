//! The whole road: from a REST call to running Redis servers and back, on the real test cluster.
//!
//! `make test` prepares the cluster and the images and says where they are in `UPM_TEST_*`; without them these tests fail and say so.
//! Tests of `beside` run side by side, each with a project of its own or a service that it has for itself. Those of `faults` end processes
//! that the others need, or measure how long writes pause: they run one at a time, after the others, since tests begin in the order of their
//! names. `serve` replaces the platform by another one, so `make test` runs it by itself, at last.

mod api;
mod environment;
mod kubectl;
mod members_writer;
mod mixed_writer;
mod pool;
mod pulse;
mod receiver;
mod servers;
mod service;
mod world;
mod writer;

mod beside;
mod cluster_faults;
mod faults;
mod large;
mod serve;
