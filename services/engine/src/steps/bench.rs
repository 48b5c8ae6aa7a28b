//! What a step works with: the operation, and the only ways in which it may touch the world.

use std::{future::Future, sync::Arc};

use upm_proto::hub::v1 as hub;

use crate::{
    Error, Predicate,
    desired::DesiredState,
    error::DOMAIN,
    host::Host,
    intent::{self, Mark, MarkKey, Part},
    ledger::Trouble,
    observed::{self, Observed, Settlement},
    operation::{self, Operation},
    package,
    service::{self, Service},
    steps::Fault,
};

/// Epoch under which shared objects are written: they belong to no operation, and their content decides alone.
const SHARED_EPOCH: u64 = 1;

/// What a step works with.
pub(crate) struct Bench<'a> {
    pub(crate) host: &'a Host,
    pub(crate) operation: &'a Operation,
    pub(crate) ctx: mesh::Context,
}

impl<'a> Bench<'a> {
    /// For one operation, in the trace of the request that began it.
    pub(crate) fn new(host: &'a Host, operation: &'a Operation) -> Self {
        Self {
            host,
            operation,
            ctx: host.background().in_trace(&operation.traceparent),
        }
    }

    /// The service; an error when it is gone.
    pub(crate) async fn service(&self) -> Result<Service, Fault> {
        let name = self.operation.target.clone();
        let found = self
            .host
            .store
            .read("engine.service", move |conn| {
                service::model::find(conn, &name)
            })
            .await?;
        Ok(found.ok_or_else(|| Error::ServiceNotFound(self.operation.target.clone()))?)
    }

    /// What the hub knows of the service's own objects.
    pub(crate) async fn observe(&self, service: &Service) -> Result<Observed, Fault> {
        self.host
            .ledger
            .observe(&self.ctx, &service.cluster, &self.operation.target)
            .await
            .map_err(|status| Fault::of(Trouble::of(status), "HUB_AVAILABLE"))
    }

    /// Changes the desired state and writes the service's objects of one part: first the identity and generation of the intent into the
    /// module's database, fenced by the lease, then the intent into the ledger. Repeating it writes the same intent.
    pub(crate) async fn write(
        &self,
        part: &Part,
        change: impl Fn(&mut DesiredState) + Send + Sync + 'static,
    ) -> Result<Service, Fault> {
        let (service, templates) = self.marked(part, Arc::new(change)).await?;
        let intents: Vec<hub::Intent> = templates
            .iter()
            .filter_map(|template| {
                let mark = service.marks.get(&intent::mark_name(&template.key))?;
                Some(intent::to_hub(template, mark))
            })
            .collect();
        let written = self
            .host
            .ledger
            .apply(&self.ctx, &service.cluster, self.writer(), intents)
            .await;
        match written {
            Ok(()) => Ok(service),
            Err(trouble) => Err(self.reconcile_marks(&service, part, trouble).await?),
        }
    }

    async fn marked(
        &self,
        part: &Part,
        change: Arc<dyn Fn(&mut DesiredState) + Send + Sync>,
    ) -> Result<(Service, Vec<intent::IntentTemplate>), Fault> {
        let (fence, part) = (self.fence(), part.clone());
        let engine = self.host.engine.clone();
        let marked = self.host.store.transact("engine.mark", move |conn| {
            fence.check(conn)?;
            let mut service = service::model::lock(conn, &fence.target)?
                .ok_or_else(|| Error::ServiceNotFound(fence.target.clone()))?;
            let package = package::find(conn, &service.package)?
                .ok_or(Error::Broken("a service whose package was not kept"))?;
            let before = service.clone();
            change(&mut service.desired);
            // also of services that were opened by an earlier version
            service.desired.topology.begun |= service.life == service::Life::Active;
            let mut templates = engine.intents(&service, &package)?;
            templates.retain(|template| template.part == part);
            intent::mark(&mut service.marks, &templates, uuid::Uuid::now_v7);
            if service != before {
                service::model::update(conn, &service)?;
            }
            Ok::<_, Error>((service, templates))
        });
        Ok(marked.await?)
    }

    /// Writes tombstones for the objects of one part.
    pub(crate) async fn tombstone(&self, part: &Part) -> Result<Service, Fault> {
        let (fence, of) = (self.fence(), part.clone());
        let marked = self.host.store.transact("engine.tombstone", move |conn| {
            fence.check(conn)?;
            let mut service = service::model::lock(conn, &fence.target)?
                .ok_or_else(|| Error::ServiceNotFound(fence.target.clone()))?;
            let before = service.clone();
            for mark in service.marks.values_mut().filter(|mark| mark.part == of) {
                mark.deleted = true;
            }
            if service != before {
                service::model::update(conn, &service)?;
            }
            Ok::<_, Error>(service)
        });
        let service = marked.await?;
        let keys: Vec<hub::Key> = service
            .marked(part)
            .map(|mark| hub::Key::from(&mark.key))
            .collect();
        if !keys.is_empty() {
            self.host
                .ledger
                .delete(&self.ctx, &service.cluster, self.writer(), keys)
                .await
                .map_err(|trouble| Fault::of(trouble, "HUB_AVAILABLE"))?;
        }
        Ok(service)
    }

    /// Writes objects that several services share, when the ledger does not have them as they are.
    pub(crate) async fn write_shared(&self, part: &Part) -> Result<(), Fault> {
        let service = self.service().await?;
        for template in self.shared(&service, part).await? {
            let owner = template.shared_owner.clone().unwrap_or_default();
            let known = self.get(&service.cluster, &template.key).await?;
            let live = known.as_ref().filter(|object| !object.tombstone);
            let same = live.is_some_and(|object| {
                serde_json::from_slice::<serde_json::Value>(&object.json)
                    .is_ok_and(|json| json == template.json)
            });
            if same {
                continue;
            }
            let uid = live
                .and_then(|object| uuid::Uuid::from_slice(&object.intent_uid).ok())
                .unwrap_or_else(|| {
                    let buried = known.as_ref().map_or(&[][..], |object| &object.intent_uid);
                    intent::shared_uid(&owner, &service.cluster, &template.key, buried)
                });
            let mark = Mark {
                part: part.clone(),
                key: MarkKey::from(&template.key),
                uid,
                generation: known.as_ref().map_or(1, |object| object.generation + 1),
                digest: String::new(),
                deleted: false,
            };
            let writer = hub::Writer {
                owner,
                epoch: SHARED_EPOCH,
            };
            self.host
                .ledger
                .apply(
                    &self.ctx,
                    &service.cluster,
                    writer,
                    vec![intent::to_hub(&template, &mark)],
                )
                .await
                .map_err(|trouble| match trouble {
                    // Another service wrote it in this moment: look again.
                    Trouble::Permanent(status) if status.code() == tonic::Code::AlreadyExists => {
                        Fault::Transient(Predicate::unmet("INTENT_WRITTEN", status.message()))
                    }
                    other => Fault::of(other, "HUB_AVAILABLE"),
                })?;
        }
        Ok(())
    }

    /// Whether the cluster has the shared objects of a part.
    pub(crate) async fn shared_settled(
        &self,
        service: &Service,
        part: &Part,
        name: &str,
    ) -> Result<Predicate, Fault> {
        for template in self.shared(service, part).await? {
            let object = self.get(&service.cluster, &template.key).await?;
            let mark = Mark {
                part: part.clone(),
                key: MarkKey::from(&template.key),
                uid: uuid::Uuid::nil(),
                generation: object.as_ref().map_or(0, |object| object.generation),
                digest: String::new(),
                deleted: false,
            };
            match observed::settlement(object.as_ref(), &mark) {
                Settlement::Settled => {}
                Settlement::Waiting(predicate) => {
                    return Ok(Predicate::unmet(name, predicate.reason));
                }
                Settlement::Latched { reason, message } => {
                    return Err(latched(&self.operation.target, &reason, message));
                }
            }
        }
        Ok(Predicate::met(name, "the cluster has it"))
    }

    /// Whether the cluster has the service's own objects of a part.
    pub(crate) fn settled(
        &self,
        service: &Service,
        observed: &Observed,
        part: &Part,
    ) -> Result<Predicate, Fault> {
        for mark in service.wanted(part) {
            match observed::settlement(observed.find(&mark.key.kind, &mark.key.name), mark) {
                Settlement::Settled => {}
                Settlement::Waiting(predicate) => return Ok(predicate),
                Settlement::Latched { reason, message } => {
                    return Err(latched(&self.operation.target, &reason, message));
                }
            }
        }
        Ok(Predicate::met(
            "INTENT_APPLIED",
            "the cluster has what was asked for",
        ))
    }

    /// Whether the objects of a part are gone.
    pub(crate) fn gone(service: &Service, observed: &Observed, part: &Part) -> Vec<Predicate> {
        service
            .marked(part)
            .map(
                |mark| match observed::gone(observed.find(&mark.key.kind, &mark.key.name), mark) {
                    Ok(()) => Predicate::met(
                        "OBJECT_GONE",
                        format!("{} {} is gone", mark.key.kind, mark.key.name),
                    ),
                    Err(predicate) => predicate,
                },
            )
            .collect()
    }

    /// Calls module `resource`.
    pub(crate) async fn resource<T>(
        &self,
        call: impl Future<Output = Result<T, tonic::Status>>,
    ) -> Result<T, Fault> {
        call.await
            .map_err(|status| Fault::of(Trouble::of(status), "RESOURCE_AVAILABLE"))
    }

    async fn get(&self, agent: &str, key: &hub::Key) -> Result<Option<hub::Object>, Fault> {
        self.host
            .ledger
            .get(&self.ctx, agent, key)
            .await
            .map_err(|trouble| Fault::of(trouble, "HUB_AVAILABLE"))
    }

    async fn shared(
        &self,
        service: &Service,
        part: &Part,
    ) -> Result<Vec<intent::IntentTemplate>, Fault> {
        if *part == Part::Project {
            return Ok(vec![package::project(&service.name.project)?]);
        }
        let name = service.package.clone();
        let package = self
            .host
            .store
            .read("engine.package", move |conn| package::find(conn, &name))
            .await?
            .ok_or(Error::Broken("a service whose package was not kept"))?;
        Ok(package.intents()?)
    }

    /// The ledger knows more of an object than the module: after a restore of the module's database. What it has is taken over when
    /// it is this service's, so that the next attempt counts on from there.
    async fn reconcile_marks(
        &self,
        service: &Service,
        part: &Part,
        trouble: Trouble,
    ) -> Result<Fault, Fault> {
        let stale = matches!(&trouble, Trouble::Transient(status) | Trouble::Permanent(status)
            if matches!(mesh::status::reason(status).as_deref(), Some("STALE_GENERATION" | "INTENT_EXISTS")));
        if !stale {
            return Ok(Fault::of(trouble, "HUB_AVAILABLE"));
        }
        for mark in service.wanted(part) {
            let key = hub::Key::from(&mark.key);
            let Some(object) = self.get(&service.cluster, &key).await? else {
                continue;
            };
            if object.tombstone || object.owner != self.operation.target {
                return Ok(Fault::of(trouble, "HUB_AVAILABLE"));
            }
            let Ok(uid) = uuid::Uuid::from_slice(&object.intent_uid) else {
                continue;
            };
            let fence = self.fence();
            let (name, generation) = (intent::mark_name(&key), object.generation);
            let adopted = self.host.store.transact("engine.adopt", move |conn| {
                fence.check(conn)?;
                let mut service = service::model::lock(conn, &fence.target)?
                    .ok_or_else(|| Error::ServiceNotFound(fence.target.clone()))?;
                if let Some(mark) = service.marks.get_mut(&name) {
                    mark.uid = uid;
                    mark.generation = generation + 1;
                    service::model::update(conn, &service)?;
                }
                Ok::<_, Error>(())
            });
            adopted.await?;
        }
        Ok(Fault::Transient(Predicate::unmet(
            "INTENT_WRITTEN",
            "the ledger has a newer generation; counting on from there",
        )))
    }

    fn writer(&self) -> hub::Writer {
        hub::Writer {
            owner: self.operation.target.clone(),
            epoch: u64::try_from(self.operation.lease_epoch).unwrap_or_default(),
        }
    }

    fn fence(&self) -> Fence {
        Fence {
            operation: self.operation.name.clone(),
            target: self.operation.target.clone(),
            owner: self.operation.lease_owner.clone(),
            epoch: self.operation.lease_epoch,
        }
    }
}

/// Lets a transaction through only while the lease is held.
struct Fence {
    operation: String,
    target: String,
    owner: String,
    epoch: i64,
}

impl Fence {
    fn check(&self, conn: &mut store::Connection) -> Result<(), Error> {
        if operation::model::holds(conn, &self.operation, &self.owner, self.epoch)? {
            return Ok(());
        }
        Err(Error::Fenced(self.operation.clone()))
    }
}

fn latched(target: &str, reason: &str, message: String) -> Fault {
    let details = mesh::Details::fact("service", target).with_fact("outcome", reason);
    Fault::Permanent {
        status: mesh::status::to_rpc(&mesh::status::build(
            mesh::Kind::FailedPrecondition,
            DOMAIN,
            "INTENT_REFUSED",
            format!("the cluster refused {message}"),
            &details,
        )),
        roll_back: false,
    }
}
