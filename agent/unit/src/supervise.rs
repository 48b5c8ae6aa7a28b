//! The server process: started, watched, started again, shut down, ended.

pub mod log;
pub mod reap;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::patience;

/// How often a server that does not shut down is asked to.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// How to start the server.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Additional environment.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub directory: PathBuf,
    /// Hash of the configuration.
    pub hash: String,
}

/// What the supervisor asks of its owner.
pub trait Hooks: Send + Sync + 'static {
    /// Before each start. Blocking. An error delays the start.
    fn prepare(&self) -> Result<Launch, String>;
    /// A line that the server printed.
    fn line(&self, line: &str);
    /// What may be shown of the last lines of a server that ended by itself.
    fn last_words(&self, lines: &[String]) -> String;
    /// The server ended; `clean` when it was asked to and did so by itself. Blocking.
    fn ended(&self, clean: bool);
}

/// Where the process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Stopped because it was asked to.
    #[default]
    Stopped,
    /// It runs.
    Up,
    /// Being shut down.
    Stopping,
    /// Ended by itself, or could not be started; will be started after a delay.
    Backoff,
}

/// What is known of the process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Where it is.
    pub phase: Phase,
    /// Its pid; 0 when it does not run.
    pub pid: i32,
    /// Since when it is in this phase.
    pub since: SystemTime,
    /// Counts starts.
    pub starts: i32,
    /// How often it ended without being asked to.
    pub unexpected: i32,
    /// How it ended the last time, or why it cannot be started.
    pub last_exit: String,
    /// Hash of the configuration it runs with.
    pub hash: String,
}

impl Process {
    /// Whether there is a process.
    pub fn alive(&self) -> bool {
        self.pid != 0
    }
}

impl Default for Process {
    fn default() -> Self {
        Self {
            phase: Phase::Stopped,
            pid: 0,
            since: SystemTime::UNIX_EPOCH,
            starts: 0,
            unexpected: 0,
            last_exit: String::new(),
            hash: String::new(),
        }
    }
}

enum Order {
    Start,
    Stop {
        grace: Duration,
        done: oneshot::Sender<()>,
    },
    Kill {
        done: oneshot::Sender<()>,
    },
    End {
        grace: Duration,
        done: oneshot::Sender<()>,
    },
}

/// A handle to the supervisor.
#[derive(Clone, Debug)]
pub struct Supervisor {
    orders: mpsc::Sender<Order>,
    process: watch::Receiver<Process>,
}

/// Delays between unexpected ends and the next start.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(10);
/// A run of this length makes the next delay the first again.
const STEADY: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Starts supervising, and the server if `start`. The task ends after [`Self::end`] or when every handle is gone.
    pub fn spawn(hooks: Arc<dyn Hooks>, start: bool) -> (Self, tokio::task::JoinHandle<()>) {
        let (orders, receiver) = mpsc::channel(16);
        let (state, process) = watch::channel(Process::default());
        let task = tokio::spawn(
            Keeper {
                hooks,
                orders: receiver,
                state,
                delay: FIRST_DELAY,
            }
            .run(start),
        );
        (Self { orders, process }, task)
    }

    /// What is known now.
    pub fn now(&self) -> Process {
        self.process.borrow().clone()
    }

    /// Follows the changes.
    pub fn watch(&self) -> watch::Receiver<Process> {
        self.process.clone()
    }

    /// Starts the server if it does not run, without waiting.
    pub async fn start(&self) {
        // a closed channel means that the unit agent is ending
        let _ = self.orders.send(Order::Start).await;
    }

    /// Shuts the server down and keeps it down; SIGKILL after the grace period. Returns when it has ended.
    pub async fn stop(&self, grace: Duration) {
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::Stop { grace, done }).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// Ends the server by SIGKILL, which works on a stopped process too; it is started again. Returns whether it has ended in time.
    pub async fn kill(&self, within: Duration) -> bool {
        let (done, wait) = oneshot::channel();
        self.orders.send(Order::Kill { done }).await.is_ok()
            && patience::within(within, wait)
                .await
                .is_some_and(|end| end.is_ok())
    }

    /// Shuts the server down and ends the supervisor.
    pub async fn end(&self, grace: Duration) {
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::End { grace, done }).await.is_ok() {
            let _ = wait.await;
        }
    }
}

struct Keeper {
    hooks: Arc<dyn Hooks>,
    orders: mpsc::Receiver<Order>,
    state: watch::Sender<Process>,
    delay: Duration,
}

/// What to do after a run.
enum Next {
    Restart,
    Rest,
    End,
}

impl Keeper {
    async fn run(mut self, start: bool) {
        let mut wanted = start;
        loop {
            let next = if wanted {
                self.one_run().await
            } else {
                self.rest().await
            };
            match next {
                Next::Restart => wanted = true,
                Next::Rest => wanted = false,
                Next::End => return,
            }
        }
    }

    fn publish(&self, change: impl FnOnce(&mut Process)) {
        self.state.send_modify(|process| {
            let before = process.phase;
            change(process);
            if process.phase != before {
                process.since = SystemTime::now();
            }
        });
    }

    /// Waits, stopped, for an order.
    async fn rest(&mut self) -> Next {
        self.publish(|process| process.phase = Phase::Stopped);
        loop {
            match self.orders.recv().await {
                Some(Order::Start) => return Next::Restart,
                Some(Order::Stop { done, .. } | Order::Kill { done }) => {
                    let _ = done.send(());
                }
                Some(Order::End { done, .. }) => {
                    let _ = done.send(());
                    return Next::End;
                }
                None => return Next::End,
            }
        }
    }

    /// Waits out the delay after an unexpected end.
    async fn back_off(&mut self, why: String) -> Next {
        tracing::warn!(reason = %why, delay = ?self.delay, "the server is not running");
        self.publish(|process| {
            process.phase = Phase::Backoff;
            process.pid = 0;
            process.last_exit = why;
        });
        let until = Instant::now() + self.delay;
        self.delay = (self.delay * 2).min(LAST_DELAY);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Next::Restart,
                order = self.orders.recv() => match order {
                    Some(Order::Start) => {}
                    Some(Order::Kill { done }) => { let _ = done.send(()); }
                    Some(Order::Stop { done, .. }) => { let _ = done.send(()); return Next::Rest; }
                    Some(Order::End { done, .. }) => { let _ = done.send(()); return Next::End; }
                    None => return Next::End,
                }
            }
        }
    }

    async fn one_run(&mut self) -> Next {
        let hooks = self.hooks.clone();
        let prepared = tokio::task::spawn_blocking(move || hooks.prepare()).await;
        let launch = match prepared.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(launch) => launch,
            Err(why) => return self.back_off(why).await,
        };
        let mut child = match spawn(&launch) {
            Ok(child) => child,
            Err(error) => {
                return self
                    .back_off(format!("{}: {error}", launch.command[0]))
                    .await;
            }
        };
        let begun = Instant::now();
        let readers = log::forward(&mut child, self.hooks.clone());
        self.publish(|process| {
            process.phase = Phase::Up;
            process.pid = child.id().unwrap_or_default() as i32;
            process.starts += 1;
            process.hash.clone_from(&launch.hash);
        });
        let (status, asked) = self.attend(&mut child).await;
        let clean = matches!(asked, Some(Asked::Politely { .. }))
            && status.as_ref().is_ok_and(ExitStatus::success);
        let lines = readers.finish().await;
        let hooks = self.hooks.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || hooks.ended(clean)).await {
            tracing::error!(%error, "the end of the server could not be noted");
        }
        let gave_up = status
            .as_ref()
            .is_ok_and(|status| status.code().is_some_and(|code| code != 0));
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        if begun.elapsed() >= STEADY {
            self.delay = FIRST_DELAY;
        }
        match asked {
            Some(Asked::Politely { end, done }) => {
                self.publish(|process| {
                    process.phase = Phase::Stopped;
                    process.pid = 0;
                    process.last_exit = how;
                });
                let _ = done.send(());
                if end { Next::End } else { Next::Rest }
            }
            Some(Asked::Killed) => {
                self.publish(|process| {
                    process.phase = Phase::Backoff;
                    process.pid = 0;
                    process.last_exit = format!("{how}, to fence it");
                });
                Next::Restart
            }
            None => {
                self.publish(|process| process.unexpected += 1);
                let words = if gave_up {
                    self.hooks.last_words(&lines)
                } else {
                    String::new()
                };
                let why = if words.is_empty() {
                    how
                } else {
                    format!("{how}: {words}")
                };
                self.back_off(why).await
            }
        }
    }

    /// Waits for the end of the process, with or without an order for it.
    async fn attend(&mut self, child: &mut Child) -> (std::io::Result<ExitStatus>, Option<Asked>) {
        loop {
            tokio::select! {
                status = child.wait() => return (status, None),
                order = self.orders.recv() => {
                    let (end, grace, done) = match order {
                        Some(Order::Start) => continue,
                        Some(Order::Kill { done }) => {
                            let killed = child.kill().await;
                            let status = match killed {
                                Ok(()) => child.wait().await,
                                Err(error) => Err(error),
                            };
                            // at once: who fences waits for the end, not for the last lines and notes, which only the next start needs
                            if status.is_ok() {
                                self.publish(|process| {
                                    process.phase = Phase::Backoff;
                                    process.pid = 0;
                                });
                                let _ = done.send(());
                            }
                            return (status, Some(Asked::Killed));
                        }
                        Some(Order::Stop { grace, done }) => (false, grace, done),
                        Some(Order::End { grace, done }) => (true, grace, done),
                        // every handle is gone: end with the owner
                        None => (true, Duration::from_secs(10), oneshot::channel().0),
                    };
                    self.publish(|process| process.phase = Phase::Stopping);
                    let status = shut_down(child, grace).await;
                    return (status, Some(Asked::Politely { end, done }));
                }
            }
        }
    }
}

enum Asked {
    Politely {
        end: bool,
        done: oneshot::Sender<()>,
    },
    Killed,
}

fn spawn(launch: &Launch) -> std::io::Result<Child> {
    Command::new(&launch.command[0])
        .args(&launch.command[1..])
        .envs(&launch.env)
        .current_dir(&launch.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

async fn shut_down(child: &mut Child, grace: Duration) -> std::io::Result<ExitStatus> {
    let until = Instant::now() + grace;
    while Instant::now() < until {
        if let Some(pid) = child.id() {
            // it may have ended just now; then the wait says so
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
        }
        // a server refuses while it writes its first append-only file, for example, and has to be asked again
        let next = (Instant::now() + ASK_AGAIN).min(until);
        if let Ok(status) = tokio::time::timeout_at(next, child.wait()).await {
            return status;
        }
    }
    tracing::warn!(
        ?grace,
        "the server did not shut down in time, ending it by force"
    );
    child.kill().await?;
    child.wait().await
}
