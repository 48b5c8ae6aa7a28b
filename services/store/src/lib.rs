//! Where a module keeps its data: a database (SQLite or MySQL) behind [`Store::transact`], and a cache (Redis or in the process).
//!
//! It holds what every table needs written once — ids, etags, pages, filters, idempotence, the audit outbox — and no table of any
//! module. **Invariant:** only this crate names a database.

mod address;
mod audited;
pub mod cache;
mod collation;
mod connection;
mod context;
mod diff;
mod error;
pub mod etag;
pub mod filter;
pub mod ids;
pub mod key_file;
pub mod labels;
pub mod lock;
pub mod mask;
mod meta;
mod migrate;
pub mod outbox;
pub mod page;
mod pool;
pub mod request_id;
mod schema;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
mod transaction;
mod watch;

#[cfg(test)]
mod tests;

pub use audited::audited;
pub use cache::Cache;
pub use connection::{AnyConnection as Connection, MultiBackend as Backend};
pub use context::ModuleContext;
pub use diff::Diff;
pub use error::Error;
pub use migrate::Migrations;
pub use store::Store;

/// What a query of diesel fails with.
pub use diesel::result::Error as QueryError;
