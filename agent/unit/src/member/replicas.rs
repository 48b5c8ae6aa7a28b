//! Who may replicate from a primary, and so acknowledge its writes: each member has a user of its own at the primary, named by its member
//! id. Taking the user away ends its connections and keeps it from coming back, wherever its pod is and whoever can reach it.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::{FromRedisValue, cmd};
use sha2::{Digest, Sha256};

use crate::link::{Error, Link};

/// The key of the service's Secret that passwords of replicas are derived from.
pub const SECRET: &str = "upm-replica";
/// What the names of their users begin with.
const PREFIX: &str = "upm-replica-";

/// The user of a member.
pub fn user(member_id: &str) -> String {
    format!("{PREFIX}{member_id}")
}

/// Its password, 64 hex digits.
pub fn password(secret: &str, member_id: &str) -> String {
    hex::encode(Sha256::digest(format!("{member_id}\0{secret}").as_bytes()))
}

/// Whether this is a member id: it becomes a word of a command.
pub fn is_member_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The users of members that there are now, with the member ids.
pub async fn users(link: &mut Link, within: Duration) -> Result<Vec<(String, String)>, Error> {
    let users = link.call(cmd("ACL").arg("USERS"), within).await?;
    let users = Vec::<String>::from_redis_value(users).unwrap_or_default();
    Ok(users
        .into_iter()
        .filter_map(|user| {
            let id = user.strip_prefix(PREFIX)?.to_owned();
            Some((user, id))
        })
        .collect())
}

/// Lets exactly these members replicate. Returns when all others are cut off.
pub(super) async fn admit(
    link: &mut Link,
    secret: &str,
    admitted: &BTreeSet<String>,
    within: Duration,
) -> Result<(), Error> {
    let known: BTreeSet<String> = users(link, within)
        .await?
        .into_iter()
        .map(|(user, _)| user)
        .collect();
    let wanted: BTreeSet<String> = admitted.iter().map(|id| user(id)).collect();
    for stranger in known.difference(&wanted) {
        link.call(cmd("ACL").arg("DELUSER").arg(stranger), within)
            .await?;
    }
    for id in admitted.iter().filter(|id| !known.contains(&user(id))) {
        let hash = hex::encode(Sha256::digest(password(secret, id).as_bytes()));
        let rights = [
            "on",
            "resetchannels",
            "-@all",
            "+psync",
            "+replconf",
            "+ping",
        ];
        let mut set = cmd("ACL");
        set.arg("SETUSER")
            .arg(user(id))
            .arg(&rights)
            .arg(format!("#{hash}"));
        link.call(&set, within).await?;
    }
    Ok(())
}
