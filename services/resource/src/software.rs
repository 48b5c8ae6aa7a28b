//! The software catalogue.

mod model;
pub(crate) mod seed;

use tonic::{Request, Response, Status};
use upm_mesh::{Context, FieldViolation};
use upm_proto::resource::v1::{self as pb, software_service_server::SoftwareService};
use upm_store::{
    self as store, Diff, Store, etag, filter, mask,
    page::{PageRequest, Query},
};

use self::model::{SoftwareRow, View};
use crate::{Error, fields, terms};

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
        .find(|container| container["name"] == package.r#type.as_str());
    let Some(main) = main else {
        return Err(Error::invalid(
            "software.content.pod_template",
            format!("has no container named `{}`", package.r#type),
        ));
    };
    if let Some(manifest) = &package.manifest {
        check_manifest(manifest, &package.r#type, main)?;
    }
    serde_yaml::from_str::<serde_json::Value>(&content.config_value)
        .map_err(|error| Error::invalid("software.content.config_value", error.to_string()))?;
    Ok(())
}

/// Whether a manifest says what the pod template does: two answers to one question would let each part of the platform believe another.
fn check_manifest(
    manifest: &pb::PackageManifest,
    kind: &str,
    main: &serde_json::Value,
) -> Result<(), Error> {
    let wrong =
        |field: &str, text: String| Error::invalid(format!("software.manifest.{field}"), text);
    if manifest.main_container != kind {
        return Err(wrong(
            "main_container",
            format!("is the package's type, `{kind}`"),
        ));
    }
    let exposed = main["ports"].as_array().cloned().unwrap_or_default();
    for port in &manifest.ports {
        let found = exposed.iter().any(|known| {
            known["name"] == port.name.as_str() && known["containerPort"] == port.port
        });
        if !found {
            return Err(wrong(
                "ports",
                format!("the container has no port `{}` {}", port.name, port.port),
            ));
        }
    }
    for storage in &manifest.storage {
        if storage.name.is_empty() || !storage.mount_path.starts_with('/') {
            return Err(wrong(
                "storage",
                "each has a name and the path that it is mounted at".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Refuses other values of what never changes; what is not set says nothing.
fn refuse_other(given: &pb::Software, stored: &pb::Software) -> Result<(), Error> {
    let others = [
        ("type", &given.r#type, &stored.r#type),
        ("edition", &given.edition, &stored.edition),
        ("version", &given.version, &stored.version),
        ("digest", &given.digest, &stored.digest),
    ];
    let mut wrong: Vec<FieldViolation> = others
        .iter()
        .filter(|(_, given, stored)| !given.is_empty() && given != stored)
        .map(|(field, ..)| immutable(field))
        .collect();
    if !given.parameters.is_empty() && given.parameters != stored.parameters {
        wrong.push(immutable("parameters"));
    }
    if given.content.is_some() && given.content != stored.content {
        wrong.push(immutable("content"));
    }
    if given.manifest.is_some() && given.manifest != stored.manifest {
        wrong.push(immutable("manifest"));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Error::Fields(wrong))
    }
}

fn immutable(field: &str) -> FieldViolation {
    let text = "never changes; import another package";
    FieldViolation::new(format!("software.{field}"), text)
}

/// Whether a package meets all terms of a filter over type and whether it is enabled.
fn meets(terms: &[filter::Term], row: &SoftwareRow) -> Result<bool, Error> {
    for term in terms {
        let holds = match term.field.as_str() {
            "type" => terms::equals(term, &row.kind)?,
            _ => term.equality()? == (term.bool()? == row.enabled),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
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
        let mut software = Vec::new();
        for row in rows {
            if meets(&terms, &row)? {
                software.push(row.into_proto(View::Basic));
            }
        }
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
        let package = request.software.unwrap_or_default();
        let changed = mask::fields(
            request.update_mask.as_ref(),
            "upm.resource.v1.Software",
            &["enabled"],
            |_| package.enabled,
        )
        .map_err(Error::from)?;
        let id = fields::id(&package.name, COLLECTION, "software.name")?.to_owned();
        let updated = self
            .store
            .transact("resource.software.update", move |conn| {
                let stored = model::find(conn, &id)?
                    .ok_or_else(|| Error::NoSoftware(package.name.clone()))?;
                etag::check(&package.etag, &stored.etag())?;
                refuse_other(&package, &stored.clone().into_proto(View::Full))?;
                if !changed.contains("enabled") {
                    return Ok(stored);
                }
                let row = SoftwareRow {
                    enabled: package.enabled,
                    version: stored.version + 1,
                    ..stored.clone()
                };
                model::replace(conn, stored.version, &row)?;
                let diff = Diff::new().field("enabled", &stored.enabled, &package.enabled);
                store::audited(conn, &ctx, &package.name, diff.into())?;
                Ok::<_, Error>(row)
            })
            .await?;
        Ok(Response::new(updated.into_proto(View::Full)))
    }
}
