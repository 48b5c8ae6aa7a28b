//! What needs the platform, the agent or the machine for itself: these tests run one at a time.

mod crash;
mod pauses;
mod secrets;
mod trace;
mod tunnels;
