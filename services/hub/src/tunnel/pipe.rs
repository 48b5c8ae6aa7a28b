//! Frames both ways between a caller and an agent, until either has ended or a bound is reached.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures::{StreamExt as _, stream::BoxStream};
use tokio::{
    sync::mpsc::{self, OwnedPermit},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use upm_mesh::tunnel::{Receiver, Sender};
use upm_proto::hub::v1::{self as pb, bytes::Frame, open_tunnel::Purpose};

use super::{Carried, End, Use, next, open};
use crate::{Error, Hub};

/// Time to open a tunnel.
const OPEN: Duration = Duration::from_secs(10);
/// Time for the cluster to take what the tunnel is for: a kubelet may be slow to start a command.
const TAKE: Duration = Duration::from_secs(30);
/// Tunnels of one agent at once. Each may hold a window of bytes on both sides.
const MOST: usize = 64;
/// Frames on their way to the caller, beside the last word.
const QUEUE: usize = 2;

/// Frames on their way.
pub(crate) type Frames = BoxStream<'static, Result<Frame, Error>>;

/// When a tunnel ends by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// So long after it was opened.
    pub(crate) life: Duration,
    /// So long after the last frame passed, in either direction.
    pub(crate) idle: Duration,
}

/// Opens a tunnel and carries frames: `input` to the agent, the agent's to whoever reads what is returned. The end of `input` is told to the
/// agent; an error in it ends the tunnel. The tunnel ends with the agent's last frame, its reader, its bounds, the agent's revocation, or the
/// replica; every end but a good one is the last item.
///
/// # Errors
/// When the agent has no session here, has too many tunnels, or does not open this one.
pub(crate) async fn pipe(
    hub: &Hub,
    agent: String,
    purpose: Purpose,
    bounds: Bounds,
    input: Frames,
) -> Result<Frames, Error> {
    let using = Use::begin(hub, &agent, MOST)?;
    let end = tokio::select! {
        () = using.cut.cancelled() => return Err(Error::Revoked(agent)),
        end = tokio::time::timeout(OPEN, open(hub, &agent, purpose, bounds.life)) => {
            end.map_err(|_| Error::TunnelTimeout(agent.clone()))??
        }
    };
    let (sender, parts) = mpsc::channel(QUEUE + 1);
    // Kept free: a reader that is slow must hear of a bad end all the same, and not take it for a good one.
    let last = sender
        .clone()
        .reserve_owned()
        .await
        .map_err(|_| Error::NotConnected(agent.clone()))?;
    let pipe = Pipe {
        hub: hub.clone(),
        agent,
        using,
        bounds,
        sender,
        last,
    };
    hub.inner.running.spawn(pipe.carry(end, input));
    Ok(ReceiverStream::new(parts).boxed())
}

/// Waits for the first frame, which says that the cluster has taken what the tunnel is for.
///
/// # Errors
/// What came instead.
pub(crate) async fn taken(agent: &str, mut frames: Frames) -> Result<(Frame, Frames), Error> {
    match tokio::time::timeout(TAKE, frames.next()).await {
        Ok(Some(first)) => Ok((first?, frames)),
        Ok(None) => Err(Error::NotConnected(agent.to_owned())),
        Err(_) => Err(Error::TunnelTimeout(agent.to_owned())),
    }
}

type Part = Result<Frame, Error>;

struct Pipe {
    hub: Hub,
    agent: String,
    using: Use,
    bounds: Bounds,
    sender: mpsc::Sender<Part>,
    last: OwnedPermit<Part>,
}

impl Pipe {
    async fn carry(self, end: End, input: Frames) {
        let Self {
            hub,
            agent,
            using,
            bounds,
            sender,
            last,
        } = self;
        let moved = Moved::default();
        let End { to, from } = end;
        let mut up = pin!(up(&agent, from, &sender, &moved));
        let mut down = pin!(down(input, &to, &moved));
        let mut over = pin!(tokio::time::sleep(bounds.life));
        let mut input_is_open = true;
        let ended = loop {
            tokio::select! {
                ended = &mut up => break ended,
                fed = &mut down, if input_is_open => match fed {
                    Ok(()) => input_is_open = false,
                    Err(error) => break Err(error),
                },
                () = using.cut.cancelled() => break Err(Error::Revoked(agent.clone())),
                () = hub.inner.drain.signalled() => break Err(Error::NotConnected(agent.clone())),
                () = sender.closed() => break Ok(()),
                () = &mut over => break Err(Error::TunnelTimeout(agent.clone())),
                () = moved.idle(bounds.idle) => break Err(Error::TunnelIdle(agent.clone())),
            }
        };
        if let Err(error) = ended {
            last.send(Err(error));
        }
    }
}

/// From the agent to the caller.
async fn up(
    agent: &str,
    mut from: Receiver<Carried>,
    sender: &mpsc::Sender<Part>,
    moved: &Moved,
) -> Result<(), Error> {
    while let Some(frame) = next(agent, &mut from).await? {
        if sender.send(Ok(frame)).await.is_err() {
            return Ok(());
        }
        moved.now();
    }
    Ok(())
}

/// From the caller to the agent.
async fn down(mut input: Frames, to: &Sender<Carried>, moved: &Moved) -> Result<(), Error> {
    while let Some(frame) = input.next().await {
        if !to.send(frame?).await {
            return Ok(());
        }
        moved.now();
    }
    to.send(Frame::InputEnd(pb::InputEnd {})).await;
    Ok(())
}

/// When a frame passed last.
struct Moved {
    began: Instant,
    after_ms: AtomicU64,
}

impl Default for Moved {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            after_ms: AtomicU64::new(0),
        }
    }
}

impl Moved {
    fn now(&self) {
        let after = self.began.elapsed().as_millis() as u64;
        self.after_ms.store(after, Ordering::Relaxed);
    }

    /// Waits until nothing has passed for so long.
    async fn idle(&self, longest: Duration) {
        loop {
            let last = Duration::from_millis(self.after_ms.load(Ordering::Relaxed));
            let at = self.began + last + longest;
            if Instant::now() >= at {
                return;
            }
            tokio::time::sleep_until(at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_is_idle_when_nothing_has_passed_for_the_whole_time() {
        let moved = Moved::default();
        let began = Instant::now();
        let busy = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(40)).await;
                moved.now();
            }
        };
        let idle = moved.idle(Duration::from_mins(1));
        tokio::join!(idle, busy);
        assert_eq!(began.elapsed().as_secs(), 180);
    }
}
