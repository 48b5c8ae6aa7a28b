//! What the server prints goes to the unit agent's own output, line by line, and past the hooks.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::task::JoinSet;

use super::Hooks;

/// How many of the last lines are kept.
const KEPT: usize = 8;

/// The tasks that read the server's output.
#[derive(Debug)]
pub struct Readers {
    tasks: JoinSet<()>,
    last: Arc<Mutex<VecDeque<String>>>,
}

impl Readers {
    /// Waits until everything the ended server printed was read; children it left behind may hold the pipe open, so not for ever.
    /// Returns its last lines, at most eight, none of them empty.
    pub async fn finish(mut self) -> Vec<String> {
        let _ = tokio::time::timeout(Duration::from_secs(1), async {
            while self.tasks.join_next().await.is_some() {}
        })
        .await;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.drain(..).collect()
    }
}

/// Reads both outputs of the process.
pub fn forward(child: &mut Child, hooks: Arc<dyn Hooks>) -> Readers {
    let mut tasks = JoinSet::new();
    let sink = Sink {
        hooks,
        printer: printer(),
        last: Arc::default(),
    };
    let last = sink.last.clone();
    if let Some(output) = child.stdout.take() {
        tasks.spawn(copy(output, sink.clone()));
    }
    if let Some(output) = child.stderr.take() {
        tasks.spawn(copy(output, sink));
    }
    Readers { tasks, last }
}

/// Where lines go.
#[derive(Clone)]
struct Sink {
    hooks: Arc<dyn Hooks>,
    printer: SyncSender<Vec<u8>>,
    last: Arc<Mutex<VecDeque<String>>>,
}

impl Sink {
    fn take(&self, line: Vec<u8>) {
        let text = String::from_utf8_lossy(&line);
        self.hooks.line(&text);
        let text = text.trim();
        if !text.is_empty() {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.len() == KEPT {
                last.pop_front();
            }
            last.push_back(text.to_owned());
        }
        // lines that the output does not take are dropped, the server goes on
        let _ = self.printer.try_send(line);
    }
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

async fn copy(from: impl AsyncRead + Unpin, sink: Sink) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        match reader.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => sink.take(std::mem::take(&mut line)),
        }
    }
}
