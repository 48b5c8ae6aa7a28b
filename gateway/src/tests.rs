//! The whole gateway between real clients and real servers.

mod grpc;
mod hostile;
mod limits;
mod reload;
mod rest;
mod sockets;
mod streams;
mod upstreams;
