//! Rows and queries of clusters.

use diesel::{
    prelude::*,
    result::{DatabaseErrorKind, Error as QueryError},
};
use upm_store::{Connection, etag};

use crate::{Error, schema::clusters};

/// A stored cluster; how it is doing the hub knows.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = clusters)]
pub(crate) struct ClusterRow {
    pub(crate) id: String,
    pub(crate) uid: String,
    pub(crate) version: i64,
    pub(crate) display_name: String,
    pub(crate) labels: String,
    pub(crate) cordoned: bool,
    pub(crate) create_us: i64,
    pub(crate) update_us: i64,
}

impl ClusterRow {
    pub(crate) fn etag(&self) -> String {
        etag::of(&self.uid, self.version)
    }
}

pub(crate) fn find(conn: &mut Connection, id: &str) -> Result<Option<ClusterRow>, Error> {
    Ok(clusters::table
        .find(id)
        .select(ClusterRow::as_select())
        .first(conn)
        .optional()?)
}

pub(crate) fn get(conn: &mut Connection, id: &str) -> Result<ClusterRow, Error> {
    find(conn, id)?.ok_or_else(|| Error::NoCluster(id.to_owned()))
}

/// Adds a cluster. Errors: its id is taken.
pub(crate) fn insert(conn: &mut Connection, row: &ClusterRow) -> Result<(), Error> {
    let inserted = diesel::insert_into(clusters::table)
        .values(row)
        .execute(conn);
    match inserted {
        Ok(_) => Ok(()),
        // Another transaction has made it since this one looked.
        Err(QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
            Err(Error::ClusterExists(row.id.clone()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes a row over the version that was read.
pub(crate) fn update(conn: &mut Connection, seen: i64, row: &ClusterRow) -> Result<(), Error> {
    let written = diesel::update(
        clusters::table
            .find(&row.id)
            .filter(clusters::version.eq(seen)),
    )
    .set(row)
    .execute(conn)?;
    if written == 0 {
        return Err(upm_store::Error::StaleEtag.into());
    }
    Ok(())
}

pub(crate) fn delete(conn: &mut Connection, id: &str) -> Result<(), Error> {
    diesel::delete(clusters::table.find(id)).execute(conn)?;
    Ok(())
}

/// Clusters behind an id, by id.
pub(crate) fn page(
    conn: &mut Connection,
    after: &str,
    limit: i64,
) -> Result<Vec<ClusterRow>, Error> {
    Ok(clusters::table
        .filter(clusters::id.gt(after))
        .order(clusters::id.asc())
        .limit(limit)
        .select(ClusterRow::as_select())
        .load(conn)?)
}

/// Ids of all clusters.
pub(crate) fn ids(conn: &mut Connection) -> Result<Vec<String>, Error> {
    Ok(clusters::table.select(clusters::id).load(conn)?)
}
