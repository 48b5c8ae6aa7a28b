//! What the server prints goes to the unit agent's own output, line by line, and past the hooks.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::task::JoinSet;

use super::Hooks;

/// The tasks that read the server's output.
#[derive(Debug)]
pub struct Readers(JoinSet<()>);

impl Readers {
    /// Waits until everything the ended server printed was read; children it left behind may hold the pipe open, so not for ever.
    pub async fn finish(mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), async {
            while self.0.join_next().await.is_some() {}
        })
        .await;
    }
}

/// Reads both outputs of the process.
pub fn forward(child: &mut Child, hooks: Arc<dyn Hooks>) -> Readers {
    let printer = printer();
    let mut tasks = JoinSet::new();
    if let Some(output) = child.stdout.take() {
        tasks.spawn(copy(output, hooks.clone(), printer.clone()));
    }
    if let Some(output) = child.stderr.take() {
        tasks.spawn(copy(output, hooks, printer));
    }
    Readers(tasks)
}

/// A thread of its own prints, because an output that nobody reads blocks; it ends with the last sender.
fn printer() -> SyncSender<Vec<u8>> {
    let (sender, lines) = sync_channel::<Vec<u8>>(1024);
    std::thread::spawn(move || {
        let mut out = std::io::stdout();
        for line in lines {
            // a closed output is no reason to stop reading: a full pipe would stop the server
            let _ = out.write_all(&line).and_then(|()| out.flush());
        }
    });
    sender
}

async fn copy(from: impl AsyncRead + Unpin, hooks: Arc<dyn Hooks>, printer: SyncSender<Vec<u8>>) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                hooks.line(&String::from_utf8_lossy(&line));
                // lines that the output does not take are dropped, the server goes on
                let _ = printer.try_send(std::mem::take(&mut line));
            }
        }
    }
}
