//! The log of a unit.

use futures::AsyncReadExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::LogParams};
use prost::bytes::Bytes;
use upm_mesh::tunnel::CHUNK;
use upm_proto::hub::v1 as pb;

use super::{ClusterTunnels, ToHub, away, send};

impl ClusterTunnels {
    pub(super) async fn log(&self, wanted: pb::TailLog, to: &ToHub) -> Result<(), pb::Error> {
        let container = self
            .container(&wanted.namespace, &wanted.pod, &wanted.container)
            .await?;
        let params = LogParams {
            container: Some(container),
            follow: wanted.follow,
            tail_lines: (wanted.tail_lines > 0).then_some(wanted.tail_lines),
            ..LogParams::default()
        };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &wanted.namespace);
        let opened = api.log_stream(&wanted.pod, &params).await;
        let mut log = Box::pin(opened.map_err(away)?);
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = log.read(&mut chunk).await.map_err(away)?;
            if read == 0 || !send(to, Bytes::copy_from_slice(&chunk[..read])).await {
                return Ok(());
            }
        }
    }
}
