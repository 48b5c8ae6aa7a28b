//! An engine of another nature: two pools, members that elect by themselves, and no primary that the platform knows.

use serde::{Deserialize, Serialize};

use crate::{
    Check, Engine, Error, Life, Observed, Predicate, Service,
    accept::{Acceptance, Change, NewService, Request},
    desired::{DesiredState, Input, MAIN, RetainedVolumes, Units, Volumes},
    engine::{spec_to_json, units},
    intent::{IntentTemplate, Part},
    names::ServiceName,
    operation::State,
    pool::{self, Pool},
    workflows::{self, Scaling},
    world::{PACE, World, ctx, package, toy},
};

/// Voters and proxies before them.
struct Quorum;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct QuorumSpec {
    voters: u32,
    proxies: u32,
}

const PROXIES: &str = "px";

impl Engine for Quorum {
    const KIND: &'static str = "quorum";
    const COLLECTION: &'static str = "quorumServices";
    const TYPES: &'static [&'static str] = &["toy"];
    const SPEC_VERSION: i32 = 1;
    type Spec = QuorumSpec;

    fn pools(spec: &QuorumSpec) -> Vec<Pool> {
        vec![
            toy::pool(MAIN, spec.voters),
            toy::pool(PROXIES, spec.proxies),
        ]
    }

    fn topology(
        _: &QuorumSpec,
        desired: &DesiredState,
        names: &ServiceName,
    ) -> Result<Vec<IntentTemplate>, Error> {
        let object = serde_json::json!({
            "apiVersion": "upm.syntropycloud.io/v1alpha1", "kind": "Quorum",
            "metadata": pool::metadata(names, names.service.clone()),
            "spec": {"voters": desired.members_of(MAIN)},
        });
        Ok(vec![IntentTemplate::of(Part::Topology, &object)?])
    }

    fn check(_: &Check, service: &Service, observed: &Observed) -> Vec<Predicate> {
        let known = observed.find("Quorum", &service.name.service).is_some();
        vec![Predicate::new("QUORUM", known, "the voters agree")]
    }

    fn resource(service: &Service, _: Option<&Observed>) -> Result<prost_types::Any, Error> {
        Ok(prost_types::Any {
            type_url: "quorum".into(),
            value: service.name.to_string().into_bytes(),
        })
    }
}

fn name() -> ServiceName {
    ServiceName::new("p", Quorum::COLLECTION, "demo")
}

fn both(voters: u32, proxies: u32) -> Units {
    units(&Quorum::pools(&QuorumSpec { voters, proxies }))
}

/// A module of the engine, with a service of three voters and two proxies.
struct Module {
    world: World,
    services: crate::Services<Quorum>,
    _tasks: mesh::Tasks,
}

impl Module {
    async fn new() -> Self {
        let world = World::new().await;
        let services = world.services::<Quorum>("quorum", crate::Failpoints::off());
        let module = Self {
            _tasks: services.tasks(),
            services,
            world,
        };
        let spec = QuorumSpec {
            voters: 3,
            proxies: 2,
        };
        let change = Change::Create(NewService {
            spec: spec_to_json::<Quorum>(&spec).unwrap(),
            spec_version: 1,
            labels: [].into(),
            description: String::new(),
            deletion_policy: crate::DeletionPolicy::KeepData,
            cluster: "c".into(),
            package: package(),
        });
        let plan = workflows::create(&PACE, &name(), "c", &both(3, 2), RetainedVolumes::Refuse);
        let input = Input {
            units: both(3, 2),
            ..Input::default()
        };
        module.done(plan, input, change).await;
        module
    }

    async fn service(&self) -> Service {
        self.services.find(&name()).await.unwrap()
    }

    async fn begin(&self, plan: crate::Plan, input: Input, life: Option<Life>) {
        let seen = self.service().await;
        self.done(plan, input, Change::Begin { seen, life }).await;
    }

    async fn done(&self, plan: crate::Plan, input: Input, change: Change) {
        let acceptance = Acceptance {
            name: name(),
            plan,
            input,
            change,
            diff: serde_json::Value::Null,
        };
        let request = Request {
            method: "/quorum/Any",
            request_id: String::new(),
            content: serde_json::Value::Null,
        };
        let accepted = self.services.accept(&ctx(), request, acceptance).await;
        let ended = self.world.ended(&accepted.unwrap().name).await;
        assert_eq!(ended.state, State::Succeeded, "{ended:#?}");
    }

    fn scaling(pool: &str, to: u32, takes_part: bool, spec: &QuorumSpec) -> Scaling {
        Scaling {
            units: both(3, 2),
            members: both(3, 2),
            pool: pool.into(),
            to,
            takes_part,
            spec: spec_to_json::<Quorum>(spec).unwrap(),
        }
    }
}

#[tokio::test]
async fn a_service_of_two_pools_has_a_set_for_each() {
    let module = Module::new().await;
    let wrote = |name: &str| module.world.hub.wrote(name);
    assert_eq!(wrote("UnitSet/demo")[0].json["spec"]["units"], 3);
    assert_eq!(wrote("UnitSet/demo-px")[0].json["spec"]["units"], 2);
    assert_eq!(
        module.world.resource.all()["projects/p/quorumServices/demo"],
        5
    );
    assert_eq!(module.service().await.life, Life::Active);
}

#[tokio::test]
async fn scaling_one_pool_leaves_the_other_alone() {
    let module = Module::new().await;
    let wrote = |name: &str| module.world.hub.wrote(name).len();
    let before = (wrote("UnitSet/demo"), wrote("Quorum/demo"));
    let wanted = QuorumSpec {
        voters: 3,
        proxies: 4,
    };
    let scaling = Module::scaling(PROXIES, 4, false, &wanted);
    let plan = workflows::scale(&PACE, &scaling);
    module.begin(plan, Input::default(), None).await;
    let service = module.service().await;
    assert_eq!(service.desired.units(), both(3, 4));
    assert_eq!(crate::spec_of::<Quorum>(&service).unwrap(), wanted);
    assert_eq!((wrote("UnitSet/demo"), wrote("Quorum/demo")), before);
}

#[tokio::test]
async fn members_that_elect_by_themselves_need_no_switchover() {
    let module = Module::new().await;
    let wanted = QuorumSpec {
        voters: 1,
        proxies: 2,
    };
    let scaling = Module::scaling(MAIN, 1, true, &wanted);
    let plan = workflows::scale(&PACE, &scaling);
    module.begin(plan, Input::default(), None).await;
    let service = module.service().await;
    assert_eq!(service.desired.topology.switchover, None);
    assert_eq!(service.desired.units(), both(1, 2));
}

#[tokio::test]
async fn what_is_left_of_two_pools_must_be_adopted_as_a_whole() {
    let module = Module::new().await;
    let plan = workflows::delete(&PACE, &name(), &both(3, 2), Volumes::Retain);
    let life = Some(Life::Deleting);
    module.begin(plan, Input::default(), life).await;
    let refuse = |wanted: Units| {
        let input = Input {
            units: wanted,
            retained: RetainedVolumes::Adopt,
            ..Input::default()
        };
        let services = module.services.clone();
        async move { services.refuse_taken(&name(), &input, "c").await }
    };
    assert!(refuse(both(3, 1)).await.is_err());
    assert!(refuse(both(3, 2)).await.is_ok());
}

#[tokio::test]
async fn a_restart_goes_through_the_pools_one_after_the_other() {
    let module = Module::new().await;
    let plan = workflows::restart(&PACE, &both(3, 2), "2026-01-01T00:00:00Z");
    let names: Vec<String> = plan.steps.iter().map(|it| it.step.name.clone()).collect();
    assert_eq!(
        names[..4],
        [
            "ApplyRestart",
            "AwaitUnitsRestarted",
            "ApplyRestart:px",
            "AwaitUnitsRestarted:px"
        ]
    );
    module.begin(plan, Input::default(), None).await;
    for set in ["UnitSet/demo", "UnitSet/demo-px"] {
        let wrote = module.world.hub.wrote(set);
        let last = &wrote.last().unwrap().json["spec"];
        assert_eq!(last["restartedAt"], "2026-01-01T00:00:00Z");
    }
}
