//! Signing keys.

use diesel::prelude::*;
use upm_store::Connection;

use crate::schema::signing_keys;

/// A key pair; the private half may be sealed.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = signing_keys)]
pub(crate) struct KeyRow {
    pub(crate) kid: String,
    /// Uncompressed, 65 bytes.
    pub(crate) public_point: Vec<u8>,
    /// PKCS #8.
    pub(crate) private_key: Vec<u8>,
    pub(crate) sealed: bool,
    pub(crate) sign_from_us: i64,
}

/// All keys, oldest first.
pub(crate) fn all(conn: &mut Connection) -> QueryResult<Vec<KeyRow>> {
    signing_keys::table
        .order((signing_keys::sign_from_us.asc(), signing_keys::kid.asc()))
        .select(KeyRow::as_select())
        .load(conn)
}

pub(crate) fn insert(conn: &mut Connection, row: &KeyRow) -> QueryResult<()> {
    diesel::insert_into(signing_keys::table)
        .values(row)
        .execute(conn)
        .map(drop)
}

/// Keeps a private key sealed that lay in clear.
pub(crate) fn seal(conn: &mut Connection, kid: &str, sealed: &[u8]) -> QueryResult<()> {
    diesel::update(signing_keys::table.find(kid))
        .set((
            signing_keys::private_key.eq(sealed),
            signing_keys::sealed.eq(true),
        ))
        .execute(conn)
        .map(drop)
}

pub(crate) fn delete(conn: &mut Connection, kid: &str) -> QueryResult<()> {
    diesel::delete(signing_keys::table.find(kid))
        .execute(conn)
        .map(drop)
}
