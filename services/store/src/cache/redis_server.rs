//! The cache in Redis, through a pool.

use std::sync::LazyLock;
use std::time::Duration;

use bb8_redis::RedisConnectionManager;
use bb8_redis::bb8::{Pool, PooledConnection};
use redis::{AsyncCommands, RedisError, Script};
use tokio::time::timeout;

use crate::Error;

const POOL_SIZE: u32 = 8;

static INCR: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local n = redis.call('INCR', KEYS[1]) \
         if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end \
         return n",
    )
});
static DECR: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local n = redis.call('GET', KEYS[1]) \
         if n and tonumber(n) > 0 then redis.call('DECR', KEYS[1]) end \
         return 1",
    )
});
static COMPARE_AND_SET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local old = redis.call('GET', KEYS[1]) \
         if ARGV[1] == '0' then if old then return 0 end \
         elseif old ~= ARGV[2] then return 0 end \
         redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) \
         return 1",
    )
});

#[derive(Debug, Clone)]
pub(super) struct RedisServer {
    pool: Pool<RedisConnectionManager>,
    /// For a connection, and for a call.
    limit: Duration,
}

impl RedisServer {
    pub(super) async fn open(url: &str, limit: Duration) -> Result<Self, Error> {
        // The library's message could repeat the address, which holds the password.
        let manager = RedisConnectionManager::new(url)
            .map_err(|_| Error::Address("not redis://<host>:<port>/<db>".to_owned()))?;
        let pool = Pool::builder()
            .max_size(POOL_SIZE)
            .connection_timeout(limit)
            .build(manager)
            .await
            .map_err(|error| failed(&error))?;
        Ok(Self { pool, limit })
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut redis = self.connection().await?;
        self.limited(redis.get(key)).await
    }

    pub(super) async fn set(&self, key: &str, value: &[u8], ttl: Duration) -> Result<(), Error> {
        let mut redis = self.connection().await?;
        self.limited(redis.pset_ex(key, value, millis(ttl))).await
    }

    pub(super) async fn del(&self, key: &str) -> Result<bool, Error> {
        let mut redis = self.connection().await?;
        let removed: i64 = self.limited(redis.del(key)).await?;
        Ok(removed == 1)
    }

    pub(super) async fn incr(&self, key: &str, ttl: Duration) -> Result<i64, Error> {
        let mut redis = self.connection().await?;
        let mut call = INCR.prepare_invoke();
        call.key(key).arg(millis(ttl));
        self.limited(call.invoke_async(&mut *redis)).await
    }

    pub(super) async fn decr(&self, key: &str) -> Result<(), Error> {
        let mut redis = self.connection().await?;
        let mut call = DECR.prepare_invoke();
        call.key(key);
        let _: i64 = self.limited(call.invoke_async(&mut *redis)).await?;
        Ok(())
    }

    pub(super) async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, Error> {
        let mut redis = self.connection().await?;
        let mut call = COMPARE_AND_SET.prepare_invoke();
        call.key(key)
            .arg(i32::from(expected.is_some()))
            .arg(expected.unwrap_or_default())
            .arg(value)
            .arg(millis(ttl));
        let set: i64 = self.limited(call.invoke_async(&mut *redis)).await?;
        Ok(set == 1)
    }

    async fn connection(&self) -> Result<PooledConnection<'_, RedisConnectionManager>, Error> {
        let mut redis = self
            .pool
            .get()
            .await
            .map_err(|error| Error::Cache(error.to_string()))?;
        // The library's own limit of 500 ms is shorter than what is promised here.
        redis.set_response_timeout(self.limit);
        Ok(redis)
    }

    async fn limited<T>(
        &self,
        call: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, Error> {
        timeout(self.limit, call)
            .await
            .map_err(|_| Error::Cache(format!("no answer within {} s", self.limit.as_secs())))?
            .map_err(|error| failed(&error))
    }
}

fn failed(error: &RedisError) -> Error {
    Error::Cache(error.to_string())
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}
