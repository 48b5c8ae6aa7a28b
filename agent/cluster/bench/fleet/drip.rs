//! A network on which an agent hears very little: what the hub sends passes at one byte per second once it is told so.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    task::JoinSet,
};

/// Between two bytes.
const PACE: Duration = Duration::from_secs(1);

/// Forwards one port to another until dropped.
pub(crate) struct Drip {
    pub(crate) port: u16,
    slow: Arc<AtomicBool>,
    _running: JoinSet<()>,
}

impl Drip {
    /// A port that leads to the hub.
    pub(crate) async fn to(hub: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let slow = Arc::new(AtomicBool::new(false));
        let is_slow = slow.clone();
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut ways = JoinSet::new();
            while let Ok((agent, _)) = listener.accept().await {
                let Ok(hub) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], hub))).await
                else {
                    continue;
                };
                let (from_agent, to_agent) = agent.into_split();
                let (from_hub, to_hub) = hub.into_split();
                ways.spawn(forward(from_agent, to_hub, Arc::default()));
                ways.spawn(forward(from_hub, to_agent, is_slow.clone()));
            }
        });
        Ok(Self {
            port,
            slow,
            _running: running,
        })
    }

    /// From now on the agent hears one byte per second.
    pub(crate) fn slow_down(&self) {
        self.slow.store(true, Ordering::Relaxed);
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, slow: Arc<AtomicBool>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let most = if slow.load(Ordering::Relaxed) {
            tokio::time::sleep(PACE).await;
            1
        } else {
            buffer.len()
        };
        let Ok(read @ 1..) = from.read(&mut buffer[..most]).await else {
            return;
        };
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
