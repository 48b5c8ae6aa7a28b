//! Agents that come once and never again.

use std::sync::Arc;

use tokio::{sync::mpsc, time::Instant};

use super::Live;
use crate::{Config, commit::tests::World, drive::Certificate};

/// I15. That no metric names an agent is a property of `Metrics`: none of its labels is an id.
#[tokio::test]
async fn a_hundred_thousand_agents_that_came_and_went_leave_nothing() {
    let world = World::new(Config::default()).await;
    let hub = &world.hub;
    let (control, _controls) = mpsc::channel(1);
    let certificate = Arc::new(Certificate {
        fingerprint: "00".into(),
        serial: "00".into(),
        expire_us: i64::MAX,
        chain: upm_mesh::identity::PeerCertificates(Arc::default()),
    });
    let live = |epoch| Live {
        epoch,
        since: Instant::now(),
        shared: Arc::default(),
        control: control.clone(),
        certificate: certificate.clone(),
    };
    for group in 0..1_000 {
        let agents = (0..100).map(|n| format!("ephemeral-{group}-{n}"));
        let agents = agents.collect::<Vec<_>>();
        for agent in &agents {
            hub.register(agent, live(1));
            // It dialled again before its first session was given up.
            hub.register(agent, live(2));
        }
        assert_eq!(hub.sessions(), 100);
        for agent in &agents {
            hub.unregister(agent, 1);
            hub.unregister(agent, 2);
        }
    }
    assert_eq!(hub.sessions(), 0);
    assert!(hub.some_agents(1).is_empty());
    assert!(hub.session("ephemeral-7-7").is_none());
    assert!(hub.inner.tunnels.is_empty());
}
