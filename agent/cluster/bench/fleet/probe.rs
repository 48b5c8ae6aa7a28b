//! One agent with a real session whose frames are counted, and which can be made to flood the hub with status.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use prost::Message as _;
use tokio::time::{Instant, timeout_at};
use upm_agent::{
    hub::{Connection, Hub, Place},
    session::{Facts, Persist, Session},
};
use upm_proto::{
    hub::v1::{self as pb, agent_frame, hub_frame, status_update},
    ledger::{Window, content_digest, limits},
};

use crate::ledger;

/// Updates of one batch.
const BATCH: usize = 100;
/// Time for the hub's welcome.
const WELCOME: Duration = Duration::from_secs(10);

/// Frames and bytes of one direction.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

/// A connected agent.
pub(crate) struct Probe {
    session: Session,
    began: Instant,
    connection: Connection,
    pub(crate) up: Count,
    pub(crate) down: Count,
}

/// How a flood floods.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flood {
    /// Keys in turn.
    pub(crate) keys: usize,
    /// Whether each batch waits until the one before it is committed, so that none can be merged.
    pub(crate) each_committed: bool,
    pub(crate) until: Instant,
}

impl Probe {
    /// Dials and resumes.
    pub(crate) async fn dial(
        place: Place,
        vault: Arc<crate::fake::Fake>,
        facts: Facts,
        persist: Persist,
    ) -> anyhow::Result<Self> {
        let mut session = Session::new(facts, 1, 0);
        session.load(persist);
        let connection = Hub::new(place, vault)
            .dial()
            .await
            .map_err(|refused| anyhow!("{}: {}", refused.reason, refused.message))?;
        session.connect(0);
        Ok(Self {
            session,
            began: Instant::now(),
            connection,
            up: Count::default(),
            down: Count::default(),
        })
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    async fn send(&mut self, frame: pb::AgentFrame) -> anyhow::Result<()> {
        self.up.frames += 1;
        self.up.bytes += frame.encoded_len() as u64;
        self.connection
            .outbound
            .send(frame)
            .await
            .context("the stream ended")
    }

    /// Sends what the session has to say, and what is due.
    async fn speak(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        if now >= self.session.deadline() {
            self.session.tick(now);
        }
        while self.session.next_action().is_some() {}
        if let Some(persist) = self.session.next_persist(now) {
            self.session.persisted(now, &persist);
        }
        while let Some(frame) = self.session.next_frame() {
            self.send(frame).await?;
        }
        Ok(())
    }

    /// A frame of the hub; `None` when none comes in time.
    async fn hear(&mut self, until: Instant) -> anyhow::Result<Option<pb::HubFrame>> {
        let Ok(heard) = timeout_at(until, self.connection.inbound.message()).await else {
            return Ok(None);
        };
        let frame = heard?.context("the hub ended the stream")?;
        self.down.frames += 1;
        self.down.bytes += frame.encoded_len() as u64;
        let now = self.now();
        self.session.frame(now, frame.clone());
        Ok(Some(frame))
    }

    /// Goes on until it was welcomed and then nothing was heard for so long.
    pub(crate) async fn quiet(&mut self, silence: Duration) -> anyhow::Result<()> {
        loop {
            self.speak().await?;
            let live = self.session.live_since().is_some();
            let patience = if live { silence } else { WELCOME };
            if self.hear(Instant::now() + patience).await?.is_none() {
                self.session.live_since().context("not welcomed")?;
                return Ok(());
            }
        }
    }

    /// Lives on until then.
    pub(crate) async fn live(&mut self, until: Instant) -> anyhow::Result<()> {
        while Instant::now() < until {
            self.speak().await?;
            let beat = Instant::now() + Duration::from_secs(1);
            self.hear(beat.min(until)).await?;
        }
        Ok(())
    }

    /// Sends status as fast as the hub grants; `acked` counts what it has committed. Answers how many updates were sent.
    pub(crate) async fn flood(&mut self, flood: Flood, acked: &AtomicU64) -> anyhow::Result<u64> {
        let mut window = Window::new(limits::STATUS_MESSAGES, limits::STATUS_BYTES);
        let (mut seq, mut committed) = (0, 0);
        while Instant::now() < flood.until {
            self.speak().await?;
            let may = window.open() && (!flood.each_committed || committed == seq);
            if may {
                let batch = batch(seq, flood.keys);
                seq += BATCH as u64;
                window.take(batch.encoded_len());
                self.send(pb::AgentFrame {
                    message: Some(agent_frame::Message::Status(batch)),
                    critical: true,
                    ..pb::AgentFrame::default()
                })
                .await?;
            }
            // Takes what is there; waits only when nothing may be sent.
            let patience = Duration::from_millis(if may { 0 } else { 200 });
            let until = Instant::now() + patience;
            while let Some(frame) = self.hear(until).await? {
                match frame.message {
                    Some(hub_frame::Message::StatusAck(ack)) if ack.upto_seq > committed => {
                        acked.fetch_add(ack.upto_seq - committed, Ordering::Relaxed);
                        committed = ack.upto_seq;
                    }
                    Some(hub_frame::Message::Credit(credit))
                        if credit.lane() == pb::Lane::Status =>
                    {
                        window.grant(credit.messages, credit.bytes);
                    }
                    _ => {}
                }
                if window.open() && (!flood.each_committed || committed == seq) {
                    break;
                }
            }
        }
        Ok(seq)
    }
}

fn batch(after: u64, keys: usize) -> pb::StatusBatch {
    let updates = (1..=BATCH as u64)
        .map(|i| {
            let seq = after + i;
            let n = seq as usize % keys;
            let body = format!(
                r#"{{"status":{{"observedGeneration":1,"phase":"Ready","seen":{seq},"units":3}}}}"#
            )
            .into_bytes();
            pb::StatusUpdate {
                seq,
                key: Some(ledger::key(n)),
                intent_uid: ledger::uid(n).into(),
                intent_generation: 1,
                observed_generation: 1,
                resource_version: seq.to_string(),
                digest: content_digest(&body).to_vec().into(),
                body: Some(status_update::Body::Full(body.into())),
                ..pb::StatusUpdate::default()
            }
        })
        .collect();
    pb::StatusBatch { updates }
}
