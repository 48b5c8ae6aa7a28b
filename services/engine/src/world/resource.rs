//! Module `resource`, as far as operations call it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tonic::{Request, Response, Status};
use upm_proto::resource::v1::{self as pb, project_service_server::ProjectService};

/// Units by reserved service.
#[derive(Clone, Default)]
pub(crate) struct Reservations {
    reserved: Arc<Mutex<BTreeMap<String, i32>>>,
    taken: Arc<Mutex<bool>>,
}

impl Reservations {
    pub(crate) fn all(&self) -> BTreeMap<String, i32> {
        self.reserved.lock().unwrap().clone()
    }

    /// Another engine has a service of this id from now on.
    pub(crate) fn take(&self) {
        *self.taken.lock().unwrap() = true;
    }
}

#[tonic::async_trait]
impl ProjectService for Reservations {
    async fn create_project(
        &self,
        _: Request<pb::CreateProjectRequest>,
    ) -> Result<Response<pb::Project>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_project(
        &self,
        _: Request<pb::GetProjectRequest>,
    ) -> Result<Response<pb::Project>, Status> {
        Ok(Response::new(pb::Project::default()))
    }

    async fn list_projects(
        &self,
        _: Request<pb::ListProjectsRequest>,
    ) -> Result<Response<pb::ListProjectsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn update_project(
        &self,
        _: Request<pb::UpdateProjectRequest>,
    ) -> Result<Response<pb::Project>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete_project(
        &self,
        _: Request<pb::DeleteProjectRequest>,
    ) -> Result<Response<()>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn reserve_service(
        &self,
        request: Request<pb::ReserveServiceRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        if *self.taken.lock().unwrap() {
            return Err(mesh::status::build(
                mesh::Kind::AlreadyExists,
                "resource.upm",
                "SERVICE_EXISTS",
                "projects/p/otherServices/demo exists",
                &mesh::Details::default(),
            ));
        }
        if !request.validate_only {
            self.reserved
                .lock()
                .unwrap()
                .insert(request.service, request.units);
        }
        Ok(Response::new(()))
    }

    async fn release_service(
        &self,
        request: Request<pb::ReleaseServiceRequest>,
    ) -> Result<Response<()>, Status> {
        self.reserved
            .lock()
            .unwrap()
            .remove(&request.into_inner().service);
        Ok(Response::new(()))
    }
}
