//! PID 1 inherits orphans (the server's own children after it was killed) and must reap them.

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Process;

/// Reaps everything but the server itself, whose end the supervisor waits for. Runs until dropped; only PID 1 needs it.
pub async fn orphans(process: watch::Receiver<Process>) -> std::io::Result<()> {
    let mut ended = signal(SignalKind::child())?;
    loop {
        tokio::select! {
            _ = ended.recv() => {}
            // an orphan may hide behind the server's own unread end
            () = tokio::time::sleep(std::time::Duration::from_secs(5)) => {}
        }
        while let Some(pid) = next_ended() {
            if pid.as_raw() == process.borrow().pid {
                break;
            }
            match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => {
                    tracing::debug!(%pid, "reaped an orphan");
                }
                _ => break,
            }
        }
    }
}

/// An ended child, left as it is.
fn next_ended() -> Option<Pid> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::All, flags) {
        Ok(status) => status.pid(),
        Err(_) => None,
    }
}
