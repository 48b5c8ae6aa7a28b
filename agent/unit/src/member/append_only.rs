//! The append-only file: made anew when it is not whole, and left off at the start of a member that returns with a snapshot.
//!
//! A server that starts with its append-only file forgets which history its data belong to, and needs a full copy to follow again. A
//! snapshot (`dump.rdb`) keeps the replication id and the offset. So a replica that was let go saves one before it ends, starts with it
//! the next time, and continues where it was, as long as the primary's backlog reaches back so far. Its append-only file is then made
//! anew in the background, and is not trusted until that is done.

use std::time::Duration;

use super::record::{Record, Role};
use super::{ANSWER, Keeper, Pinned};
use crate::info::Info;
use crate::link::{Error as LinkError, Link};
use crate::refusal::Refusal;

/// Whether the append-only file must be made anew before it counts as whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rewrite {
    NotNeeded,
    Wanted,
    /// Asked for, when the server had begun so many.
    Asked(i64),
}

/// Whether a snapshot of the running server says everything that the member acknowledged: it followed, it is parked since, so that nothing
/// comes any more, and it has synchronized.
pub fn may_save(record: &Record, info: &Info) -> bool {
    let followed = record.grant.as_ref().is_some_and(|grant| {
        grant.role == Role::Replica
            && grant.epoch < record.promised_epoch
            && grant.run_id == info.run_id
            && grant.primary_replid == info.replid
    });
    followed && info.parked() && !info.loading && !info.sync_in_progress
}

/// Begins to write the append-only file of a server that was started without.
pub(super) async fn turn_on(link: &mut Link) -> Result<(), LinkError> {
    link.set("appendonly", "yes", ANSWER).await
}

impl Keeper {
    /// Saves the data of a parked replica with their position. Nothing is done for any other: the stream would go on, or the data are not
    /// known to be whole.
    pub(super) async fn save_for_return(&mut self, within: Duration) -> Result<(), Refusal> {
        let record = self.store.get();
        let Pinned { mut link, info, .. } = match self.pin().await {
            Ok(pinned) => pinned,
            Err(error) => return Err(self.explain(&error)),
        };
        if self.current().role.is_some() || !may_save(&record, &info) {
            return Ok(());
        }
        let position = |info: &Info| (info.run_id.clone(), info.replid.clone(), info.offset);
        // a replica without a link saves nothing unless it may serve old data; between these three nobody is served
        let stale = |value: &str| {
            let mut command = redis::cmd("CONFIG");
            command.arg(&["SET", "replica-serve-stale-data", value]);
            command
        };
        let mut save = redis::pipe();
        save.add_command(stale("yes"))
            .add_command(redis::cmd("SAVE"))
            .add_command(stale("no"));
        let saved = async {
            link.together(&save, within).await?;
            link.info(ANSWER).await
        };
        let after = saved.await.map_err(|error| self.explain(&error))?;
        if !after.parked() || position(&after) != position(&info) {
            return Ok(());
        }
        tracing::info!(
            replid = info.replid,
            offset = info.offset,
            "saved the data for the return"
        );
        self.note(|record| record.snapshot = true).await;
        Ok(())
    }

    /// Has the append-only file written where the server was started without, and made anew when a sync of it failed.
    pub(super) async fn rewrite(&mut self, info: &Info) {
        if !info.append_only && !info.loading {
            if let Ok(Pinned { mut link, .. }) = self.pin().await
                && let Err(error) = turn_on(&mut link).await
            {
                tracing::warn!(%error, "the append-only file is not written yet");
            }
            return;
        }
        match self.rewrite {
            Rewrite::Wanted if !info.rewriting => {
                if let Ok(Pinned { mut link, .. }) = self.pin().await
                    && link.call(&redis::cmd("BGREWRITEAOF"), ANSWER).await.is_ok()
                {
                    self.rewrite = Rewrite::Asked(info.rewrites);
                }
            }
            Rewrite::Asked(before) if info.rewrites > before && !info.rewriting => {
                self.rewrite = if info.rewrite_ok {
                    Rewrite::NotNeeded
                } else {
                    Rewrite::Wanted
                };
            }
            // nothing to do, or it is under way
            Rewrite::NotNeeded | Rewrite::Wanted | Rewrite::Asked(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::info::PARKED;
    use crate::member::record::Grant;

    fn parked() -> (Record, Info) {
        let record = Record {
            promised_epoch: 8,
            grant: Some(Grant {
                role: Role::Replica,
                epoch: 7,
                run_id: "run".to_owned(),
                primary_replid: "history".to_owned(),
                ..Grant::default()
            }),
            ..Record::default()
        };
        let info = Info {
            run_id: "run".to_owned(),
            replid: "history".to_owned(),
            primary_host: PARKED.0.to_owned(),
            primary_port: PARKED.1,
            ..Info::default()
        };
        (record, info)
    }

    #[test]
    fn only_a_parked_replica_that_synchronized_is_saved() {
        let (record, info) = parked();
        assert!(may_save(&record, &info));
        let grant = |change: fn(&mut Grant)| {
            let (mut record, info) = parked();
            change(record.grant.as_mut().unwrap());
            may_save(&record, &info)
        };
        assert!(!grant(|grant| grant.role = Role::Primary));
        assert!(!grant(|grant| grant.epoch = 8), "the stream goes on");
        assert!(!grant(|grant| grant.run_id = "before".to_owned()));
        assert!(!grant(|grant| grant.primary_replid = "newer".to_owned()));
        let server = |change: fn(&mut Info)| {
            let (record, mut info) = parked();
            change(&mut info);
            may_save(&record, &info)
        };
        assert!(!server(|info| info.primary_port = 6379));
        assert!(!server(|info| info.loading = true));
        assert!(!server(|info| info.sync_in_progress = true));
        let none = Record::default();
        assert!(!may_save(&none, &info));
    }
}
