//! Rows and queries of services.

use diesel::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use store::{Connection, time};

use crate::{
    Error,
    names::ServiceName,
    schema::{departed, services},
    service::{DeletionPolicy, Life, Service},
};

/// How long a service that is gone is remembered for watchers.
const DEPARTED_KEPT_US: i64 = time::DAY_US;

/// A stored service.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = services, primary_key(name), treat_none_as_null = true)]
struct Row {
    name: String,
    project: String,
    service_id: String,
    engine: String,
    uid: String,
    version: i64,
    spec: String,
    spec_version: i32,
    labels: String,
    description: String,
    deletion_policy: String,
    cluster: String,
    life: String,
    message: String,
    operation: String,
    package: String,
    desired: String,
    intents: String,
    retained: Option<String>,
    create_us: i64,
    update_us: i64,
}

/// How a list is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Name,
    NameDesc,
    CreateTime,
    CreateTimeDesc,
}

/// Finds a service; the row is locked until the transaction ends.
pub(crate) fn lock(conn: &mut Connection, name: &str) -> Result<Option<Service>, Error> {
    if !store::lock::row(conn, "services", "name", name)? {
        return Ok(None);
    }
    find(conn, name)
}

/// Finds a service, also one of which only volumes are left.
pub(crate) fn find(conn: &mut Connection, name: &str) -> Result<Option<Service>, Error> {
    services::table
        .find(name)
        .select(Row::as_select())
        .first(conn)
        .optional()?
        .map(Service::try_from)
        .transpose()
}

/// Adds a service.
pub(crate) fn insert(conn: &mut Connection, service: &Service) -> Result<(), Error> {
    diesel::delete(departed::table.find(service.name.to_string())).execute(conn)?;
    diesel::insert_into(services::table)
        .values(Row::try_from(service)?)
        .execute(conn)?;
    Ok(())
}

/// Writes a service that was read under its lock, and sets its time.
pub(crate) fn update(conn: &mut Connection, service: &Service) -> Result<(), Error> {
    let mut row = Row::try_from(service)?;
    row.update_us = time::now_us().max(service.update_us + 1);
    let changed = diesel::update(services::table.find(row.name.clone()))
        .set(row)
        .execute(conn)?;
    if changed == 0 {
        return Err(Error::ServiceNotFound(service.name.to_string()));
    }
    Ok(())
}

/// Removes a service and remembers for a day that it was there.
pub(crate) fn forget(conn: &mut Connection, name: &ServiceName) -> Result<(), Error> {
    diesel::delete(services::table.find(name.to_string())).execute(conn)?;
    depart(conn, name)
}

/// Notes for watchers that a service is gone.
pub(crate) fn depart(conn: &mut Connection, name: &ServiceName) -> Result<(), Error> {
    let now = time::now_us();
    diesel::delete(departed::table.filter(departed::at_us.lt(now - DEPARTED_KEPT_US)))
        .execute(conn)?;
    diesel::delete(departed::table.find(name.to_string())).execute(conn)?;
    diesel::insert_into(departed::table)
        .values((
            departed::name.eq(name.to_string()),
            departed::project.eq(&name.project),
            departed::at_us.eq(now),
        ))
        .execute(conn)?;
    Ok(())
}

/// Names of services that are gone since then.
pub(crate) fn departed_since(
    conn: &mut Connection,
    project: Option<&str>,
    since_us: i64,
) -> Result<Vec<String>, Error> {
    let mut query = departed::table
        .filter(departed::at_us.ge(since_us))
        .select(departed::name)
        .order(departed::at_us.asc())
        .into_boxed();
    if let Some(project) = project {
        query = query.filter(departed::project.eq(project.to_owned()));
    }
    Ok(query.load(conn)?)
}

/// A page of services that are more than retained volumes, after a key of the order (`(create_us, name)`).
pub(crate) fn page(
    conn: &mut Connection,
    engine: &str,
    project: Option<&str>,
    order: Order,
    after: Option<&(i64, String)>,
    limit: i64,
) -> Result<Vec<Service>, Error> {
    let mut query = services::table
        .select(Row::as_select())
        .filter(services::engine.eq(engine.to_owned()))
        .filter(services::life.ne(word(&Life::Retained)?))
        .limit(limit)
        .into_boxed();
    if let Some(project) = project {
        query = query.filter(services::project.eq(project.to_owned()));
    }
    if let Some((at, name)) = after.cloned() {
        query = match order {
            Order::Name => query.filter(services::name.gt(name)),
            Order::NameDesc => query.filter(services::name.lt(name)),
            Order::CreateTime => query.filter(
                services::create_us
                    .gt(at)
                    .or(services::create_us.eq(at).and(services::name.gt(name))),
            ),
            Order::CreateTimeDesc => query.filter(
                services::create_us
                    .lt(at)
                    .or(services::create_us.eq(at).and(services::name.lt(name))),
            ),
        };
    }
    query = match order {
        Order::Name => query.order(services::name.asc()),
        Order::NameDesc => query.order(services::name.desc()),
        Order::CreateTime => query.order((services::create_us.asc(), services::name.asc())),
        Order::CreateTimeDesc => query.order((services::create_us.desc(), services::name.desc())),
    };
    query
        .load(conn)?
        .into_iter()
        .map(Service::try_from)
        .collect()
}

/// The services of an engine on a cluster, also those of which only volumes are left.
pub(crate) fn on_cluster(
    conn: &mut Connection,
    engine: &str,
    cluster: &str,
) -> Result<Vec<Service>, Error> {
    let rows: Vec<Row> = services::table
        .filter(services::engine.eq(engine))
        .filter(services::cluster.eq(cluster))
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(Service::try_from).collect()
}

/// Ids of clusters that have services.
pub(crate) fn clusters(conn: &mut Connection, engine: &str) -> Result<Vec<String>, Error> {
    Ok(services::table
        .filter(services::engine.eq(engine))
        .select(services::cluster)
        .distinct()
        .load(conn)?)
}

/// An enum's name as a stored word.
pub(crate) fn word<T: Serialize>(value: &T) -> Result<String, Error> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        Ok(_) => Err(Error::Broken("a word that is no word")),
        Err(source) => Err(Error::Encode {
            what: "a word",
            source,
        }),
    }
}

/// The enum of a stored word.
pub(crate) fn from_word<T: DeserializeOwned>(
    what: &'static str,
    name: &str,
    word: String,
) -> Result<T, Error> {
    serde_json::from_value(serde_json::Value::String(word)).map_err(|source| Error::Decode {
        what,
        name: name.to_owned(),
        source,
    })
}

/// A value as stored JSON.
pub(crate) fn json<T: Serialize>(what: &'static str, value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|source| Error::Encode { what, source })
}

/// The value of stored JSON.
pub(crate) fn from_json<T: DeserializeOwned>(
    what: &'static str,
    name: &str,
    json: &str,
) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|source| Error::Decode {
        what,
        name: name.to_owned(),
        source,
    })
}

impl TryFrom<Row> for Service {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let parts: Vec<&str> = row.name.split('/').collect();
        let collection = match parts[..] {
            ["projects", _, collection, _] => collection.to_owned(),
            _ => return Err(Error::Broken("a stored service without a name")),
        };
        let name = &row.name;
        Ok(Self {
            deletion_policy: from_word::<DeletionPolicy>(
                "deletion policy",
                name,
                row.deletion_policy,
            )?,
            life: from_word::<Life>("life", name, row.life)?,
            spec: from_json("spec", name, &row.spec)?,
            labels: from_json("labels", name, &row.labels)?,
            desired: from_json("desired state", name, &row.desired)?,
            marks: from_json("intents", name, &row.intents)?,
            retained: row
                .retained
                .map(|retained| from_json("retained volumes", name, &retained))
                .transpose()?,
            name: ServiceName::new(&row.project, &collection, &row.service_id),
            engine: row.engine,
            uid: row.uid,
            version: row.version,
            spec_version: row.spec_version,
            description: row.description,
            cluster: row.cluster,
            message: row.message,
            operation: row.operation,
            package: row.package,
            create_us: row.create_us,
            update_us: row.update_us,
        })
    }
}

impl TryFrom<&Service> for Row {
    type Error = Error;

    fn try_from(service: &Service) -> Result<Self, Error> {
        Ok(Self {
            name: service.name.to_string(),
            project: service.name.project.clone(),
            service_id: service.name.service.clone(),
            engine: service.engine.clone(),
            uid: service.uid.clone(),
            version: service.version,
            spec: json("spec", &service.spec)?,
            spec_version: service.spec_version,
            labels: json("labels", &service.labels)?,
            description: service.description.clone(),
            deletion_policy: word(&service.deletion_policy)?,
            cluster: service.cluster.clone(),
            life: word(&service.life)?,
            message: service.message.clone(),
            operation: service.operation.clone(),
            package: service.package.clone(),
            desired: json("desired state", &service.desired)?,
            intents: json("intents", &service.marks)?,
            retained: service
                .retained
                .as_ref()
                .map(|retained| json("retained volumes", retained))
                .transpose()?,
            create_us: service.create_us,
            update_us: service.update_us,
        })
    }
}
