//! Notices what a statement failed with, also when the module's own error type hides it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use diesel::connection::{Instrumentation, InstrumentationEvent};
use diesel::result::{DatabaseErrorKind, Error};

/// What the last failed statement of a transaction means for the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// Nothing, or an ordinary error.
    None,
    /// Another transaction was in the way: the whole work may be repeated.
    Contention,
    /// The connection is gone.
    Lost,
}

/// Shared by a connection and the pool: the worst trouble since the last [`Watch::reset`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch(Arc<AtomicU8>);

impl Watch {
    pub(crate) fn reset(&self) {
        self.0.store(Trouble::None as u8, Ordering::Relaxed);
    }

    pub(crate) fn trouble(&self) -> Trouble {
        match self.0.load(Ordering::Relaxed) {
            0 => Trouble::None,
            1 => Trouble::Contention,
            _ => Trouble::Lost,
        }
    }

    pub(crate) fn note(&self, error: &Error) {
        self.0.fetch_max(trouble_of(error) as u8, Ordering::Relaxed);
    }
}

impl Instrumentation for Watch {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if let InstrumentationEvent::FinishQuery {
            error: Some(error), ..
        } = event
        {
            self.note(error);
        }
    }
}

/// Diesel keeps no vendor codes, so what its kinds do not say is read from the message.
pub(crate) fn trouble_of(error: &Error) -> Trouble {
    const CONTENTION: [&str; 5] = [
        "database is locked",
        "database table is locked",
        "Lock wait timeout exceeded",
        "Deadlock found",
        "Record has changed since last read",
    ];
    const LOST: [&str; 6] = [
        "server has gone away",
        "Lost connection",
        "Can't connect",
        "Connection was killed",
        "Server shutdown in progress",
        "Commands out of sync",
    ];
    match error {
        Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => Trouble::Contention,
        Error::DatabaseError(DatabaseErrorKind::ClosedConnection, _)
        | Error::BrokenTransactionManager => Trouble::Lost,
        Error::DatabaseError(_, information) => {
            let message = information.message();
            if CONTENTION.iter().any(|known| message.contains(known)) {
                Trouble::Contention
            } else if LOST.iter().any(|known| message.contains(known)) {
                Trouble::Lost
            } else {
                Trouble::None
            }
        }
        _ => Trouble::None,
    }
}
