//! Asks the server how it is, five times a second, and keeps the volume's notes: positions and the synced append-only file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::info::Info;
use crate::link::{Endpoint, Link};
use crate::member::Member;
use crate::member::facts::Position;
use crate::member::store::Store;
use crate::supervise::Supervisor;

/// Between two questions.
const EVERY: Duration = Duration::from_millis(200);
/// Between two questions to a server that has not answered yet.
const SOON: Duration = Duration::from_millis(20);
/// A server that has not answered for so long is unresponsive.
pub const SILENT: Duration = Duration::from_secs(1);

/// How the server was the last time.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Which start of the process this is about.
    pub starts: i32,
    /// Its last answer.
    pub info: Option<Info>,
    /// When it came.
    pub answered: Option<Instant>,
    /// Why the last question got no answer.
    pub error: String,
}

impl Health {
    /// Whether this start of the server answered once.
    pub fn answered_in(&self, starts: i32) -> bool {
        self.starts == starts && self.answered.is_some()
    }

    /// Whether this start of the server answered once and is silent now.
    pub fn silent_in(&self, starts: i32) -> bool {
        self.starts == starts && self.answered.is_some_and(|at| at.elapsed() > SILENT)
    }

    /// Why this start of the server cannot take clients; `None` when it can. The replication role has no say in it.
    pub fn unready(&self, starts: i32) -> Option<String> {
        match &self.info {
            _ if self.silent_in(starts) => {
                Some(format!("the server does not answer: {}", self.error))
            }
            Some(info) if self.starts == starts && info.loading => {
                Some("the server loads its data".to_owned())
            }
            Some(_) if self.starts == starts => None,
            _ if self.error.is_empty() => Some("the server has not answered yet".to_owned()),
            _ => Some(format!("the server has not answered yet: {}", self.error)),
        }
    }
}

/// The watcher.
#[derive(Debug)]
pub struct Watcher {
    /// The server.
    pub server: Endpoint,
    /// Its process.
    pub process: Supervisor,
    /// The member, which is told what was seen.
    pub member: Member,
    /// The data volume.
    pub data: PathBuf,
    /// What is on record there.
    pub store: Arc<Store>,
    /// How many full copies have begun, and how often the append-only file failed, as the server's log tells.
    pub copies: Arc<AtomicU64>,
}

impl Watcher {
    /// Watches until dropped.
    pub async fn run(self, health: watch::Sender<Health>) {
        let mut link: Option<Link> = None;
        let mut noted = Instant::now();
        let mut syncing: Option<JoinHandle<()>> = None;
        loop {
            let process = self.process.now();
            let known = health.borrow().answered_in(process.starts);
            tokio::time::sleep(if known { EVERY } else { SOON }).await;
            if !process.alive() {
                link = None;
                health.send_if_modified(|health| {
                    let stale = health.info.is_some();
                    health.info = None;
                    stale
                });
                continue;
            }
            let copies = self.copies.load(Ordering::SeqCst);
            let answer = self.ask(&mut link, process.pid).await;
            health.send_modify(|health| {
                if health.starts != process.starts {
                    *health = Health {
                        starts: process.starts,
                        ..Health::default()
                    };
                }
                match &answer {
                    Ok(info) => {
                        health.info = Some(info.clone());
                        health.answered = Some(Instant::now());
                        health.error.clear();
                    }
                    Err(error) => health.error.clone_from(error),
                }
            });
            let Ok(info) = answer else { continue };
            if noted.elapsed() >= Duration::from_secs(1)
                && syncing.as_ref().is_none_or(JoinHandle::is_finished)
            {
                noted = Instant::now();
                // until the append-only file is whole, the disk holds the data of before
                let position = self
                    .member
                    .live(process.starts)
                    .role
                    .filter(|_| self.store.get().aof_current)
                    .map(|_| Position::of(&info));
                let data = self.data.clone();
                let (member, copies) = (self.member.clone(), self.copies.clone());
                syncing = Some(tokio::spawn(async move {
                    let kept = tokio::task::spawn_blocking(move || keep(&data, position.as_ref()));
                    if let Ok(Err(error)) = kept.await {
                        tracing::error!(%error, "the append-only file was not synced");
                        copies.fetch_add(1, Ordering::SeqCst);
                        member.sync_failed().await;
                    }
                }));
            }
            self.member.seen(info, process.starts, copies).await;
        }
    }

    async fn ask(&self, link: &mut Option<Link>, pid: i32) -> Result<Info, String> {
        let mut open = match link.take() {
            Some(open) => open,
            None => self
                .server
                .open(SILENT)
                .await
                .map_err(|error| error.to_string())?,
        };
        let info = match open.info(SILENT).await {
            Ok(info) => info,
            Err(error @ crate::link::Error::Silent(_)) => {
                // the same connection is asked again: a frozen server would not take another one
                *link = Some(open);
                return Err(error.to_string());
            }
            // closed, perhaps together with the clients
            Err(_) => {
                open = self
                    .server
                    .open(SILENT)
                    .await
                    .map_err(|error| error.to_string())?;
                open.info(SILENT).await.map_err(|error| error.to_string())?
            }
        };
        if info.process_id != pid {
            return Err("another process answers".to_owned());
        }
        *link = Some(open);
        Ok(info)
    }
}

/// Brings the append-only file to the disk, and then the position that it had at least reached before. Blocking.
fn keep(data: &Path, position: Option<&Position>) -> std::io::Result<()> {
    sync_append_only(&data.join("appendonlydir"))?;
    if let Some(position) = position
        && let Err(error) = position.write(data)
    {
        tracing::warn!(%error, "the position was not recorded");
    }
    Ok(())
}

/// Brings what the server handed to the kernel to the disk.
fn sync_append_only(directory: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "aof" || extension == "incr")
        {
            match std::fs::File::open(&path) {
                Ok(file) => file.sync_data()?,
                // removed by a rewrite meanwhile
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn is_ready_when_it_answers_and_is_not_loading() {
        let mut health = Health::default();
        assert!(health.unready(1).is_some());
        health = Health {
            starts: 1,
            info: Some(Info {
                loading: true,
                ..Info::default()
            }),
            answered: Some(Instant::now()),
            error: String::new(),
        };
        assert!(health.unready(1).unwrap().contains("loads"));
        health.info = Some(Info::default());
        assert_eq!(health.unready(1), None);
        assert!(
            health.unready(2).is_some(),
            "an answer of an earlier start does not count"
        );
        tokio::time::advance(SILENT * 2).await;
        assert!(health.unready(1).unwrap().contains("does not answer"));
    }
}
