//! The readiness probe: one line over a unix socket.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

/// The socket in the directory for what runs.
pub fn socket(run: &Path) -> PathBuf {
    run.join("agent.sock")
}

/// Answers probes until dropped: `ready`, or why not.
pub async fn serve(run: &Path, unready: impl Fn() -> Option<String> + Send) -> std::io::Result<()> {
    let path = socket(run);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let line =
            unready().map_or_else(|| "ready\n".to_owned(), |why| format!("not ready: {why}\n"));
        // a probe that went away does not need the answer
        let _ =
            tokio::time::timeout(Duration::from_secs(1), stream.write_all(line.as_bytes())).await;
    }
}

/// Asks the unit agent of this pod; returns its line.
pub fn ask(run: &Path) -> std::io::Result<String> {
    let stream = UnixStream::connect(socket(run))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
