//! What only the whole can show. `house` reads the source tree; `road` drives the platform on a real Kubernetes cluster.

#![allow(clippy::panic, reason = "this is how a test fails")]

mod house;
mod road;
