//! `OperationService` of one module.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, stream};
use mesh::Context;
use store::{filter, page, time::now_us};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, timeout, timeout_at},
};
use tonic::{Request, Response, Status};
use upm_proto::operation::v1::{self as pb, operation_service_server::OperationService};

use crate::{
    Error,
    host::Host,
    operation::{self, Operation, State, model::Wanted},
};

/// How long `WaitOperation` waits at most, and when the request does not say.
const WAIT: (Duration, Duration) = (Duration::from_mins(5), Duration::from_mins(1));
/// How often a watcher looks by itself, for changes made by other replicas.
const LOOK: Duration = Duration::from_secs(1);
const LIST: &str = "/upm.operation.v1.OperationService/ListOperations";

/// The handler of a module's operations.
#[derive(Clone)]
#[allow(missing_debug_implementations)]
pub struct Operations {
    host: Arc<Host>,
}

type Updates = Pin<Box<dyn Stream<Item = Result<pb::Operation, Status>> + Send>>;

impl Operations {
    pub(crate) fn new(host: Arc<Host>) -> Self {
        Self { host }
    }

    /// Finds an operation that the caller may see; what it may not see does not exist.
    async fn visible(&self, ctx: &Context, name: &str) -> Result<Operation, Error> {
        let found = find(&self.host, name).await?;
        found
            .filter(|operation| may_see(&self.host, ctx, operation))
            .ok_or_else(|| Error::OperationNotFound(name.to_owned()))
    }

    async fn list(
        &self,
        ctx: &Context,
        request: pb::ListOperationsRequest,
    ) -> Result<pb::ListOperationsResponse, Error> {
        let kind = self.host.engine.kind();
        if request.name != format!("operations/{kind}") {
            return Err(Error::invalid(
                "name",
                format!("operations/{kind} is expected here"),
            ));
        }
        let wanted = wanted(&request.filter)?;
        let query = page::Query {
            method: LIST,
            parent: &request.name,
            filter: &request.filter,
            order_by: "",
        };
        let page: page::PageRequest<String> = page::PageRequest::parse(
            &self.host.store,
            query,
            request.page_size,
            &request.page_token,
        )?;
        let mut before = page.after().cloned();
        let mut found: Vec<Operation> = Vec::new();
        loop {
            let (wanted, at, limit) = (wanted.clone(), before.clone(), page.limit());
            let rows = self
                .host
                .store
                .read("engine.operations", move |conn| {
                    operation::model::page(conn, kind, &wanted, at.as_deref(), limit)
                })
                .await?;
            let last_batch = (rows.len() as i64) < limit;
            before = rows.last().map(|row| row.name.clone());
            found.extend(rows.into_iter().filter(|row| may_see(&self.host, ctx, row)));
            if last_batch || limit <= found.len() as i64 {
                break;
            }
        }
        let (rows, next_page_token) = page.finish(found, |row| row.name.clone())?;
        let now = now_us();
        Ok(pb::ListOperationsResponse {
            operations: rows.iter().map(|row| row.to_pb(now)).collect(),
            next_page_token,
        })
    }

    pub(crate) async fn cancel(&self, ctx: &Context, name: &str) -> Result<(), Error> {
        let seen = self.visible(ctx, name).await?;
        let kind = self.host.engine.kind();
        let permission = format!("{kind}.services.{}", seen.verb);
        ctx.require(&permission, Some(&format!("projects/{}", seen.project)))?;
        let (ctx, name) = (ctx.clone(), name.to_owned());
        let cancelled = self.host.store.transact("engine.cancel", move |conn| {
            let mut operation = operation::model::find(conn, &name)?
                .ok_or_else(|| Error::OperationNotFound(name.clone()))?;
            if operation.state.ended() {
                return Err(Error::OperationDone(name.clone()));
            }
            if operation.cancel_requested {
                return Ok(operation);
            }
            if !operation.cancellable() {
                return Err(past_the_point(&operation));
            }
            operation.cancel_requested = true;
            if !operation::model::swap(conn, &mut operation)? {
                return Err(Error::Changed(name.clone()));
            }
            store::audited(
                conn,
                &ctx,
                &operation.target,
                serde_json::json!({"cancelled": name}),
            )?;
            Ok(operation)
        });
        let operation = cancelled.await?;
        self.host
            .signals
            .changed(&operation.name, &operation.target);
        self.host.signals.runnable.notify_one();
        Ok(())
    }
}

#[tonic::async_trait]
impl OperationService for Operations {
    type WatchOperationStream = Updates;

    async fn get_operation(
        &self,
        request: Request<pb::GetOperationRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        let ctx = Context::of(&request)?;
        let operation = self.visible(&ctx, &request.get_ref().name).await?;
        Ok(Response::new(operation.to_pb(now_us())))
    }

    async fn list_operations(
        &self,
        request: Request<pb::ListOperationsRequest>,
    ) -> Result<Response<pb::ListOperationsResponse>, Status> {
        let ctx = Context::of(&request)?;
        Ok(Response::new(self.list(&ctx, request.into_inner()).await?))
    }

    async fn watch_operation(
        &self,
        request: Request<pb::WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        let ctx = Context::of(&request)?;
        let name = request.into_inner().name;
        let watcher = Watcher::new(self.host.clone(), &name);
        self.visible(&ctx, &name).await?;
        Ok(Response::new(Box::pin(watcher.updates())))
    }

    async fn wait_operation(
        &self,
        request: Request<pb::WaitOperationRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        let ctx = Context::of(&request)?;
        let request = request.into_inner();
        let asked = match request.timeout {
            Some(timeout) => Duration::try_from(timeout)
                .map_err(|_| Error::invalid("timeout", "must not be negative"))?,
            None => WAIT.1,
        };
        let mut patience = asked.min(WAIT.0);
        if let Some(remaining) = ctx.remaining() {
            // The answer has to arrive before the caller's deadline.
            patience = patience.min(remaining.saturating_sub(Duration::from_millis(200)));
        }
        let mut watcher = Watcher::new(self.host.clone(), &request.name);
        let mut operation = self.visible(&ctx, &request.name).await?;
        let until = Instant::now() + patience;
        while !operation.state.ended() && !self.host.drain.is_draining() {
            match timeout_at(until, watcher.changed()).await {
                Ok(changed) => operation = changed?,
                Err(_) => break,
            }
        }
        Ok(Response::new(operation.to_pb(now_us())))
    }

    async fn cancel_operation(
        &self,
        request: Request<pb::CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let ctx = Context::of(&request)?;
        self.cancel(&ctx, &request.get_ref().name).await?;
        Ok(Response::new(()))
    }
}

/// Follows one operation.
struct Watcher {
    host: Arc<Host>,
    name: String,
    changes: broadcast::Receiver<String>,
    seen: i64,
    ended: bool,
}

impl Watcher {
    fn new(host: Arc<Host>, name: &str) -> Self {
        Self {
            changes: host.signals.operations.subscribe(),
            host,
            name: name.to_owned(),
            seen: 0,
            ended: false,
        }
    }

    /// The operation as soon as it is another one than was seen before.
    async fn changed(&mut self) -> Result<Operation, Error> {
        loop {
            if self.newer().await? {
                let operation = find(&self.host, &self.name)
                    .await?
                    .ok_or_else(|| Error::OperationNotFound(self.name.clone()))?;
                self.seen = operation.revision;
                return Ok(operation);
            }
            let _ = timeout(LOOK, self.hint()).await;
        }
    }

    async fn newer(&self) -> Result<bool, Error> {
        let name = self.name.clone();
        let revision = self
            .host
            .store
            .read("engine.revision", move |conn| {
                operation::model::revision(conn, &name)
            })
            .await?;
        Ok(revision != Some(self.seen))
    }

    /// Something changed in this process, perhaps this operation.
    async fn hint(&mut self) {
        loop {
            match self.changes.recv().await {
                Ok(name) if name != self.name => {}
                Ok(_) | Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// Each state, until it has ended or the process drains.
    fn updates(self) -> impl Stream<Item = Result<pb::Operation, Status>> + Send {
        stream::unfold(self, |mut watcher| async move {
            if watcher.ended {
                return None;
            }
            let drain = watcher.host.drain.clone();
            let changed = tokio::select! {
                changed = watcher.changed() => changed,
                () = drain.signalled() => return None,
            };
            let item = match changed {
                Ok(operation) => {
                    watcher.ended = operation.state.ended();
                    Ok(operation.to_pb(now_us()))
                }
                Err(error) => {
                    watcher.ended = true;
                    Err(error.into())
                }
            };
            Some((item, watcher))
        })
    }
}

async fn find(host: &Host, name: &str) -> Result<Option<Operation>, Error> {
    let name = name.to_owned();
    host.store
        .read("engine.operation", move |conn| {
            operation::model::find(conn, &name)
        })
        .await
}

fn may_see(host: &Host, ctx: &Context, operation: &Operation) -> bool {
    let permission = format!("{}.services.get", host.engine.kind());
    ctx.may(
        &permission,
        Some(&format!("projects/{}", operation.project)),
    )
}

fn past_the_point(operation: &Operation) -> Error {
    let step = operation
        .journal
        .steps
        .iter()
        .find(|record| record.point_of_no_return)
        .map_or_else(String::new, |record| record.step.name.clone());
    Error::PastPointOfNoReturn {
        operation: operation.name.clone(),
        step,
    }
}

/// The filter of a list: `target`, `state`, `kind`.
fn wanted(filter: &str) -> Result<Wanted, Error> {
    let mut wanted = Wanted::default();
    for term in filter::parse(filter, &["target", "state", "kind"])? {
        if !term.equality()? {
            return Err(store::Error::Filter(format!("{}: only = is possible", term.field)).into());
        }
        match term.field.as_str() {
            "target" => wanted.target = Some(term.value),
            "kind" => {
                wanted.verb = Some(term.value.rsplit('.').next().unwrap_or_default().to_owned());
            }
            _ => {
                let state = pb::OperationState::from_str_name(&term.value)
                    .and_then(state_of)
                    .ok_or_else(|| {
                        store::Error::Filter(format!("state: {:?} is no state", term.value))
                    })?;
                wanted.states.push(crate::service::model::word(&state)?);
            }
        }
    }
    Ok(wanted)
}

fn state_of(state: pb::OperationState) -> Option<State> {
    [
        State::Pending,
        State::Running,
        State::Cancelling,
        State::Cancelled,
        State::RolledBack,
        State::Failed,
        State::Succeeded,
    ]
    .into_iter()
    .find(|known| pb::OperationState::from(*known) == state)
}
