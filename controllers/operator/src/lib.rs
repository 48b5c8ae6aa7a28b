//! The reconcile frame of the engine's controllers: observe → plan (pure) → apply → status (pure).
//!
//! Only `observe` and `apply` touch the world. Every call to the API server has a deadline, every wait a reason.

pub mod authority;
pub mod call;
mod context;
mod controller;
mod error;
pub mod events;
pub mod finalizer;
mod informer;
pub mod leader;
mod retry;
mod trace;

pub use context::{Context, SecretsRole, Settings};
pub use controller::{Controller, Next, Object, Options, run};
pub use error::Error;
pub use events::Events;
pub use informer::{Informer, Trigger, Unreadable};
pub use kube::runtime::reflector::ObjectRef;
pub use kube::runtime::watcher::Config as WatchConfig;
