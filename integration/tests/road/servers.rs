//! A database and a cache from Debian's packages, for a platform whose modules are processes of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{
    kubectl::eventually,
    world::{dying_with_us, spawn_from_lasting_thread, text},
};

/// A MariaDB that listens on `{folder}/socket` only.
pub(crate) fn mariadb(folder: &Path) -> Child {
    fs::create_dir_all(folder).expect("make a folder");
    let account = Command::new("id").arg("-un").output().expect("run id");
    let user = format!("--user={}", String::from_utf8_lossy(&account.stdout).trim());
    let data = format!("--datadir={}/data", text(folder));
    let installed = Command::new(program("mariadb-install-db", "mariadb-server"))
        .args([
            "--no-defaults",
            &data,
            &user,
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ])
        .output()
        .expect("run mariadb-install-db");
    assert!(
        installed.status.success(),
        "mariadb-install-db: {}",
        String::from_utf8_lossy(&installed.stderr)
    );
    let socket = format!("--socket={}/socket", text(folder));
    let pid = format!("--pid-file={}/pid", text(folder));
    let mut command = quiet(&program("mariadbd", "mariadb-server"), folder);
    command.args([
        "--no-defaults",
        &data,
        &user,
        &socket,
        &pid,
        "--skip-networking",
        "--skip-name-resolve",
        "--innodb-buffer-pool-size=64M",
        "--performance-schema=OFF",
        "--skip-log-bin",
    ]);
    started("MariaDB answers", command, || {
        Command::new("mariadb-admin")
            .args(["--no-defaults", "--user=root", &socket, "ping"])
            .output()
    })
}

/// A Redis that listens on `{folder}/socket` only.
pub(crate) fn redis(folder: &Path) -> Child {
    fs::create_dir_all(folder).expect("make a folder");
    let socket = format!("{}/socket", text(folder));
    let mut command = quiet(&program("redis-server", "redis-server"), folder);
    command.args([
        "--port",
        "0",
        "--unixsocket",
        &socket,
        "--dir",
        text(folder),
        "--save",
        "",
    ]);
    started("Redis answers", command, || {
        Command::new("redis-cli")
            .args(["-s", &socket, "ping"])
            .output()
    })
}

fn started(
    what: &str,
    command: Command,
    mut ask: impl FnMut() -> std::io::Result<std::process::Output>,
) -> Child {
    let mut child = spawn_from_lasting_thread(command);
    eventually(what, Duration::from_mins(3), || {
        if let Ok(Some(status)) = child.try_wait() {
            panic!("{what}: it ended with {status}");
        }
        let answer = ask().expect("run the client");
        if answer.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&answer.stderr).into_owned())
        }
    });
    child
}

/// Ended with this process, its output in `{folder}/log`.
fn quiet(program: &Path, folder: &Path) -> Command {
    let log = fs::File::create(folder.join("log")).expect("make the log");
    let mut command = dying_with_us(program);
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("share the log"))
        .stderr(log);
    command
}

/// Finds a program, also where only root's PATH looks.
fn program(name: &str, package: &str) -> PathBuf {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is missing: install the package {package}"))
}
