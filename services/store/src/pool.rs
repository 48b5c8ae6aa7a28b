//! A few connections, handed out in order of asking. Waiting is asynchronous; only work occupies a blocking thread.

use std::sync::{Arc, Mutex, PoisonError};

use diesel::Connection as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Connection;
use crate::address::Address;
use crate::connection::Begin;
use crate::watch::Watch;

/// Connections for one use.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    address: Address,
    use_for: Begin,
    idle: Arc<Mutex<Vec<Guarded>>>,
    permits: Arc<Semaphore>,
}

/// A connection with what watches it.
#[derive(Debug)]
pub(crate) struct Guarded {
    pub(crate) connection: Connection,
    pub(crate) watch: Watch,
}

/// The right to use one connection until dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Pool,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn new(address: Address, use_for: Begin, size: usize) -> Self {
        Self {
            address,
            use_for,
            idle: Arc::default(),
            permits: Arc::new(Semaphore::new(size)),
        }
    }

    /// Waits for the right to use a connection.
    pub(crate) async fn lease(&self) -> Lease {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        Lease {
            pool: self.clone(),
            _permit: permit,
        }
    }
}

impl Lease {
    /// An idle connection.
    pub(crate) fn idle(&self) -> Option<Guarded> {
        self.pool
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    /// A new connection. Blocks.
    pub(crate) fn open(&self) -> Result<Guarded, String> {
        let mut connection = Connection::open(&self.pool.address, self.pool.use_for)?;
        let watch = Watch::default();
        connection.set_instrumentation(watch.clone());
        Ok(Guarded { connection, watch })
    }

    /// Puts a healthy connection back.
    pub(crate) fn give_back(&self, connection: Guarded) {
        self.pool
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
    }
}
