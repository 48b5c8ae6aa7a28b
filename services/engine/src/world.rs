//! The surroundings of tests: a store on disk, the real runner, and behind the real in-memory mesh a hub and a module `resource` that
//! are doubles: the hub plays the cluster, too.

mod hub;
mod resource;
pub(crate) mod toy;

use std::{sync::Arc, time::Duration};

use store::testing::{TestStore, sqlite};
use tonic::service::Routes;
use upm_proto::{
    hub::v1::ledger_service_server::LedgerServiceServer, operation::v1 as pb,
    resource::v1::project_service_server::ProjectServiceServer,
};

pub(crate) use self::hub::Fake;
pub(crate) use self::resource::Reservations;
pub(crate) use self::toy::{PACE, Toy, ToySpec, package};
use crate::{
    Config, Error, Failpoints, Life, MIGRATIONS, Service, Services,
    accept::{Acceptance, Change, NewService, Request},
    desired::{Input, MAIN, RetainedVolumes, Switchover, Units, Volumes},
    engine::{Engine as _, spec_to_json},
    names::ServiceName,
    operation,
    service::{DeletionPolicy, model},
    workflows,
};

/// A store, a hub with its cluster, and module `resource`.
pub(crate) struct World {
    pub(crate) stored: TestStore,
    pub(crate) hub: Fake,
    pub(crate) resource: Reservations,
    pub(crate) config: Config,
    peers: mesh::Peers,
}

/// One replica of the module, with its runner at work.
pub(crate) struct Replica {
    pub(crate) services: Services<Toy>,
    pub(crate) tasks: mesh::Tasks,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(sqlite("toy", MIGRATIONS).await)
    }

    pub(crate) fn on(stored: TestStore) -> Self {
        let (hub, resource) = (Fake::default(), Reservations::default());
        let peers = mesh::Peers::new();
        serve(
            &peers,
            "hub",
            Routes::new(LedgerServiceServer::new(hub.clone())),
        );
        serve(
            &peers,
            "resource",
            Routes::new(ProjectServiceServer::new(resource.clone())),
        );
        Self {
            stored,
            hub,
            resource,
            config: Config {
                lease_ms: 150,
                tick_ms: 15,
                ..Config::default()
            },
            peers,
        }
    }

    /// A replica whose runner works.
    pub(crate) fn replica(&self) -> Replica {
        self.replica_with(Failpoints::off())
    }

    pub(crate) fn replica_with(&self, failpoints: Failpoints) -> Replica {
        let services = self.idle(failpoints);
        let tasks = services.tasks();
        Replica { services, tasks }
    }

    /// A replica whose runner does not work.
    pub(crate) fn idle(&self, failpoints: Failpoints) -> Services<Toy> {
        self.services("toy", failpoints)
    }

    /// The services of another engine.
    pub(crate) fn services<E: crate::Engine>(
        &self,
        name: &'static str,
        failpoints: Failpoints,
    ) -> Services<E> {
        let ctx = store::ModuleContext {
            name,
            store: self.stored.store.clone(),
            cache: store::Cache::in_process(),
            peers: self.peers.clone(),
            drain: mesh::Drain::new(),
        };
        Services::with_failpoints(&ctx, self.config.clone(), failpoints)
    }

    pub(crate) async fn service(&self) -> Option<Service> {
        let found = self.stored.store.read("test.service", |conn| {
            model::find(conn, &demo().to_string())
        });
        found.await.unwrap()
    }

    pub(crate) async fn operation(&self, name: &str) -> operation::Operation {
        let name = name.to_owned();
        let found = self.stored.store.read("test.operation", move |conn| {
            operation::model::find(conn, &name)
        });
        found.await.unwrap().unwrap()
    }

    /// Waits until an operation has ended.
    pub(crate) async fn ended(&self, name: &str) -> operation::Operation {
        self.until(name, |operation| operation.state.ended()).await
    }

    /// Waits until an operation is as wanted.
    pub(crate) async fn until(
        &self,
        name: &str,
        wanted: impl Fn(&operation::Operation) -> bool,
    ) -> operation::Operation {
        let waiting = async {
            loop {
                let operation = self.operation(name).await;
                if wanted(&operation) {
                    return operation;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_mins(2), waiting)
            .await
            .ok();
        match found {
            Some(operation) => operation,
            None => panic!("{name} never came there: {:#?}", self.operation(name).await),
        }
    }

    /// Creates the service and waits for it.
    pub(crate) async fn created(&self, replica: &Replica) {
        let operation = replica.create(3, RetainedVolumes::Refuse).await.unwrap();
        let ended = self.ended(&operation.name).await;
        assert_eq!(ended.state, operation::State::Succeeded, "{ended:#?}");
    }
}

impl Replica {
    /// Ends it as a crash would: nothing is given back.
    pub(crate) fn kill(self) {
        drop(self.tasks);
    }

    pub(crate) async fn create(
        &self,
        members: u32,
        retained: RetainedVolumes,
    ) -> Result<pb::Operation, Error> {
        create(&self.services, members, retained, "").await
    }

    pub(crate) async fn delete(&self, volumes: Volumes) -> Result<pb::Operation, Error> {
        let input = Input {
            volumes,
            ..Input::default()
        };
        let plan = workflows::delete(&PACE, &demo(), &main(3), volumes);
        self.begin(plan, input, Some(Life::Deleting)).await
    }

    pub(crate) async fn restart(&self, mark: &str) -> Result<pb::Operation, Error> {
        let plan = workflows::restart(&PACE, &main(3), mark);
        self.begin(plan, Input::default(), None).await
    }

    pub(crate) async fn switchover(
        &self,
        target: &str,
        expected_epoch: i64,
    ) -> Result<pb::Operation, Error> {
        let to = Switchover {
            target: target.to_owned(),
            expected_epoch,
            accept_loss: None,
        };
        let plan = workflows::switchover(&PACE, "demo-0", to);
        self.begin(plan, Input::default(), None).await
    }

    pub(crate) async fn scale(&self, from: u32, to: u32) -> Result<pb::Operation, Error> {
        let scaling = workflows::Scaling {
            units: main(from),
            members: main(from),
            pool: MAIN.to_owned(),
            to,
            takes_part: true,
            spec: spec_to_json::<Toy>(&ToySpec { members: to })?,
        };
        let plan = workflows::scale(&PACE, &scaling);
        self.begin(plan, Input::default(), None).await
    }

    pub(crate) async fn cancel(&self, name: &str) -> Result<(), Error> {
        cancel(&self.services, name).await
    }

    /// Begins a restart that was checked against this state of the service.
    pub(crate) async fn begin_seen(&self, seen: Service) -> Result<pb::Operation, Error> {
        let acceptance = Acceptance {
            name: demo(),
            plan: workflows::restart(&PACE, &main(3), "now"),
            input: Input::default(),
            change: Change::Begin { seen, life: None },
            diff: serde_json::Value::Null,
        };
        self.services
            .accept(&ctx(), request("/toy/Begin", "", 0), acceptance)
            .await
    }

    async fn begin(
        &self,
        plan: crate::Plan,
        input: Input,
        life: Option<Life>,
    ) -> Result<pb::Operation, Error> {
        let seen = self.services.find(&demo()).await?;
        self.services.refuse_conflict(&seen, plan.verb).await?;
        let acceptance = Acceptance {
            name: demo(),
            plan,
            input,
            change: Change::Begin { seen, life },
            diff: serde_json::Value::Null,
        };
        self.services
            .accept(&ctx(), request("/toy/Begin", "", 0), acceptance)
            .await
    }
}

/// Accepts a creation, after the checks that a handler makes.
pub(crate) async fn create(
    services: &Services<Toy>,
    members: u32,
    retained: RetainedVolumes,
    request_id: &str,
) -> Result<pb::Operation, Error> {
    let once = request("/toy/Create", request_id, members);
    if let Some(known) = services.replay(&ctx(), &once).await? {
        return Ok(known);
    }
    let input = Input {
        units: main(members),
        retained,
        ..Input::default()
    };
    services.refuse_taken(&demo(), &input, "c").await?;
    let spec = ToySpec { members };
    let acceptance = Acceptance {
        name: demo(),
        plan: workflows::create(&PACE, &demo(), "c", &main(members), retained),
        input,
        change: Change::Create(NewService {
            spec: spec_to_json::<Toy>(&spec)?,
            spec_version: Toy::SPEC_VERSION,
            labels: [("team".to_owned(), "db".to_owned())].into(),
            description: String::new(),
            deletion_policy: DeletionPolicy::KeepData,
            cluster: "c".to_owned(),
            package: package(),
        }),
        diff: serde_json::Value::Null,
    };
    services.accept(&ctx(), once, acceptance).await
}

/// Cancels an operation as its handler does.
pub(crate) async fn cancel(services: &Services<Toy>, name: &str) -> Result<(), Error> {
    services.operations().cancel(&ctx(), name).await
}

pub(crate) fn request(method: &'static str, request_id: &str, content: u32) -> Request {
    Request {
        method,
        request_id: request_id.to_owned(),
        content: serde_json::json!({"members": content}),
    }
}

pub(crate) fn ctx() -> mesh::Context {
    mesh::Context::internal("toy")
}

/// So many units of the main pool.
pub(crate) fn main(units: u32) -> Units {
    [(MAIN.to_owned(), units)].into()
}

pub(crate) fn demo() -> ServiceName {
    ServiceName::new("p", Toy::COLLECTION, "demo")
}

fn serve(peers: &mesh::Peers, module: &'static str, routes: Routes) {
    let sink = Arc::new(mesh::audit::LogSink);
    let stack = mesh::Server::builder(module, mesh::Verifier::new(), sink)
        .routes(routes)
        .build();
    // Internal methods are open to modules that have services, and the toy is none of the platform.
    let toy = mesh::SpiffeId::module("redis").expect("a module's name");
    peers.insert(module, stack.in_memory(toy));
}
