//! Statements that every commit makes. Diesel writes and prepares an `UPDATE` anew each time; one whose text never changes says so here,
//! and stays prepared on its connection.

use diesel::{
    prelude::*,
    query_builder::{AstPass, QueryFragment, QueryId},
    sql_types::{BigInt, Binary, Bool, Integer, Text},
};
use upm_store::{Backend, Connection};

/// A statement: pieces of its text, each followed by what is bound there.
macro_rules! statement {
    ($(#[$about:meta])* $name:ident { $($text:literal $field:ident: $rust:ty = $sql:ty),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy)]
        pub(super) struct $name<'a> {
            $(pub(super) $field: $rust,)+
        }

        impl QueryId for $name<'_> {
            type QueryId = $name<'static>;

            const HAS_STATIC_QUERY_ID: bool = true;
        }

        impl QueryFragment<Backend> for $name<'_> {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Backend>) -> QueryResult<()> {
                $(
                    out.push_sql($text);
                    out.push_bind_param::<$sql, _>(&self.$field)?;
                )+
                Ok(())
            }
        }

        impl RunQueryDsl<Connection> for $name<'_> {}
    };
}

statement! {
    /// The counters of a ledger.
    SaveCounters {
        "UPDATE agents SET head_rev = " head_rev: i64 = BigInt,
        ", received_rev = " received_rev: i64 = BigInt,
        ", durable_rev = " durable_rev: i64 = BigInt,
        ", compacted_rev = " compacted_rev: i64 = BigInt,
        ", change_seq = " change_seq: i64 = BigInt,
        ", purged_seq = " purged_seq: i64 = BigInt,
        ", root = " root: &'a str = Text,
        ", status_root = " status_root: &'a str = Text,
        ", key_count = " key_count: i64 = BigInt,
        ", seen_us = " seen_us: i64 = BigInt,
        " WHERE id = " id: &'a str = Text,
    }
}

statement! {
    /// The result of a live intent, if it is still of this life and generation.
    SaveResult {
        "UPDATE intents SET outcome = " outcome: i32 = Integer,
        ", result_generation = " result_generation: i64 = BigInt,
        ", result = " result: &'a [u8] = Binary,
        ", result_us = " result_us: i64 = BigInt,
        ", change_seq = " change_seq: i64 = BigInt,
        " WHERE agent = " agent: &'a str = Text,
        " AND key_text = " key_text: &'a str = Text,
        " AND intent_uid = " intent_uid: &'a str = Text,
        " AND generation = " generation: i64 = BigInt,
        " AND tombstone = " tombstone: bool = Bool,
    }
}

statement! {
    /// An intent or a tombstone over another one of the same key.
    SaveIntent {
        "UPDATE intents SET version = " version: &'a str = Text,
        ", owner = " owner: &'a str = Text,
        ", writer_epoch = " writer_epoch: i64 = BigInt,
        ", intent_uid = " intent_uid: &'a str = Text,
        ", generation = " generation: i64 = BigInt,
        ", digest = " digest: &'a str = Text,
        ", body = " body: &'a str = Text,
        ", options = " options: &'a [u8] = Binary,
        ", priority = " priority: i32 = Integer,
        ", rev = " rev: i64 = BigInt,
        ", tombstone = " tombstone: bool = Bool,
        ", traceparent = " traceparent: &'a str = Text,
        ", outcome = " outcome: i32 = Integer,
        ", result_generation = " result_generation: i64 = BigInt,
        ", result = " result: &'a [u8] = Binary,
        ", result_us = " result_us: i64 = BigInt,
        ", change_seq = " change_seq: i64 = BigInt,
        " WHERE agent = " agent: &'a str = Text,
        " AND key_text = " key_text: &'a str = Text,
    }
}

statement! {
    /// The status of an object over the one before.
    SaveStatus {
        "UPDATE statuses SET intent_uid = " intent_uid: &'a str = Text,
        ", intent_generation = " intent_generation: i64 = BigInt,
        ", observed_generation = " observed_generation: i64 = BigInt,
        ", resource_version = " resource_version: &'a str = Text,
        ", digest = " digest: &'a str = Text,
        ", body = " body: &'a str = Text,
        ", gone = " gone: bool = Bool,
        ", edges = " edges: &'a [u8] = Binary,
        ", epoch = " epoch: i64 = BigInt,
        ", seq = " seq: i64 = BigInt,
        ", change_seq = " change_seq: i64 = BigInt,
        ", update_us = " update_us: i64 = BigInt,
        " WHERE agent = " agent: &'a str = Text,
        " AND key_text = " key_text: &'a str = Text,
    }
}
