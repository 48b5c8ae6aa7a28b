//! Tunnels: the hub asks over the session, the agent opens a stream of its own, the two meet here once. What passes is never stored.

mod pipe;
mod refusal;
mod registry;
mod secret;

use std::time::Duration;

use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use upm_mesh::tunnel::{Receiver, Sender, WINDOW, ends};
use upm_proto::hub::v1::{self as pb, bytes::Frame, open_tunnel::Purpose};

use self::registry::Use;
pub(crate) use self::{
    pipe::{Bounds, Frames, pipe, taken},
    registry::Tunnels,
    secret::read_secret,
};
use crate::{Error, Hub, hub::Control};

/// What the hub's stream to an agent carries.
type Carried = Result<pb::Bytes, Status>;

/// The hub's end of a tunnel.
#[derive(Debug)]
pub(crate) struct End {
    to: Sender<Carried>,
    from: Receiver<Carried>,
}

impl End {
    /// From the agent's call, of which the first frame was read.
    pub(crate) fn new(
        hello: &pb::TunnelHello,
        to: mpsc::Sender<Carried>,
        from: Streaming<pb::Bytes>,
    ) -> Self {
        let (to, from) = ends(to, Ok, from, hello.window);
        Self { to, from }
    }

    /// The next frame; `None` at the good end.
    async fn next(&mut self, agent: &str) -> Result<Option<Frame>, Error> {
        next(agent, &mut self.from).await
    }
}

/// The next frame of an agent; `None` at the good end.
async fn next(agent: &str, from: &mut Receiver<Carried>) -> Result<Option<Frame>, Error> {
    use upm_mesh::tunnel::Broken;
    match from.next().await {
        Some(Ok(Frame::End(end))) => end.error.map_or(Ok(None), |e| Err(refusal::told(e))),
        Some(Ok(frame)) => Ok(Some(frame)),
        Some(Err(Broken::Overrun)) => Err(Error::SessionEnded("OVERRUN")),
        Some(Err(Broken::Stream(_))) | None => Err(Error::NotConnected(agent.to_owned())),
    }
}

/// Asks an agent for a tunnel and waits for its end.
async fn open(hub: &Hub, agent: &str, purpose: Purpose, within: Duration) -> Result<End, Error> {
    let session = hub
        .session(agent)
        .ok_or_else(|| Error::NotConnected(agent.to_owned()))?;
    let expected = hub.inner.tunnels.expect(agent);
    let ask = Control::OpenTunnel(Box::new(pb::OpenTunnel {
        tunnel_id: expected.id.to_vec().into(),
        purpose: Some(purpose),
        timeout_ms: within.as_millis() as u32,
        window: WINDOW,
    }));
    session
        .control
        .send(ask)
        .await
        .map_err(|_| Error::NotConnected(agent.to_owned()))?;
    expected
        .opened()
        .await
        .ok_or_else(|| Error::NotConnected(agent.to_owned()))
}
