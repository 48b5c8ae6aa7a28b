//! One connection to one of the two databases. Only this crate tells them apart.

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::prelude::*;

use crate::address::Address;

/// A connection to SQLite or to MySQL (MariaDB). Queries are written once, for both.
///
/// `RETURNING`, `ON CONFLICT` and locking clauses are not available: see [`crate::lock`] and update-then-insert.
#[derive(diesel::MultiConnection)]
pub enum AnyConnection {
    /// A file of this process.
    Sqlite(SqliteConnection),
    /// A server.
    Mysql(MysqlConnection),
}

/// How a transaction begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// It will write: SQLite takes its one write lock at once, MySQL reads what is committed.
    Write,
    /// It only reads, from one snapshot.
    Read,
}

const SQLITE_SESSION: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;";
/// For the one connection that writes: 16 MiB of log between two checkpoints, so that pages that are written again and again are copied less
/// often. A checkpoint of that size holds up commits for some 20 ms.
const SQLITE_WRITER: &str = "PRAGMA wal_autocheckpoint = 4000;";
const MYSQL_SESSION: &str = "SET SESSION sql_mode = \
     'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO,PIPES_AS_CONCAT', \
     SESSION innodb_lock_wait_timeout = 10, SESSION time_zone = '+00:00'; \
     SET NAMES utf8mb4 COLLATE utf8mb4_bin; \
     SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

impl AnyConnection {
    /// Opens a connection and sets the session up. Blocks.
    pub(crate) fn open(address: &Address, use_for: Begin) -> Result<Self, String> {
        let mut connection = match address {
            Address::Sqlite(path) => {
                SqliteConnection::establish(&path.to_string_lossy()).map(Self::Sqlite)
            }
            Address::Mysql(url) => MysqlConnection::establish(url.as_str()).map(Self::Mysql),
        }
        .map_err(|error| error.to_string())?;
        let session = match (&connection, use_for) {
            (Self::Sqlite(_), Begin::Write) => format!("{SQLITE_SESSION} {SQLITE_WRITER}"),
            (Self::Sqlite(_), Begin::Read) => format!("{SQLITE_SESSION} PRAGMA query_only = ON;"),
            (Self::Mysql(_), _) => MYSQL_SESSION.to_owned(),
        };
        connection
            .batch_execute(&session)
            .map_err(|error| error.to_string())?;
        Ok(connection)
    }

    /// Whether the server knows row locks; SQLite has one writer instead.
    pub(crate) fn has_row_locks(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Mysql(_) => true,
        }
    }

    pub(crate) fn begin(&mut self, begin: Begin) -> QueryResult<()> {
        match (self, begin) {
            (Self::Sqlite(inner), Begin::Write) => {
                AnsiTransactionManager::begin_transaction_sql(inner, "BEGIN IMMEDIATE")
            }
            (Self::Sqlite(inner), Begin::Read) => {
                AnsiTransactionManager::begin_transaction_sql(inner, "BEGIN DEFERRED")
            }
            (Self::Mysql(inner), Begin::Write) => {
                AnsiTransactionManager::begin_transaction_sql(inner, "START TRANSACTION")
            }
            (Self::Mysql(inner), Begin::Read) => AnsiTransactionManager::begin_transaction_sql(
                inner,
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION READ ONLY",
            ),
        }
    }

    pub(crate) fn commit(&mut self) -> QueryResult<()> {
        match self {
            Self::Sqlite(inner) => AnsiTransactionManager::commit_transaction(inner),
            Self::Mysql(inner) => AnsiTransactionManager::commit_transaction(inner),
        }
    }

    pub(crate) fn rollback(&mut self) -> QueryResult<()> {
        match self {
            Self::Sqlite(inner) => AnsiTransactionManager::rollback_transaction(inner),
            Self::Mysql(inner) => AnsiTransactionManager::rollback_transaction(inner),
        }
    }
}

impl std::fmt::Debug for AnyConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sqlite(_) => "Connection::Sqlite",
            Self::Mysql(_) => "Connection::Mysql",
        })
    }
}
