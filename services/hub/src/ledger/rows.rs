//! Rows as diesel sees them.

use diesel::prelude::*;
use upm_proto::{
    hub::v1::{self as pb, Outcome},
    ledger::{Entry, Root},
};
use upm_store::Connection;

use super::statements::{SaveIntent, SaveStatus};
use crate::{
    Error,
    accounts::Pin,
    schema::{agents, intents, statuses},
};

/// An agent.
#[derive(Debug, Clone, Queryable, Insertable, AsChangeset, Identifiable)]
#[diesel(table_name = agents)]
pub struct AgentRow {
    /// Id: the cluster's id.
    pub id: String,
    /// 32 hex digits; a new one when the store is older than what the agent has seen.
    pub incarnation: String,
    /// Whether it may have sessions.
    pub approved: bool,
    /// Whether it has a certificate.
    pub enrolled: bool,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Epoch of its newest session.
    pub epoch: i64,
    /// Replica of its newest session; empty when it ended.
    pub replica: String,
    /// When its newest session began.
    pub connected_us: i64,
    /// When something was last committed for it.
    pub seen_us: i64,
    /// Its version.
    pub build: String,
    /// UID of `kube-system`.
    pub cluster_uid: String,
    /// Version of its API server.
    pub k8s_version: String,
    /// Newest revision.
    pub head_rev: i64,
    /// What it has received.
    pub received_rev: i64,
    /// What it holds durably.
    pub durable_rev: i64,
    /// Tombstones up to here are gone.
    pub compacted_rev: i64,
    /// Counts every change of a row, for watchers.
    pub change_seq: i64,
    /// The change at which a row was last purged.
    pub purged_seq: i64,
    /// Root of the live intents, hex.
    pub root: String,
    /// Root of the status of live intents, hex.
    pub status_root: String,
    /// Rows in the ledger.
    pub key_count: i64,
    /// When its certificate ends.
    pub certificate_us: i64,
    /// What it says of itself.
    pub message: String,
    /// Pinned issuer of its service-account tokens.
    pub issuer: String,
    /// Pinned keys of the issuer.
    pub jwks: String,
    /// When it was made.
    pub created_us: i64,
    /// Pinned subject of its service-account tokens; empty when nothing is pinned.
    pub subject: String,
}

impl AgentRow {
    /// Root of the live intents.
    pub fn root(&self) -> Root {
        read_root(&self.root)
    }

    /// Root of the status of live intents.
    pub fn status_root(&self) -> Root {
        read_root(&self.status_root)
    }

    /// Whose service-account tokens are this agent's; `None` when nothing is pinned.
    pub fn pinned(&self) -> Option<Pin> {
        (!self.subject.is_empty()).then(|| Pin {
            issuer: self.issuer.clone(),
            jwks: self.jwks.clone(),
            subject: self.subject.clone(),
        })
    }

    pub(super) fn pin(&mut self, pin: &Pin) {
        self.issuer.clone_from(&pin.issuer);
        self.jwks.clone_from(&pin.jwks);
        self.subject.clone_from(&pin.subject);
    }

    pub(super) fn unpin(&mut self) {
        self.issuer.clear();
        self.jwks.clear();
        self.subject.clear();
    }

    /// Reads and locks the row until the transaction ends.
    pub fn lock(conn: &mut Connection, id: &str) -> Result<Option<Self>, Error> {
        if lock_agent(conn, id)? {
            Self::read(conn, id)
        } else {
            Ok(None)
        }
    }

    // Keys are unique, so no LIMIT is asked for: SQLite prepares a statement with a bound LIMIT anew each time.
    /// Reads the row.
    pub fn read(conn: &mut Connection, id: &str) -> Result<Option<Self>, Error> {
        Ok(agents::table.find(id).get_result::<Self>(conn).optional()?)
    }

    /// Writes the row back.
    pub fn save(&self, conn: &mut Connection) -> Result<(), Error> {
        diesel::update(agents::table.find(&self.id))
            .set(self)
            .execute(conn)?;
        Ok(())
    }
}

/// Locks an agent's row until the transaction ends; false when the lock says that there is none.
pub(super) fn lock_agent(conn: &mut Connection, id: &str) -> Result<bool, Error> {
    Ok(!upm_store::lock::is_needed(conn) || upm_store::lock::row(conn, "agents", "id", id)?)
}

/// A root column; what is not one reads as the root of nothing.
pub(super) fn read_root(text: &str) -> Root {
    hex::decode(text)
        .ok()
        .and_then(|bytes| Root::from_bytes(&bytes))
        .unwrap_or_default()
}

/// An intent or a tombstone, with its last result.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = intents)]
pub struct IntentRow {
    /// Whose ledger.
    pub agent: String,
    /// `group/kind/namespace/name`.
    pub key_text: String,
    /// API group.
    pub api_group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Who may change it.
    pub owner: String,
    /// Lease epoch that wrote it.
    pub writer_epoch: i64,
    /// Hex.
    pub intent_uid: String,
    /// Generation.
    pub generation: i64,
    /// SHA-256 of the body, hex; empty for a tombstone.
    pub digest: String,
    /// Canonical JSON; empty for a tombstone.
    pub body: String,
    /// An encoded `Apply` or `Delete` that holds only how to send it.
    pub options: Vec<u8>,
    /// `Priority`.
    pub priority: i32,
    /// Revision.
    pub rev: i64,
    /// Whether it is a tombstone.
    pub tombstone: bool,
    /// Trace of the request that wrote it.
    pub traceparent: String,
    /// Last `Outcome`; 0 for none.
    pub outcome: i32,
    /// Generation of the last result.
    pub result_generation: i64,
    /// Last `ApplyResult`, encoded.
    pub result: Vec<u8>,
    /// When it came.
    pub result_us: i64,
    /// When the row last changed, in the agent's count of changes.
    pub change_seq: i64,
}

impl IntentRow {
    /// Reads one row.
    pub fn read(conn: &mut Connection, agent: &str, text: &str) -> Result<Option<Self>, Error> {
        Ok(intents::table
            .find((agent, text))
            .get_result::<Self>(conn)
            .optional()?)
    }

    /// Writes the row, over the one of its key if one `exists`.
    pub(super) fn save(&self, conn: &mut Connection, exists: bool) -> Result<(), Error> {
        if !exists {
            diesel::insert_into(intents::table)
                .values(self)
                .execute(conn)?;
            return Ok(());
        }
        SaveIntent {
            version: &self.version,
            owner: &self.owner,
            writer_epoch: self.writer_epoch,
            intent_uid: &self.intent_uid,
            generation: self.generation,
            digest: &self.digest,
            body: &self.body,
            options: &self.options,
            priority: self.priority,
            rev: self.rev,
            tombstone: self.tombstone,
            traceparent: &self.traceparent,
            outcome: self.outcome,
            result_generation: self.result_generation,
            result: &self.result,
            result_us: self.result_us,
            change_seq: self.change_seq,
            agent: &self.agent,
            key_text: &self.key_text,
        }
        .execute(conn)?;
        Ok(())
    }

    /// The key.
    pub fn key(&self) -> pb::Key {
        pb::Key {
            group: self.api_group.clone(),
            version: self.version.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    /// Whether this generation is done with.
    pub fn is_settled(&self) -> bool {
        self.result_generation == self.generation
            && Outcome::try_from(self.outcome).is_ok_and(is_settled)
    }

    /// Counts the intent in or out of a root.
    pub(super) fn count(&self, root: &mut Root, live: bool) {
        let (uid, digest) = (unhex(&self.intent_uid), unhex(&self.digest));
        let key = self.key();
        let entry = Entry {
            key: &key,
            intent_uid: &uid,
            generation: self.generation as u64,
            digest: &digest,
        };
        if live {
            root.add(entry);
        } else {
            root.remove(entry);
        }
    }
}

/// Whether an outcome ends the work on a generation well.
pub(super) fn is_settled(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Applied | Outcome::Unchanged | Outcome::Deleted | Outcome::Absent
    )
}

/// The last status of an object.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = statuses)]
pub struct StatusRow {
    /// Whose ledger.
    pub agent: String,
    /// `group/kind/namespace/name`.
    pub key_text: String,
    /// Hex.
    pub intent_uid: String,
    /// Generation of the intent that the live object carries.
    pub intent_generation: i64,
    /// `metadata.generation`.
    pub observed_generation: i64,
    /// Resource version.
    pub resource_version: String,
    /// SHA-256 of the body, hex; empty when gone.
    pub digest: String,
    /// JSON.
    pub body: String,
    /// Whether the object does not exist.
    pub gone: bool,
    /// An encoded `StatusUpdate` that holds only the edges.
    pub edges: Vec<u8>,
    /// Session epoch of the update.
    pub epoch: i64,
    /// Position in that session.
    pub seq: i64,
    /// When the row last changed, in the agent's count of changes.
    pub change_seq: i64,
    /// When it came.
    pub update_us: i64,
}

impl StatusRow {
    /// Reads one row.
    pub fn read(conn: &mut Connection, agent: &str, text: &str) -> Result<Option<Self>, Error> {
        Ok(statuses::table
            .find((agent, text))
            .get_result::<Self>(conn)
            .optional()?)
    }

    /// Writes the row, over the one of its key if one `exists`.
    pub(super) fn save(&self, conn: &mut Connection, exists: bool) -> Result<(), Error> {
        if !exists {
            diesel::insert_into(statuses::table)
                .values(self)
                .execute(conn)?;
            return Ok(());
        }
        SaveStatus {
            intent_uid: &self.intent_uid,
            intent_generation: self.intent_generation,
            observed_generation: self.observed_generation,
            resource_version: &self.resource_version,
            digest: &self.digest,
            body: &self.body,
            gone: self.gone,
            edges: &self.edges,
            epoch: self.epoch,
            seq: self.seq,
            change_seq: self.change_seq,
            update_us: self.update_us,
            agent: &self.agent,
            key_text: &self.key_text,
        }
        .execute(conn)?;
        Ok(())
    }

    /// Counts the status in or out of a root.
    pub(super) fn count(&self, key: &pb::Key, root: &mut Root, live: bool) {
        let (uid, digest) = (unhex(&self.intent_uid), unhex(&self.digest));
        let entry = Entry {
            key,
            intent_uid: &uid,
            generation: self.intent_generation as u64,
            digest: &digest,
        };
        if live {
            root.add(entry);
        } else {
            root.remove(entry);
        }
    }
}

/// Bytes of a hex column; what is not hex reads as nothing.
pub(super) fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap_or_default()
}
