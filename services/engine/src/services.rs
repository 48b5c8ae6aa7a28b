//! The services of one engine: finding, listing, changing, and beginning operations on them.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc};

use futures::{StreamExt, stream};
use store::{Connection, filter, page};
use upm_proto::operation::v1 as pb;

use crate::{
    Config, Error,
    accept::{self, Acceptance, Request, Surroundings},
    catalogue::Catalogue,
    desired::{Input, Retained},
    engine::{Engine, Erased},
    failpoint::Failpoints,
    host::{Host, Signals},
    ledger::Ledger,
    names::{Parent, ServiceName},
    observed::Observed,
    operation::preview,
    operations::Operations,
    plan::Plan,
    runner,
    service::{self, Life, Service, model::Order},
    watch,
};

/// How many services are observed at a time.
const PARALLEL: usize = 8;

/// The services of engine `E`. Cheap to clone.
#[allow(missing_debug_implementations)]
pub struct Services<E> {
    pub(crate) host: Arc<Host>,
    engine: PhantomData<fn() -> E>,
}

/// A list as it was asked for.
#[derive(Clone, Copy, Debug)]
pub struct ListQuery<'a> {
    /// Full name of the method.
    pub method: &'a str,
    /// Permission that makes a service visible.
    pub permission: &'a str,
    /// `projects/{project}` or `projects/-`.
    pub parent: &'a str,
    /// As it was given.
    pub page_size: i32,
    /// As it was given.
    pub page_token: &'a str,
    /// Over `labels.<key>` and `state`.
    pub filter: &'a str,
    /// `name` or `create_time`, with ` desc`.
    pub order_by: &'a str,
}

/// A service and what is known of its objects; `None` when the hub does not answer.
pub type Seen = (Service, Option<Observed>);

impl<E> Clone for Services<E> {
    fn clone(&self) -> Self {
        Self {
            host: self.host.clone(),
            engine: PhantomData,
        }
    }
}

impl<E: Engine> Services<E> {
    /// The services of a module. No I/O.
    pub fn new(ctx: &store::ModuleContext, config: Config) -> Self {
        Self::with_failpoints(ctx, config, Failpoints::from_env())
    }

    pub(crate) fn with_failpoints(
        ctx: &store::ModuleContext,
        config: Config,
        failpoints: Failpoints,
    ) -> Self {
        let host = Host {
            store: ctx.store.clone(),
            ledger: Ledger::new(&ctx.peers),
            catalogue: Catalogue::new(&ctx.peers),
            engine: Arc::new(Erased::<E>(PhantomData)),
            config,
            drain: ctx.drain.clone(),
            failpoints,
            replica: store::ids::uuid7(),
            signals: Signals::new(),
        };
        Self {
            host: Arc::new(host),
            engine: PhantomData,
        }
    }

    /// Starts the background work: the runner, and the ear at the hub.
    pub fn tasks(&self) -> mesh::Tasks {
        let mut tasks = mesh::Tasks::new();
        tasks.spawn("engine.runner", runner::run(self.host.clone()));
        tasks.spawn("engine.ear", watch::listen(self.host.clone()));
        tasks
    }

    /// The handler of the module's operations.
    pub fn operations(&self) -> Operations {
        Operations::new(self.host.clone())
    }

    /// Module `resource`.
    pub fn catalogue(&self) -> &Catalogue {
        &self.host.catalogue
    }

    /// The hub's ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.host.ledger
    }

    /// A context for calls in the module's own name on behalf of a request.
    pub fn on_behalf(&self, ctx: &mesh::Context) -> mesh::Context {
        self.host.on_behalf(ctx)
    }

    /// Finds a service. Errors: [`Error::ServiceNotFound`], also when only its volumes are left.
    pub async fn find(&self, name: &ServiceName) -> Result<Service, Error> {
        self.look(name)
            .await?
            .filter(|service| service.life != Life::Retained)
            .ok_or_else(|| Error::ServiceNotFound(name.to_string()))
    }

    /// The services on a cluster that run, or are to run.
    pub async fn on_cluster(&self, cluster: &str) -> Result<Vec<Service>, Error> {
        let (kind, cluster) = (self.host.engine.kind(), cluster.to_owned());
        let all = self.host.store.read("engine.services_on", move |conn| {
            service::model::on_cluster(conn, kind, &cluster)
        });
        let mut all = all.await?;
        all.retain(|service| service.life != Life::Retained);
        Ok(all)
    }

    /// Refuses an id that is taken, and retained volumes that nobody chose for.
    pub async fn refuse_taken(
        &self,
        name: &ServiceName,
        wanted: &Input,
        cluster: &str,
    ) -> Result<Option<Retained>, Error> {
        match self.look(name).await? {
            None => Ok(None),
            Some(service) if service.life == Life::Retained => {
                let retained = service
                    .retained
                    .ok_or(Error::Broken("a retained service without volumes"))?;
                accept::refuse_retained(&name.to_string(), &retained, wanted, cluster)?;
                Ok(Some(retained))
            }
            Some(_) => Err(Error::ServiceExists(name.to_string())),
        }
    }

    /// Refuses while another operation works on the service.
    pub async fn refuse_conflict(
        &self,
        service: &Service,
        verb: &'static str,
    ) -> Result<(), Error> {
        let (service, engine) = (service.clone(), self.host.engine.clone());
        self.host
            .store
            .read("engine.conflict", move |conn| {
                accept::refuse_conflict(conn, engine.as_ref(), &service, verb)
            })
            .await
    }

    /// What the hub knows of the service's objects; `None` when the hub does not answer.
    pub async fn observe(&self, ctx: &mesh::Context, service: &Service) -> Option<Observed> {
        let ctx = self.host.on_behalf(ctx);
        let owner = service.name.to_string();
        self.host
            .ledger
            .observe(&ctx, &service.cluster, &owner)
            .await
            .inspect_err(
                |status| tracing::debug!(service.name = %owner, %status, "The hub does not answer"),
            )
            .ok()
    }

    /// A page of services that the caller may see and that `keep` lets through, each with what is known of it.
    pub async fn list(
        &self,
        ctx: &mesh::Context,
        query: ListQuery<'_>,
        keep: impl Fn(&Service, Option<&Observed>, &[filter::Term]) -> Result<bool, Error>,
    ) -> Result<(Vec<Seen>, String), Error> {
        let parent = Parent::parse(query.parent, "parent")?;
        let order = order_of(query.order_by)?;
        let terms = filter::parse(query.filter, &["labels.*", "state"])?;
        let bound = page::Query {
            method: query.method,
            parent: query.parent,
            filter: query.filter,
            order_by: query.order_by,
        };
        let request: page::PageRequest<(i64, String)> =
            page::PageRequest::parse(&self.host.store, bound, query.page_size, query.page_token)?;
        let wanted = usize::try_from(request.limit()).unwrap_or(usize::MAX);
        let mut after = request.after().cloned();
        let mut found: Vec<Seen> = Vec::new();
        loop {
            let rows = self
                .rows(&parent, order, after.clone(), request.limit())
                .await?;
            let last_batch = (rows.len() as i64) < request.limit();
            after = rows.last().map(|row| (row.create_us, row.name.to_string()));
            let visible = rows
                .into_iter()
                .filter(|row| {
                    ctx.may(
                        query.permission,
                        Some(&format!("projects/{}", row.name.project)),
                    )
                })
                .map(|row| Ok(labels_hold(&row.labels, &terms)?.then_some(row)))
                .filter_map(Result::transpose)
                .collect::<Result<Vec<Service>, Error>>()?;
            let seen: Vec<Seen> = stream::iter(visible)
                .map(|row| async {
                    let observed = self.observe(ctx, &row).await;
                    (row, observed)
                })
                .buffered(PARALLEL)
                .collect()
                .await;
            for (row, observed) in seen {
                if keep(&row, observed.as_ref(), &terms)? {
                    found.push((row, observed));
                }
            }
            if last_batch || wanted <= found.len() {
                return Ok(request.finish(found, |(row, _)| (row.create_us, row.name.to_string()))?);
            }
        }
    }

    pub(crate) async fn rows(
        &self,
        parent: &Parent,
        order: Order,
        after: Option<(i64, String)>,
        limit: i64,
    ) -> Result<Vec<Service>, Error> {
        let project = parent.project().map(ToOwned::to_owned);
        self.host
            .store
            .read("engine.page", move |conn| {
                service::model::page(
                    conn,
                    E::KIND,
                    project.as_deref(),
                    order,
                    after.as_ref(),
                    limit,
                )
            })
            .await
    }

    /// Changes what needs no work in the cluster. `change` gets the current service; with `validate_only` nothing is written.
    pub async fn update(
        &self,
        ctx: &mesh::Context,
        name: &ServiceName,
        etag: &str,
        validate_only: bool,
        change: impl Fn(&mut Service) -> Result<(), Error> + Send + 'static,
    ) -> Result<Service, Error> {
        let (ctx, target, etag) = (ctx.clone(), name.to_string(), etag.to_owned());
        let work = move |conn: &mut Connection| {
            let mut service = service::model::lock(conn, &target)?
                .filter(|service| service.life != Life::Retained)
                .ok_or_else(|| Error::ServiceNotFound(target.clone()))?;
            store::etag::check(&etag, &service.etag())?;
            let before = service.clone();
            change(&mut service)?;
            if service == before || validate_only {
                return Ok(service);
            }
            service.version += 1;
            service::model::update(conn, &service)?;
            store::audited(conn, &ctx, &target, difference(&before, &service))?;
            service::model::find(conn, &target)?
                .ok_or_else(|| Error::ServiceNotFound(target.clone()))
        };
        let service = self.host.store.transact("engine.update", work).await?;
        self.host.signals.changed("", &service.name.to_string());
        Ok(service)
    }

    /// The operation that was accepted for the same request before. Nothing else of the request need be checked then.
    pub async fn replay(
        &self,
        ctx: &mesh::Context,
        request: &Request,
    ) -> Result<Option<pb::Operation>, Error> {
        if request.request_id.is_empty() {
            return Ok(None);
        }
        let (ctx, request) = (ctx.clone(), request.clone());
        // The look claims the id; without an answer the claim is rolled back.
        let found = self.host.store.transact("engine.replay", move |conn| {
            match accept::replay(conn, &ctx, &request)? {
                Some(operation) => Ok(operation),
                None => Err(Error::OperationNotFound(String::new())),
            }
        });
        match found.await {
            Ok(operation) => Ok(Some(operation.to_pb(store::time::now_us()))),
            Err(Error::OperationNotFound(name)) if name.is_empty() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Accepts a request: everything is in the store when this returns, and the work has begun or will.
    pub async fn accept(
        &self,
        ctx: &mesh::Context,
        request: Request,
        acceptance: Acceptance,
    ) -> Result<pb::Operation, Error> {
        let around = Surroundings {
            engine: self.host.engine.clone(),
            config: self.host.config.clone(),
            ctx: ctx.clone(),
        };
        let operation = self
            .host
            .store
            .transact("engine.accept", move |conn| {
                accept::accept(conn, &around, &request, &acceptance)
            })
            .await?;
        self.host
            .signals
            .changed(&operation.name, &operation.target);
        self.host.signals.runnable.notify_one();
        Ok(operation.to_pb(store::time::now_us()))
    }

    /// The answer to a `validate_only` request.
    pub fn preview(&self, name: &ServiceName, plan: &Plan) -> pb::Operation {
        preview(E::KIND, &name.to_string(), plan)
    }

    /// How long undone and waiting work may take, as set.
    pub fn config(&self) -> &Config {
        &self.host.config
    }

    async fn look(&self, name: &ServiceName) -> Result<Option<Service>, Error> {
        let name = name.to_string();
        self.host
            .store
            .read("engine.service", move |conn| {
                service::model::find(conn, &name)
            })
            .await
    }
}

fn order_of(order_by: &str) -> Result<Order, Error> {
    match order_by.split_whitespace().collect::<Vec<_>>()[..] {
        [] | ["name"] => Ok(Order::Name),
        ["name", "desc"] => Ok(Order::NameDesc),
        ["create_time"] => Ok(Order::CreateTime),
        ["create_time", "desc"] => Ok(Order::CreateTimeDesc),
        _ => Err(Error::invalid(
            "order_by",
            "name or create_time, with \" desc\"",
        )),
    }
}

fn labels_hold(
    labels: &BTreeMap<String, String>,
    terms: &[filter::Term],
) -> Result<bool, store::Error> {
    for term in terms {
        if !store::labels::holds(term, labels)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What an update changed, for the operation log.
fn difference(before: &Service, after: &Service) -> serde_json::Value {
    store::Diff::new()
        .field("labels", &before.labels, &after.labels)
        .field("description", &before.description, &after.description)
        .field(
            "deletionPolicy",
            &before.deletion_policy,
            &after.deletion_policy,
        )
        .into()
}
