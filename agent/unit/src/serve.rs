//! The gRPC services.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use upm_proto::unit::v1 as pb;
use upm_proto::unit::v1::redis_member_service_server::RedisMemberService;
use upm_proto::unit::v1::unit_service_server::UnitService;

use crate::info::Info;
use crate::launch::Launcher;
use crate::link::{Endpoint, Error as LinkError, Link};
use crate::member::facts::StartFacts;
use crate::member::record::Record;
use crate::member::rules::{Elected, History};
use crate::member::store::Store;
use crate::member::{Admission, Live, Member, view};
use crate::refusal::Refusal;
use crate::supervise::{Process, Supervisor};
use crate::watch::{Health, SILENT};
use crate::words::LinkWords;

/// How often a member that changes meanwhile is looked at again.
const LOOKS: usize = 5;

/// Everything the services look at.
#[derive(Debug)]
pub struct Unit {
    /// The pod's name.
    pub name: String,
    /// Changes with each start of the unit agent.
    pub instance_id: String,
    /// Prepares starts.
    pub launcher: Arc<Launcher>,
    /// The process.
    pub process: Supervisor,
    /// The member's role.
    pub member: Member,
    /// The record on the volume.
    pub store: Arc<Store>,
    /// What the last start found.
    pub facts: Arc<Mutex<StartFacts>>,
    /// How the server is.
    pub health: watch::Receiver<Health>,
    /// Why the server does not have the passwords of its Secret.
    pub credentials: watch::Receiver<String>,
    /// What the server said last about the link to its primary.
    pub link_error: Arc<LinkWords>,
    /// The server.
    pub server: Endpoint,
    /// A connection for looking only.
    pub looking: tokio::sync::Mutex<Option<(i32, Link)>>,
}

/// What the member was told, and the run of the server that it was told to.
struct Told {
    process: Process,
    record: Record,
    live: Live,
}

impl Told {
    fn same(&self, other: &Self) -> bool {
        let run = |process: &Process| (process.starts, process.pid);
        run(&self.process) == run(&other.process)
            && self.record == other.record
            && self.live == other.live
    }
}

impl Unit {
    /// Why the unit is not ready.
    pub fn unready(&self) -> Option<String> {
        let process = self.process.now();
        if process.alive() {
            return self.health.borrow().unready(process.starts);
        }
        Some(format!("the server does not run: {}", process.last_exit))
    }

    fn state(&self) -> pb::UnitState {
        let process = self.process.now();
        let health = self.health.borrow().clone();
        let unready = self.unready();
        let answered = health.answered_in(process.starts);
        pb::UnitState {
            unit: self.name.clone(),
            process: view::process(
                &process,
                answered,
                answered && !health.silent_in(process.starts),
            )
            .into(),
            pid: process.pid,
            since: Some(process.since.into()),
            restarts: process.unexpected,
            last_exit: process.last_exit,
            ready: unready.is_none(),
            reason: unready.unwrap_or_default(),
            configuration_hash: process.hash,
            server_version: health.info.map(|info| info.version).unwrap_or_default(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            instance_id: self.instance_id.clone(),
        }
    }

    /// A connection for looking, to this run of the server.
    async fn look(&self, process: &Process) -> Result<Link, LinkError> {
        let mut looking = self.looking.lock().await;
        if let Some((starts, link)) = looking.as_ref()
            && *starts == process.starts
        {
            return Ok(link.clone());
        }
        let link = self.server.open(SILENT).await?;
        *looking = Some((process.starts, link.clone()));
        Ok(link)
    }

    async fn ask(&self, process: &Process) -> Result<Info, String> {
        if !process.alive() {
            return Err(format!("the server does not run: {}", process.last_exit));
        }
        // who waits for a frozen server again and again learns nothing
        if self.health.borrow().silent_in(process.starts) {
            return Err(format!(
                "the server does not answer: {}",
                self.health.borrow().error
            ));
        }
        for attempt in 0..2 {
            let mut link = self
                .look(process)
                .await
                .map_err(|error| error.to_string())?;
            match link.info(SILENT).await {
                Ok(info) if info.process_id == process.pid => return Ok(info),
                Ok(_) => return Err("another process answers".to_owned()),
                Err(error @ LinkError::Silent(_)) => return Err(error.to_string()),
                Err(error) => {
                    self.looking.lock().await.take();
                    // closed together with the clients: once more
                    if attempt == 1 {
                        return Err(error.to_string());
                    }
                }
            }
        }
        Err("no answer".to_owned())
    }

    fn told(&self) -> Told {
        let process = self.process.now();
        Told {
            record: self.store.get(),
            live: self.member.live(process.starts),
            process,
        }
    }

    /// The member as it is now. What the server says and what the member was told are of one moment: an offset of before the fence must
    /// not be told as that of a fenced member, which may have acknowledged more in between.
    pub async fn observe(&self) -> pb::RedisMember {
        let mut told = self.told();
        for _ in 0..LOOKS {
            let info = self.ask(&told.process).await;
            let now = self.told();
            if info.is_err() || now.same(&told) {
                return self.view(&now, info);
            }
            told = now;
        }
        let why = "the member changes while it is looked at";
        self.view(&told, Err(why.to_owned()))
    }

    fn view(&self, told: &Told, info: Result<Info, String>) -> pb::RedisMember {
        let answered = self.health.borrow().answered_in(told.process.starts);
        let facts = self
            .facts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        view::member(&view::Parts {
            unit: &self.name,
            record: &told.record,
            live: &told.live,
            facts: &facts,
            process: &told.process,
            answered,
            info: info.as_ref().map_err(Clone::clone),
            credentials_reason: self.credentials.borrow().clone(),
            link_error: self.link_error.last(),
        })
    }

    /// Waits, at most `within`, until a server that was just ended answers again.
    async fn settled(&self, within: Duration) -> pb::RedisMember {
        let until = Instant::now() + within;
        loop {
            let seen = self.observe().await;
            if seen.reachable || Instant::now() >= until {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn duration(
    given: Option<prost_types::Duration>,
    default: Duration,
    most: Duration,
) -> Result<Duration, Status> {
    let Some(given) = given else {
        return Ok(default);
    };
    match Duration::try_from(given) {
        Ok(duration) if duration <= most => Ok(duration),
        _ => Err(Refusal::Invalid("a duration is out of range").into()),
    }
}

/// The services of one unit.
#[derive(Clone, Debug)]
pub struct Services(pub Arc<Unit>);

#[tonic::async_trait]
impl UnitService for Services {
    async fn get_unit(
        &self,
        _: Request<pb::GetUnitRequest>,
    ) -> Result<Response<pb::UnitState>, Status> {
        Ok(Response::new(self.0.state()))
    }

    type WatchUnitStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<pb::UnitState, Status>> + Send>>;

    async fn watch_unit(
        &self,
        _: Request<pb::GetUnitRequest>,
    ) -> Result<Response<Self::WatchUnitStream>, Status> {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let unit = self.0.clone();
        // ends with the stream's receiver
        tokio::spawn(async move {
            let mut process = unit.process.watch();
            let mut health = unit.health.clone();
            let mut sent: Option<(pb::UnitState, Instant)> = None;
            loop {
                let state = unit.state();
                let due = sent.as_ref().is_none_or(|(last, at)| {
                    *last != state || at.elapsed() >= Duration::from_secs(5)
                });
                if due {
                    sent = Some((state.clone(), Instant::now()));
                    if sender.send(Ok(state)).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    () = sender.closed() => return,
                    changed = process.changed() => if changed.is_err() { return },
                    changed = health.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(Duration::from_secs(5)) => {}
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn start_process(
        &self,
        _: Request<pb::StartProcessRequest>,
    ) -> Result<Response<pb::UnitState>, Status> {
        self.0
            .launcher
            .render(true)
            .map_err(|error| Refusal::Configuration(error.to_string()))?;
        self.0.process.start().await;
        Ok(Response::new(self.0.state()))
    }

    async fn stop_process(
        &self,
        request: Request<pb::StopProcessRequest>,
    ) -> Result<Response<pb::UnitState>, Status> {
        let grace = duration(
            request.into_inner().grace_period,
            Duration::from_mins(1),
            Duration::from_mins(10),
        )?;
        self.0.process.stop(grace.max(Duration::from_secs(1))).await;
        Ok(Response::new(self.0.state()))
    }

    async fn render_configuration(
        &self,
        _: Request<pb::RenderConfigurationRequest>,
    ) -> Result<Response<pb::RenderConfigurationResponse>, Status> {
        let rendered = self
            .0
            .launcher
            .render(false)
            .map_err(|error| Refusal::Configuration(error.to_string()))?;
        let hash = crate::render::hash(&rendered);
        let process = self.0.process.now();
        let restart_required = process.alive() && process.hash != hash;
        Ok(Response::new(pb::RenderConfigurationResponse {
            hash,
            restart_required,
        }))
    }
}

#[tonic::async_trait]
impl RedisMemberService for Services {
    async fn observe_member(
        &self,
        _: Request<pb::ObserveMemberRequest>,
    ) -> Result<Response<pb::RedisMember>, Status> {
        Ok(Response::new(self.0.observe().await))
    }

    async fn promise_epoch(
        &self,
        request: Request<pb::PromiseEpochRequest>,
    ) -> Result<Response<pb::RedisMember>, Status> {
        self.0.member.promise(request.into_inner().epoch).await?;
        Ok(Response::new(self.0.settled(Duration::from_secs(2)).await))
    }

    async fn follow_primary(
        &self,
        request: Request<pb::FollowPrimaryRequest>,
    ) -> Result<Response<pb::RedisMember>, Status> {
        let pb::FollowPrimaryRequest {
            epoch,
            host,
            port,
            replid,
            offset,
        } = request.into_inner();
        self.0
            .member
            .follow(
                epoch,
                History {
                    replid,
                    offset,
                    host,
                    port,
                },
            )
            .await?;
        Ok(Response::new(self.0.observe().await))
    }

    async fn grant_primary(
        &self,
        request: Request<pb::GrantPrimaryRequest>,
    ) -> Result<Response<pb::RedisMember>, Status> {
        let pb::GrantPrimaryRequest {
            epoch,
            min_replicas_to_write,
            replid,
            offset,
            admitted_member_ids,
            record_version,
            member_id,
            group_member_ids,
        } = request.into_inner();
        self.0
            .member
            .lead(
                epoch,
                min_replicas_to_write,
                Admission {
                    members: admitted_member_ids.into_iter().collect(),
                    group: group_member_ids.into_iter().collect(),
                    record_version,
                },
                Elected {
                    replid,
                    offset,
                    member_id,
                },
            )
            .await?;
        Ok(Response::new(self.0.observe().await))
    }

    async fn pause_writes(
        &self,
        request: Request<pb::PauseWritesRequest>,
    ) -> Result<Response<pb::RedisMember>, Status> {
        let request = request.into_inner();
        let pause = duration(
            request.pause,
            Duration::from_secs(10),
            Duration::from_mins(1),
        )?;
        self.0.member.pause(request.epoch, pause).await?;
        Ok(Response::new(self.0.observe().await))
    }

    async fn resume_writes(
        &self,
        request: Request<pb::ResumeWritesRequest>,
    ) -> Result<Response<pb::RedisMember>, Status> {
        self.0.member.resume(request.into_inner().epoch).await?;
        Ok(Response::new(self.0.observe().await))
    }

    async fn await_offset(
        &self,
        request: Request<pb::AwaitOffsetRequest>,
    ) -> Result<Response<pb::RedisMember>, Status> {
        let request = request.into_inner();
        let within = duration(
            request.timeout,
            Duration::from_secs(5),
            Duration::from_secs(30),
        )?;
        let until = Instant::now() + within;
        let process = self.0.process.now();
        let mut link = self
            .0
            .look(&process)
            .await
            .map_err(|error| Refusal::Unresponsive(error.to_string()))?;
        while let Ok(info) = link.replication(SILENT).await {
            if (info.replid == request.replid && info.offset >= request.offset)
                || Instant::now() >= until
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Response::new(self.0.observe().await))
    }
}
