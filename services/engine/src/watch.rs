//! Watching services: state, not events. A watcher compares what is with what it has told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use prost::Message;
use sha2::{Digest, Sha256};
use store::time::{DAY_US, SECOND_US, now_us};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::JoinSet,
    time::{sleep, timeout},
};
use upm_proto::hub::v1::watch_objects_response::Event;

use crate::{
    Error,
    engine::Engine,
    host::Host,
    names::Parent,
    observed::Observed,
    service::{Service, model, model::Order},
    services::{Seen, Services},
};

/// How far a resumed watch looks back beyond its token: clocks of replicas differ. Telling something twice is harmless.
const MARGIN_US: i64 = 10 * SECOND_US;
/// A bookmark comes at least this often.
const BOOKMARK_EVERY: Duration = Duration::from_secs(30);
const BATCH: i64 = 500;
const PARALLEL: usize = 8;

/// One thing that a watcher is told.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Told {
    /// A service's new state.
    Service(Seen),
    /// Name of a service that is gone.
    Deleted(String),
    /// Where to resume.
    Bookmark(String),
}

/// Listens at the hub for changes of all services of the module, on every cluster that has some, and passes names on.
pub(crate) async fn listen(host: Arc<Host>) {
    let mut ears = JoinSet::new();
    let mut clusters = BTreeSet::new();
    while !host.drain.is_draining() {
        let kind = host.engine.kind();
        let found = host
            .store
            .read("engine.clusters", move |conn| model::clusters(conn, kind))
            .await
            .unwrap_or_default();
        for cluster in found {
            if clusters.insert(cluster.clone()) {
                ears.spawn(listen_to(host.clone(), cluster));
            }
        }
        let _ = timeout(host.config.tick() * 5, host.drain.signalled()).await;
    }
}

async fn listen_to(host: Arc<Host>, cluster: String) {
    let ctx = host.background();
    loop {
        if let Ok(mut changes) = host.ledger.watch(&ctx, &cluster, "").await {
            while let Ok(Some(change)) = changes.message().await {
                if let Some(Event::Object(object)) = change.event
                    && !object.owner.is_empty()
                {
                    // Nobody listening is no error.
                    let _ = host.signals.services.send(object.owner);
                }
            }
        }
        sleep(host.config.tick()).await;
    }
}

impl<E: Engine> Services<E> {
    /// First the current state of each service that the caller may see, then changes, bookmarks in between.
    pub fn watch(
        &self,
        ctx: &mesh::Context,
        permission: &str,
        parent: &str,
        resume_token: &str,
    ) -> Result<impl Stream<Item = Result<Told, Error>> + Send + use<E>, Error> {
        let watcher = Watcher {
            changes: self.host.signals.services.subscribe(),
            services: self.clone(),
            ctx: ctx.clone(),
            permission: permission.to_owned(),
            parent: Parent::parse(parent, "parent")?,
            since_us: since_of(resume_token)?,
            known: BTreeMap::new(),
            dirty: None,
        };
        Ok(stream::unfold(Some(watcher), |watcher| async move {
            let mut watcher = watcher?;
            let drain = watcher.services.host.drain.clone();
            let told = tokio::select! {
                told = watcher.next() => told,
                () = drain.signalled() => return None,
            };
            match told {
                Ok(told) => Some((
                    stream::iter(told.into_iter().map(Ok)).left_stream(),
                    Some(watcher),
                )),
                Err(error) => Some((stream::iter([Err(error)]).right_stream(), None)),
            }
        })
        .flatten())
    }
}

struct Watcher<E> {
    services: Services<E>,
    ctx: mesh::Context,
    permission: String,
    parent: Parent,
    changes: broadcast::Receiver<String>,
    /// From when on something is news; set only before the first look.
    since_us: Option<i64>,
    /// What was told, by name: when the row changed, and a digest of what the client saw.
    known: BTreeMap<String, (i64, [u8; 32])>,
    /// Services to look at again; `None` for all.
    dirty: Option<BTreeSet<String>>,
}

impl<E: Engine> Watcher<E> {
    /// What is new; waits for it, at most until the next bookmark is due.
    async fn next(&mut self) -> Result<Vec<Told>, Error> {
        let until = tokio::time::Instant::now() + BOOKMARK_EVERY;
        loop {
            let looked_us = now_us();
            let first = self.known.is_empty() && self.dirty.is_none();
            let mut told = self.look(looked_us).await?;
            let due = until <= tokio::time::Instant::now();
            if !told.is_empty() || first || due {
                told.push(Told::Bookmark(format!("t{looked_us}")));
                self.dirty = Some(BTreeSet::new());
                return Ok(told);
            }
            self.dirty = Some(BTreeSet::new());
            self.hints().await;
        }
    }

    /// Collects names of services that may have changed, for a tick or until there is one.
    async fn hints(&mut self) {
        let tick = self.services.host.config.tick();
        let mut wait = tick;
        while let Ok(hint) = timeout(wait, self.changes.recv()).await {
            match hint {
                Ok(name) => {
                    if let Some(dirty) = &mut self.dirty {
                        dirty.insert(name);
                    }
                }
                Err(RecvError::Lagged(_)) => self.dirty = None,
                Err(RecvError::Closed) => return,
            }
            // More of the same change follows at once; one look for all of it.
            wait = Duration::from_millis(30);
        }
    }

    async fn look(&mut self, now_us: i64) -> Result<Vec<Told>, Error> {
        let rows = self.rows().await?;
        let present: BTreeSet<String> = rows.iter().map(|row| row.name.to_string()).collect();
        let mut told = self.departed(&present).await?;
        let changed: Vec<Service> = rows
            .into_iter()
            .filter(|row| self.may_have_changed(row))
            .collect();
        let (services, ctx) = (&self.services, &self.ctx);
        let seen: Vec<Seen> = stream::iter(changed)
            .map(|row| async move {
                let observed = services.observe(ctx, &row).await;
                (row, observed)
            })
            .buffered(PARALLEL)
            .collect()
            .await;
        for (row, observed) in seen {
            let digest = digest::<E>(&row, observed.as_ref())?;
            let name = row.name.to_string();
            let known = self.known.insert(name, (row.update_us, digest));
            let news = match (known, self.since_us) {
                (Some((_, before)), _) => before != digest,
                (None, Some(since)) => {
                    since <= row.update_us || since <= reported_us(observed.as_ref(), now_us)
                }
                (None, None) => true,
            };
            if news {
                told.push(Told::Service((row, observed)));
            }
        }
        self.since_us = None;
        Ok(told)
    }

    fn may_have_changed(&self, row: &Service) -> bool {
        let name = row.name.to_string();
        match (&self.dirty, self.known.get(&name)) {
            (Some(dirty), Some((update_us, _))) => {
                *update_us != row.update_us || dirty.contains(&name)
            }
            (None, _) | (_, None) => true,
        }
    }

    /// Every service of the parent that the caller may see.
    async fn rows(&self) -> Result<Vec<Service>, Error> {
        let mut rows = Vec::new();
        let mut after = None;
        loop {
            let batch = self
                .services
                .rows(&self.parent, Order::Name, after, BATCH)
                .await?;
            let last = (batch.len() as i64) < BATCH;
            after = batch
                .last()
                .map(|row| (row.create_us, row.name.to_string()));
            rows.extend(batch.into_iter().filter(|row| {
                self.ctx.may(
                    &self.permission,
                    Some(&format!("projects/{}", row.name.project)),
                )
            }));
            if last {
                return Ok(rows);
            }
        }
    }

    /// What was there and is not any more: of what was told, and, after a resume, of what may have been told before.
    async fn departed(&mut self, present: &BTreeSet<String>) -> Result<Vec<Told>, Error> {
        let mut gone: BTreeSet<String> = self
            .known
            .keys()
            .filter(|name| !present.contains(*name))
            .cloned()
            .collect();
        if let Some(since) = self.since_us {
            let project = self.parent.project().map(ToOwned::to_owned);
            let departed = self
                .services
                .host
                .store
                .read("engine.departed", move |conn| {
                    model::departed_since(conn, project.as_deref(), since)
                })
                .await?;
            let visible = departed.into_iter().filter(|name| {
                let project = name.split('/').take(2).collect::<Vec<_>>().join("/");
                !present.contains(name) && self.ctx.may(&self.permission, Some(&project))
            });
            gone.extend(visible);
        }
        for name in &gone {
            self.known.remove(name);
        }
        Ok(gone.into_iter().map(Told::Deleted).collect())
    }
}

/// What a client sees of a service, without the time at which it was seen.
fn digest<E: Engine>(service: &Service, observed: Option<&Observed>) -> Result<[u8; 32], Error> {
    let timeless = observed.map(|observed| {
        let mut observed = observed.clone();
        for status in observed
            .objects
            .iter_mut()
            .filter_map(|object| object.status.as_mut())
        {
            status.update_time = None;
        }
        observed
    });
    let shown = E::resource(service, timeless.as_ref())?;
    Ok(Sha256::digest(shown.encode_to_vec()).into())
}

fn reported_us(observed: Option<&Observed>, now_us: i64) -> i64 {
    observed
        .and_then(Observed::observe_time)
        .map_or(now_us, |time| store::time::from_timestamp(&time))
}

/// From when on something is news; `None` from the beginning, also when the token is older than what is remembered.
fn since_of(resume_token: &str) -> Result<Option<i64>, Error> {
    if resume_token.is_empty() {
        return Ok(None);
    }
    let at: i64 = resume_token
        .strip_prefix('t')
        .and_then(|us| us.parse().ok())
        .ok_or_else(|| Error::invalid("resume_token", "is not one of this service"))?;
    Ok((now_us() - DAY_US + MARGIN_US < at).then_some(at - MARGIN_US))
}
