//! The software catalogue.

mod model;
pub(crate) mod seed;

use tonic::{Request, Response, Status};
use upm_mesh::Context;
use upm_proto::resource::v1::{self as pb, software_service_server::SoftwareService};
use upm_store::{
    self as store, Store, etag, filter,
    page::{PageRequest, Query},
};

use self::model::{SoftwareRow, View};
use crate::{Error, fields, labels};

const COLLECTION: &str = "software";

/// Serves `SoftwareService`.
#[derive(Debug, Clone)]
pub(crate) struct Handler {
    store: Store,
}

impl Handler {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

fn check(package: &pb::Software) -> Result<(), Error> {
    let id = model::id(&package.r#type, &package.edition, &package.version);
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if package.r#type.is_empty()
        || package.version.is_empty()
        || id.len() > 100
        || !id.chars().all(plain)
    {
        return Err(Error::invalid(
            "software",
            "type and version are required; `{type}[-{edition}]-{version}` has at most 100 characters of a-z, 0-9, `-` and `.`",
        ));
    }
    let Some(content) = &package.content else {
        return Err(Error::invalid("software.content", "is required"));
    };
    let pod: serde_json::Value = serde_yaml::from_str(&content.pod_template)
        .map_err(|error| Error::invalid("software.content.pod_template", error.to_string()))?;
    let main = pod["template"]["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|container| container["name"] == package.r#type.as_str());
    if !main {
        return Err(Error::invalid(
            "software.content.pod_template",
            format!("has no container named `{}`", package.r#type),
        ));
    }
    serde_yaml::from_str::<serde_json::Value>(&content.config_value)
        .map_err(|error| Error::invalid("software.content.config_value", error.to_string()))?;
    Ok(())
}

#[tonic::async_trait]
impl SoftwareService for Handler {
    async fn list_software(
        &self,
        request: Request<pb::ListSoftwareRequest>,
    ) -> Result<Response<pb::ListSoftwareResponse>, Status> {
        let request = request.into_inner();
        let terms = filter::parse(&request.filter, &["type", "enabled"]).map_err(Error::from)?;
        let query = Query {
            method: "resource.software",
            filter: &request.filter,
            ..Query::default()
        };
        let page = PageRequest::<String>::parse(
            &self.store,
            query,
            request.page_size,
            &request.page_token,
        )
        .map_err(Error::from)?;
        let (after, limit) = (page.after().cloned().unwrap_or_default(), page.limit());
        let rows = self
            .store
            .read("resource.software.list", move |conn| {
                model::page(conn, &after, limit)
            })
            .await?;
        let (rows, next_page_token) = page
            .finish(rows, |row| row.id.clone())
            .map_err(Error::from)?;
        let software = rows
            .into_iter()
            .filter(|row| {
                terms.iter().all(|term| match term.field.as_str() {
                    "type" => labels::equals(term, &row.kind),
                    _ => labels::equals(term, if row.enabled { "true" } else { "false" }),
                })
            })
            .map(|row| row.into_proto(View::Basic))
            .collect();
        Ok(Response::new(pb::ListSoftwareResponse {
            software,
            next_page_token,
        }))
    }

    async fn get_software(
        &self,
        request: Request<pb::GetSoftwareRequest>,
    ) -> Result<Response<pb::Software>, Status> {
        let name = request.into_inner().name;
        let id = fields::id(&name, COLLECTION, "name")?.to_owned();
        let row = self
            .store
            .read("resource.software.get", move |conn| model::find(conn, &id))
            .await?
            .ok_or(Error::NoSoftware(name))?;
        Ok(Response::new(row.into_proto(View::Full)))
    }

    async fn import_software(
        &self,
        request: Request<pb::ImportSoftwareRequest>,
    ) -> Result<Response<pb::Software>, Status> {
        let ctx = Context::of(&request)?;
        let package = request.into_inner().software.unwrap_or_default();
        check(&package)?;
        let imported = self
            .store
            .transact("resource.software.import", move |conn| {
                let row = model::import(conn, &package)?;
                let name = format!("software/{}", row.id);
                store::audited(conn, &ctx, &name, serde_json::json!({"digest": row.digest}))?;
                Ok::<_, Error>(row)
            })
            .await?;
        Ok(Response::new(imported.into_proto(View::Full)))
    }

    async fn update_software(
        &self,
        request: Request<pb::UpdateSoftwareRequest>,
    ) -> Result<Response<pb::Software>, Status> {
        let ctx = Context::of(&request)?;
        let request = request.into_inner();
        fields::check_mask(request.update_mask.as_ref(), &["enabled"])?;
        let package = request.software.unwrap_or_default();
        let id = fields::id(&package.name, COLLECTION, "software.name")?.to_owned();
        let updated = self
            .store
            .transact("resource.software.update", move |conn| {
                let stored = model::find(conn, &id)?
                    .ok_or_else(|| Error::NoSoftware(package.name.clone()))?;
                etag::check(&package.etag, &stored.etag())?;
                let row = SoftwareRow {
                    enabled: package.enabled,
                    version: stored.version + 1,
                    ..stored.clone()
                };
                model::replace(conn, stored.version, &row)?;
                let diff = serde_json::json!({"enabled": package.enabled});
                store::audited(conn, &ctx, &package.name, diff)?;
                Ok::<_, Error>(row)
            })
            .await?;
        Ok(Response::new(updated.into_proto(View::Full)))
    }
}
