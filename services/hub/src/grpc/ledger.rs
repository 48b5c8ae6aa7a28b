//! `LedgerService`.

use std::time::Duration;

use futures::{FutureExt as _, stream::BoxStream};
use tonic::{Request, Response, Status};
use upm_mesh as mesh;
use upm_proto::{
    hub::v1::{
        self as pb, ledger_service_client::LedgerServiceClient,
        ledger_service_server::LedgerService,
    },
    policy,
};
use upm_store::page::{PageRequest, Query};

use super::{
    route::{self, Routed},
    watch,
};
use crate::{
    Error, Hub,
    ledger::read::Filter,
    ledger::write::{check_key, is_name},
    tunnel,
};

/// Time for a Secret when the caller has no deadline.
const SECRET: Duration = Duration::from_secs(10);

pub(super) struct Ledger(pub(super) Hub);

/// Refuses a module that writes for an owner which is not its own.
fn require_own(ctx: &mesh::Context, writer: Option<&pb::Writer>) -> Result<(), Error> {
    let module = ctx.caller.module().unwrap_or_default();
    let owner = writer
        .map(|writer| writer.owner.as_str())
        .unwrap_or_default();
    // An absent owner is refused with the field's name later.
    if owner.is_empty() || may_write(module, owner) {
        return Ok(());
    }
    Err(Error::NotWriter {
        module: module.to_owned(),
        owner: owner.chars().take(300).collect(),
    })
}

/// Whether a module may write what belongs to `owner`: its services (`projects/{project}/redisServices/{service}` for `redis`), and what
/// services of a cluster share (`projects/{project}`, `packages/{package}`), which module `resource` removes with the cluster.
fn may_write(module: &str, owner: &str) -> bool {
    match owner.split('/').collect::<Vec<_>>().as_slice() {
        ["projects" | "packages", id] => {
            !id.is_empty() && (module == "resource" || policy::is_engine(module))
        }
        ["projects", project, collection, service] => {
            !project.is_empty()
                && !service.is_empty()
                && policy::owner_of_collection(collection).as_deref() == Some(module)
        }
        _ => false,
    }
}

#[tonic::async_trait]
impl LedgerService for Ledger {
    type WatchObjectsStream = BoxStream<'static, Result<pb::WatchObjectsResponse, Status>>;

    async fn apply_objects(
        &self,
        request: Request<pb::ApplyObjectsRequest>,
    ) -> Result<Response<pb::ApplyObjectsResponse>, Status> {
        let ctx = mesh::Context::of(&request)?;
        require_own(&ctx, request.get_ref().writer.as_ref())?;
        let written = self
            .0
            .apply_objects(request.into_inner(), &ctx.traceparent)
            .await?;
        Ok(Response::new(pb::ApplyObjectsResponse { written }))
    }

    async fn delete_objects(
        &self,
        request: Request<pb::DeleteObjectsRequest>,
    ) -> Result<Response<pb::DeleteObjectsResponse>, Status> {
        let ctx = mesh::Context::of(&request)?;
        require_own(&ctx, request.get_ref().writer.as_ref())?;
        let written = self
            .0
            .delete_objects(request.into_inner(), &ctx.traceparent)
            .await?;
        Ok(Response::new(pb::DeleteObjectsResponse { written }))
    }

    async fn get_object(
        &self,
        request: Request<pb::GetObjectRequest>,
    ) -> Result<Response<pb::Object>, Status> {
        let request = request.into_inner();
        let key = check_key("key", request.key)?;
        Ok(Response::new(
            self.0.get_object(&request.agent_id, key).await?,
        ))
    }

    async fn list_objects(
        &self,
        request: Request<pb::ListObjectsRequest>,
    ) -> Result<Response<pb::ListObjectsResponse>, Status> {
        let request = request.into_inner();
        let filter = Filter {
            group: request.group,
            kind: request.kind,
            namespace: request.namespace,
            owner: request.owner,
            unsettled: false,
        };
        let fingerprint = format!("{filter:?}");
        let page = PageRequest::<String>::parse(
            &self.0.inner.store,
            Query {
                method: "upm.hub.v1.LedgerService.ListObjects",
                parent: &request.agent_id,
                filter: &fingerprint,
                order_by: "",
            },
            request.page_size,
            &request.page_token,
        )
        .map_err(Error::from)?;
        let rows = self
            .0
            .list_objects(
                &request.agent_id,
                filter,
                page.after().cloned(),
                page.limit(),
            )
            .await?;
        let (rows, next_page_token) = page
            .finish(rows, |(text, _)| text.clone())
            .map_err(Error::from)?;
        Ok(Response::new(pb::ListObjectsResponse {
            objects: rows.into_iter().map(|(_, object)| object).collect(),
            next_page_token,
        }))
    }

    async fn watch_objects(
        &self,
        request: Request<pb::WatchObjectsRequest>,
    ) -> Result<Response<Self::WatchObjectsStream>, Status> {
        let stream = watch::objects(self.0.clone(), request.into_inner())?;
        Ok(Response::new(stream))
    }

    async fn read_secret(
        &self,
        request: Request<pb::ReadSecretRequest>,
    ) -> Result<Response<pb::ReadSecretResponse>, Status> {
        let (ctx, hopped) = (mesh::Context::of(&request)?, route::is_hop(&request));
        let request = request.into_inner();
        if !is_name(&request.namespace) || !is_name(&request.name) || request.keys.is_empty() {
            let why = "namespace and name, as names, and keys are required";
            return Err(Error::field("name", why).into());
        }
        let within = ctx.remaining().unwrap_or(SECRET).min(SECRET);
        let (ctx, asked) = (ctx.within(within), request.clone());
        let there = move |channel| {
            let passed = route::hop(&ctx, asked.clone());
            async move { LedgerServiceClient::new(channel).read_secret(passed).await }.boxed()
        };
        if let Routed::Answer(answer) =
            route::route(&self.0, &request.agent_id, hopped, there).await?
        {
            return Ok(answer);
        }
        let secret = tunnel::read_secret(&self.0, request, within).await?;
        Ok(Response::new(pb::ReadSecretResponse { data: secret.data }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_writes_only_for_its_own_services() {
        let own = "projects/p/redisServices/s";
        assert!(may_write("redis", own));
        for module in ["resource", "user", "mysql", "gateway", ""] {
            assert!(!may_write(module, own), "{module}");
        }
        for odd in [
            "projects/p/redisServices",
            "projects//redisServices/s",
            "x/y",
            own,
        ] {
            assert!(!may_write("user", odd), "{odd}");
        }
        assert!(!may_write("redis", "projects/p/mysqlServices/s"));
        for shared in ["projects/p", "packages/redis-7.0.15"] {
            assert!(may_write("redis", shared) && may_write("resource", shared));
            assert!(!may_write("user", shared), "{shared}");
        }
    }
}
