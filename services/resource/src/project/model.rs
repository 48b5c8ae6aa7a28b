//! Rows and queries of projects and of the services that they hold.

use diesel::{
    dsl::sum,
    prelude::*,
    result::{DatabaseErrorKind, Error as QueryError},
};
use upm_proto::resource::v1::{Project, Quota};
use upm_store::{Connection, etag, lock, time};

use crate::{
    Error, fields,
    schema::{deleted_projects, projects, reservations},
};

/// A stored project.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = projects)]
pub(crate) struct ProjectRow {
    pub(crate) id: String,
    pub(crate) uid: String,
    pub(crate) version: i64,
    pub(crate) display_name: String,
    pub(crate) labels: String,
    pub(crate) quota_services: i32,
    pub(crate) quota_units: i32,
    pub(crate) create_us: i64,
    pub(crate) update_us: i64,
}

/// A service that a project holds.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = reservations)]
pub(crate) struct Reservation {
    pub(crate) project: String,
    pub(crate) service_id: String,
    pub(crate) service: String,
    pub(crate) cluster: String,
    pub(crate) units: i32,
}

impl ProjectRow {
    pub(crate) fn etag(&self) -> String {
        etag::of(&self.uid, self.version)
    }

    pub(crate) fn into_proto(self, services: i64) -> Project {
        Project {
            etag: self.etag(),
            name: format!("projects/{}", self.id),
            uid: self.uid,
            display_name: self.display_name,
            labels: fields::parse_labels(&self.labels),
            quota: Some(Quota {
                services: self.quota_services,
                units: self.quota_units,
            }),
            create_time: Some(time::timestamp(self.create_us)),
            update_time: Some(time::timestamp(self.update_us)),
            service_count: services as i32,
        }
    }
}

pub(crate) fn find(conn: &mut Connection, id: &str) -> Result<Option<ProjectRow>, Error> {
    Ok(projects::table
        .find(id)
        .select(ProjectRow::as_select())
        .first(conn)
        .optional()?)
}

pub(crate) fn get(conn: &mut Connection, id: &str) -> Result<ProjectRow, Error> {
    find(conn, id)?.ok_or_else(|| Error::NoProject(id.to_owned()))
}

/// Adds a project. Errors: its id is taken.
pub(crate) fn insert(conn: &mut Connection, row: &ProjectRow) -> Result<(), Error> {
    let inserted = diesel::insert_into(projects::table)
        .values(row)
        .execute(conn);
    match inserted {
        Ok(_) => Ok(()),
        // Another transaction has made it since this one looked.
        Err(QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
            Err(Error::ProjectExists(row.id.clone()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes a row over the version that was read.
pub(crate) fn update(conn: &mut Connection, seen: i64, row: &ProjectRow) -> Result<(), Error> {
    let written = diesel::update(
        projects::table
            .find(&row.id)
            .filter(projects::version.eq(seen)),
    )
    .set(row)
    .execute(conn)?;
    if written == 0 {
        return Err(upm_store::Error::StaleEtag.into());
    }
    Ok(())
}

/// Deletes a project; until [`forgotten`] its id is nobody's.
pub(crate) fn delete(conn: &mut Connection, row: &ProjectRow) -> Result<(), Error> {
    diesel::delete(projects::table.find(&row.id)).execute(conn)?;
    diesel::insert_into(deleted_projects::table)
        .values((
            deleted_projects::uid.eq(&row.uid),
            deleted_projects::id.eq(&row.id),
            deleted_projects::delete_us.eq(time::now_us()),
        ))
        .execute(conn)?;
    Ok(())
}

/// Deleted projects that others still know, oldest first: uid and id.
pub(crate) fn deleted(conn: &mut Connection) -> Result<Vec<(String, String)>, Error> {
    Ok(deleted_projects::table
        .order(deleted_projects::delete_us.asc())
        .select((deleted_projects::uid, deleted_projects::id))
        .load(conn)?)
}

/// Whether others still know a deleted project of this id.
pub(crate) fn is_remembered(conn: &mut Connection, id: &str) -> Result<bool, Error> {
    let known: i64 = deleted_projects::table
        .filter(deleted_projects::id.eq(id))
        .count()
        .get_result(conn)?;
    Ok(known > 0)
}

/// Nobody knows a deleted project any more.
pub(crate) fn forgotten(conn: &mut Connection, uid: &str) -> Result<(), Error> {
    diesel::delete(deleted_projects::table.find(uid)).execute(conn)?;
    Ok(())
}

/// Projects behind an id, by id.
pub(crate) fn page(
    conn: &mut Connection,
    after: &str,
    limit: i64,
) -> Result<Vec<ProjectRow>, Error> {
    Ok(projects::table
        .filter(projects::id.gt(after))
        .order(projects::id.asc())
        .limit(limit)
        .select(ProjectRow::as_select())
        .load(conn)?)
}

pub(crate) fn service_count(conn: &mut Connection, project: &str) -> Result<i64, Error> {
    Ok(reservations::table
        .filter(reservations::project.eq(project))
        .count()
        .get_result(conn)?)
}

pub(crate) fn services_on(conn: &mut Connection, cluster: &str) -> Result<i64, Error> {
    Ok(reservations::table
        .filter(reservations::cluster.eq(cluster))
        .count()
        .get_result(conn)?)
}

/// Units of all services of a project but one.
fn units_beside(conn: &mut Connection, project: &str, service_id: &str) -> Result<i64, Error> {
    let units: Option<i64> = reservations::table
        .filter(reservations::project.eq(project))
        .filter(reservations::service_id.ne(service_id))
        .select(sum(reservations::units))
        .first(conn)?;
    Ok(units.unwrap_or_default())
}

/// Checks that a project takes the service; the row that exists already is returned.
pub(crate) fn admit(
    conn: &mut Connection,
    wanted: &Reservation,
) -> Result<Option<Reservation>, Error> {
    let project = get(conn, &wanted.project)?;
    let existing: Option<Reservation> = reservations::table
        .find((&wanted.project, &wanted.service_id))
        .select(Reservation::as_select())
        .first(conn)
        .optional()?;
    if let Some(existing) = &existing
        && existing.service != wanted.service
    {
        return Err(Error::ServiceExists(existing.service.clone()));
    }
    let exceeded = |what, limit, wanted| Error::QuotaExceeded {
        project: project.id.clone(),
        what,
        limit,
        wanted,
    };
    let services = service_count(conn, &project.id)? + i64::from(existing.is_none());
    if project.quota_services > 0 && services > i64::from(project.quota_services) {
        return Err(exceeded("services", project.quota_services, services));
    }
    let units = units_beside(conn, &project.id, &wanted.service_id)? + i64::from(wanted.units);
    if project.quota_units > 0 && units > i64::from(project.quota_units) {
        return Err(exceeded("units", project.quota_units, units));
    }
    Ok(existing)
}

/// Records a service, or changes its units.
pub(crate) fn reserve(conn: &mut Connection, wanted: &Reservation) -> Result<(), Error> {
    // Two services that race for the last of a quota must see each other.
    lock::row(conn, "projects", "id", &wanted.project)?;
    if admit(conn, wanted)?.is_some() {
        diesel::update(reservations::table.find((&wanted.project, &wanted.service_id)))
            .set(reservations::units.eq(wanted.units))
            .execute(conn)?;
    } else {
        diesel::insert_into(reservations::table)
            .values(wanted)
            .execute(conn)?;
    }
    Ok(())
}

pub(crate) fn release(conn: &mut Connection, service: &str) -> Result<(), Error> {
    diesel::delete(reservations::table.filter(reservations::service.eq(service))).execute(conn)?;
    Ok(())
}
