//! The arithmetic of the ledger stream (`upm.hub.v1`) that hub and agent must do alike: identity and digests of keys, canonical JSON,
//! lanes with credit, fragments, and the limits of the protocol.

mod canonical;
mod credit;
mod digest;
mod fragment;
mod lanes;
pub mod limits;
mod merge;

pub use canonical::{NotCanonical, canonical_json};
pub use credit::Window;
pub use digest::{Entry, Root, bucket, content_digest, key_text};
pub use fragment::{FragmentError, Joiner};
pub use lanes::{Ahead, Frame, Lanes, Next};
pub use merge::{merge_patch, merged};

/// The protocol version that this build speaks.
pub const PROTOCOL: u32 = 1;
