//! Heads of the log in the log of the process, for a collector: who changes the store cannot change what was taken elsewhere. And the first
//! signature of a log that is older than its key.

use std::sync::Arc;
use std::time::Duration;

use upm_mesh::Drain;
use upm_proto::operatorlog::v1::Entry;
use upm_store::Store;

use crate::Error;
use crate::chain::{self, Head};
use crate::model;
use crate::seal::Seal;

/// Between two looks. What is appended and cut off again between two of them shows nowhere but in the head of the store.
const EVERY: Duration = Duration::from_mins(1);
/// Entries that are read at once.
const BATCH: i64 = 500;
/// Others append while a long log is checked; then what they appended is checked too.
const TRIES: u32 = 5;

/// What looks at the end of the log.
#[derive(Debug)]
pub(crate) struct Heads {
    pub(crate) store: Store,
    pub(crate) seal: Option<Arc<Seal>>,
    /// An entry from which on the chain is taken for true.
    pub(crate) adopt: Option<Head>,
}

impl Heads {
    /// Signs what was there before its key, when the key was made just now.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub(crate) async fn begin(&self) -> Result<(), Error> {
        let Some(seal) = self.seal.as_ref().filter(|seal| seal.made) else {
            return Ok(());
        };
        let seal = seal.clone();
        self.store
            .transact("operatorlog.adopt", move |conn| {
                let (head, _) = model::end(conn)?;
                if head.sequence == 0 {
                    return Ok(());
                }
                model::set_end(conn, &head, &head, &seal.sign(&head))
            })
            .await
    }

    /// Writes each new head down, until the process drains.
    pub(crate) async fn follow(self, drain: Drain) {
        let mut told = 0;
        loop {
            match self.look(told).await {
                Ok(sequence) => told = sequence,
                Err(error) => {
                    tracing::warn!(%error, "The head of the operation log was not looked at");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = drain.signalled() => return,
            }
        }
    }

    /// The sequence number of the end, which is written down when it is not `told`.
    async fn look(&self, told: i64) -> Result<i64, Error> {
        let (head, signature) = self.store.read("operatorlog.head", model::end).await?;
        if head.sequence == told {
            return Ok(told);
        }
        // `upm log verify --noted` takes it as it is.
        tracing::info!(noted = %head, signature, "Head of the operation log");
        let Some(seal) = &self.seal else {
            return Ok(head.sequence);
        };
        if seal.continues(&head, &signature) {
            return Ok(head.sequence);
        }
        if let Some(from) = &self.adopt {
            self.adopt(seal, from).await?;
        } else {
            tracing::error!(
                %head,
                "The end of the operation log has no signature of its key. When it is right nevertheless, name a head of it that you noted before \
                 (adopt-head)"
            );
        }
        Ok(head.sequence)
    }

    /// Signs the end when the log has the entry `from` and holds from there on.
    async fn adopt(&self, seal: &Arc<Seal>, from: &Head) -> Result<(), Error> {
        for _ in 0..TRIES {
            let end = match self.holds_from(from).await? {
                Ok(end) => end,
                Err(problem) => {
                    tracing::error!(%from, problem, "The operation log is not signed: it does not hold from adopt-head on");
                    return Ok(());
                }
            };
            let (seal, head) = (seal.clone(), end.clone());
            let signed = self.store.transact("operatorlog.adopt", move |conn| {
                model::set_end(conn, &head, &head, &seal.sign(&head))
            });
            match signed.await {
                Ok(()) => {
                    tracing::warn!(%from, %end, "Signed the end of the operation log, which had no signature of its key");
                    return Ok(());
                }
                Err(Error::HeadMoved) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::HeadMoved)
    }

    /// The end of the chain that begins with `from`, or why it does not hold.
    async fn holds_from(&self, from: &Head) -> Result<Result<Head, String>, Error> {
        let mut head: Option<Head> = None;
        loop {
            let after = head
                .as_ref()
                .map_or(from.sequence - 1, |head| head.sequence);
            let rows = self.store.read("operatorlog.adopt", move |conn| {
                Ok::<_, Error>(model::after(conn, after, BATCH)?)
            });
            let rows = rows.await?;
            let complete = rows.len() < BATCH as usize;
            for entry in rows.into_iter().map(Entry::from) {
                let checked = match &head {
                    None => begins(from, &entry),
                    Some(head) => chain::check(head, &entry),
                };
                match checked {
                    Ok(next) => head = Some(next),
                    Err(problem) => return Ok(Err(format!("entry {}: {problem}", entry.sequence))),
                }
            }
            if complete {
                return Ok(head.ok_or_else(|| "there is no such entry".to_owned()));
            }
        }
    }
}

/// The first entry must be the one that was named, whatever came before it.
fn begins(from: &Head, entry: &Entry) -> Result<Head, String> {
    let before = Head {
        sequence: from.sequence - 1,
        hash: entry.previous_hash.clone(),
    };
    let head = chain::check(&before, entry)?;
    if head == *from {
        Ok(head)
    } else {
        Err("it has another hash".to_owned())
    }
}
