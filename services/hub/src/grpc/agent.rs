//! `AgentService`: enrolment, sessions, tunnels.

use std::{sync::Mutex, sync::PoisonError, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use upm_mesh::{self as mesh, identity::PeerCertificates};
use upm_proto::hub::v1::{self as pb, agent_service_server::AgentService, bytes, drain::Reason};
use upm_store as store;

use crate::{
    Error, Hub,
    accounts::{Pin, Refusal, Shown},
    certificates,
    drive::{self, Certificate},
    ledger,
    tunnel::End,
};

/// Frames between a session and its socket: enough to keep it busy, few enough that credit means something.
const OUTBOUND: usize = 16;
/// Time for the first frame of a tunnel.
const TUNNEL_HELLO: Duration = Duration::from_secs(10);
/// Bytes of a certificate request.
const CSR: usize = 16 * 1024;

pub(super) struct Agents {
    hub: Hub,
    enrolments: Mutex<Bucket>,
}

/// A token bucket: enrolments must not slow down live sessions.
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Agents {
    pub(super) fn new(hub: Hub) -> Self {
        Self {
            enrolments: Mutex::new(Bucket {
                tokens: f64::from(hub.inner.config.enrolments_per_second),
                at: Instant::now(),
            }),
            hub,
        }
    }

    fn admit(&self) -> Result<(), Error> {
        let rate = f64::from(self.hub.inner.config.enrolments_per_second);
        let mut bucket = self
            .enrolments
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        bucket.tokens =
            (bucket.tokens + rate * now.duration_since(bucket.at).as_secs_f64()).min(rate);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Err(Error::Overloaded("too many enrolments; try again"));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

/// What an agent shows of its cluster when it enrols. Whatever is wrong with that hinders nothing else: the agent is known by its join token.
fn shown(request: &pb::EnrollRequest, audiences: &[String]) -> Option<Pin> {
    let shown = Shown::of(
        request.service_account_issuer.clone(),
        request.service_account_jwks.clone(),
        request.service_account_token.clone(),
    )?;
    match Pin::shown(&shown, audiences) {
        Ok(pin) => Some(pin),
        Err(refusal) => {
            let reason = Refusal::reason(refusal);
            tracing::warn!(reason, "The service account of a new agent is not pinned");
            None
        }
    }
}

/// The agent's id, from its certificate, and the certificate. Ids in payloads are ignored.
async fn admitted<T>(hub: &Hub, request: &Request<T>) -> Result<(String, Certificate), Error> {
    let peer = request.extensions().get::<mesh::Peer>();
    let agent = peer
        .and_then(|peer| peer.0.as_ref())
        .and_then(mesh::SpiffeId::agent_id)
        .ok_or(Error::NoAgent)?
        .to_owned();
    let chain = request
        .extensions()
        .get::<PeerCertificates>()
        .cloned()
        .ok_or(Error::NoAgent)?;
    let certificate = certificates::admit(hub, &agent, chain).await?;
    Ok((agent, certificate))
}

#[tonic::async_trait]
impl AgentService for Agents {
    type SessionStream = BoxStream<'static, Result<pb::HubFrame, Status>>;
    type TunnelStream = BoxStream<'static, Result<pb::Bytes, Status>>;

    async fn enroll(
        &self,
        request: Request<pb::EnrollRequest>,
    ) -> Result<Response<pb::EnrollResponse>, Status> {
        let ctx = mesh::Context::of(&request)?;
        self.admit()?;
        let request = request.into_inner();
        if request.csr.len() > CSR
            || request.cluster_uid.is_empty()
            || request.cluster_uid.len() > 200
        {
            return Err(Error::field(
                "cluster_uid",
                "must be 1 to 200 characters, and csr at most 16 KiB",
            )
            .into());
        }
        let again = request.join_token.is_empty();
        if again && (request.agent_id.is_empty() || request.service_account_token.is_empty()) {
            return Err(Error::JoinTokenInvalid.into());
        }
        if again && mesh::SpiffeId::agent(&request.agent_id).is_err() {
            // What no agent can be called is not asked of the store.
            return Err(Error::from(Refusal::NotPinned).into());
        }
        let hub = self.hub.clone();
        let enrolled = move |conn: &mut store::Connection| {
            let audiences = &hub.inner.config.audiences;
            let row = if again {
                ledger::enrol::reclaim(conn, &request, audiences)?
            } else {
                let pin = shown(&request, audiences);
                ledger::enrol::redeem(conn, &request, pin.as_ref())?
            };
            let by = if again { "serviceAccount" } else { "joinToken" };
            store::audited(
                conn,
                &ctx,
                &format!("agents/{}", row.id),
                serde_json::json!({"enrolled": true, "by": by, "clusterUid": row.cluster_uid}),
            )?;
            // The id is known here only. A request that cannot be signed leaves the token unused.
            let (signed, issued) = certificates::sign(&hub, &row.id, &request.csr)?;
            ledger::enrol::certified(conn, &row.id, &issued, None)?;
            Ok::<_, Error>((row, signed))
        };
        let store = &self.hub.inner.store;
        let (row, signed) = store.transact("enrol an agent", enrolled).await?;
        tracing::info!(
            agent = row.id,
            approved = row.approved,
            again,
            "Agent enrolled"
        );
        if !again {
            // Whoever was here before has lost the certificate that its session was opened with.
            self.hub.cut(&row.id, Reason::Revoked).await;
        }
        self.hub.changed(&row.id);
        Ok(Response::new(pb::EnrollResponse {
            agent_id: row.id,
            certificate_chain: signed.chain,
            ca_certificates: signed.roots,
            endpoints: self.hub.inner.config.endpoints.clone(),
        }))
    }

    async fn session(
        &self,
        request: Request<Streaming<pb::AgentFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (agent, certificate) = admitted(&self.hub, &request).await?;
        let permit = self
            .hub
            .inner
            .sessions
            .clone()
            .try_acquire_owned()
            .map_err(|_| Error::Overloaded("this replica holds as many sessions as it may"))?;
        if let Err(after) = self.hub.inner.overload.enter() {
            self.hub.inner.metrics.refused();
            return Err(Error::Slot(after).into());
        }
        let (outbound, frames) = mpsc::channel(OUTBOUND);
        let hub = self.hub.clone();
        // It ends when the agent is silent, the stream breaks, or the hub drains; the port waits for it.
        self.hub.inner.running.spawn(async move {
            drive::session(hub, agent, certificate, request.into_inner(), outbound).await;
            drop(permit);
        });
        let frames = ReceiverStream::new(frames).map(|frame| frame.map(|frame| *frame));
        Ok(Response::new(Box::pin(frames)))
    }

    async fn tunnel(
        &self,
        request: Request<Streaming<pb::Bytes>>,
    ) -> Result<Response<Self::TunnelStream>, Status> {
        let (agent, _) = admitted(&self.hub, &request).await?;
        let mut from_agent = request.into_inner();
        let first = tokio::time::timeout(TUNNEL_HELLO, from_agent.message())
            .await
            .map_err(|_| Error::TunnelTimeout(agent.clone()))??;
        let Some(bytes::Frame::Hello(hello)) = first.and_then(|f| f.frame) else {
            return Err(Error::field("frame", "the first frame must be hello").into());
        };
        // The answer stays open until the other end is done with the tunnel.
        let (to_agent, frames) = mpsc::channel(OUTBOUND);
        let end = || End::new(&hello, to_agent, from_agent);
        self.hub.inner.tunnels.meet(&agent, &hello.tunnel_id, end)?;
        Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
    }
}
