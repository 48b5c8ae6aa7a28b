//! Projects.

mod forget;
pub(crate) mod model;

use std::collections::{BTreeSet, HashMap};

use serde_json::json;
use tonic::{Request, Response, Status};
use upm_mesh::Context;
use upm_proto::resource::v1::{self as pb, project_service_server::ProjectService};
use upm_store::{
    self as store, Diff, Store, etag, filter, ids, labels, lock, mask,
    page::{PageRequest, Query},
    request_id, time,
};

pub(crate) use self::forget::Forgetter;
use self::model::{ProjectRow, Reservation};
use crate::{Error, fields};

const COLLECTION: &str = "projects";
/// What an update may change.
const CHANGEABLE: [&str; 4] = ["display_name", "labels", "quota.services", "quota.units"];
/// Nobody who runs a project gives it more than it was given.
const SET_QUOTA: &str = "resource.projects.setQuota";

/// Serves `ProjectService`.
#[derive(Debug, Clone)]
pub(crate) struct Handler {
    store: Store,
    forgetter: Forgetter,
}

impl Handler {
    pub(crate) fn new(store: Store, forgetter: Forgetter) -> Self {
        Self { store, forgetter }
    }
}

/// Namespaces of the clusters themselves and of UPM are no projects, and neither is a name that a unit could have.
fn check_id(id: &str) -> Result<(), Error> {
    let reserved = id == "default" || id.starts_with("kube-") || id.starts_with("upm-");
    if reserved {
        return Err(Error::invalid(
            "project_id",
            "`default`, `kube-*` and `upm-*` are reserved",
        ));
    }
    Ok(())
}

/// What an update writes.
#[derive(Debug, Clone, Default)]
struct Change {
    display_name: Option<String>,
    labels: Option<String>,
    quota_services: Option<i32>,
    quota_units: Option<i32>,
}

impl Change {
    /// Checks the fields that are changed, and no others.
    fn parse(project: &pb::Project, fields: &BTreeSet<&str>) -> Result<Self, Error> {
        let mut change = Self::default();
        if fields.contains("display_name") {
            fields::display_name(&project.display_name, "project.display_name")?;
            change.display_name = Some(project.display_name.clone());
        }
        if fields.contains("labels") {
            change.labels = Some(fields::labels(&project.labels, "project.labels")?);
        }
        if fields.contains("quota.services") || fields.contains("quota.units") {
            let quota = quota(project.quota)?;
            change.quota_services = fields.contains("quota.services").then_some(quota.services);
            change.quota_units = fields.contains("quota.units").then_some(quota.units);
        }
        Ok(change)
    }

    fn apply(&self, row: &mut ProjectRow) {
        if let Some(display_name) = &self.display_name {
            row.display_name.clone_from(display_name);
        }
        if let Some(labels) = &self.labels {
            row.labels.clone_from(labels);
        }
        row.quota_services = self.quota_services.unwrap_or(row.quota_services);
        row.quota_units = self.quota_units.unwrap_or(row.quota_units);
    }
}

fn difference(before: &ProjectRow, after: &ProjectRow) -> Diff {
    let labels = |row: &ProjectRow| fields::parse_labels(&row.labels);
    Diff::new()
        .field("displayName", &before.display_name, &after.display_name)
        .field("labels", &labels(before), &labels(after))
        .field("quota", &quota_json(before), &quota_json(after))
}

fn quota_json(row: &ProjectRow) -> serde_json::Value {
    json!({ "services": row.quota_services, "units": row.quota_units })
}

fn all_hold(terms: &[filter::Term], found: &HashMap<String, String>) -> Result<bool, Error> {
    for term in terms {
        if !labels::holds(term, found)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn quota(given: Option<pb::Quota>) -> Result<pb::Quota, Error> {
    let quota = given.unwrap_or_default();
    if quota.services < 0 || quota.units < 0 {
        return Err(Error::invalid("project.quota", "must not be negative"));
    }
    Ok(quota)
}

/// `projects/{project}/{engine}Services/{service}` → the row.
fn reservation(request: &pb::ReserveServiceRequest) -> Result<Reservation, Error> {
    let parts: Vec<&str> = request.service.split('/').collect();
    let &["projects", project, _, service_id] = parts.as_slice() else {
        return Err(Error::invalid(
            "service",
            "must be `projects/{project}/{engine}Services/{service}`",
        ));
    };
    Ok(Reservation {
        project: project.to_owned(),
        service_id: service_id.to_owned(),
        service: request.service.clone(),
        cluster: request.cluster.trim_start_matches("clusters/").to_owned(),
        units: request.units.max(0),
    })
}

#[tonic::async_trait]
impl ProjectService for Handler {
    async fn create_project(
        &self,
        request: Request<pb::CreateProjectRequest>,
    ) -> Result<Response<pb::Project>, Status> {
        let ctx = Context::of(&request)?;
        let request = request.into_inner();
        let project = request.project.unwrap_or_default();
        let wanted_id = request.project_id.clone();
        let id = fields::id_or_random(request.project_id, "project", "project_id")?;
        check_id(&id)?;
        fields::display_name(&project.display_name, "project.display_name")?;
        let quota = quota(project.quota)?;
        let now = time::now_us();
        let row = ProjectRow {
            id,
            uid: ids::uuid7(),
            version: 1,
            labels: fields::labels(&project.labels, "project.labels")?,
            display_name: project.display_name,
            quota_services: quota.services,
            quota_units: quota.units,
            create_us: now,
            update_us: now,
        };
        let fingerprint = request_id::fingerprint(&serde_json::json!([
            wanted_id,
            row.display_name,
            row.labels,
            row.quota_services,
            row.quota_units
        ]));
        let principal = ctx.caller.principal.to_string();
        let created = self
            .store
            .transact("resource.project.create", move |conn| {
                let key = request_id::Key {
                    principal: &principal,
                    method: "CreateProject",
                    request_id: &request.request_id,
                };
                request_id::once(conn, key, &fingerprint, |conn| {
                    if model::is_remembered(conn, &row.id)? {
                        return Err(Error::ProjectBeingDeleted(row.id.clone()));
                    }
                    if model::find(conn, &row.id)?.is_some() {
                        return Err(Error::ProjectExists(row.id.clone()));
                    }
                    model::insert(conn, &row)?;
                    let answer = row.clone().into_proto(0);
                    let diff = Diff::new().added("uid", &row.uid).field(
                        "quota",
                        &json!({}),
                        &quota_json(&row),
                    );
                    store::audited(conn, &ctx, &answer.name, diff.into())?;
                    Ok(answer)
                })
            })
            .await?;
        Ok(Response::new(created))
    }

    async fn get_project(
        &self,
        request: Request<pb::GetProjectRequest>,
    ) -> Result<Response<pb::Project>, Status> {
        let name = request.into_inner().name;
        let id = fields::id(&name, COLLECTION, "name")?.to_owned();
        let project = self
            .store
            .read("resource.project.get", move |conn| {
                let row = model::get(conn, &id)?;
                let services = model::service_count(conn, &id)?;
                Ok::<_, Error>(row.into_proto(services))
            })
            .await?;
        Ok(Response::new(project))
    }

    async fn list_projects(
        &self,
        request: Request<pb::ListProjectsRequest>,
    ) -> Result<Response<pb::ListProjectsResponse>, Status> {
        let ctx = Context::of(&request)?;
        let request = request.into_inner();
        let terms = filter::parse(&request.filter, &["labels.*"]).map_err(Error::from)?;
        let query = Query {
            method: "resource.projects",
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
        let limit = page.limit() as usize;
        let mut after = page.after().cloned().unwrap_or_default();
        let mut projects = Vec::new();
        // What the caller may not see is left out, so pages are read until one is full.
        while projects.len() < limit {
            let from = after.clone();
            let rows = self
                .store
                .read("resource.project.list", move |conn| {
                    let mut found = Vec::new();
                    for row in model::page(conn, &from, 200)? {
                        let services = model::service_count(conn, &row.id)?;
                        found.push((row.id.clone(), row.into_proto(services)));
                    }
                    Ok::<_, Error>(found)
                })
                .await?;
            let Some((last, _)) = rows.last() else {
                break;
            };
            after.clone_from(last);
            for (id, project) in rows {
                if ctx.may("resource.projects.get", Some(&project.name))
                    && all_hold(&terms, &project.labels)?
                {
                    projects.push((id, project));
                }
            }
        }
        projects.truncate(limit);
        let (projects, next_page_token) = page
            .finish(projects, |(id, _)| id.clone())
            .map_err(Error::from)?;
        Ok(Response::new(pb::ListProjectsResponse {
            projects: projects.into_iter().map(|(_, project)| project).collect(),
            next_page_token,
        }))
    }

    async fn update_project(
        &self,
        request: Request<pb::UpdateProjectRequest>,
    ) -> Result<Response<pb::Project>, Status> {
        let ctx = Context::of(&request)?;
        let request = request.into_inner();
        let project = request.project.unwrap_or_default();
        let given = project.quota.unwrap_or_default();
        let fields = mask::fields(
            request.update_mask.as_ref(),
            "upm.resource.v1.Project",
            &CHANGEABLE,
            |field| match field {
                "display_name" => !project.display_name.is_empty(),
                "labels" => !project.labels.is_empty(),
                "quota.services" => given.services != 0,
                _ => given.units != 0,
            },
        )
        .map_err(Error::from)?;
        let id = fields::id(&project.name, COLLECTION, "project.name")?.to_owned();
        let change = Change::parse(&project, &fields)?;
        if change.quota_services.is_some() || change.quota_units.is_some() {
            ctx.require(SET_QUOTA, Some(&project.name))?;
        }
        let updated = self
            .store
            .transact("resource.project.update", move |conn| {
                let mut row = model::get(conn, &id)?;
                etag::check(&project.etag, &row.etag())?;
                let before = row.clone();
                change.apply(&mut row);
                let diff = difference(&before, &row);
                if !diff.is_empty() {
                    row.version += 1;
                    row.update_us = time::now_us();
                    model::update(conn, before.version, &row)?;
                }
                let services = model::service_count(conn, &id)?;
                let answer = row.into_proto(services);
                store::audited(conn, &ctx, &answer.name, diff.into())?;
                Ok::<_, Error>(answer)
            })
            .await?;
        Ok(Response::new(updated))
    }

    async fn delete_project(
        &self,
        request: Request<pb::DeleteProjectRequest>,
    ) -> Result<Response<()>, Status> {
        let ctx = Context::of(&request)?;
        let request = request.into_inner();
        let id = fields::id(&request.name, COLLECTION, "name")?.to_owned();
        let ctx_after = ctx.clone();
        self.store
            .transact("resource.project.delete", move |conn| {
                // A service that is being made meanwhile must be seen, or must see that the project is gone.
                lock::row(conn, "projects", "id", &id)?;
                let Some(row) = model::find(conn, &id)? else {
                    return if request.allow_missing {
                        Ok(())
                    } else {
                        Err(Error::NoProject(id.clone()))
                    };
                };
                etag::check(&request.etag, &row.etag())?;
                let services = model::service_count(conn, &id)?;
                if services > 0 {
                    return Err(Error::ProjectNotEmpty {
                        project: id.clone(),
                        services,
                    });
                }
                model::delete(conn, &row)?;
                store::audited(
                    conn,
                    &ctx,
                    &request.name,
                    Diff::new().removed("uid", &row.uid).into(),
                )?;
                Ok(())
            })
            .await?;
        // What fails here goes on in the background; meanwhile nobody gets the id.
        if let Err(error) = self.forgetter.run(&ctx_after).await {
            tracing::warn!(%error, "A deleted project is not forgotten everywhere yet");
        }
        Ok(Response::new(()))
    }

    async fn reserve_service(
        &self,
        request: Request<pb::ReserveServiceRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        let wanted = reservation(&request)?;
        self.store
            .transact("resource.reserve", move |conn| {
                if request.validate_only {
                    model::admit(conn, &wanted).map(drop)
                } else {
                    model::reserve(conn, &wanted)
                }
            })
            .await?;
        Ok(Response::new(()))
    }

    async fn release_service(
        &self,
        request: Request<pb::ReleaseServiceRequest>,
    ) -> Result<Response<()>, Status> {
        let service = request.into_inner().service;
        self.store
            .transact("resource.release", move |conn| {
                model::release(conn, &service)
            })
            .await?;
        Ok(Response::new(()))
    }
}
