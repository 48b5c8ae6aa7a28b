//! The API of UPM: messages, clients and servers of every package, the descriptor set, and the table of method policies.
//!
//! Everything under `gen/` is made by `upm-codegen` and committed; a test fails when it is stale. This crate decides nothing;
//! [`kinds`] is the table of Kubernetes kinds, [`ledger`] is the arithmetic that both ends of the ledger stream must do alike.

pub mod codec;
pub mod file;
pub mod kinds;
pub mod ledger;
pub mod mutation;
pub mod policy;

/// The encoded `FileDescriptorSet` of all packages, with `google.api.http`, the policies and the comments.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptor.bin");

macro_rules! packages {
    ($($(#[$doc:meta])* $module:ident => $file:literal;)*) => {$(
        $(#[$doc])*
        pub mod $module {
            /// Version 1.
            #[allow(
                clippy::all, clippy::pedantic, missing_debug_implementations, unreachable_pub,
                unused_qualifications, elided_lifetimes_in_paths, rustdoc::all
            )]
            pub mod v1 {
                include!(concat!("gen/", $file));
            }
        }
    )*};
}

pub use upm::*;

/// The packages lie as deep as their names say, because generated code refers to them by `super`.
mod upm {
    packages! {
        /// Tokens, roles, decisions.
        auth => "upm.auth.v1.rs";
        /// The ledger stream between hub and agents, and the hub's face to the modules.
        hub => "upm.hub.v1.rs";
        /// Durable operations.
        operation => "upm.operation.v1.rs";
        /// The operation log.
        operatorlog => "upm.operatorlog.v1.rs";
        /// Redis replication services.
        redis => "upm.redis.v1.rs";
        /// Projects, clusters, software.
        resource => "upm.resource.v1.rs";
        /// The unit agent inside a pod.
        unit => "upm.unit.v1.rs";
        /// Users.
        user => "upm.user.v1.rs";
    }
}

/// `google.rpc` and `google.api`, as far as UPM uses them.
pub mod google {
    /// The error model.
    #[allow(clippy::all, clippy::pedantic, unreachable_pub, rustdoc::all)]
    pub mod rpc {
        include!("gen/google.rpc.rs");
    }
}
