//! Makes the store that the hub begins with: agents with join tokens, and ledgers whose intents have settled.

use std::{fs, path::Path, sync::Arc};

use upm_hub::{
    ledger::{AgentRow, agents, session, write},
    session::Command,
};
use upm_proto::hub::v1::{self as pb, Outcome};
use upm_store::Store;

use crate::ledger;

/// Intents of one request.
const BATCH: usize = 100;
/// Agents of one transaction.
const GROUP: usize = 20;
const TOKEN_LIFE_US: i64 = 6 * 3_600_000_000;

/// Opens the hub's store.
pub(crate) async fn store(folder: &Path) -> anyhow::Result<Store> {
    let url = format!("sqlite:{}/hub.db", folder.display());
    Ok(Store::open(&url, "hub", upm_hub::MIGRATIONS).await?)
}

/// Agents with so many settled intents each, the probes, and one with `big` intents.
pub(crate) async fn seed(
    folder: &Path,
    agents: usize,
    intents: usize,
    big: usize,
) -> anyhow::Result<()> {
    upm_mesh::Authority::open_or_create(&folder.join("ca"))?;
    fs::create_dir_all(folder.join("tokens"))?;
    let store = store(folder).await?;
    let prepared = Arc::new(prepare(intents)?);
    let ids: Vec<_> = (0..agents)
        .map(ledger::agent)
        .chain((0..ledger::PROBES).map(ledger::probe))
        .collect();
    let mut known = String::new();
    for group in ids.chunks(GROUP) {
        known += &made(&store, folder, group.to_vec(), prepared.clone()).await?;
    }
    let prepared = Arc::new(prepare(big)?);
    known += &made(&store, folder, vec![ledger::BIG.to_owned()], prepared).await?;
    let nothing = Arc::new(Vec::new());
    known += &made(&store, folder, vec![ledger::REAL.to_owned()], nothing).await?;
    fs::write(folder.join("agents"), known)?;
    Ok(())
}

fn prepare(intents: usize) -> anyhow::Result<Vec<Vec<write::Prepared>>> {
    let all: Vec<_> = (0..intents).map(|n| ledger::intent(n, 1)).collect();
    all.chunks(BATCH)
        .map(|batch| Ok(write::prepare(batch.to_vec(), ledger::OWNER)?))
        .collect()
}

/// Makes agents; answers a line for each.
async fn made(
    store: &Store,
    folder: &Path,
    ids: Vec<String>,
    prepared: Arc<Vec<Vec<write::Prepared>>>,
) -> anyhow::Result<String> {
    let writer = write::writer(
        Some(pb::Writer {
            owner: ledger::OWNER.into(),
            epoch: 1,
        }),
        "",
    )?;
    let rows = store
        .transact("seed", move |conn| {
            let mut made = Vec::with_capacity(ids.len());
            for id in &ids {
                let token = upm_hub::ledger::random_token();
                agents::invite(conn, id, &token, true, TOKEN_LIFE_US)?;
                agents::approve(conn, id)?;
                let mut count = 0;
                for batch in prepared.iter() {
                    let _ = write::apply_objects(conn, id, &writer, batch)?;
                    let results = (count..count + batch.len()).map(settled).collect();
                    count += batch.len();
                    let results = Command::Results {
                        results,
                        upto: count as u64,
                    };
                    session::commit(conn, id, 0, &[&results])?;
                }
                let received = Command::Received {
                    received: count as u64,
                    durable: count as u64,
                };
                session::commit(conn, id, 0, &[&received])?;
                let row = AgentRow::read(conn, id)?;
                made.push((id.clone(), token, row.map(|r| r.incarnation)));
            }
            Ok::<_, upm_hub::Error>(made)
        })
        .await?;
    let mut lines = String::new();
    for (id, token, incarnation) in rows {
        fs::write(folder.join("tokens").join(&id), token)?;
        lines += &format!("{id} {}\n", incarnation.unwrap_or_default());
    }
    Ok(lines)
}

fn settled(n: usize) -> pb::ApplyResult {
    pb::ApplyResult {
        rev: n as u64 + 1,
        key: Some(ledger::key(n)),
        intent_uid: ledger::uid(n).into(),
        generation: 1,
        outcome: Outcome::Applied.into(),
        seq: n as u64 + 1,
        ..pb::ApplyResult::default()
    }
}
