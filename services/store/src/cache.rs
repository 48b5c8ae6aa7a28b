//! What may be lost: counters, throttles, short-lived copies. In Redis when replicas share it, else in the process.

mod in_process;
mod redis_server;

use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use in_process::InProcess;
use redis_server::RedisServer;

/// How long Redis may take for a connection, and for each answer.
const REDIS_LIMIT: Duration = Duration::from_secs(2);

/// A cache of small values with a time to live. Cheap to clone. Whatever it holds may be gone at any time.
#[derive(Debug, Clone)]
pub struct Cache {
    scope: Arc<str>,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    InProcess(Arc<InProcess>),
    Redis(RedisServer),
}

impl Cache {
    /// A cache of this process, bounded: the entry that ends soonest makes room.
    pub fn in_process() -> Self {
        Self {
            scope: Arc::from("upm"),
            place: Place::InProcess(Arc::default()),
        }
    }

    /// A cache in Redis: `redis://[user:password@]host:port/[db]`. Connects at first use.
    pub async fn redis(url: &str) -> Result<Self, Error> {
        Self::redis_within(url, REDIS_LIMIT).await
    }

    /// Waits this long for a connection, and for each answer.
    pub(crate) async fn redis_within(url: &str, limit: Duration) -> Result<Self, Error> {
        let server = RedisServer::open(url, limit).await?;
        Ok(Self {
            scope: Arc::from("upm"),
            place: Place::Redis(server),
        })
    }

    /// The same cache with keys of its own.
    pub fn scoped(&self, scope: &str) -> Self {
        Self {
            scope: Arc::from(format!("{}:{scope}", self.scope)),
            place: self.place.clone(),
        }
    }

    /// The value of a key.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let key = self.key(key);
        match &self.place {
            Place::InProcess(here) => Ok(here.get(&key)),
            Place::Redis(server) => server.get(&key).await,
        }
    }

    /// Sets a key for `ttl`, at least one millisecond.
    pub async fn set(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), Error> {
        let key = self.key(key);
        match &self.place {
            Place::InProcess(here) => {
                here.set(&key, value, ttl);
                Ok(())
            }
            Place::Redis(server) => server.set(&key, value, ttl).await,
        }
    }

    /// Removes a key; whether it was there.
    pub async fn del(&self, key: &str) -> Result<bool, Error> {
        let key = self.key(key);
        match &self.place {
            Place::InProcess(here) => Ok(here.del(&key)),
            Place::Redis(server) => server.del(&key).await,
        }
    }

    /// Counts up from 0 and returns the count. The first count starts the `ttl`; later ones do not extend it.
    pub async fn incr(&self, key: &str, ttl: Duration) -> Result<i64, Error> {
        let key = self.key(key);
        match &self.place {
            Place::InProcess(here) => here.incr(&key, ttl),
            Place::Redis(server) => server.incr(&key, ttl).await,
        }
    }

    /// Counts down by one, not below 0 and only what is there; its end stays.
    pub async fn decr(&self, key: &str) -> Result<(), Error> {
        let key = self.key(key);
        match &self.place {
            Place::InProcess(here) => here.decr(&key),
            Place::Redis(server) => server.decr(&key).await,
        }
    }

    /// Sets a key only when its value is `expected` (`None`: absent); whether it did.
    pub async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, Error> {
        let key = self.key(key);
        match &self.place {
            Place::InProcess(here) => Ok(here.compare_and_set(&key, expected, value, ttl)),
            Place::Redis(server) => server.compare_and_set(&key, expected, value, ttl).await,
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}:{key}", self.scope)
    }
}
