//! A module's database.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use crate::Connection;
use crate::address::Address;
use crate::connection::Begin;
use crate::migrate::{Migrations, migrate};
use crate::pool::Pool;
use crate::transaction::{Attempt, attempt};
use crate::{Error, meta};

/// How long work may wait for a connection and run, retries included.
const LIMIT: Duration = Duration::from_secs(30);
/// How often contended work is tried.
const ATTEMPTS: u32 = 8;
const SQLITE_READERS: usize = 4;
const MYSQL_CONNECTIONS: usize = 8;

/// A module's database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    module: &'static str,
    writers: Pool,
    readers: Pool,
    outbox_written: Notify,
    secret: meta::Secret,
}

impl Store {
    /// Opens the module's database: creates it when it is missing and runs pending migrations, the store's own tables first.
    ///
    /// `url` is `sqlite:<file>`, `sqlite:<folder>/` (then the file is `<module>.db`) or `mysql://user:password@host:port/[database]`
    /// (default `upm_<module>`; query parameters `unix_socket`, `ssl_mode`, `ssl_ca` as in diesel).
    pub async fn open(
        url: &str,
        module: &'static str,
        migrations: Migrations,
    ) -> Result<Self, Error> {
        let address = Address::parse(url, module)?;
        let at = address.clone();
        tokio::task::spawn_blocking(move || migrate(&at, module, migrations))
            .await
            .map_err(|_| Error::Panicked { op: "migrate" })??;
        let (writers, readers) = match &address {
            Address::Sqlite(_) => (
                Pool::new(address.clone(), Begin::Write, 1),
                Pool::new(address, Begin::Read, SQLITE_READERS),
            ),
            Address::Mysql(_) => {
                let shared = Pool::new(address, Begin::Write, MYSQL_CONNECTIONS);
                (shared.clone(), shared)
            }
        };
        let store = |secret| Self {
            inner: Arc::new(Inner {
                module,
                writers: writers.clone(),
                readers: readers.clone(),
                outbox_written: Notify::new(),
                secret,
            }),
        };
        let secret = store(meta::Secret::unset())
            .transact("read the store's key", meta::secret)
            .await?;
        Ok(store(secret))
    }

    /// The module that owns the database.
    pub fn module(&self) -> &'static str {
        self.inner.module
    }

    /// Runs `work` in one transaction and commits when it returns `Ok`.
    ///
    /// `work` runs again from the start when another transaction was in the way (deadlock, lock wait, busy), so it must change
    /// nothing but the database. On SQLite writers follow one another; on MySQL the isolation is READ COMMITTED: lock what is
    /// read and then decided on, see [`crate::lock`].
    ///
    /// # Errors
    /// What `work` returned, [`Error::Contended`] when others were in the way eight times, [`Error::Busy`] after 30 s,
    /// [`Error::Unavailable`] when the server is away. When a connection is lost
    /// during the commit the outcome is unknown; `request_id` makes repeating safe.
    pub async fn transact<T, E, F>(&self, op: &'static str, work: F) -> Result<T, E>
    where
        F: FnMut(&mut Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + From<diesel::result::Error> + Send + 'static,
    {
        self.run(op, Begin::Write, work).await
    }

    /// Runs `work` on one snapshot. It cannot write.
    ///
    /// # Errors
    /// As [`Store::transact`].
    pub async fn read<T, E, F>(&self, op: &'static str, work: F) -> Result<T, E>
    where
        F: FnMut(&mut Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + From<diesel::result::Error> + Send + 'static,
    {
        self.run(op, Begin::Read, work).await
    }

    /// Resolves when a transaction of this process has written to the outbox.
    pub(crate) async fn outbox_written(&self) {
        self.inner.outbox_written.notified().await;
    }

    pub(crate) fn secret(&self) -> &meta::Secret {
        &self.inner.secret
    }

    async fn run<T, E, F>(&self, op: &'static str, begin: Begin, mut work: F) -> Result<T, E>
    where
        F: FnMut(&mut Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + From<diesel::result::Error> + Send + 'static,
    {
        let deadline = Instant::now() + LIMIT;
        let busy = || E::from(Error::Busy { op, limit: LIMIT });
        let pool = match begin {
            Begin::Write => &self.inner.writers,
            Begin::Read => &self.inner.readers,
        };
        let module = self.inner.module;
        let span = tracing::debug_span!("transaction", store.op = op);
        for tried in 1.. {
            let lease = timeout_at(deadline, pool.lease())
                .await
                .map_err(|_| busy())?;
            let inside = span.clone();
            let blocking = tokio::task::spawn_blocking(move || {
                let _entered = inside.entered();
                let ended = attempt(&lease, module, begin, &mut work);
                (ended, work)
            });
            let (ended, back) = timeout_at(deadline, blocking)
                .await
                .map_err(|_| busy())?
                .map_err(|_| E::from(Error::Panicked { op }))?;
            work = back;
            match ended {
                Attempt::Committed {
                    value,
                    wrote_outbox,
                } => {
                    if wrote_outbox {
                        self.inner.outbox_written.notify_one();
                    }
                    return Ok(value);
                }
                Attempt::Failed(error) => return Err(error),
                Attempt::Contended(_) if ATTEMPTS <= tried => {
                    return Err(E::from(Error::Contended { op }));
                }
                Attempt::Contended(_) => {
                    let pause = pause(tried);
                    tracing::debug!(
                        store.op = op,
                        tried,
                        pause_ms = pause.as_millis(),
                        "Repeating contended work"
                    );
                    timeout_at(deadline, sleep(pause))
                        .await
                        .map_err(|_| busy())?;
                }
            }
        }
        Err(busy())
    }
}

/// Full jitter up to 5 ms · 2^tried, at most 500 ms.
fn pause(tried: u32) -> Duration {
    let most = 5_u64.saturating_mul(1 << tried.min(8)).min(500);
    Duration::from_millis(rand::rng().random_range(1..=most))
}
