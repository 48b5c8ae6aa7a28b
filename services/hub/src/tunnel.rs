//! Tunnels: the hub asks over the session, the agent opens a stream of its own, the two meet here once. What passes is never stored.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream::BoxStream};
use prost::{Message as _, bytes::Bytes};
use rand::RngCore as _;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use upm_mesh::Kind;
use upm_proto::hub::v1::{self as pb, bytes, open_tunnel};

use crate::{Error, Hub, hub::Control};

/// Bytes of an answer that is read as a whole.
const ANSWER: usize = 1024 * 1024;
/// Time to open the tunnel of a log.
const OPEN: Duration = Duration::from_secs(10);
/// Life of a log that is followed, and of one that is not.
const FOLLOW: Duration = Duration::from_hours(1);
const TAIL: Duration = Duration::from_mins(1);

/// The agent's end of a tunnel.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) from_agent: Streaming<pb::Bytes>,
    /// Keeps the answer of the agent's call open.
    pub(crate) _to_agent: mpsc::Sender<Result<pb::Bytes, Status>>,
}

#[derive(Debug)]
struct Waiting {
    agent: String,
    end: oneshot::Sender<End>,
}

/// Tunnels that were asked for and are not open yet.
#[derive(Debug, Default)]
pub(crate) struct Tunnels {
    waiting: Mutex<HashMap<[u8; 16], Waiting>>,
    /// Agents with tunnels in use: how many, and what ends them.
    used: Mutex<HashMap<String, (usize, CancellationToken)>>,
}

/// A tunnel in use.
struct Use<'a> {
    tunnels: &'a Tunnels,
    agent: String,
    cut: CancellationToken,
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        let mut used = self
            .tunnels
            .used
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((count, cut)) = used.get_mut(&self.agent) {
            // An agent that was cut meanwhile may have new ones.
            if cut.is_cancelled() == self.cut.is_cancelled() {
                *count -= 1;
                if *count == 0 {
                    used.remove(&self.agent);
                }
            }
        }
    }
}

impl Tunnels {
    fn expect(&self, agent: &str) -> ([u8; 16], oneshot::Receiver<End>) {
        let mut id = [0; 16];
        rand::rng().fill_bytes(&mut id);
        let (end, opened) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(
                id,
                Waiting {
                    agent: agent.to_owned(),
                    end,
                },
            );
        (id, opened)
    }

    /// Whether no agent has left anything here.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.is_empty() && used.is_empty()
    }

    fn forget(&self, id: [u8; 16]) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
    }

    fn used(&self, agent: &str) -> Use<'_> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, cut) = used.entry(agent.to_owned()).or_default();
        *count += 1;
        Use {
            tunnels: self,
            agent: agent.to_owned(),
            cut: cut.clone(),
        }
    }

    /// Ends all tunnels of an agent: it is revoked.
    pub(crate) fn cut(&self, agent: &str) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cut)) = used.remove(agent) {
            cut.cancel();
        }
    }

    /// Hands an opened tunnel to who waits for it. It must be the agent that was asked, and nobody else came before.
    pub(crate) fn meet(&self, agent: &str, id: &[u8], end: End) -> Result<(), Error> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let id: [u8; 16] = id
            .try_into()
            .map_err(|_| Error::field("hello.tunnel_id", "must be 16 bytes"))?;
        if waiting.get(&id).is_none_or(|w| w.agent != agent) {
            return Err(Error::ObjectNotFound("tunnel".into()));
        }
        if let Some(found) = waiting.remove(&id) {
            // Who waited may have given up.
            let _ = found.end.send(end);
        }
        Ok(())
    }
}

/// Forgets a tunnel that nobody waits for any more.
struct Forget<'a>(&'a Tunnels, [u8; 16]);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.forget(self.1);
    }
}

/// Asks an agent for a tunnel and waits for its end.
async fn open(
    hub: &Hub,
    agent: &str,
    purpose: open_tunnel::Purpose,
    within: Duration,
) -> Result<End, Error> {
    let session = hub
        .session(agent)
        .ok_or_else(|| Error::NotConnected(agent.to_owned()))?;
    let (id, opened) = hub.inner.tunnels.expect(agent);
    let _forget = Forget(&hub.inner.tunnels, id);
    let ask = Control::OpenTunnel(Box::new(pb::OpenTunnel {
        tunnel_id: id.to_vec().into(),
        purpose: Some(purpose),
        timeout_ms: within.as_millis() as u32,
    }));
    session
        .control
        .send(ask)
        .await
        .map_err(|_| Error::NotConnected(agent.to_owned()))?;
    opened
        .await
        .map_err(|_| Error::NotConnected(agent.to_owned()))
}

/// Reads keys of a Secret.
pub(crate) async fn read_secret(
    hub: &Hub,
    request: pb::ReadSecretRequest,
    within: Duration,
) -> Result<pb::SecretData, Error> {
    let agent = request.agent_id;
    let purpose = open_tunnel::Purpose::ReadSecret(pb::ReadSecret {
        namespace: request.namespace,
        name: request.name,
        keys: request.keys,
    });
    let using = hub.inner.tunnels.used(&agent);
    let read = async {
        let mut end = open(hub, &agent, purpose, within).await?;
        collect(&agent, &mut end.from_agent).await
    };
    tokio::select! {
        () = using.cut.cancelled() => Err(Error::Revoked(agent.clone())),
        read = tokio::time::timeout(within, read) => {
            read.map_err(|_| Error::TunnelTimeout(agent.clone()))?
        }
    }
}

/// Streams the log of a pod.
///
/// # Errors
/// When the agent has no session here or does not open the tunnel; later errors come in the stream.
pub(crate) async fn tail_log(
    hub: Hub,
    agent: String,
    log: pb::TailLog,
) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
    let life = if log.follow { FOLLOW } else { TAIL };
    let purpose = open_tunnel::Purpose::TailLog(log);
    let end = tokio::time::timeout(OPEN, open(&hub, &agent, purpose, life))
        .await
        .map_err(|_| Error::TunnelTimeout(agent.clone()))??;
    let (sender, parts) = mpsc::channel(4);
    let running = hub.inner.running.clone();
    // It ends with the tunnel, its reader, its life or the agent's revocation.
    running.spawn(async move {
        let using = hub.inner.tunnels.used(&agent);
        let mut end = end;
        let pump = async {
            while let Some(part) = part(&agent, &mut end.from_agent).await.transpose() {
                let over = part.is_err();
                if sender.send(part).await.is_err() || over {
                    return;
                }
            }
        };
        let refused = tokio::select! {
            () = using.cut.cancelled() => Some(Error::Revoked(agent.clone())),
            () = hub.inner.drain.signalled() => Some(Error::NotConnected(agent.clone())),
            () = sender.closed() => None,
            done = tokio::time::timeout(life, pump) => done.err().map(|_| Error::TunnelTimeout(agent.clone())),
        };
        if let Some(error) = refused {
            let _ = sender.try_send(Err(error));
        }
    });
    Ok(ReceiverStream::new(parts).boxed())
}

/// The next data of a tunnel; `None` at its good end.
async fn part(agent: &str, from: &mut Streaming<pb::Bytes>) -> Result<Option<Bytes>, Error> {
    loop {
        let frame = from
            .message()
            .await
            .map_err(|_| Error::NotConnected(agent.to_owned()))?;
        match frame.and_then(|f| f.frame) {
            Some(bytes::Frame::Data(part)) => return Ok(Some(part)),
            Some(bytes::Frame::End(end)) => return end.error.map_or(Ok(None), |e| Err(failed(e))),
            Some(bytes::Frame::Hello(_)) => {}
            None => return Err(Error::NotConnected(agent.to_owned())),
        }
    }
}

async fn collect(agent: &str, from: &mut Streaming<pb::Bytes>) -> Result<pb::SecretData, Error> {
    let mut data = Vec::new();
    while let Some(more) = part(agent, from).await? {
        if data.len() + more.len() > ANSWER {
            return Err(Error::Overloaded("the answer of the tunnel is too large"));
        }
        data.extend_from_slice(&more);
    }
    pb::SecretData::decode(data.as_slice()).map_err(|_| Error::Corrupt("tunnel answer"))
}

fn failed(error: pb::Error) -> Error {
    let (kind, reason) = match error.reason.as_str() {
        "SECRET_NOT_FOUND" => (Kind::NotFound, "SECRET_NOT_FOUND"),
        "POD_NOT_FOUND" => (Kind::NotFound, "POD_NOT_FOUND"),
        "DENIED_LOCAL_POLICY" => (Kind::PermissionDenied, "DENIED_LOCAL_POLICY"),
        _ => (Kind::Unavailable, "TUNNEL_FAILED"),
    };
    Error::Tunnel {
        kind,
        reason,
        message: error.message,
    }
}
