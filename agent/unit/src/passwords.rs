//! Passwords that change in the Secret while the server runs: the server is told, so that it takes what the platform hands out, and a replica
//! that restarts with the new one still finds its primary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::{FromRedisValue, Value, cmd};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::link::{Endpoint, Error, Link};
use crate::member::replicas;
use crate::supervise::Supervisor;

/// Between two looks at the files; kubelet brings a changed Secret within a minute or so.
const EVERY: Duration = Duration::from_secs(2);
/// How long one command may take.
const ANSWER: Duration = Duration::from_secs(1);
/// The users' user, and its file.
const USER: &str = "default";

/// Keeps a running server at the passwords of the Secret.
#[derive(Debug)]
pub struct Passwords {
    /// Directory with one file per user.
    pub secrets: PathBuf,
    /// Born with the volume.
    pub member_id: String,
    /// The server.
    pub server: Endpoint,
    /// Its process.
    pub process: Supervisor,
}

/// What the files say.
#[derive(Clone, PartialEq, Eq)]
struct Wanted {
    user: String,
    replication: String,
}

impl Passwords {
    /// Runs until dropped. Tells why the server does not have the passwords of the files; nothing while it has them, or does not run.
    pub async fn run(self, reason: watch::Sender<String>) {
        let mut told: Option<(i32, Wanted)> = None;
        loop {
            tokio::time::sleep(EVERY).await;
            let process = self.process.now();
            let lacks = if process.alive() {
                self.keep(process.starts, &mut told).await.err()
            } else {
                None
            };
            reason.send_if_modified(|before| {
                let now = lacks.unwrap_or_default();
                let changed = *before != now;
                *before = now;
                changed
            });
        }
    }

    async fn keep(&self, starts: i32, told: &mut Option<(i32, Wanted)>) -> Result<(), String> {
        let secrets = self.secrets.clone();
        let wanted = tokio::task::spawn_blocking(move || read(&secrets))
            .await
            .map_err(|error| error.to_string())??;
        let now = (starts, wanted);
        if told.as_ref() == Some(&now) {
            return Ok(());
        }
        self.tell(&now.1)
            .await
            .map_err(|error| format!("the server was not told the passwords: {error}"))?;
        *told = Some(now);
        Ok(())
    }

    async fn tell(&self, wanted: &Wanted) -> Result<(), Error> {
        let mut link = self.server.open(ANSWER).await?;
        let hash = hash(&wanted.user);
        if passwords(&mut link, USER).await? != [hash.clone()] {
            setuser(&mut link, USER, &["resetpass", &format!("#{hash}")]).await?;
            tracing::info!(user = USER, "took the password that the Secret has now");
        }
        let own = replicas::password(&wanted.replication, &self.member_id);
        let get = link
            .call(cmd("CONFIG").arg("GET").arg("masterauth"), ANSWER)
            .await?;
        let known = BTreeMap::<String, String>::from_redis_value(get).unwrap_or_default();
        if known.get("masterauth") != Some(&own) {
            link.set("masterauth", &own, ANSWER).await?;
            tracing::info!("follows with the password that the Secret has now");
        }
        for (user, member_id) in replicas::users(&mut link, ANSWER).await? {
            let hash = self::hash(&replicas::password(&wanted.replication, &member_id));
            if !passwords(&mut link, &user).await?.contains(&hash) {
                // beside the one before: the replica may learn of the change later
                setuser(&mut link, &user, &[&format!("#{hash}")]).await?;
            }
        }
        Ok(())
    }
}

/// What the files say, or which one says nothing.
fn read(secrets: &Path) -> Result<Wanted, String> {
    let file = |name: &str| {
        let text = std::fs::read_to_string(secrets.join(name))
            .map_err(|error| format!("key {name} of the Secret: {error}"))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(format!("key {name} of the Secret is empty"));
        }
        Ok(text.to_owned())
    };
    Ok(Wanted {
        user: file(USER)?,
        replication: file(replicas::SECRET)?,
    })
}

fn hash(password: &str) -> String {
    hex::encode(Sha256::digest(password.as_bytes()))
}

/// Hashes of a user's passwords.
async fn passwords(link: &mut Link, user: &str) -> Result<Vec<String>, Error> {
    let told = link
        .call(cmd("ACL").arg("GETUSER").arg(user), ANSWER)
        .await?;
    let fields = BTreeMap::<String, Value>::from_redis_value(told).unwrap_or_default();
    Ok(fields
        .get("passwords")
        .and_then(|hashes| Vec::<String>::from_redis_value(hashes.clone()).ok())
        .unwrap_or_default())
}

async fn setuser(link: &mut Link, user: &str, rules: &[&str]) -> Result<(), Error> {
    link.call(cmd("ACL").arg("SETUSER").arg(user).arg(rules), ANSWER)
        .await
        .map(drop)
}
