//! How MySQL and MariaDB compare texts: byte by byte, trailing spaces too.
//!
//! `utf8mb4_bin` pads: `"ada"` and `"ada "` are one key. Only NO PAD collations tell them apart, and the two makes share none, so migrations name
//! no collation: tables get that of their database, which is set here before any table is made. Tables of earlier builds are converted.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Binary, Text};

use crate::Connection;

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

/// Sets the collation of the database, and so of tables to come. SQLite compares byte by byte anyway.
///
/// # Errors
/// When the server has no such collation (MySQL before 8.0.17, MariaDB before 10.2), or the account may not alter the database.
pub(crate) fn set(connection: &mut Connection) -> Result<(), String> {
    if !connection.has_row_locks() {
        return Ok(());
    }
    let wanted = no_pad(connection)?;
    let current = names(
        connection,
        "SELECT DEFAULT_COLLATION_NAME AS name FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = DATABASE()",
    )?;
    if current == [wanted.as_str()] {
        return Ok(());
    }
    // Without a name: that of the connection.
    execute(
        connection,
        &format!("ALTER DATABASE CHARACTER SET utf8mb4 COLLATE {wanted}"),
    )
}

/// Converts the tables that have a text in any other collation. Can be repeated after a crash in the middle.
///
/// # Errors
/// When the account may not alter the tables.
pub(crate) fn convert(connection: &mut Connection) -> Result<(), String> {
    if !connection.has_row_locks() {
        return Ok(());
    }
    let wanted = no_pad(connection)?;
    let tables = names(
        connection,
        &format!(
            "SELECT DISTINCT TABLE_NAME AS name FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = DATABASE() AND COLLATION_NAME <> '{wanted}'"
        ),
    )?;
    if !tables.is_empty() {
        take_away(connection)?;
    }
    for table in tables {
        execute(
            connection,
            &format!("ALTER TABLE `{table}` CONVERT TO CHARACTER SET utf8mb4 COLLATE {wanted}"),
        )?;
        tracing::info!(table, collation = wanted, "Converted a table");
    }
    put_back(connection)
}

/// A foreign key, and the statements that end it and make it again.
#[derive(QueryableByName)]
struct ForeignKey {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    ends: String,
    #[diesel(sql_type = Text)]
    makes: String,
}

const FOREIGN_KEYS: &str = "
    SELECT k.CONSTRAINT_NAME AS name,
        CONCAT('ALTER TABLE `', k.TABLE_NAME, '` DROP FOREIGN KEY `', k.CONSTRAINT_NAME, '`') AS ends,
        CONCAT('ALTER TABLE `', k.TABLE_NAME, '` ADD CONSTRAINT `', k.CONSTRAINT_NAME, '` FOREIGN KEY (',
            GROUP_CONCAT(CONCAT('`', k.COLUMN_NAME, '`') ORDER BY k.ORDINAL_POSITION), ') REFERENCES `', k.REFERENCED_TABLE_NAME, '` (',
            GROUP_CONCAT(CONCAT('`', k.REFERENCED_COLUMN_NAME, '`') ORDER BY k.ORDINAL_POSITION), ') ON DELETE ', r.DELETE_RULE,
            ' ON UPDATE ', r.UPDATE_RULE) AS makes
    FROM information_schema.KEY_COLUMN_USAGE k JOIN information_schema.REFERENTIAL_CONSTRAINTS r
        ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME AND r.TABLE_NAME = k.TABLE_NAME
    WHERE k.TABLE_SCHEMA = DATABASE() AND k.REFERENCED_TABLE_NAME IS NOT NULL
    GROUP BY k.CONSTRAINT_NAME, k.TABLE_NAME, k.REFERENCED_TABLE_NAME, r.DELETE_RULE, r.UPDATE_RULE";
/// Rows of `upm_meta` with foreign keys that have to be made again begin with it.
const TAKEN: &str = "fk:";

/// Ends foreign keys, whose columns no server converts, after noting how they are made: a crash in the middle must not lose them.
fn take_away(connection: &mut Connection) -> Result<(), String> {
    let found = diesel::sql_query(FOREIGN_KEYS)
        .load::<ForeignKey>(connection)
        .map_err(|error| error.to_string())?;
    for key in &found {
        diesel::sql_query("REPLACE INTO upm_meta (name, value) VALUES (?, ?)")
            .bind::<Text, _>(format!("{TAKEN}{}", key.name))
            .bind::<Binary, _>(key.makes.as_bytes())
            .execute(connection)
            .map_err(|error| error.to_string())?;
    }
    for key in found {
        execute(connection, &key.ends)?;
    }
    Ok(())
}

#[derive(QueryableByName)]
struct Noted {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Binary)]
    value: Vec<u8>,
}

/// Makes the foreign keys again that were noted.
fn put_back(connection: &mut Connection) -> Result<(), String> {
    let noted = diesel::sql_query("SELECT name, value FROM upm_meta WHERE name LIKE 'fk:%'")
        .load::<Noted>(connection)
        .map_err(|error| error.to_string())?;
    if noted.is_empty() {
        return Ok(());
    }
    let there = diesel::sql_query(FOREIGN_KEYS)
        .load::<ForeignKey>(connection)
        .map_err(|error| error.to_string())?;
    for Noted { name, value } in noted {
        if !there
            .iter()
            .any(|key| name == format!("{TAKEN}{}", key.name))
        {
            execute(connection, &String::from_utf8_lossy(&value))?;
        }
        diesel::sql_query("DELETE FROM upm_meta WHERE name = ?")
            .bind::<Text, _>(name)
            .execute(connection)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The collation of this server that compares bytes and does not pad.
fn no_pad(connection: &mut Connection) -> Result<String, String> {
    let found = names(
        connection,
        "SELECT COLLATION_NAME AS name FROM information_schema.COLLATIONS \
         WHERE COLLATION_NAME IN ('utf8mb4_nopad_bin', 'utf8mb4_0900_bin') ORDER BY COLLATION_NAME DESC",
    )?;
    found.into_iter().next().ok_or_else(|| {
        "the server has no collation that tells \"a\" from \"a \": MySQL 8.0.17 or MariaDB 10.2 is needed".to_owned()
    })
}

fn names(connection: &mut Connection, query: &str) -> Result<Vec<String>, String> {
    diesel::sql_query(query)
        .load::<Name>(connection)
        .map(|rows| rows.into_iter().map(|row| row.name).collect())
        .map_err(|error| error.to_string())
}

fn execute(connection: &mut Connection, statement: &str) -> Result<(), String> {
    connection
        .batch_execute(statement)
        .map_err(|error| error.to_string())
}
