//! `RedisServices`: each method reads, calls, answers.

use std::pin::Pin;

use engine::{ListQuery, Services};
use futures::{Stream, StreamExt};
use mesh::Context;
use store::filter;
use tonic::{Request, Response, Status};
use upm_proto::{
    operation::v1::Operation,
    redis::v1::{self as pb, redis_services_server::RedisServices},
};

use crate::{create, pb as convert, redis::Redis, spec::RedisSpec, status, verbs};

const LIST: &str = "/upm.redis.v1.RedisServices/ListRedisServices";
const LIST_PERMISSION: &str = "redis.services.list";

/// The handler.
#[derive(Clone)]
pub(crate) struct Handler {
    pub(crate) services: Services<Redis>,
}

type Changes = Pin<Box<dyn Stream<Item = Result<pb::WatchRedisServicesResponse, Status>> + Send>>;

#[tonic::async_trait]
impl RedisServices for Handler {
    type WatchRedisServicesStream = Changes;

    async fn create_redis_service(
        &self,
        request: Request<pb::CreateRedisServiceRequest>,
    ) -> Result<Response<Operation>, Status> {
        let ctx = Context::of(&request)?;
        Ok(Response::new(
            create::create(&self.services, &ctx, request.into_inner()).await?,
        ))
    }

    async fn get_redis_service(
        &self,
        request: Request<pb::GetRedisServiceRequest>,
    ) -> Result<Response<pb::RedisService>, Status> {
        let ctx = Context::of(&request)?;
        let service = self
            .services
            .find(&verbs::name(&request.get_ref().name)?)
            .await?;
        let observed = self.services.observe(&ctx, &service).await;
        Ok(Response::new(convert::service(
            &service,
            observed.as_ref(),
        )?))
    }

    async fn list_redis_services(
        &self,
        request: Request<pb::ListRedisServicesRequest>,
    ) -> Result<Response<pb::ListRedisServicesResponse>, Status> {
        let ctx = Context::of(&request)?;
        let request = request.into_inner();
        let query = ListQuery {
            method: LIST,
            permission: LIST_PERMISSION,
            parent: &request.parent,
            page_size: request.page_size,
            page_token: &request.page_token,
            filter: &request.filter,
            order_by: &request.order_by,
        };
        let (page, next_page_token) = self.services.list(&ctx, query, in_state).await?;
        let redis_services = page
            .iter()
            .map(|(service, observed)| convert::service(service, observed.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(Response::new(pb::ListRedisServicesResponse {
            redis_services,
            next_page_token,
        }))
    }

    async fn update_redis_service(
        &self,
        request: Request<pb::UpdateRedisServiceRequest>,
    ) -> Result<Response<pb::RedisService>, Status> {
        let ctx = Context::of(&request)?;
        Ok(Response::new(
            verbs::update(&self.services, &ctx, request.into_inner()).await?,
        ))
    }

    async fn delete_redis_service(
        &self,
        request: Request<pb::DeleteRedisServiceRequest>,
    ) -> Result<Response<Operation>, Status> {
        let ctx = Context::of(&request)?;
        Ok(Response::new(
            verbs::delete(&self.services, &ctx, request.into_inner()).await?,
        ))
    }

    async fn restart_redis_service(
        &self,
        request: Request<pb::RestartRedisServiceRequest>,
    ) -> Result<Response<Operation>, Status> {
        let ctx = Context::of(&request)?;
        Ok(Response::new(
            verbs::restart(&self.services, &ctx, request.into_inner()).await?,
        ))
    }

    async fn switchover_redis_service(
        &self,
        request: Request<pb::SwitchoverRedisServiceRequest>,
    ) -> Result<Response<Operation>, Status> {
        let ctx = Context::of(&request)?;
        Ok(Response::new(
            verbs::switchover(&self.services, &ctx, request.into_inner()).await?,
        ))
    }

    async fn failover_redis_service(
        &self,
        request: Request<pb::FailoverRedisServiceRequest>,
    ) -> Result<Response<Operation>, Status> {
        let ctx = Context::of(&request)?;
        Ok(Response::new(
            verbs::failover(&self.services, &ctx, request.into_inner()).await?,
        ))
    }

    async fn horizontal_scale_redis_service(
        &self,
        request: Request<pb::HorizontalScaleRedisServiceRequest>,
    ) -> Result<Response<Operation>, Status> {
        let ctx = Context::of(&request)?;
        Ok(Response::new(
            verbs::scale(&self.services, &ctx, request.into_inner()).await?,
        ))
    }

    async fn get_connection(
        &self,
        request: Request<pb::GetConnectionRequest>,
    ) -> Result<Response<pb::Connection>, Status> {
        let service = self
            .services
            .find(&verbs::name(&request.get_ref().name)?)
            .await?;
        let spec: RedisSpec = engine::spec_of::<Redis>(&service)?;
        let host = crds::names::readwrite_service(&service.name.service);
        let (port, user) = (spec.access.port, &spec.access.user);
        let address = status::address(&host, &service.name.project, port);
        let host = address.split(':').next().unwrap_or_default();
        Ok(Response::new(pb::Connection {
            command: format!("redis-cli -h {host} -p {port} --user {user} --askpass"),
            readonly_address: status::readonly_address(&service, &spec),
            user: user.clone(),
            ca_pem: String::new(),
            password_secret: format!(
                "{}/{}",
                service.name.project,
                crds::names::credentials(&service.name.service)
            ),
            readwrite_address: address,
        }))
    }

    async fn get_password(
        &self,
        request: Request<pb::GetPasswordRequest>,
    ) -> Result<Response<pb::Password>, Status> {
        let ctx = Context::of(&request)?;
        let service = self
            .services
            .find(&verbs::name(&request.get_ref().name)?)
            .await?;
        let user = engine::spec_of::<Redis>(&service)?.access.user;
        let secret = crds::names::credentials(&service.name.service);
        let bytes = self
            .services
            .ledger()
            .secret(
                &ctx,
                &service.cluster,
                &service.name.project,
                &secret,
                &user,
            )
            .await?;
        let password = String::from_utf8(bytes.to_vec())
            .map_err(|_| Status::data_loss("the password in the cluster is no text"))?;
        Ok(Response::new(pb::Password { user, password }))
    }

    async fn watch_redis_services(
        &self,
        request: Request<pb::WatchRedisServicesRequest>,
    ) -> Result<Response<Self::WatchRedisServicesStream>, Status> {
        let ctx = Context::of(&request)?;
        let request = request.into_inner();
        let told = self.services.watch(
            &ctx,
            LIST_PERMISSION,
            &request.parent,
            &request.resume_token,
        )?;
        let changes = told.map(|told| Ok(convert::told(told?)?));
        Ok(Response::new(Box::pin(changes)))
    }
}

/// Whether a service is in the state that a filter names.
fn in_state(
    service: &engine::Service,
    observed: Option<&engine::Observed>,
    terms: &[filter::Term],
) -> Result<bool, engine::Error> {
    for term in terms.iter().filter(|term| term.field == "state") {
        let wanted = pb::ServiceState::from_str_name(&term.value)
            .ok_or_else(|| store::Error::Filter(format!("state: {:?} is no state", term.value)))?;
        let shown = convert::service(service, observed)?
            .status
            .unwrap_or_default();
        if (shown.state() == wanted) != term.equality()? {
            return Ok(false);
        }
    }
    Ok(true)
}
