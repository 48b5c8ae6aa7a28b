//! `LedgerService`.

use std::time::Duration;

use futures::{FutureExt as _, stream::BoxStream};
use tonic::{Request, Response, Status};
use upm_mesh as mesh;
use upm_proto::hub::v1::{
    self as pb, ledger_service_client::LedgerServiceClient, ledger_service_server::LedgerService,
};
use upm_store::page::{PageRequest, Query};

use super::{
    route::{self, Routed},
    watch,
};
use crate::{Error, Hub, ledger::read::Filter, ledger::write::check_key, tunnel};

/// Time for a Secret when the caller has no deadline.
const SECRET: Duration = Duration::from_secs(10);

pub(super) struct Ledger(pub(super) Hub);

#[tonic::async_trait]
impl LedgerService for Ledger {
    type WatchObjectsStream = BoxStream<'static, Result<pb::WatchObjectsResponse, Status>>;

    async fn apply_objects(
        &self,
        request: Request<pb::ApplyObjectsRequest>,
    ) -> Result<Response<pb::ApplyObjectsResponse>, Status> {
        let ctx = mesh::Context::of(&request)?;
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
        if request.namespace.is_empty() || request.name.is_empty() || request.keys.is_empty() {
            return Err(Error::field("name", "namespace, name and keys are required").into());
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
