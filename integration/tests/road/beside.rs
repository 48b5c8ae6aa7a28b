//! What disturbs nobody else: these tests run side by side.

mod create;
mod data;
mod failover;
mod gateway;
mod scale;
mod wrong;
