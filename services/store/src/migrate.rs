//! Bringing a database to the schema of this build.

use diesel::connection::{Connection as _, SimpleConnection};
use diesel::migration::MigrationSource;
use diesel::prelude::*;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::Connection;
use crate::Error;
use crate::address::Address;
use crate::collation;
use crate::connection::{Begin, MultiBackend};

/// A module's migrations, in both dialects, with the same names.
///
/// Names must not begin with `0000`: those are the store's own.
#[allow(missing_debug_implementations)]
pub struct Migrations {
    /// `embed_migrations!("migrations/sqlite")`
    pub sqlite: EmbeddedMigrations,
    /// `embed_migrations!("migrations/mysql")`
    pub mysql: EmbeddedMigrations,
}

impl Migrations {
    /// For a module without tables of its own.
    pub const NONE: Self = Self {
        sqlite: EmbeddedMigrations::new(&[]),
        mysql: EmbeddedMigrations::new(&[]),
    };
}

const STORE: Migrations = Migrations {
    sqlite: embed_migrations!("migrations/sqlite"),
    mysql: embed_migrations!("migrations/mysql"),
};

/// Creates the database if it is missing and runs what is pending. Blocks.
pub(crate) fn migrate(
    address: &Address,
    module: &'static str,
    migrations: Migrations,
) -> Result<(), Error> {
    let failed = |cause: String| Error::Migrate { module, cause };
    create(address).map_err(failed)?;
    let mut connection = Connection::open(address, Begin::Write)
        .map_err(|cause| Error::Unavailable { module, cause })?;
    let run = |connection: &mut Connection| -> Result<(), String> {
        collation::set(connection)?;
        for part in [STORE, migrations] {
            let source = match connection {
                Connection::Sqlite(_) => part.sqlite,
                Connection::Mysql(_) => part.mysql,
            };
            run(connection, source)?;
        }
        collation::convert(connection)
    };
    locked(&mut connection, run).map_err(failed)
}

/// Undoes the module's migrations, then runs them again: what a test does to see that `down` is right. Blocks.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn down_and_up(
    address: &Address,
    module: &'static str,
    migrations: Migrations,
) -> Result<(), Error> {
    let failed = |cause: String| Error::Migrate { module, cause };
    let mut connection = Connection::open(address, Begin::Write).map_err(failed)?;
    let source = |connection: &Connection, part: Migrations| match connection {
        Connection::Sqlite(_) => part.sqlite,
        Connection::Mysql(_) => part.mysql,
    };
    let all: Vec<Box<dyn diesel::migration::Migration<MultiBackend>>> =
        [STORE, Migrations { ..migrations }]
            .into_iter()
            .map(|part| source(&connection, part).migrations())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| failed(error.to_string()))?
            .into_iter()
            .flatten()
            .collect();
    for migration in all.iter().rev() {
        connection
            .revert_migration(migration.as_ref())
            .map_err(|error| failed(error.to_string()))?;
    }
    connection
        .run_migrations(&all)
        .map(drop)
        .map_err(|error| failed(error.to_string()))
}

fn run(
    connection: &mut Connection,
    source: impl MigrationSource<MultiBackend>,
) -> Result<(), String> {
    let ran = connection
        .run_pending_migrations(source)
        .map_err(|error| error.to_string())?;
    for version in ran {
        tracing::info!(migration.version = %version, "Migrated the database");
    }
    Ok(())
}

/// Only one replica migrates at a time. SQLite files belong to one process.
fn locked(
    connection: &mut Connection,
    work: impl FnOnce(&mut Connection) -> Result<(), String>,
) -> Result<(), String> {
    #[derive(QueryableByName)]
    struct Got {
        #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::BigInt>)]
        got: Option<i64>,
    }
    if !connection.has_row_locks() {
        return work(connection);
    }
    // The name is per database, because MySQL's locks are per server.
    let got: Got = diesel::sql_query(
        "SELECT CAST(GET_LOCK(CONCAT('upm:', LEFT(SHA1(DATABASE()), 32)), 60) AS SIGNED) AS got",
    )
    .get_result(connection)
    .map_err(|error| error.to_string())?;
    if got.got != Some(1) {
        return Err("another process has been migrating for 60 s".to_owned());
    }
    let done = work(connection);
    // Ends with the connection in any case.
    let _ = connection.batch_execute("DO RELEASE_ALL_LOCKS()");
    done
}

fn create(address: &Address) -> Result<(), String> {
    match address {
        Address::Sqlite(path) => match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => {
                std::fs::create_dir_all(folder).map_err(|error| error.to_string())
            }
            _ => Ok(()),
        },
        Address::Mysql(url) => {
            // An account may be allowed to use the database but not to create one.
            match MysqlConnection::establish(url.as_str()) {
                Ok(_) => Ok(()),
                Err(error) if error.to_string().contains("Unknown database") => {
                    let mut server = url.clone();
                    server.set_path("");
                    let mut connection = MysqlConnection::establish(server.as_str())
                        .map_err(|error| error.to_string())?;
                    let name = url.path().trim_start_matches('/');
                    connection
                        .batch_execute(&format!(
                            "CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4"
                        ))
                        .map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            }
        }
    }
}
