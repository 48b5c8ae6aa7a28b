//! Tunnels that the hub asks for, within the cluster's policy: keys of a Secret, the log of a managed pod.

use std::{collections::HashMap, future::Future, time::Duration};

use futures::{AsyncReadExt as _, FutureExt as _, future::BoxFuture};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client, ResourceExt as _, api::LogParams};
use prost::{Message as _, bytes::Bytes};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use upm_crds::names::label;
use upm_mesh::Channel;
use upm_operator::call;
use upm_proto::hub::v1::{
    self as pb, agent_service_client::AgentServiceClient, bytes::Frame, open_tunnel::Purpose,
};

use crate::policy::Policy;

/// Bytes of one frame.
const CHUNK: usize = 32 * 1024;
/// Life of a tunnel when the hub names none.
const LIFE: Duration = Duration::from_secs(30);
/// Life of a log that is followed.
const FOLLOW: Duration = Duration::from_hours(1);

/// Serves tunnels.
pub trait Tunnels: Send + Sync + 'static {
    /// Opens a tunnel and serves it to its end.
    fn open(
        &self,
        tunnel: pb::OpenTunnel,
        client: AgentServiceClient<Channel>,
    ) -> BoxFuture<'static, ()>;
}

/// Tunnels into a real cluster.
#[derive(Clone)]
pub struct ClusterTunnels {
    client: Client,
    policy: Policy,
}

impl std::fmt::Debug for ClusterTunnels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterTunnels")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl ClusterTunnels {
    /// Tunnels within a policy.
    pub fn new(client: Client, policy: Policy) -> Self {
        Self { client, policy }
    }
}

impl Tunnels for ClusterTunnels {
    fn open(
        &self,
        tunnel: pb::OpenTunnel,
        client: AgentServiceClient<Channel>,
    ) -> BoxFuture<'static, ()> {
        let this = self.clone();
        async move { this.serve(tunnel, client).await }.boxed()
    }
}

fn refused(reason: &str, message: impl Into<String>) -> pb::Error {
    pb::Error {
        reason: reason.into(),
        message: message.into(),
        http_status: 0,
    }
}

fn frame(frame: Frame) -> pb::Bytes {
    pb::Bytes { frame: Some(frame) }
}

/// Opens the stream of a tunnel, lets `work` fill it and says how it ended.
pub async fn serve<W>(
    tunnel_id: Bytes,
    life: Duration,
    mut client: AgentServiceClient<Channel>,
    work: impl FnOnce(mpsc::Sender<pb::Bytes>) -> W,
) where
    W: Future<Output = Result<(), pb::Error>>,
{
    let (sender, frames) = mpsc::channel(4);
    let hello = frame(Frame::Hello(pb::TunnelHello { tunnel_id }));
    let filled = async {
        if sender.send(hello).await.is_err() {
            return;
        }
        let error = work(sender.clone()).await.err();
        let _ = sender
            .send(frame(Frame::End(pb::TunnelEnd { error })))
            .await;
        drop(sender);
    };
    let carried = async {
        let answer = client.tunnel(ReceiverStream::new(frames)).await;
        match answer {
            Ok(answer) => {
                let mut from_hub = answer.into_inner();
                // The hub ends it when it has everything.
                while let Ok(Some(_)) = from_hub.message().await {}
            }
            Err(status) => tracing::warn!(code = ?status.code(), "The hub did not take a tunnel"),
        }
    };
    let both = async { tokio::join!(filled, carried) };
    if tokio::time::timeout(life, both).await.is_err() {
        tracing::warn!("A tunnel took too long");
    }
}

impl ClusterTunnels {
    async fn serve(self, tunnel: pb::OpenTunnel, client: AgentServiceClient<Channel>) {
        let asked = match tunnel.timeout_ms {
            0 => LIFE,
            ms => Duration::from_millis(u64::from(ms)),
        };
        let life = match &tunnel.purpose {
            Some(Purpose::TailLog(log)) if log.follow => FOLLOW,
            _ => asked,
        };
        serve(tunnel.tunnel_id, life, client, |sender| async move {
            match tunnel.purpose {
                Some(Purpose::ReadSecret(wanted)) => self.secret(wanted, &sender).await,
                Some(Purpose::TailLog(wanted)) => self.log(wanted, &sender).await,
                None => Err(refused(
                    "UNSUPPORTED_TUNNEL",
                    "this agent does not know what the tunnel is for",
                )),
            }
        })
        .await;
    }

    async fn secret(
        &self,
        wanted: pb::ReadSecret,
        to: &mpsc::Sender<pb::Bytes>,
    ) -> Result<(), pb::Error> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &wanted.namespace);
        let found = call::get_opt(&api, &wanted.name)
            .await
            .map_err(|error| refused("API_SERVER_AWAY", error.public()))?;
        let missing = || {
            refused(
                "SECRET_NOT_FOUND",
                format!(
                    "Secret {}/{} or a key of it does not exist",
                    wanted.namespace, wanted.name
                ),
            )
        };
        let secret = found.ok_or_else(missing)?;
        if !self.policy.may_read_secret(secret.metadata.labels.as_ref()) {
            return Err(refused(
                "DENIED_LOCAL_POLICY",
                format!(
                    "Secret {}/{} is not readable for the platform",
                    wanted.namespace, wanted.name
                ),
            ));
        }
        let data = secret.data.unwrap_or_default();
        let found = wanted
            .keys
            .iter()
            .map(|key| Some((key.clone(), data.get(key)?.0.clone().into())))
            .collect::<Option<HashMap<String, Bytes>>>()
            .ok_or_else(missing)?;
        let encoded = Bytes::from(pb::SecretData { data: found }.encode_to_vec());
        send(to, encoded).await;
        Ok(())
    }

    async fn log(
        &self,
        wanted: pb::TailLog,
        to: &mpsc::Sender<pb::Bytes>,
    ) -> Result<(), pb::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &wanted.namespace);
        let away = |error: &dyn std::error::Error| refused("API_SERVER_AWAY", error.to_string());
        let pod = call::get_opt(&api, &wanted.pod)
            .await
            .map_err(|error| refused("API_SERVER_AWAY", error.public()))?
            .ok_or_else(|| {
                refused(
                    "POD_NOT_FOUND",
                    format!("pod {}/{} does not exist", wanted.namespace, wanted.pod),
                )
            })?;
        if !pod.labels().contains_key(label::UNIT) {
            return Err(refused(
                "DENIED_LOCAL_POLICY",
                "the pod is not one of the platform",
            ));
        }
        let params = LogParams {
            container: (!wanted.container.is_empty()).then_some(wanted.container),
            follow: wanted.follow,
            tail_lines: (wanted.tail_lines > 0).then_some(wanted.tail_lines),
            ..LogParams::default()
        };
        let mut log = Box::pin(
            api.log_stream(&wanted.pod, &params)
                .await
                .map_err(|e| away(&e))?,
        );
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = log.read(&mut chunk).await.map_err(|e| away(&e))?;
            if read == 0 || !send(to, Bytes::copy_from_slice(&chunk[..read])).await {
                return Ok(());
            }
        }
    }
}

/// Sends bytes in frames; false when nobody takes them any more.
async fn send(to: &mpsc::Sender<pb::Bytes>, mut bytes: Bytes) -> bool {
    while !bytes.is_empty() {
        let part = bytes.split_to(bytes.len().min(CHUNK));
        if to.send(frame(Frame::Data(part))).await.is_err() {
            return false;
        }
    }
    true
}
