//! One operation under its lease.

use std::{sync::Arc, time::Duration};

use store::time::now_us;
use tokio::{sync::Notify, sync::broadcast, time::sleep};
use tracing::Instrument;

use crate::{
    Error, Predicate,
    ending::{self, Facts, RowChange},
    failpoint::Halted,
    host::Host,
    operation::{self, Direction, Next, Operation, State},
    service::{self, Life, Service},
    steps::{self, Bench, Effect, Fault, Outcome},
};

const EMPTY_TYPE: &str = "type.googleapis.com/google.protobuf.Empty";
/// First and longest pause after something that is needed was away.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Why this replica stops working on an operation that has not ended.
#[derive(Debug)]
enum Stop {
    /// As if the process had died.
    Halted,
    /// Another replica has it.
    Lost,
    /// The journal could not be read or written.
    Failed(Error),
}

impl From<Halted> for Stop {
    fn from(_: Halted) -> Self {
        Self::Halted
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::Fenced(_) => Self::Lost,
            other => Self::Failed(other),
        }
    }
}

/// Takes the lease and works on the operation until it ends, the lease is lost, or the process drains. Returns the name.
pub(super) async fn drive(host: Arc<Host>, name: String) -> String {
    let operation = match acquire(&host, &name).await {
        Ok(Some(operation)) => operation,
        Ok(None) => return name,
        Err(error) => {
            tracing::warn!(operation.name = %name, %error, "Could not take up {name}");
            return name;
        }
    };
    let epoch = operation.lease_epoch;
    let span = tracing::info_span!("operation", operation.name = %name, operation.kind = %operation.kind(), lease.epoch = epoch);
    let span = mesh::telemetry::with_traceparent(span, &operation.traceparent);
    let wake = Arc::new(Notify::new());
    let worker = Box::pin(Worker::new(host.clone(), operation.clone(), wake.clone()).work());
    let stop = async {
        tokio::select! {
            ended = worker => ended.err(),
            () = renew(&host, &name, epoch) => Some(Stop::Lost),
            () = listen(&host, &operation, &wake) => None,
            () = host.drain.signalled() => None,
        }
    }
    .instrument(span)
    .await;
    match stop {
        // Only tests come here. A process that has died takes nothing up again.
        Some(Stop::Halted) => std::future::pending().await,
        Some(Stop::Lost) => {
            tracing::info!(operation.name = %name, "Another replica has taken over {name}");
        }
        Some(Stop::Failed(error)) => {
            tracing::warn!(operation.name = %name, %error, "Left {name} for later");
            tokio::select! {
                () = sleep(host.config.tick()) => {}
                () = host.drain.signalled() => {}
            }
        }
        None => {}
    }
    let (of, owner) = (name.clone(), host.replica.clone());
    let released = host
        .store
        .transact("engine.release", move |conn| {
            operation::model::release(conn, &of, &owner, epoch)
        })
        .await;
    if let Err(error) = released {
        tracing::debug!(operation.name = %name, %error, "The lease ends by itself");
    }
    name
}

async fn acquire(host: &Host, name: &str) -> Result<Option<Operation>, Error> {
    let (name, owner, lease) = (name.to_owned(), host.replica.clone(), host.config.lease());
    host.store
        .transact("engine.acquire", move |conn| {
            operation::model::acquire(conn, &name, &owner, lease)
        })
        .await
}

/// Renews the lease; ends when it is lost, or could not be renewed in time.
async fn renew(host: &Host, name: &str, epoch: i64) {
    let mut last = tokio::time::Instant::now();
    loop {
        sleep(host.config.renewal()).await;
        let (of, owner, lease) = (name.to_owned(), host.replica.clone(), host.config.lease());
        let before = tokio::time::Instant::now();
        let renewed = host
            .store
            .transact("engine.renew", move |conn| {
                operation::model::renew(conn, &of, &owner, epoch, lease)
            })
            .await;
        match renewed {
            Ok(true) => last = before,
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(operation.name = %name, %error, "Could not renew a lease");
                if host.config.lease() < last.elapsed() {
                    return;
                }
            }
        }
    }
}

/// Wakes the worker when something happens to the service's objects, or to the operation in this process. Never ends.
async fn listen(host: &Host, operation: &Operation, wake: &Notify) {
    let mut changes = host.signals.operations.subscribe();
    let local = async {
        loop {
            match changes.recv().await {
                Ok(name) if name != operation.name => {}
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => wake.notify_one(),
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    tokio::join!(local, watch_ledger(host, operation, wake));
}

async fn watch_ledger(host: &Host, operation: &Operation, wake: &Notify) {
    let ctx = host.background().in_trace(&operation.traceparent);
    loop {
        let name = operation.target.clone();
        let found = host
            .store
            .read("engine.service", move |conn| {
                service::model::find(conn, &name)
            })
            .await;
        if let Ok(Some(service)) = found
            && let Ok(mut changes) = host
                .ledger
                .watch(&ctx, &service.cluster, &operation.target)
                .await
        {
            while let Ok(Some(_)) = changes.message().await {
                wake.notify_one();
            }
        }
        sleep(host.config.tick()).await;
    }
}

/// Works on one operation.
struct Worker {
    host: Arc<Host>,
    operation: Operation,
    kind: String,
    wake: Arc<Notify>,
    /// The step that this worker has begun, and which way.
    begun: Option<(usize, Direction)>,
    pause: Duration,
}

impl Worker {
    fn new(host: Arc<Host>, operation: Operation, wake: Arc<Notify>) -> Self {
        Self {
            kind: operation.kind(),
            host,
            operation,
            wake,
            begun: None,
            pause: BACKOFF.0,
        }
    }

    async fn work(mut self) -> Result<(), Stop> {
        loop {
            match self.operation.next() {
                Next::Nothing => return Ok(()),
                Next::Do(at) => self.forward(at).await?,
                Next::Undo(at) => self.backward(at).await?,
                Next::TurnRound => {
                    let until = now_us() + self.undo_us();
                    self.operation.turn_round(Direction::Cancelling, until);
                    self.commit(Effect::None).await?;
                }
                Next::Succeed => {
                    self.operation.response = Some(self.response().await?);
                    self.operation.end(State::Succeeded, now_us());
                    self.commit(Effect::None).await?;
                }
                Next::EndUndone => {
                    let state = match self.operation.direction {
                        Direction::Forward | Direction::Cancelling => State::Cancelled,
                        Direction::RollingBack => State::RolledBack,
                    };
                    self.operation.end(state, now_us());
                    self.say_what_stays().await?;
                    self.commit(Effect::None).await?;
                }
            }
        }
    }

    async fn forward(&mut self, at: usize) -> Result<(), Stop> {
        let step = self.operation.journal.steps[at].step.clone();
        if self.begun != Some((at, Direction::Forward)) {
            self.operation.begin(at, now_us());
            if !self.commit(Effect::None).await? {
                return Ok(());
            }
            self.begun = Some((at, Direction::Forward));
            self.host
                .failpoints
                .pass(&self.kind, &step.name, "before")?;
        }
        if self.operation.deadline_us <= now_us() {
            let overdue = self.operation.overdue(at);
            let undo_us = self.undo_us();
            self.operation.fail(at, overdue, false, now_us(), undo_us);
            self.commit(Effect::None).await?;
            return Ok(());
        }
        let bench = Bench::new(&self.host, &self.operation);
        match steps::run(&bench, &step).await {
            Ok(Outcome::Done(effect)) => {
                self.host.failpoints.pass(&self.kind, &step.name, "ran")?;
                self.operation.journal.done(at, now_us());
                self.step_ended(effect, &step.name, "after").await
            }
            Ok(Outcome::Skipped(why)) => {
                self.host.failpoints.pass(&self.kind, &step.name, "ran")?;
                self.operation.journal.skip(at, now_us(), why);
                self.step_ended(Effect::None, &step.name, "after").await
            }
            Ok(Outcome::Waiting(predicates)) => {
                self.pause = BACKOFF.0;
                self.wait(at, predicates, self.host.config.tick()).await
            }
            Err(Fault::Transient(predicate)) => self.back_off(at, predicate).await,
            Err(Fault::Fenced) => Err(Stop::Lost),
            Err(Fault::Permanent { status, roll_back }) => {
                let undo_us = self.undo_us();
                self.operation
                    .fail(at, status, roll_back, now_us(), undo_us);
                self.commit(Effect::None).await?;
                Ok(())
            }
        }
    }

    async fn backward(&mut self, at: usize) -> Result<(), Stop> {
        let step = self.operation.journal.steps[at].step.clone();
        if self.begun != Some((at, self.operation.direction)) {
            self.begun = Some((at, self.operation.direction));
            self.host
                .failpoints
                .pass(&self.kind, &step.name, "undo_before")?;
        }
        if self.operation.undo_deadline_us <= now_us() {
            let unmet =
                crate::predicate::unmet_in_words(&self.operation.journal.steps[at].predicates);
            return self.give_up_undoing(&unmet).await;
        }
        let bench = Bench::new(&self.host, &self.operation);
        match steps::undo(&bench, &step).await {
            Ok(Outcome::Done(_) | Outcome::Skipped(_)) => {
                self.host
                    .failpoints
                    .pass(&self.kind, &step.name, "undo_ran")?;
                self.operation.journal.undone(at, now_us());
                self.step_ended(Effect::None, &step.name, "undo_after")
                    .await
            }
            Ok(Outcome::Waiting(predicates)) => {
                self.wait(at, predicates, self.host.config.tick()).await
            }
            Err(Fault::Transient(predicate)) => self.back_off(at, predicate).await,
            Err(Fault::Fenced) => Err(Stop::Lost),
            Err(Fault::Permanent { status, .. }) => self.give_up_undoing(&status.message).await,
        }
    }

    /// Names in the error of an operation that ended undone what it leaves in the cluster.
    async fn say_what_stays(&mut self) -> Result<(), Stop> {
        let target = self.operation.target.clone();
        let found = self
            .host
            .store
            .read("engine.service", move |conn| {
                service::model::find(conn, &target)
            })
            .await?;
        let Some(service) = found else { return Ok(()) };
        let facts = Facts {
            volume_sizes: self.host.engine.volume_sizes(&service)?,
            now_us: now_us(),
        };
        let stays = ending::leaves(&service, &self.operation, &facts);
        if let (Some(error), Some(stays)) = (&mut self.operation.error, stays) {
            error.message = format!("{}; {stays}", error.message);
        }
        Ok(())
    }

    async fn step_ended(&mut self, effect: Effect, step: &str, place: &str) -> Result<(), Stop> {
        self.begun = None;
        self.pause = BACKOFF.0;
        if self.commit(effect).await? {
            self.host.failpoints.pass(&self.kind, step, place)?;
        }
        Ok(())
    }

    async fn give_up_undoing(&mut self, why: &str) -> Result<(), Stop> {
        if let Some(error) = &mut self.operation.error {
            error.message = format!("{}; undoing it was given up: {why}", error.message);
        }
        self.operation.end(State::Failed, now_us());
        self.commit(Effect::None).await?;
        Ok(())
    }

    async fn back_off(&mut self, at: usize, predicate: Predicate) -> Result<(), Stop> {
        let pause = self.pause;
        self.pause = (pause * 2).min(BACKOFF.1);
        self.wait(at, vec![predicate], pause).await
    }

    /// Notes what the step waits for, then waits for a change, the pause, or the deadline, and reads the operation again.
    async fn wait(
        &mut self,
        at: usize,
        predicates: Vec<Predicate>,
        pause: Duration,
    ) -> Result<(), Stop> {
        if self.operation.journal.wait(at, predicates) && !self.commit(Effect::None).await? {
            return Ok(());
        }
        let until = match self.operation.direction {
            Direction::Forward => self.operation.deadline_us,
            Direction::Cancelling | Direction::RollingBack => self.operation.undo_deadline_us,
        };
        let left = Duration::from_micros(u64::try_from(until - now_us()).unwrap_or_default());
        tokio::select! {
            () = self.wake.notified() => {}
            () = sleep(pause.min(left)) => {}
        }
        self.reload().await
    }

    async fn reload(&mut self) -> Result<(), Stop> {
        let name = self.operation.name.clone();
        let found = self
            .host
            .store
            .read("engine.operation", move |conn| {
                operation::model::find(conn, &name)
            })
            .await?;
        match found {
            Some(found)
                if found.lease_epoch == self.operation.lease_epoch
                    && found.lease_owner == self.host.replica =>
            {
                self.operation = found;
                Ok(())
            }
            Some(_) | None => Err(Stop::Lost),
        }
    }

    /// Writes the operation and what its step or its end changes in the service's row, in one transaction. `false` when somebody
    /// changed the operation meanwhile (a cancel): then it is read again and nothing was written.
    async fn commit(&mut self, effect: Effect) -> Result<bool, Stop> {
        let engine = self.host.engine.clone();
        let operation = self.operation.clone();
        let committed = self.host.store.transact("engine.journal", move |conn| {
            let mut operation = operation.clone();
            if !operation::model::holds(
                conn,
                &operation.name,
                &operation.lease_owner,
                operation.lease_epoch,
            )? {
                return Err(Error::Fenced(operation.name.clone()));
            }
            if !operation::model::swap(conn, &mut operation)? {
                return Ok(None);
            }
            if effect == Effect::None && !operation.state.ended() {
                return Ok(Some(operation));
            }
            let Some(service) = service::model::lock(conn, &operation.target)? else {
                return Ok(Some(operation));
            };
            let facts = Facts {
                volume_sizes: engine.volume_sizes(&service)?,
                now_us: now_us(),
            };
            write_row(conn, service, &effect, &operation, &facts)?;
            Ok(Some(operation))
        });
        if let Some(operation) = committed.await? {
            self.operation = operation;
            self.host
                .signals
                .changed(&self.operation.name, &self.operation.target);
            return Ok(true);
        }
        self.begun = None;
        self.reload().await?;
        Ok(false)
    }

    /// What the operation made: the service, as far as it can be seen now.
    async fn response(&self) -> Result<prost_types::Any, Stop> {
        let bench = Bench::new(&self.host, &self.operation);
        let service = match bench.service().await {
            Ok(service) if service.life != Life::Retained => service,
            Ok(_) | Err(Fault::Permanent { .. }) => {
                return Ok(prost_types::Any {
                    type_url: EMPTY_TYPE.to_owned(),
                    value: Vec::new(),
                });
            }
            Err(Fault::Fenced) => return Err(Stop::Lost),
            Err(Fault::Transient(predicate)) => {
                tracing::warn!(reason = %predicate.reason, "The service could not be read");
                return Err(Stop::Failed(Error::Broken("the service could not be read")));
            }
        };
        let mut shown = service;
        shown.operation.clear();
        let observed = bench.observe(&shown).await.ok();
        Ok(self.host.engine.resource(&shown, observed.as_ref())?)
    }

    fn undo_us(&self) -> i64 {
        i64::try_from(self.host.config.undo_deadline_ms).unwrap_or(i64::MAX / 2_000) * 1_000
    }
}

fn write_row(
    conn: &mut store::Connection,
    service: Service,
    effect: &Effect,
    operation: &Operation,
    facts: &Facts,
) -> Result<(), Error> {
    let name = service.name.clone();
    let mut change = ending::after_step(service, effect, operation, facts);
    if operation.state.ended()
        && let RowChange::Update(service) = change
    {
        change = ending::after_end(*service, operation, facts);
    }
    match change {
        RowChange::Update(service) => {
            if service.life == Life::Retained {
                service::model::depart(conn, &name)?;
            }
            service::model::update(conn, &service)
        }
        RowChange::Forget => service::model::forget(conn, &name),
    }
}
