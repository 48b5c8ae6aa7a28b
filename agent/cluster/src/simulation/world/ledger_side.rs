//! The hub's store: writers, sessions' commands, stalls, backups.

use std::sync::Arc;

use rand::Rng as _;
use upm_hub::{
    ledger,
    session::{Command, Committed, Reply},
};
use upm_proto::{hub::v1 as pb, ledger::key_text};

use super::{NAMES, OWNER, Past, Wanted, World, key};

impl World {
    /// The store does nothing for a while.
    pub(super) fn stall(&mut self) {
        self.stalled = self.now + self.pause();
    }

    /// Does one store command, in any order; those of dead sessions too. The answer comes later, or never: then the command is given again.
    pub(super) async fn command(&mut self) {
        if self.commands.is_empty() || self.now < self.stalled {
            return;
        }
        let at = self.rng.random_range(0..self.commands.len());
        let (line, epoch, command) = self.commands.remove(at);
        let id = self.id.clone();
        let todo = command.clone();
        let is_claim = matches!(command, Command::Claim(_));
        let done = match command {
            Command::Certificate(_) => return,
            Command::Claim(hello) => {
                self.store
                    .transact("claim", move |conn| {
                        ledger::session::claim(conn, &id, &hello, "replica")
                    })
                    .await
            }
            read @ (Command::Scan { .. }
            | Command::Fetch { .. }
            | Command::FetchRevisions { .. }
            | Command::Index) => {
                self.store
                    .read("read", move |conn| {
                        ledger::session::read(conn, &id, epoch, &read)
                    })
                    .await
            }
            write => {
                self.store
                    .transact("commit", move |conn| {
                        ledger::session::commit(conn, &id, epoch, &[&write])
                            .map(|mut replies| replies.remove(0))
                    })
                    .await
            }
        };
        let reply = done.unwrap();
        if let Reply::Claimed(claim) = &reply {
            assert!(claim.epoch > self.claimed, "I6: an epoch was given twice");
            self.claimed = claim.epoch;
        } else if !is_claim && self.claimed > epoch {
            assert_eq!(reply, Reply::Fenced, "I6: a dead session wrote");
        }
        let committed = self.committed.entry(line).or_default();
        match &reply {
            Reply::Committed(Committed::Results(upto)) => committed.0 = committed.0.max(*upto),
            Reply::Committed(Committed::Statuses { upto, .. }) => {
                committed.1 = committed.1.max(*upto);
            }
            _ => {}
        }
        if !self.calm && self.rng.random_bool(0.05) {
            self.commands.push((line, epoch, todo));
        } else {
            self.replies.push((line, reply));
        }
    }

    /// One answer of the store arrives, in any order.
    pub(super) fn reply(&mut self) {
        let now = self.now;
        self.replies
            .retain(|(line, _)| self.sides.contains_key(line));
        if self.replies.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.replies.len());
        let line = self.replies[at].0;
        if let Some(side) = self.sides.get_mut(&line)
            && now >= side.frozen
        {
            let (_, reply) = self.replies.remove(at);
            side.core.reply(now - side.began, reply);
        }
    }

    /// A replica hears what a writer has committed: in any order, once, twice or never.
    pub(super) fn tell(&mut self) {
        let now = self.now;
        let count = self.sides.len();
        if self.fresh.is_empty() || count == 0 {
            return;
        }
        // Mostly in order, as a hub does.
        let at = if self.rng.random_bool(0.7) {
            0
        } else {
            self.rng.random_range(0..self.fresh.len())
        };
        let fresh = if self.rng.random_bool(0.9) {
            self.fresh.remove(at)
        } else {
            self.fresh[at].clone()
        };
        let of = self.rng.random_range(0..count);
        if let Some(side) = self.sides.values_mut().nth(of)
            && now >= side.frozen
        {
            side.core.fresh(now - side.began, fresh);
        }
    }

    /// A backup is taken.
    pub(in super::super) async fn take_backup(&mut self) {
        let id = self.id.clone();
        let backup = self
            .store
            .read("backup", move |conn| ledger::backup::take(conn, &id))
            .await
            .unwrap();
        let past = Past {
            history: self.history.clone(),
            wanted: self.wanted.clone(),
        };
        self.backup = Some(Arc::new((backup, past)));
    }

    /// The hub stops, its store is replaced by the backup, and it starts again.
    pub(in super::super) async fn restore_backup(&mut self) {
        let Some(backup) = self.backup.clone() else {
            return;
        };
        self.stop_hub();
        let (rows, past) = (backup.0.clone(), backup.1.clone());
        self.store
            .transact("restore", move |conn| ledger::backup::restore(conn, &rows))
            .await
            .unwrap();
        self.restored = true;
        self.cluster.restored = true;
        self.history = past.history;
        self.wanted = past.wanted;
    }

    fn stop_hub(&mut self) {
        self.cut();
        self.sides.clear();
        self.commands.clear();
        self.replies.clear();
        self.fresh.clear();
        self.epoch = 0;
        self.claimed = 0;
        self.sent.clear();
    }

    pub(in super::super) async fn write(&mut self) {
        let name = self.rng.random_range(0..NAMES);
        let (key, deletes) = (key(name), self.rng.random_bool(0.3));
        let text = key_text(&key);
        let before = self.wanted.get(&text).cloned();
        let id = self.id.clone();
        let writer = ledger::write::writer(
            Some(pb::Writer {
                owner: OWNER.into(),
                epoch: 1,
            }),
            "",
        )
        .unwrap();
        self.hint = true;
        if deletes {
            let Some(before) = before.filter(|b| !b.tombstone) else {
                return;
            };
            let keys = vec![key];
            let written = self
                .store
                .transact("delete", move |conn| {
                    ledger::write::delete_objects(
                        conn,
                        &id,
                        &writer,
                        &keys,
                        ledger::write::How::default(),
                    )
                })
                .await
                .unwrap();
            let (written, fresh) = written;
            self.fresh.extend(fresh);
            self.history
                .entry(text.clone())
                .or_default()
                .push((written[0].rev, true));
            self.tombstones.insert((text.clone(), before.uid.clone()));
            self.wanted.insert(
                text,
                Wanted {
                    generation: before.generation + 1,
                    tombstone: true,
                    ..before
                },
            );
            return;
        }
        let (uid, generation) = match before {
            Some(before) if !before.tombstone => (before.uid, before.generation + 1),
            _ => (self.rng.random::<[u8; 16]>().to_vec(), 1),
        };
        // Some are large enough that only their changes are worth sending.
        let filler = "f".repeat(if name < 3 { 0 } else { 600 });
        let body = serde_json::json!({
            "apiVersion": "upm.syntropycloud.io/v1alpha2", "kind": "UnitSet",
            "metadata": {"name": key.name, "namespace": "p"}, "spec": {"filler": filler, "units": generation},
        });
        let ttl_seconds = [0, 0, 60, 90][self.rng.random_range(0..4)];
        self.silence
            .lives
            .insert((uid.clone(), generation), ttl_seconds);
        let prepared = ledger::write::prepare(
            vec![pb::Intent {
                key: Some(key),
                intent_uid: uid.clone().into(),
                generation,
                json: serde_json::to_vec(&body).unwrap().into(),
                ttl_seconds,
                ..pb::Intent::default()
            }],
            OWNER,
        )
        .unwrap();
        let written = self
            .store
            .transact("apply", move |conn| {
                ledger::write::apply_objects(conn, &id, &writer, &prepared)
            })
            .await;
        match written {
            Ok((written, fresh)) => {
                self.fresh.extend(fresh);
                self.history
                    .entry(text.clone())
                    .or_default()
                    .push((written[0].rev, false));
                self.wanted.insert(
                    text,
                    Wanted {
                        uid,
                        generation,
                        tombstone: false,
                    },
                );
            }
            Err(upm_hub::Error::DeletePending(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    /// The hub's store is replaced by one that knows the agent and nothing else.
    pub(in super::super) async fn restore_empty_ledger(&mut self) {
        self.stop_hub();
        let id = self.id.clone();
        self.store
            .transact("restore", move |conn| {
                ledger::agents::delete(conn, &id, true)?;
                ledger::agents::invite(conn, &id, &ledger::random_token(), true, 60_000_000)?;
                ledger::agents::approve(conn, &id)
            })
            .await
            .unwrap();
        self.history.clear();
        self.wanted.clear();
    }
}
