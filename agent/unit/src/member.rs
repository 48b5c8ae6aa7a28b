//! The member's role: one task that takes one request after the other, persists first and acts then.

pub mod append_only;
pub mod facts;
pub mod live;
pub mod record;
pub mod replicas;
pub mod rules;
pub mod store;
pub mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::info::{Info, PARKED};
use crate::link::{Endpoint, Error as LinkError, Link};
use crate::refusal::Refusal;
use crate::supervise::{Phase, Process, Supervisor};
use append_only::Rewrite;
pub use live::{Admission, Live};
use record::{Record, Role};
use rules::{Elected, History};
use store::Store;

/// `min-replicas-to-write` of a server that must not take writes.
pub const NO_WRITES: i32 = 1000;
/// How long the server has for one command before it counts as unresponsive.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a copy that is being loaded may delay a promise.
const LOADING: Duration = Duration::from_secs(7);
/// How long a replica that answers nobody may delay a promise: a slow command or script ends, and a server that was killed for it has
/// forgotten what it acknowledged. A primary gets no more than [`ANSWER`], because the others wait to take its place.
const SLOW: Duration = Duration::from_secs(6);
/// How long a SIGKILL may take.
const KILL: Duration = Duration::from_secs(2);

/// What the member's task is asked.
#[derive(Debug)]
enum Ask {
    Promise {
        epoch: i64,
    },
    Follow {
        epoch: i64,
        history: History,
    },
    Lead {
        epoch: i64,
        min_replicas: i32,
        admission: Admission,
        elected: Elected,
    },
    Pause {
        epoch: i64,
        pause: Duration,
    },
    Resume {
        epoch: i64,
    },
    SaveForReturn {
        within: Duration,
    },
}

#[derive(Debug)]
enum Message {
    Ask(Ask, oneshot::Sender<Result<(), Refusal>>),
    /// What the watcher saw, and how many full copies had begun before it looked.
    Seen {
        info: Box<Info>,
        starts: i32,
        copies: u64,
    },
    /// A full copy begins.
    CopyBegins,
    /// The data are damaged: a copy could not be loaded.
    Damaged,
    /// The append-only file was cut at its end while it was loaded.
    Truncated,
    /// The append-only file could not be written, or brought to the disk.
    AppendFailed {
        /// Only a file that is made anew is whole again: after a failed sync the kernel forgets what it could not write.
        until_rewritten: bool,
    },
}

/// A connection to one run of the server.
struct Pinned {
    link: Link,
    info: Info,
    /// Which start of the process it is.
    starts: i32,
}

/// A handle to the member's task.
#[derive(Clone, Debug)]
pub struct Member {
    messages: mpsc::Sender<Message>,
    live: watch::Receiver<Live>,
}

impl Member {
    /// Starts the task; it ends when every handle is gone.
    pub fn spawn(
        store: Arc<Store>,
        server: Endpoint,
        process: Supervisor,
        secrets: &Path,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (messages, receiver) = mpsc::channel(64);
        let (live, watch) = watch::channel(Live::default());
        let keeper = Keeper {
            store,
            server,
            process,
            live,
            link: None,
            copies: 0,
            rewrite: Rewrite::NotNeeded,
            replication_secret: secrets.join(replicas::SECRET),
        };
        (
            Self {
                messages,
                live: watch,
            },
            tokio::spawn(keeper.run(receiver)),
        )
    }

    /// What the server of this start is allowed to do.
    pub fn live(&self, starts: i32) -> Live {
        self.live.borrow().of(starts)
    }

    async fn ask(&self, ask: Ask) -> Result<(), Refusal> {
        let (done, wait) = oneshot::channel();
        // the task does what it was asked even when the caller goes away meanwhile
        self.messages
            .send(Message::Ask(ask, done))
            .await
            .map_err(|_| Refusal::Ending)?;
        wait.await.map_err(|_| Refusal::Ending)?
    }

    /// Promises an epoch and fences the server.
    pub async fn promise(&self, epoch: i64) -> Result<(), Refusal> {
        self.ask(Ask::Promise { epoch }).await
    }

    /// Follows a primary.
    pub async fn follow(&self, epoch: i64, history: History) -> Result<(), Refusal> {
        self.ask(Ask::Follow { epoch, history }).await
    }

    /// Leads.
    pub async fn lead(
        &self,
        epoch: i64,
        min_replicas: i32,
        admission: Admission,
        elected: Elected,
    ) -> Result<(), Refusal> {
        self.ask(Ask::Lead {
            epoch,
            min_replicas,
            admission,
            elected,
        })
        .await
    }

    /// Pauses writes.
    pub async fn pause(&self, epoch: i64, pause: Duration) -> Result<(), Refusal> {
        self.ask(Ask::Pause { epoch, pause }).await
    }

    /// Resumes writes.
    pub async fn resume(&self, epoch: i64) -> Result<(), Refusal> {
        self.ask(Ask::Resume { epoch }).await
    }

    /// Has a parked replica save its data with their position, so that its next start needs no full copy. Best effort: what cannot be saved
    /// is copied.
    pub async fn save_for_return(&self, within: Duration) {
        if let Err(refusal) = self.ask(Ask::SaveForReturn { within }).await {
            tracing::warn!(%refusal, "the data were not saved for the return; they will be copied");
        }
    }

    /// Tells what the watcher saw.
    pub async fn seen(&self, info: Info, starts: i32, copies: u64) {
        let _ = self
            .messages
            .send(Message::Seen {
                info: Box::new(info),
                starts,
                copies,
            })
            .await;
    }

    /// Tells that the append-only file could not be brought to the disk.
    pub async fn sync_failed(&self) {
        let _ = self
            .messages
            .send(Message::AppendFailed {
                until_rewritten: true,
            })
            .await;
    }

    /// Reads a line that the server printed; returns whether looks at the server of before it say nothing about the append-only file.
    pub fn line(&self, line: &str) -> bool {
        let message = if facts::append_failed(line) {
            Message::AppendFailed {
                until_rewritten: line.contains("fsync"),
            }
        } else if line.contains("Full resync from master") {
            Message::CopyBegins
        } else if line.contains("Failed trying to load the MASTER synchronization DB") {
            Message::Damaged
        } else if line.contains("Truncating the AOF")
            || line.contains("AOF loaded anyway because aof-load-truncated")
        {
            Message::Truncated
        } else {
            return false;
        };
        let begins = matches!(message, Message::CopyBegins | Message::AppendFailed { .. });
        if self.messages.try_send(message).is_err() {
            tracing::error!("a message of the server was lost");
        }
        begins
    }
}

struct Keeper {
    store: Arc<Store>,
    server: Endpoint,
    process: Supervisor,
    live: watch::Sender<Live>,
    /// Kept open so that a server with no client slots left can still be parked.
    link: Option<Link>,
    copies: u64,
    rewrite: Rewrite,
    /// The file with what the passwords of replicas are derived from.
    replication_secret: PathBuf,
}

impl Keeper {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        while let Some(message) = messages.recv().await {
            match message {
                Message::Ask(ask, done) => {
                    tracing::info!(?ask, "asked");
                    let result = self.answer(ask).await;
                    if let Err(refusal) = &result {
                        tracing::warn!(%refusal, "refused");
                    }
                    let _ = done.send(result);
                }
                Message::Seen {
                    info,
                    starts,
                    copies,
                } => self.seen(&info, starts, copies).await,
                Message::CopyBegins => {
                    self.copies += 1;
                    self.note(|record| record.aof_current = false).await;
                }
                Message::Truncated => self.note(|record| record.aof_intact = false).await,
                Message::AppendFailed { until_rewritten } => {
                    self.copies += 1;
                    if until_rewritten {
                        self.rewrite = Rewrite::Wanted;
                    }
                    tracing::error!("the append-only file could not be written");
                    self.note(|record| record.aof_current = false).await;
                }
                Message::Damaged => {
                    tracing::error!(
                        "a copy of the data could not be loaded; the server is started anew"
                    );
                    self.process.kill(KILL).await;
                }
            }
        }
    }

    async fn answer(&mut self, ask: Ask) -> Result<(), Refusal> {
        match ask {
            Ask::Promise { epoch } => {
                let base = self.store.get();
                let next = rules::promise(&base, epoch)?;
                self.persist(base, next).await?;
                self.fence().await
            }
            Ask::Follow { epoch, history } => self.follow(epoch, &history).await,
            Ask::Lead {
                epoch,
                min_replicas,
                admission,
                elected,
            } => self.lead(epoch, min_replicas, admission, &elected).await,
            Ask::Pause { epoch, pause } => self.pause(epoch, pause).await,
            Ask::Resume { epoch } => self.resume(epoch).await,
            Ask::SaveForReturn { within } => self.save_for_return(within).await,
        }
    }

    async fn persist(&self, base: Record, next: Record) -> Result<(), Refusal> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || store.swap(&base, next)).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Refusal::Unresponsive(
                "the server was restarted meanwhile".to_owned(),
            )),
            Ok(Err(error)) => Err(Refusal::Volume(error.to_string())),
            Err(error) => Err(Refusal::Volume(error.to_string())),
        }
    }

    async fn note(&self, change: impl FnOnce(&mut Record) + Send + 'static) {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || store.update(change)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "a note on the volume was not written"),
            Err(error) => tracing::error!(%error, "a note on the volume was not written"),
        }
    }

    fn current(&self) -> Live {
        self.live_in(self.process.now().starts)
    }

    fn set(&self, live: Live) {
        self.live.send_replace(live);
    }

    /// What the server of this start is allowed to do; another one was started parked.
    fn live_in(&self, starts: i32) -> Live {
        self.live.borrow().of(starts)
    }

    /// A connection to the run of the server that runs now, and what it says.
    async fn pin(&mut self) -> Result<Pinned, LinkError> {
        // both of one look: what is then told to this run must be on record for this run
        let Process { pid, starts, .. } = self.process.now();
        if pid == 0 {
            return Err(LinkError::Down("the server does not run".to_owned()));
        }
        if let Some(mut link) = self.link.take() {
            match link.info(ANSWER).await {
                Ok(info) if info.process_id == pid => {
                    self.link = Some(link.clone());
                    return Ok(Pinned { link, info, starts });
                }
                Err(LinkError::Silent(within)) => {
                    self.link = Some(link);
                    return Err(LinkError::Silent(within));
                }
                _ => {}
            }
        }
        let mut link = self.server.open(ANSWER).await?;
        let info = link.info(ANSWER).await?;
        if info.process_id != pid {
            return Err(LinkError::Down(
                "another run of the server answered".to_owned(),
            ));
        }
        self.link = Some(link.clone());
        Ok(Pinned { link, info, starts })
    }

    fn explain(&self, error: &LinkError) -> Refusal {
        let process = self.process.now();
        match error {
            error if error.is_loading() => Refusal::Loading,
            LinkError::Down(why) if process.phase != Phase::Up => {
                Refusal::ServerDown(if process.last_exit.is_empty() {
                    why.clone()
                } else {
                    process.last_exit
                })
            }
            error => Refusal::Unresponsive(error.to_string()),
        }
    }

    /// Parks the server, or ends it; it comes up parked.
    async fn fence(&mut self) -> Result<(), Refusal> {
        let process = self.process.now();
        let role = self.live_in(process.starts).role;
        if !process.alive() || role.is_none() {
            self.set(Live::default().of(process.starts));
            return Ok(());
        }
        let begun = Instant::now();
        loop {
            match self.park().await {
                Ok(()) => {
                    self.set(Live::default().of(process.starts));
                    return Ok(());
                }
                // it answers, so it is not frozen: what it copied is there in a moment
                Err(error) if error.is_loading() && begun.elapsed() < LOADING => {}
                Err(error) if error.is_loading() => return Err(Refusal::Loading),
                Err(LinkError::Silent(_))
                    if role == Some(Role::Replica) && begun.elapsed() < SLOW => {}
                Err(LinkError::Refused { code, message }) if begun.elapsed() < ANSWER => {
                    tracing::warn!(code, message, "the server refuses to be parked");
                }
                Err(error) => {
                    tracing::warn!(%error, "the server cannot be parked");
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.kill().await
    }

    async fn kill(&mut self) -> Result<(), Refusal> {
        self.link = None;
        let starts = self.process.now().starts;
        if self.process.kill(KILL).await {
            self.set(Live::default().of(starts));
            return Ok(());
        }
        Err(Refusal::FenceUnconfirmed)
    }

    async fn park(&mut self) -> Result<(), LinkError> {
        let Pinned { mut link, .. } = self.pin().await?;
        link.set("min-replicas-to-write", &NO_WRITES.to_string(), ANSWER)
            .await?;
        link.call(redis::cmd("REPLICAOF").arg(PARKED.0).arg(PARKED.1), ANSWER)
            .await?;
        self.drop_clients(&mut link).await?;
        let info = link.info(ANSWER).await?;
        if info.parked() {
            Ok(())
        } else {
            Err(LinkError::Down(
                "the server did not take its new role".to_owned(),
            ))
        }
    }

    /// Ends a pause and closes the clients, so that they look for the member that takes their writes now.
    async fn drop_clients(&self, link: &mut Link) -> Result<(), LinkError> {
        link.set("repl-ping-replica-period", "1", ANSWER).await?;
        for kind in ["normal", "pubsub"] {
            link.call(
                redis::cmd("CLIENT").arg(&["KILL", "TYPE", kind, "SKIPME", "yes"]),
                ANSWER,
            )
            .await?;
        }
        link.call(redis::cmd("CLIENT").arg("UNPAUSE"), ANSWER)
            .await
            .map(drop)
    }

    async fn follow(&mut self, epoch: i64, history: &History) -> Result<(), Refusal> {
        let (host, port) = (history.host.as_str(), history.port);
        if host.is_empty() || !(1..=65_535).contains(&port) || history.replid.is_empty() {
            return Err(Refusal::Invalid(
                "host, port and replid of the primary are needed",
            ));
        }
        let leads = self.current().role == Some(Role::Primary);
        let Pinned {
            mut link,
            info,
            starts,
        } = match self.pin().await {
            Ok(pinned) => pinned,
            // a primary of an older epoch must not stay one because it is slow
            Err(error) if leads => {
                let base = self.store.get();
                let next = rules::promise(&base, epoch)?;
                self.persist(base, next).await?;
                self.kill().await?;
                return Err(Refusal::Unresponsive(error.to_string()));
            }
            Err(error) => return Err(self.explain(&error)),
        };
        let leads = self.live_in(starts).role == Some(Role::Primary);
        let base = self.store.get();
        let mut next = rules::follow(&base, epoch, history, &info)?;
        if info.loading && !info.follows(host, port) {
            return Err(Refusal::Loading);
        }
        let there = info.follows(host, port);
        next.aof_current &= there && info.link_up;
        self.persist(base, next).await?;
        self.set(Live {
            role: Some(Role::Replica),
            starts,
            min_replicas: NO_WRITES,
            ..Live::default()
        });
        let done = async {
            if !there {
                link.set("min-replicas-to-write", &NO_WRITES.to_string(), ANSWER)
                    .await?;
                link.call(redis::cmd("REPLICAOF").arg(host).arg(port), ANSWER)
                    .await?;
            }
            if leads {
                self.drop_clients(&mut link).await?;
            }
            Ok::<_, LinkError>(())
        };
        match done.await {
            Ok(()) => Ok(()),
            Err(error) if leads => {
                self.kill().await?;
                Err(Refusal::Unresponsive(error.to_string()))
            }
            Err(error) => Err(self.explain(&error)),
        }
    }

    async fn lead(
        &mut self,
        epoch: i64,
        min_replicas: i32,
        admission: Admission,
        elected: &Elected,
    ) -> Result<(), Refusal> {
        if !admission
            .members
            .iter()
            .chain(&admission.group)
            .all(|id| replicas::is_member_id(id))
        {
            return Err(Refusal::Invalid("a member id is 32 hex digits"));
        }
        if !(0..NO_WRITES).contains(&min_replicas) {
            return Err(Refusal::Invalid("min_replicas_to_write is out of range"));
        }
        let Pinned {
            mut link,
            info,
            starts,
        } = match self.pin().await {
            Ok(pinned) => pinned,
            Err(error) => return Err(self.explain(&error)),
        };
        let before = self.live_in(starts);
        let leading = before.role == Some(Role::Primary);
        let base = self.store.get();
        let next = rules::lead(
            &base,
            epoch,
            min_replicas,
            elected,
            &admission.group,
            leading && info.master,
            &info,
        )?;
        if info.loading {
            return Err(Refusal::Loading);
        }
        if leading && admission.record_version < before.admission.record_version {
            return Err(Refusal::StaleRecord {
                asked: admission.record_version,
                known: before.admission.record_version,
            });
        }
        let secret = self.replication_secret()?;
        self.persist(base, next).await?;
        let paused = leading && before.paused;
        let in_force = if paused { NO_WRITES } else { min_replicas };
        self.set(Live {
            role: Some(Role::Primary),
            starts,
            paused,
            min_replicas: in_force,
            // until the others are cut off, they count as admitted
            admission: Admission {
                members: before
                    .admission
                    .members
                    .union(&admission.members)
                    .cloned()
                    .collect(),
                group: admission.group.clone(),
                record_version: before.admission.record_version,
            },
        });
        let done = async {
            if !info.append_only {
                append_only::turn_on(&mut link).await?;
            }
            replicas::admit(&mut link, &secret, &admission.members, ANSWER).await?;
            if !info.master {
                link.call(redis::cmd("REPLICAOF").arg("NO").arg("ONE"), ANSWER)
                    .await?;
            }
            self.settle_history(&mut link).await?;
            link.set("min-replicas-to-write", &in_force.to_string(), ANSWER)
                .await?;
            link.info(ANSWER).await
        };
        match done.await {
            Ok(info) if info.master => {
                self.live.send_modify(|live| live.admission = admission);
                Ok(())
            }
            outcome => {
                tracing::warn!(
                    ?outcome,
                    "the server did not become primary; it is started anew, parked"
                );
                self.kill().await?;
                Err(Refusal::Unresponsive(
                    "the server did not become primary".to_owned(),
                ))
            }
        }
    }

    /// What the passwords of replicas are derived from.
    fn replication_secret(&self) -> Result<String, Refusal> {
        std::fs::read_to_string(&self.replication_secret)
            .map(|secret| secret.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|error| {
                Refusal::Configuration(format!("{}: {error}", self.replication_secret.display()))
            })
    }

    /// Makes the replication id of this epoch final. A server without a backlog takes another one when its first replica comes; so a
    /// replica comes here, and leaves before anything is copied to it.
    async fn settle_history(&self, link: &mut Link) -> Result<(), LinkError> {
        if link.info(ANSWER).await?.backlog {
            return Ok(());
        }
        let mut visitor = self.server.open(ANSWER).await?;
        visitor
            .call(
                redis::cmd("REPLCONF").arg(&["capa", "eof", "capa", "psync2"]),
                ANSWER,
            )
            .await?;
        visitor
            .call(redis::cmd("PSYNC").arg("?").arg(-1), ANSWER)
            .await?;
        drop(visitor);
        if link.info(ANSWER).await?.backlog {
            return Ok(());
        }
        Err(LinkError::Down("the server keeps no backlog".to_owned()))
    }

    /// A connection to the run of the server that leads under this epoch, what it is allowed, and its `min-replicas-to-write`.
    async fn pin_primary(&mut self, epoch: i64) -> Result<(Link, Live, i32), Refusal> {
        let store = self.store.clone();
        let holds =
            move |live: &Live| rules::holds(&store.get(), epoch, live.role == Some(Role::Primary));
        holds(&self.current())?;
        let pinned = self.pin().await.map_err(|error| self.explain(&error))?;
        let live = self.live_in(pinned.starts);
        let min_replicas = holds(&live)?;
        Ok((pinned.link, live, min_replicas))
    }

    async fn pause(&mut self, epoch: i64, pause: Duration) -> Result<(), Refusal> {
        if !(Duration::from_secs(1)..=Duration::from_mins(1)).contains(&pause) {
            return Err(Refusal::Invalid("pause must be 1 s to 60 s"));
        }
        let (mut link, live, _) = self.pin_primary(epoch).await?;
        self.set(Live {
            paused: true,
            min_replicas: NO_WRITES,
            ..live
        });
        let done = async {
            let pause = pause.as_millis() as u64;
            link.call(
                redis::cmd("CLIENT").arg("PAUSE").arg(pause).arg("WRITE"),
                ANSWER,
            )
            .await?;
            // when the pause lapses, writes are refused instead of being taken by somebody who is about to step down
            link.set("min-replicas-to-write", &NO_WRITES.to_string(), ANSWER)
                .await?;
            // pings count in the offset; none while the last bytes are awaited
            link.set("repl-ping-replica-period", "3600", ANSWER).await
        };
        done.await.map_err(|error| self.explain(&error))
    }

    async fn resume(&mut self, epoch: i64) -> Result<(), Refusal> {
        let (mut link, live, min_replicas) = self.pin_primary(epoch).await?;
        let done = async {
            link.set("min-replicas-to-write", &min_replicas.to_string(), ANSWER)
                .await?;
            link.set("repl-ping-replica-period", "1", ANSWER).await?;
            link.call(redis::cmd("CLIENT").arg("UNPAUSE"), ANSWER).await
        };
        done.await.map_err(|error| self.explain(&error))?;
        self.set(Live {
            paused: false,
            min_replicas,
            ..live
        });
        Ok(())
    }

    /// Keeps the server to what it is allowed, and the note about the append-only file right.
    async fn seen(&mut self, info: &Info, starts: i32, copies: u64) {
        if starts != self.process.now().starts {
            return;
        }
        let live = self.current();
        let record = self.store.get();
        // also after a promise that could not be carried out at once
        let promised_away = record
            .grant
            .as_ref()
            .is_none_or(|grant| grant.epoch < record.promised_epoch);
        if (live.role.is_none() || promised_away) && !info.parked() && !info.loading {
            // it may have been seen before it was parked, and the news waited behind the promise
            if let Ok(Pinned { info: now, .. }) = self.pin().await
                && (now.parked() || now.loading)
            {
                return;
            }
            tracing::warn!(
                master = info.master,
                "the server has a role it was not given; it is parked"
            );
            // from here on it counts as lifted, so that the fence does something
            self.set(Live {
                role: Some(Role::Replica),
                starts,
                ..Live::default()
            });
            if let Err(refusal) = self.fence().await {
                tracing::warn!(%refusal, "the server is not parked yet");
            }
            return;
        }
        self.rewrite(info).await;
        let leads = live.role == Some(Role::Primary);
        if !info.append_ok {
            // the batch that failed was answered all the same
            if record.aof_current {
                self.note(|record| record.aof_current = false).await;
            }
        } else if copies == self.copies
            && info.aof_current
            && !record.aof_current
            && self.rewrite == Rewrite::NotNeeded
        {
            self.note(|record| record.aof_current = true).await;
        } else if !leads
            && record.aof_current
            && (info.sync_in_progress || info.loading)
            && live.role.is_some()
        {
            self.note(|record| record.aof_current = false).await;
        }
    }
}
