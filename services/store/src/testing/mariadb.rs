//! A private MariaDB on a unix socket.

use std::process::Command;
use std::sync::OnceLock;

use diesel::prelude::*;

use super::supervised::{Supervised, folder, program};

const PACKAGE: &str = "mariadb-server";

#[derive(Debug)]
pub(super) struct MariaDb {
    server: Supervised,
}

pub(super) fn server() -> &'static MariaDb {
    static SERVER: OnceLock<MariaDb> = OnceLock::new();
    SERVER.get_or_init(MariaDb::start)
}

impl MariaDb {
    /// Address of a database on this server.
    pub(super) fn url(&self, database: &str) -> String {
        format!(
            "mysql://root@localhost/{database}?unix_socket={}/socket",
            self.server.folder.display()
        )
    }

    fn start() -> Self {
        let install = program("mariadb-install-db", PACKAGE);
        let daemon = program("mariadbd", PACKAGE);
        let folder = folder("upm-db-");
        let path = folder.display();
        let account = Command::new("id").arg("-un").output().expect("run id");
        let account = String::from_utf8_lossy(&account.stdout).trim().to_owned();
        let installed = Command::new(install)
            .arg("--no-defaults")
            .arg(format!("--datadir={path}/data"))
            .arg(format!("--user={account}"))
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
            .output()
            .expect("run mariadb-install-db");
        assert!(
            installed.status.success(),
            "mariadb-install-db: {}",
            String::from_utf8_lossy(&installed.stderr)
        );
        let command = [
            daemon.display().to_string(),
            "--no-defaults".to_owned(),
            format!("--datadir={path}/data"),
            format!("--socket={path}/socket"),
            format!("--pid-file={path}/pid"),
            format!("--user={account}"),
            "--skip-networking".to_owned(),
            "--skip-name-resolve".to_owned(),
            "--skip-log-bin".to_owned(),
            "--performance-schema=OFF".to_owned(),
            "--innodb-buffer-pool-size=64M".to_owned(),
            "--innodb-flush-log-at-trx-commit=0".to_owned(),
            "--max-connections=300".to_owned(),
        ];
        let server = Self {
            server: Supervised::start(folder, &command),
        };
        let url = server.url("mysql");
        server.server.wait_until(|| {
            MysqlConnection::establish(&url)
                .map(drop)
                .map_err(|error| error.to_string())
        });
        server
    }
}
