//! Tunnels that the hub asks for, within the cluster's policy: keys of a Secret, the log of a unit, commands and files in it.

mod exec;
mod file;
mod log;
mod outcome;
mod remote;
mod secret;

use std::{future::Future, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _};
use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use upm_crds::names::{annotation, label};
use upm_mesh::{
    Channel,
    tunnel::{self, WINDOW},
};
use upm_operator::call;
use upm_proto::hub::v1::{
    self as pb, agent_service_client::AgentServiceClient, bytes::Frame, open_tunnel::Purpose,
};

use crate::policy::Policy;

/// Life of a tunnel when the hub names none.
const LIFE: Duration = Duration::from_secs(30);
/// The longest life that the hub may name.
const LONGEST: Duration = Duration::from_hours(1);

/// What goes to the hub.
pub type ToHub = tunnel::Sender<pb::Bytes>;
/// What comes from the hub.
pub type FromHub = tunnel::Receiver<pb::Bytes>;

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
        mut tunnel: pb::OpenTunnel,
        client: AgentServiceClient<Channel>,
    ) -> BoxFuture<'static, ()> {
        let this = self.clone();
        let purpose = tunnel.purpose.take();
        serve(tunnel, client, move |to, from| async move {
            this.serve(purpose, &to, from).await
        })
        .boxed()
    }
}

fn refused(reason: &str, message: impl Into<String>) -> pb::Error {
    pb::Error {
        reason: reason.into(),
        message: message.into(),
        http_status: 0,
    }
}

fn away(error: impl std::fmt::Display) -> pb::Error {
    refused("API_SERVER_AWAY", error.to_string())
}

fn frame(frame: Frame) -> pb::Bytes {
    pb::Bytes { frame: Some(frame) }
}

/// Opens the stream of a tunnel, lets `work` serve it, and says how it ended. The work is dropped when the hub ends the stream, and when the
/// tunnel's life is over.
pub async fn serve<W>(
    asked: pb::OpenTunnel,
    mut client: AgentServiceClient<Channel>,
    work: impl FnOnce(ToHub, FromHub) -> W,
) where
    W: Future<Output = Result<(), pb::Error>>,
{
    let life = match asked.timeout_ms {
        0 => LIFE,
        ms => Duration::from_millis(u64::from(ms)).min(LONGEST),
    };
    let served = async {
        let (sender, frames) = mpsc::channel(4);
        let hello = frame(Frame::Hello(pb::TunnelHello {
            tunnel_id: asked.tunnel_id,
            window: WINDOW,
        }));
        // There is room: it is the first.
        let _ = sender.try_send(hello);
        let answer = match client.tunnel(ReceiverStream::new(frames)).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                tracing::warn!(code = ?status.code(), "The hub did not take a tunnel");
                return;
            }
        };
        let (to, from) = tunnel::ends(sender, |frame| frame, answer, asked.window);
        let gone = from.gone();
        let worked = tokio::select! {
            worked = work(to.clone(), from) => worked,
            () = gone.cancelled() => return,
        };
        let error = worked.err();
        to.send(Frame::End(pb::TunnelEnd { error })).await;
        // The hub closes it when it has heard that; closed from here, the stream would lose what is on its way.
        gone.cancelled().await;
    };
    if tokio::time::timeout(life, served).await.is_err() {
        tracing::warn!("A tunnel took too long");
    }
}

impl ClusterTunnels {
    async fn serve(
        &self,
        purpose: Option<Purpose>,
        to: &ToHub,
        from: FromHub,
    ) -> Result<(), pb::Error> {
        match purpose {
            Some(Purpose::ReadSecret(wanted)) => self.secret(wanted, to).await,
            Some(Purpose::TailLog(wanted)) => self.log(wanted, to).await,
            Some(Purpose::Exec(wanted)) => self.exec(wanted, to, from).await,
            Some(Purpose::ReadFile(wanted)) => self.read_file(wanted, to).await,
            Some(Purpose::WriteFile(wanted)) => self.write_file(wanted, to, from).await,
            None => Err(refused(
                "UNSUPPORTED_TUNNEL",
                "this agent does not know what the tunnel is for",
            )),
        }
    }

    /// The container of a unit's pod that is meant: the main one when none is named.
    ///
    /// # Errors
    /// When pod or container do not exist, or the pod is not one of the platform.
    async fn container(
        &self,
        namespace: &str,
        name: &str,
        container: &str,
    ) -> Result<String, pb::Error> {
        self.policy
            .allows_tunnel(namespace, name)
            .map_err(|why| refused("DENIED_LOCAL_POLICY", why))?;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pod = call::get_opt(&api, name)
            .await
            .map_err(|error| away(error.public()))?
            .ok_or_else(|| {
                refused(
                    "POD_NOT_FOUND",
                    format!("pod {namespace}/{name} does not exist"),
                )
            })?;
        container_of(&pod, container)
    }
}

/// The container of a unit's pod that is meant.
fn container_of(pod: &Pod, wanted: &str) -> Result<String, pb::Error> {
    if !pod.labels().contains_key(label::UNIT) {
        return Err(refused(
            "DENIED_LOCAL_POLICY",
            "the pod is not one of the platform",
        ));
    }
    let main = pod.annotations().get(annotation::MAIN_CONTAINER);
    let wanted = Some(wanted)
        .filter(|wanted| !wanted.is_empty())
        .or(main.map(String::as_str));
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let found = match wanted {
        Some(name) => containers.find(|container| container.name == name),
        None => containers.next(),
    };
    found
        .map(|container| container.name.clone())
        .ok_or_else(|| {
            let name = wanted.unwrap_or_default();
            refused(
                "CONTAINER_NOT_FOUND",
                format!("the pod has no container {name}"),
            )
        })
}

/// Sends bytes in frames; false when nobody takes them any more.
async fn send(to: &ToHub, bytes: Bytes) -> bool {
    to.send_all(bytes, Frame::Data).await
}

#[cfg(test)]
mod tests;
