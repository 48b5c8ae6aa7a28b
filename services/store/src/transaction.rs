//! One attempt at a transaction, on a blocking thread.

use crate::Connection;
use crate::Error;
use crate::connection::Begin;
use crate::outbox;
use crate::pool::{Guarded, Lease};
use crate::watch::Trouble;

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Attempt<T, E> {
    /// Committed; `wrote_outbox` says whether the forwarder has work.
    Committed { value: T, wrote_outbox: bool },
    /// Rolled back.
    Failed(E),
    /// Rolled back because another transaction was in the way: repeating may help.
    Contended(E),
}

/// Runs `work` in one transaction. Blocks.
pub(crate) fn attempt<T, E, F>(
    lease: &Lease,
    module: &'static str,
    begin: Begin,
    work: &mut F,
) -> Attempt<T, E>
where
    F: FnMut(&mut Connection) -> Result<T, E>,
    E: From<Error> + From<diesel::result::Error>,
{
    let mut guarded = match begun(lease, begin) {
        Ok(guarded) => guarded,
        Err(BeginError::Contended(error)) => return Attempt::Contended(error.into()),
        Err(BeginError::Unavailable(cause)) => {
            return Attempt::Failed(Error::Unavailable { module, cause }.into());
        }
    };
    outbox::forget_written();
    let ended = match work(&mut guarded.connection) {
        // The work went on although a statement lost against another transaction: the server may have undone what came before it.
        Ok(_) if guarded.watch.trouble() != Trouble::None => {
            // Not given back, so its transaction ends with it.
            Err(diesel::result::Error::RollbackTransaction.into())
        }
        Ok(value) => match guarded.connection.commit() {
            Ok(()) => Ok(value),
            Err(error) => {
                guarded.watch.note(&error);
                Err(error.into())
            }
        },
        Err(error) => {
            // A connection that cannot roll back is not given back, so its transaction ends with it.
            if guarded.connection.rollback().is_err() && guarded.watch.trouble() == Trouble::None {
                return Attempt::Failed(error);
            }
            Err(error)
        }
    };
    let trouble = guarded.watch.trouble();
    match ended {
        Ok(value) => {
            lease.give_back(guarded);
            Attempt::Committed {
                value,
                wrote_outbox: outbox::take_written(),
            }
        }
        Err(error) => match trouble {
            Trouble::None => {
                lease.give_back(guarded);
                Attempt::Failed(error)
            }
            // The server has rolled back by itself and diesel's own count may disagree: a new connection is cheap.
            Trouble::Contention => Attempt::Contended(error),
            Trouble::Lost => Attempt::Failed(
                Error::Unavailable {
                    module,
                    cause: "the connection was lost".to_owned(),
                }
                .into(),
            ),
        },
    }
}

enum BeginError {
    Contended(diesel::result::Error),
    Unavailable(String),
}

/// A connection inside a new transaction. Idle connections that the server has dropped meanwhile are replaced.
fn begun(lease: &Lease, begin: Begin) -> Result<Guarded, BeginError> {
    while let Some(mut idle) = lease.idle() {
        idle.watch.reset();
        match idle.connection.begin(begin) {
            Ok(()) => return Ok(idle),
            Err(error) if idle.watch.trouble() == Trouble::Contention => {
                lease.give_back(idle);
                return Err(BeginError::Contended(error));
            }
            Err(error) => tracing::debug!(%error, "Dropped an idle database connection"),
        }
    }
    let mut fresh = lease.open().map_err(BeginError::Unavailable)?;
    match fresh.connection.begin(begin) {
        Ok(()) => Ok(fresh),
        Err(error) if fresh.watch.trouble() == Trouble::Contention => {
            Err(BeginError::Contended(error))
        }
        Err(error) => Err(BeginError::Unavailable(error.to_string())),
    }
}
