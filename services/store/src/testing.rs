//! Real servers for tests: a private MariaDB and a private Redis, one of each per test process, ended with it.
//!
//! Each server runs under a small shell that reads a pipe from the test process: when the process ends, in whatever way, the pipe
//! closes, and the shell ends the server and removes its folder. A missing program fails the test and names its package.

mod mariadb;
mod people;
mod redis_server;
mod supervised;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::{Cache, Migrations, Store};
pub use people::People;

/// A store for one test, and what it lives in.
#[derive(Debug)]
pub struct TestStore {
    /// The store.
    pub store: Store,
    /// Opens the same database again, as another replica would.
    pub url: String,
    /// For assertion messages: `sqlite` or `mariadb`.
    pub database: &'static str,
    _folder: Option<TempDir>,
}

/// A fresh store on SQLite and a fresh one on MariaDB.
pub async fn stores(module: &'static str, migrations: fn() -> Migrations) -> [TestStore; 2] {
    [
        sqlite(module, migrations()).await,
        mariadb(module, migrations()).await,
    ]
}

/// A fresh store on SQLite.
pub async fn sqlite(module: &'static str, migrations: Migrations) -> TestStore {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("sqlite:{}/{module}.db", folder.path().display());
    open(url, module, migrations, "sqlite", Some(folder)).await
}

/// A fresh store on MariaDB.
pub async fn mariadb(module: &'static str, migrations: Migrations) -> TestStore {
    let url = tokio::task::spawn_blocking(mariadb_url)
        .await
        .expect("MariaDB starts");
    open(url, module, migrations, "mariadb", None).await
}

/// Address of a database that does not exist yet on this process's MariaDB.
///
/// # Panics
/// When the programs of the Debian package `mariadb-server` are missing or the server does not start.
pub fn mariadb_url() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    mariadb::server().url(&format!("upm_test_{number}"))
}

/// Address of this process's Redis.
///
/// # Panics
/// When the program of the Debian package `redis-server` is missing or the server does not start.
pub fn redis_url() -> String {
    redis_server::server().url()
}

/// An empty cache in the process and an empty one in Redis.
pub async fn caches() -> [(&'static str, Cache); 2] {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let url = tokio::task::spawn_blocking(redis_url)
        .await
        .expect("Redis starts");
    // A machine that is busy with other tests is no Redis that is away.
    let redis = Cache::redis_within(&url, Duration::from_mins(1))
        .await
        .expect("connect to Redis");
    let scope = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    [
        ("in process", Cache::in_process()),
        ("redis", redis.scoped(&scope)),
    ]
}

/// Undoes the migrations of a store and runs them again: shows that `down.sql` undoes `up.sql`.
pub async fn migrates_down_and_up(test: &TestStore, migrations: fn() -> Migrations) {
    let address = crate::address::Address::parse(&test.url, test.store.module()).expect("address");
    let module = test.store.module();
    tokio::task::spawn_blocking(move || {
        crate::migrate::down_and_up(&address, module, migrations())
    })
    .await
    .expect("no panic")
    .expect("migrations run down and up");
}

async fn open(
    url: String,
    module: &'static str,
    migrations: Migrations,
    database: &'static str,
    folder: Option<TempDir>,
) -> TestStore {
    let store = Store::open(&url, module, migrations)
        .await
        .expect("open the store");
    TestStore {
        store,
        url,
        database,
        _folder: folder,
    }
}
