//! A server that ends with this process.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to start.
const START_LIMIT: Duration = Duration::from_mins(3);

/// Ends the server and removes its folder when standard input closes. Signals meant for the test process do not end it early.
const SHELL: &str = r#"
trap '' INT TERM HUP
folder=$1; shift
"$@" >"$folder/output" 2>&1 </dev/null &
server=$!
read -r _
kill -KILL "$server"
wait "$server"
rm -rf "$folder"
"#;

/// A running server. Dropping it, or the end of the process, ends it.
#[derive(Debug)]
pub(super) struct Supervised {
    pub(super) folder: PathBuf,
    shell: Child,
}

/// The path of a program, from `PATH` or the folders of system programs.
pub(super) fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/usr/local/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    assert!(
        found.is_some(),
        "this test needs {name}: install the Debian package {package}"
    );
    found.unwrap_or_default()
}

/// A new folder directly under the temporary folder: paths of unix sockets must be short.
pub(super) fn folder(prefix: &str) -> PathBuf {
    tempfile::Builder::new()
        .prefix(prefix)
        .tempdir()
        .expect("a temporary folder")
        .keep()
}

impl Supervised {
    pub(super) fn start(folder: PathBuf, command: &[String]) -> Self {
        let shell = Command::new("/bin/sh")
            .args(["-c", SHELL, "sh"])
            .arg(&folder)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start a shell");
        Self { folder, shell }
    }

    /// Waits until `ready` says so.
    pub(super) fn wait_until(&self, ready: impl Fn() -> Result<(), String>) {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let Err(problem) = ready() else { return };
            let output = || std::fs::read_to_string(self.folder.join("output")).unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "the server did not start: {problem}\n{}",
                output()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
