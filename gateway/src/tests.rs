//! The whole gateway between real clients and real servers.

mod envoy;
mod grpc;
mod hostile;
mod limits;
mod origins;
mod reload;
mod rest;
mod sockets;
mod strangers;
mod streams;
mod tls;
mod upstreams;
