//! Following module `user`: who is disabled or deleted leaves the policy within moments and loses their sessions.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use upm_mesh::{Context, Drain, audit};
use upm_proto::user::v1::DisabledUsers;
use upm_store::{Connection, Store, outbox};

use crate::Error;
use crate::model::{bindings, blocked, policy as revision, sessions};
use crate::peer::Users;
use crate::policy::Policy;

const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MOST: Duration = Duration::from_secs(5);

/// Follows until the process drains. What was known last stays in force while module `user` is away.
pub(crate) async fn follow(store: Store, policy: Policy, users: Users, drain: Drain) {
    let mut pause = PAUSE_FIRST;
    loop {
        let ended = tokio::select! {
            () = drain.signalled() => return,
            ended = follow_once(&store, &policy, &users, &mut pause) => ended,
        };
        if let Err(error) = ended {
            tracing::warn!(%error, pause_ms = pause.as_millis(), "Not following disabled users");
        }
        tokio::select! {
            () = drain.signalled() => return,
            () = sleep(pause.mul_f64(rand::random_range(0.5..=1.0))) => {}
        }
        pause = (pause * 2).min(PAUSE_MOST);
    }
}

async fn follow_once(
    store: &Store,
    policy: &Policy,
    users: &Users,
    pause: &mut Duration,
) -> Result<(), Error> {
    let mut lists = users.watch_disabled(&Context::internal("auth")).await?;
    while let Some(list) = lists.message().await? {
        if take(store, list).await? {
            policy.changed();
        }
        *pause = PAUSE_FIRST;
    }
    Ok(())
}

/// Takes a list over; whether it differed from the one before.
pub(crate) async fn take(store: &Store, list: DisabledUsers) -> Result<bool, Error> {
    let told: BTreeMap<String, bool> = list
        .users
        .into_iter()
        .map(|user| (user, false))
        .chain(list.deleted_users.into_iter().map(|user| (user, true)))
        .collect();
    store
        .transact("take the disabled users over", move |conn| {
            revision::lock(conn)?;
            let before = blocked::all(conn)?;
            if before == told {
                return Ok(false);
            }
            for (user, deleted) in &told {
                if before.get(user) != Some(deleted) {
                    end(conn, user, *deleted)?;
                }
            }
            blocked::put(conn, &told)?;
            revision::bump(conn)?;
            Ok(true)
        })
        .await
}

/// Ends the sessions of a user; a deleted one loses their roles too, so that nobody inherits them with the name.
fn end(conn: &mut Connection, user: &str, deleted: bool) -> Result<(), Error> {
    let ended = sessions::end_of_user(conn, user)?;
    let unbound = if deleted {
        bindings::delete_of_user(conn, user)?
    } else {
        0
    };
    if ended + unbound == 0 {
        return Ok(());
    }
    let ctx = Context::internal("auth");
    let draft = audit::Draft::background(&ctx, "auth", "block-user")
        .resource(user)
        .diff(json!({ "deleted": deleted, "sessionsEnded": ended, "rolesTaken": unbound }));
    Ok(outbox::write(conn, &Some(draft))?)
}
