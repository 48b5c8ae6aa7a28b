//! The whole road: from a REST call to running Redis servers and back, on the real test cluster.
//!
//! `make test` prepares the cluster and the images and says where they are in `UPM_TEST_*`; without them these tests fail and say so.
//! They run one after another, because several of them end processes that the others need. `serve` replaces the platform by another
//! one, so `make test` runs it by itself, after the others.

mod api;
mod environment;
mod kubectl;
mod members_writer;
mod mixed_writer;
mod pulse;
mod receiver;
mod servers;
mod service;
mod world;
mod writer;

mod cluster_faults;
mod crash;
mod create;
mod data;
mod failover;
mod gateway;
mod large;
mod scale;
mod secrets;
mod serve;
mod trace;
mod tunnels;
mod wrong;
