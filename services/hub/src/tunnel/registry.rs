//! Which tunnels were asked for, and which are in use.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rand::RngCore as _;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::End;
use crate::{Error, Hub};

#[derive(Debug)]
struct Waiting {
    agent: String,
    end: oneshot::Sender<End>,
}

/// Tunnels that were asked for and are not open yet, and those in use.
#[derive(Debug, Default)]
pub(crate) struct Tunnels {
    waiting: Mutex<HashMap<[u8; 16], Waiting>>,
    /// Agents with tunnels in use: how many, and what ends them.
    used: Mutex<HashMap<String, (usize, CancellationToken)>>,
}

/// A tunnel in use.
pub(super) struct Use {
    hub: Hub,
    agent: String,
    /// Cancelled when the agent is revoked.
    pub(super) cut: CancellationToken,
}

impl Use {
    /// Counts one more tunnel of the agent.
    ///
    /// # Errors
    /// When it has `most` already.
    pub(super) fn begin(hub: &Hub, agent: &str, most: usize) -> Result<Self, Error> {
        let mut used = hub.inner.tunnels.used();
        let (count, cut) = used.entry(agent.to_owned()).or_default();
        if *count >= most {
            return Err(Error::TooManyTunnels(agent.to_owned()));
        }
        *count += 1;
        Ok(Self {
            hub: hub.clone(),
            agent: agent.to_owned(),
            cut: cut.clone(),
        })
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut used = self.hub.inner.tunnels.used();
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

/// A tunnel that somebody waits for. Forgotten when dropped.
pub(super) struct Expected<'a> {
    tunnels: &'a Tunnels,
    /// Names it.
    pub(super) id: [u8; 16],
    opened: oneshot::Receiver<End>,
}

impl Expected<'_> {
    /// Waits for the agent's end; `None` when it cannot come any more.
    pub(super) async fn opened(mut self) -> Option<End> {
        (&mut self.opened).await.ok()
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.tunnels.waiting().remove(&self.id);
    }
}

impl Tunnels {
    fn waiting(&self) -> MutexGuard<'_, HashMap<[u8; 16], Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self) -> MutexGuard<'_, HashMap<String, (usize, CancellationToken)>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a name for a tunnel of an agent.
    pub(super) fn expect(&self, agent: &str) -> Expected<'_> {
        let mut id = [0; 16];
        rand::rng().fill_bytes(&mut id);
        let (end, opened) = oneshot::channel();
        let agent = agent.to_owned();
        self.waiting().insert(id, Waiting { agent, end });
        Expected {
            tunnels: self,
            id,
            opened,
        }
    }

    /// Whether no agent has left anything here.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting().is_empty() && self.used().is_empty()
    }

    /// Ends all tunnels of an agent: it is revoked.
    pub(crate) fn cut(&self, agent: &str) {
        if let Some((_, cut)) = self.used().remove(agent) {
            cut.cancel();
        }
    }

    /// Hands an opened tunnel to who waits for it. It must be the agent that was asked, and nobody else came before.
    pub(crate) fn meet(
        &self,
        agent: &str,
        id: &[u8],
        end: impl FnOnce() -> End,
    ) -> Result<(), Error> {
        let mut waiting = self.waiting();
        let id: [u8; 16] = id
            .try_into()
            .map_err(|_| Error::field("hello.tunnel_id", "must be 16 bytes"))?;
        if waiting.get(&id).is_none_or(|w| w.agent != agent) {
            return Err(Error::ObjectNotFound("tunnel".into()));
        }
        if let Some(found) = waiting.remove(&id) {
            // Who waited may have given up.
            let _ = found.end.send(end());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_is_opened_by_the_agent_that_was_asked_and_by_nobody_else() {
        let tunnels = Tunnels::default();
        let expected = tunnels.expect("c1");
        let refused = |agent: &str, id: &[u8]| {
            tunnels
                .meet(agent, id, || unreachable!("nobody's end is made"))
                .is_err()
        };
        assert!(refused("c2", &expected.id));
        assert!(refused("c1", &[0; 16]));
        assert!(refused("c1", &expected.id[..8]));
        assert_eq!(tunnels.waiting().len(), 1, "the right one may still come");
        drop(expected);
        assert!(tunnels.is_empty());
    }
}
