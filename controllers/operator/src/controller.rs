//! The loop of one controller: triggers in, reconciles out, failures backed off.

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream;
use k8s_openapi::jiff::Timestamp;
use kube::core::object::HasStatus;
use kube::runtime::controller::{Action, Config, ReconcileRequest, applier};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::{Instrument as _, debug, info_span, warn};
use upm_crds::names::annotation;

use crate::informer::{Informer, Trigger};
use crate::retry::{Failures, delay, jittered};
use crate::{Context, Error, call, trace};

/// The longest a single reconcile may take.
const RECONCILE_DEADLINE: Duration = Duration::from_mins(2);
/// How often every object is looked at without a reason.
const RESYNC: Duration = Duration::from_mins(10);
/// How long running reconciles may take to end when the controller stops.
const DRAIN: Duration = Duration::from_secs(20);

/// A kind that can be reconciled.
pub trait Object:
    Resource<DynamicType = ()>
    + HasStatus
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = ()>
        + HasStatus
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// When an object is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// When something that triggers it changes, at the latest with the resync.
    Await,
    /// After this time, or earlier when something changes.
    After(Duration),
}

impl Next {
    /// The earlier of both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::After(a), Self::After(b)) => Self::After(a.min(b)),
            (Self::Await, next) | (next, Self::Await) => next,
        }
    }
}

/// Brings objects of one kind to what their specs say. Only `observe` and `apply` touch the world.
pub trait Controller: Send + Sync + 'static {
    /// Name in logs and as the manager of applied fields.
    const NAME: &'static str;
    /// The kind.
    type Object: Object;
    /// Everything that the plan depends on, with the time.
    type Observed: Send + Sync;
    /// What to change.
    type Plan: Send + Sync;

    /// Reads everything the plan depends on.
    fn observe(
        &self,
        object: &Self::Object,
    ) -> impl Future<Output = Result<Self::Observed, Error>> + Send;

    /// Decides what to change. Pure: no clock, no client, no randomness.
    fn plan(&self, object: &Self::Object, observed: &Self::Observed) -> Result<Self::Plan, Error>;

    /// What the status says about what was observed and planned. Pure. `None`: the controller writes it in `apply`.
    fn status(
        &self,
        object: &Self::Object,
        observed: &Self::Observed,
        plan: &Self::Plan,
    ) -> Option<<Self::Object as HasStatus>::Status>;

    /// Says in the status that the change failed, and why, or takes that back. Pure. Nothing by default.
    fn outcome(
        &self,
        _status: &mut <Self::Object as HasStatus>::Status,
        _failure: Option<&Error>,
        _now: Timestamp,
    ) {
    }

    /// Makes the change. Idempotent: a crash repeats it.
    fn apply(
        &self,
        object: &Self::Object,
        plan: Self::Plan,
    ) -> impl Future<Output = Result<Next, Error>> + Send;
}

/// How a controller runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many objects are reconciled at a time.
    pub concurrency: u16,
    /// How long to wait for more triggers of the same object.
    pub debounce: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrency: 8,
            debounce: Duration::ZERO,
        }
    }
}

struct Frame<C: Controller> {
    controller: Arc<C>,
    context: Context,
    failures: Failures<ObjectRef<C::Object>>,
}

/// Reconciles `objects` when they change and when `triggers` name them, until the context is cancelled.
///
/// # Errors
/// [`Error::Deadline`] when running reconciles did not end in time after the cancel.
pub async fn run<C>(
    controller: Arc<C>,
    context: Context,
    objects: &Informer<C::Object>,
    triggers: Vec<Trigger<C::Object>>,
    options: Options,
) -> Result<(), Error>
where
    C: Controller,
    <C::Object as HasStatus>::Status: Serialize + PartialEq + Send + Sync,
{
    let cancel = context.cancel.clone();
    let own = objects.trigger(|object: &C::Object| vec![ObjectRef::from_obj(object)]);
    let queue = stream::select_all(triggers.into_iter().chain([own]))
        .map(|reference| Ok::<_, Infallible>(ReconcileRequest::from(reference)))
        .take_until(cancel.clone().cancelled_owned());
    let frame = Arc::new(Frame::<C> {
        controller,
        context,
        failures: Failures::default(),
    });
    let finished = Arc::clone(&frame);
    let config = Config::default()
        .concurrency(options.concurrency)
        .debounce(options.debounce);
    let reconciles = applier(
        |object, frame: Arc<Frame<C>>| -> BoxFuture<'static, Result<Action, Error>> {
            Box::pin(async move { reconcile(&frame, &object).await })
        },
        |object, error, frame| after_failure(&object, error, &frame),
        frame,
        objects.store(),
        queue,
        config,
    );
    let all = reconciles.for_each(|done| {
        if let Err(kube::runtime::controller::Error::ObjectNotFound(gone)) = done {
            let reference = ObjectRef::new(&gone.name);
            let gone = match &gone.namespace {
                Some(namespace) => reference.within(namespace),
                None => reference,
            };
            finished.failures.clear(&gone);
        }
        std::future::ready(())
    });
    let events = finished.context.events.clone();
    let reported = async {
        objects
            .reports()
            .for_each(|unreadable| {
                let events = events.clone();
                async move { events.unreadable::<C::Object>(&unreadable).await }
            })
            .await;
        std::future::pending::<Infallible>().await
    };
    let drained = async {
        cancel.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        () = all => Ok(()),
        never = reported => match never {},
        () = drained => Err(Error::Deadline { what: format!("end the reconciles of {}", C::NAME), within: DRAIN }),
    }
}

async fn reconcile<C>(frame: &Frame<C>, object: &C::Object) -> Result<Action, Error>
where
    C: Controller,
    <C::Object as HasStatus>::Status: Serialize + PartialEq + Send + Sync,
{
    let span = info_span!(
        "reconcile",
        controller = C::NAME,
        kind = %C::Object::kind(&()),
        namespace = object.namespace(),
        name = object.name_any(),
        generation = object.meta().generation,
    );
    trace::set_parent(
        &span,
        object
            .annotations()
            .get(annotation::TRACEPARENT)
            .map(String::as_str),
    );
    let done = tokio::time::timeout(RECONCILE_DEADLINE, once(frame, object).instrument(span)).await;
    let next = done.unwrap_or_else(|_| {
        Err(Error::Deadline {
            what: format!("reconcile {}", object.name_any()),
            within: RECONCILE_DEADLINE,
        })
    })?;
    frame.failures.clear(&ObjectRef::from_obj(object));
    Ok(Action::requeue(match next {
        Next::Await => jittered(RESYNC),
        Next::After(time) => time,
    }))
}

async fn once<C>(frame: &Frame<C>, object: &C::Object) -> Result<Next, Error>
where
    C: Controller,
    <C::Object as HasStatus>::Status: Serialize + PartialEq + Send + Sync,
{
    let controller = frame.controller.as_ref();
    let observed = controller.observe(object).await?;
    let plan = controller.plan(object, &observed)?;
    let mut status = controller.status(object, &observed, &plan);
    // the status is written also when the change fails: it says what was seen
    let applied = controller.apply(object, plan).await;
    if let Some(status) = &mut status {
        controller.outcome(status, applied.as_ref().err(), Timestamp::now());
    }
    if let Some(status) = status
        && object.status() != Some(&status)
    {
        match write_status::<C>(frame, object, &status).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() => debug!("The object is gone, so is its status"),
            Err(error) => return applied.and(Err(error)),
        }
    }
    if let Some(words) = applied.as_ref().err().and_then(Error::refusal) {
        let events = &frame.context.events;
        events.warning(object, "Refused", "Apply", words).await;
    }
    applied
}

async fn write_status<C>(
    frame: &Frame<C>,
    object: &C::Object,
    status: &<C::Object as HasStatus>::Status,
) -> Result<(), Error>
where
    C: Controller,
    <C::Object as HasStatus>::Status: Serialize + Sync,
{
    let client = frame.context.client.clone();
    let resource = kube::core::ApiResource::erase::<C::Object>(&());
    let name = object.name_any();
    let api: Api<kube::core::DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client, &namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let patch = serde_json::json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": { "name": name },
        "status": status,
    });
    let params = kube::api::PatchParams::apply(C::NAME).force();
    let what = format!("write the status of {} {name}", resource.kind);
    call::within(
        &what,
        api.patch_status(&name, &params, &kube::api::Patch::Apply(patch)),
    )
    .await
    .map(drop)
}

fn after_failure<C: Controller>(
    object: &Arc<C::Object>,
    error: &Error,
    frame: &Frame<C>,
) -> Action {
    let reference = ObjectRef::from_obj(object.as_ref());
    let count = frame.failures.add(reference);
    let wait = delay(count);
    if error.is_conflict() {
        debug!(
            controller = C::NAME,
            name = object.name_any(),
            "Read an old version, reading again"
        );
    } else {
        warn!(
            controller = C::NAME,
            namespace = object.namespace(),
            name = object.name_any(),
            failures = count,
            retry_in = ?wait,
            %error,
            "Reconcile failed"
        );
    }
    Action::requeue(wait)
}

#[cfg(test)]
mod tests;
