//! Audit records, written in the transaction of the change and forwarded to the operation log afterwards.
//!
//! At least once; the log leaves out ids it knows, so each record is in it exactly once.

use std::cell::Cell;
use std::time::Duration;

use diesel::prelude::*;
use futures::FutureExt;
use futures::future::BoxFuture;
use prost::Message;
use rand::Rng;
use tokio::time::{sleep, timeout};
use upm_mesh as mesh;
use upm_proto::operatorlog::v1 as pb;
use upm_proto::operatorlog::v1::operator_log_service_client::OperatorLogServiceClient;

use crate::Connection;
use crate::schema::upm_outbox;
use crate::{Error, Store, ids, time};

/// Most records of one request.
const BATCH: i64 = 500;
/// Most bytes of one request, below gRPC's usual limit of 4 MiB.
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Longest `request` and `diff` of a record.
const JSON_BYTES: usize = 8 * 1024;
/// Looks for records this often although nothing was written here: another replica may have died with its own.
const TICK: Duration = Duration::from_secs(15);
const CALL_LIMIT: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MOST: Duration = Duration::from_secs(30);
const NAME_PREFIX: &str = "operatorLog/entries/";

thread_local! {
    /// Work runs on one thread from begin to commit, so this needs no place in `Connection`.
    static WRITTEN: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn forget_written() {
    WRITTEN.set(false);
}

pub(crate) fn take_written() -> bool {
    WRITTEN.take()
}

/// Writes the request's draft, if its method has one, in the transaction of the change.
pub fn write(conn: &mut Connection, draft: &Option<mesh::audit::Draft>) -> Result<(), Error> {
    match draft {
        Some(draft) => write_entry(conn, draft.entry.clone()),
        None => Ok(()),
    }
}

/// Writes one record. A record without a name gets one; `request` and `diff` beyond 8 KiB are replaced by a note of their length.
pub fn write_entry(conn: &mut Connection, mut entry: pb::Entry) -> Result<(), Error> {
    let id = match entry.name.strip_prefix(NAME_PREFIX) {
        Some(id) => id.to_owned(),
        None => ids::uuid7(),
    };
    entry.name = format!("{NAME_PREFIX}{id}");
    let now = time::now_us();
    entry.event_time.get_or_insert_with(|| time::timestamp(now));
    for json in [&mut entry.request, &mut entry.diff] {
        if JSON_BYTES < json.len() {
            *json = serde_json::json!({ "omittedBytes": json.len() }).to_string();
        }
    }
    diesel::insert_into(upm_outbox::table)
        .values((
            upm_outbox::id.eq(id),
            upm_outbox::record.eq(entry.encode_to_vec()),
            upm_outbox::create_us.eq(now),
        ))
        .execute(conn)?;
    WRITTEN.set(true);
    Ok(())
}

/// Where the mesh puts records that belong to no change: refusals, and reads that are audited.
#[derive(Debug, Clone)]
pub struct Sink(pub Store);

impl mesh::audit::Sink for Sink {
    fn write(&self, entry: pb::Entry) -> BoxFuture<'_, ()> {
        async move {
            let method = entry.method.clone();
            let written: Result<(), Error> = self
                .0
                .transact("write an audit record", move |conn| write_entry(conn, entry.clone()))
                .await;
            if let Err(error) = written {
                tracing::error!(rpc.method = %method, error = &error as &dyn std::error::Error, "Lost an audit record");
            }
        }
        .boxed()
    }
}

/// Forwards records, oldest first, until the process drains. Run it as a task of the module.
pub async fn forward(store: Store, operatorlog: mesh::Channel, drain: mesh::Drain) {
    let mut client = OperatorLogServiceClient::new(operatorlog);
    let mut failures = 0;
    loop {
        let sent = tokio::select! {
            () = drain.signalled() => break,
            sent = forward_batch(&store, &mut client) => sent,
        };
        let pause = match sent {
            Ok(0) => {
                failures = 0;
                tokio::select! {
                    () = drain.signalled() => break,
                    () = store.outbox_written() => continue,
                    () = sleep(TICK) => continue,
                }
            }
            Ok(_) => {
                failures = 0;
                continue;
            }
            Err(problem) => {
                failures += 1;
                let pause = backoff(failures);
                tracing::warn!(%problem, failures, pause_ms = pause.as_millis(), "Audit records wait in the outbox");
                pause
            }
        };
        tokio::select! {
            () = drain.signalled() => break,
            () = sleep(pause) => {}
        }
    }
    // What a drained process wrote last should not wait for its next start.
    let _ = timeout(CALL_LIMIT, forward_batch(&store, &mut client)).await;
}

/// Sends one batch and deletes it after the answer; how many records it had.
async fn forward_batch(
    store: &Store,
    client: &mut OperatorLogServiceClient<mesh::Channel>,
) -> Result<usize, String> {
    let waiting = store
        .read("read the outbox", batch)
        .await
        .map_err(|error| error.to_string())?;
    if waiting.is_empty() {
        return Ok(0);
    }
    let (ids, entries): (Vec<String>, Vec<pb::Entry>) = waiting.into_iter().unzip();
    let count = ids.len();
    let request =
        mesh::Context::internal(store.module()).forward(pb::AppendEntriesRequest { entries });
    timeout(CALL_LIMIT, client.append_entries(request))
        .await
        .map_err(|_| "operatorlog gave no answer".to_owned())?
        .map_err(|status| format!("{:?}: {}", status.code(), status.message()))?;
    store
        .transact("empty the outbox", move |conn| {
            diesel::delete(upm_outbox::table.filter(upm_outbox::id.eq_any(&ids))).execute(conn)?;
            Ok::<_, Error>(())
        })
        .await
        .map_err(|error| error.to_string())?;
    Ok(count)
}

/// Records that are not forwarded yet, oldest first, within the limits of one request: for tests of who writes them.
#[cfg(any(test, feature = "testing"))]
pub fn waiting(conn: &mut Connection) -> Result<Vec<pb::Entry>, Error> {
    Ok(batch(conn)?.into_iter().map(|(_, entry)| entry).collect())
}

/// The oldest records, within the limits of one request.
fn batch(conn: &mut Connection) -> Result<Vec<(String, pb::Entry)>, Error> {
    let rows: Vec<(String, Vec<u8>)> = upm_outbox::table
        .order((upm_outbox::create_us.asc(), upm_outbox::id.asc()))
        .limit(BATCH)
        .select((upm_outbox::id, upm_outbox::record))
        .load(conn)?;
    let mut bytes = 0;
    rows.into_iter()
        .take_while(|(_, record)| {
            let first = bytes == 0;
            bytes += record.len();
            first || bytes <= BATCH_BYTES
        })
        .map(|(id, record)| {
            let entry = pb::Entry::decode(&record[..]).map_err(|_| Error::Corrupt {
                what: "audit record",
            })?;
            Ok((id, entry))
        })
        .collect()
}

fn backoff(failures: u32) -> Duration {
    let most = BACKOFF_FIRST
        .saturating_mul(1 << failures.min(10))
        .min(BACKOFF_MOST);
    most.mul_f64(rand::rng().random_range(0.5..=1.0))
}
