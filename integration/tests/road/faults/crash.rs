//! Processes that die in the middle of things.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::road::{
    kubectl::eventually,
    service::{HEALING, LONG, Service, spec},
    world::world,
    writer::{Writer, say},
};

/// Places at which the platform dies in each step: the journal says that the step has begun; its effect is there, the journal does not
/// say so; the journal says so.
const PLACES: [&str; 3] = ["before", "ran", "after"];
/// How long the platform may take until it comes to a place.
const COMING: Duration = Duration::from_mins(4);

/// An operation that the platform will not survive.
struct Doomed<'a> {
    service: &'a Service<'a>,
    method: &'static str,
    path: String,
    body: Option<Value>,
    /// Kinds of objects and the uids that were seen of each name.
    seen: BTreeMap<(&'static str, String), BTreeSet<String>>,
}

impl<'a> Doomed<'a> {
    /// The fields of the request beside the resource are query parameters of `path` when it has any, and in the body otherwise.
    fn new(
        service: &'a Service<'a>,
        method: &'static str,
        path: String,
        body: Option<Value>,
    ) -> Self {
        let mut doomed = Self {
            service,
            method,
            path,
            body,
            seen: BTreeMap::new(),
        };
        let request_id = json!(uuid::Uuid::new_v4());
        (doomed.path, doomed.body) = doomed.with("requestId", &request_id);
        doomed
    }

    /// Path and body with one more field of the request.
    fn with(&self, field: &str, value: &Value) -> (String, Option<Value>) {
        let (mut path, mut body) = (self.path.clone(), self.body.clone());
        if path.contains('?') {
            let text = value.to_string();
            path = format!("{path}&{field}={}", text.trim_matches('"'));
        } else if let Some(body) = &mut body {
            body[field] = value.clone();
        }
        (path, body)
    }

    /// Kind and step names of the plan.
    fn plan(&self) -> (String, Vec<String>) {
        let (path, body) = self.with("validateOnly", &json!(true));
        let plan = self
            .service
            .world
            .api()
            .call(self.method, &path, body.as_ref())
            .ok();
        let steps = plan["steps"].as_array().expect("a plan has steps");
        let name = |step: &Value| step["name"].as_str().expect("a step has a name").to_owned();
        let kind = plan["kind"].as_str().expect("a plan has a kind").to_owned();
        (kind, steps.iter().map(name).collect())
    }

    /// Begins the operation with a platform that dies at the first place, starts the platform again so that it dies at the next one, and
    /// so on; at last without. Returns the operation.
    fn run(&mut self) -> Value {
        let world = self.service.world;
        let (kind, steps) = self.plan();
        let begin = Instant::now();
        let mut deaths = 0;
        for step in &steps {
            for place in PLACES {
                let failpoint = format!("operation.{kind}.{step}.{place}");
                world.kill();
                world.begin(&[("UPM_FAILPOINT", &failpoint)]);
                if deaths == 0 {
                    world.answers(HEALING);
                    world.decides();
                    world.healthy(HEALING);
                    let api = world.api();
                    eventually("the operation is accepted", HEALING, || {
                        let answer = api.call(self.method, &self.path, self.body.as_ref());
                        // It may die before it answers.
                        if matches!(answer.status, 0 | 200) {
                            Ok(())
                        } else {
                            Err(answer.body.to_string())
                        }
                    });
                }
                assert!(
                    world.ended_within(COMING),
                    "the platform came to {failpoint}"
                );
                deaths += 1;
                self.look();
            }
        }
        world.start(&[]);
        let api = world.api();
        let again = api.call(self.method, &self.path, self.body.as_ref()).ok();
        let operation = api.succeeded(again["name"].as_str().expect("a name"), LONG);
        self.look();
        say(&format!(
            "{kind}: survived {deaths} deaths of the platform in {} s",
            begin.elapsed().as_secs()
        ));
        let attempts = |step: &Value| step["attempts"].as_i64().unwrap_or_default();
        let steps = operation["steps"].as_array().expect("steps");
        assert!(
            steps.iter().all(|step| 2 <= attempts(step)),
            "each step was begun again: {operation}"
        );
        operation
    }

    /// Notes which objects there are.
    fn look(&mut self) {
        for kind in [
            "unitset",
            "unit",
            "redisreplication",
            "pod",
            "persistentvolumeclaim",
            "service",
        ] {
            for (name, uid) in self.service.identities(kind) {
                self.seen.entry((kind, name)).or_default().insert(uid);
            }
        }
    }

    /// Nothing was made twice: each object kept its identity, and there are as many as there shall be.
    fn made_once(&self, members: usize) {
        for ((kind, name), uids) in &self.seen {
            assert_eq!(uids.len(), 1, "{kind} {name} was made {} times", uids.len());
        }
        for (kind, wanted) in [
            ("unitset", 1),
            ("unit", members),
            ("redisreplication", 1),
            ("pod", members),
            ("persistentvolumeclaim", members),
        ] {
            assert_eq!(self.service.identities(kind).len(), wanted, "{kind}");
        }
    }

    /// There is one operation of this kind for the service.
    fn accepted_once(&self, operation: &Value) {
        let all = self.service.world.api().operations(&self.service.name());
        let same: Vec<_> = all
            .iter()
            .filter(|other| other["kind"] == operation["kind"])
            .collect();
        assert_eq!(same.len(), 1, "{same:?}");
        assert_eq!(same[0]["name"], operation["name"]);
    }
}

#[test]
fn create_and_delete_survive_the_death_of_the_platform_at_every_step() {
    let world = world();
    let project = world.project("crash");
    let service = Service::of(&world, &project, "cache");
    let mut creation = Doomed::new(&service, "POST", service.creation(""), Some(spec(1)));
    let operation = creation.run();
    service.heals(HEALING);
    creation.made_once(1);
    creation.accepted_once(&operation);
    let services = world
        .api()
        .get(&format!("/v1/projects/{project}/redisServices"));
    assert_eq!(
        services["redisServices"].as_array().map(Vec::len),
        Some(1),
        "{services}"
    );

    let mut deletion = Doomed::new(
        &service,
        "DELETE",
        service.path("?policy=DELETE_DATA"),
        None,
    );
    let operation = deletion.run();
    deletion.accepted_once(&operation);
    service.is_gone();
    eventually("the volumes are gone", HEALING, || {
        let left = service.identities("persistentvolumeclaim");
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    // The record at the project is gone, too.
    world.upm(&["project", "delete", &project]);
}

#[test]
fn a_switchover_survives_the_death_of_the_platform_at_every_step_and_happens_once() {
    let world = world();
    let service = world.shared();
    let (_, epoch) = service.primary();
    let target = service.replica();
    let known = world.api().operations(&service.name()).len();
    let writer = Writer::start(service.target(), "platform dies in a switchover");
    let body = Some(json!({"target": target}));
    let mut switchover = Doomed::new(&service, "POST", service.path(":switchover"), body);
    let operation = switchover.run();
    assert_eq!(operation["state"], "SUCCEEDED");
    service.heals(HEALING);
    let (now, later) = service.primary();
    assert_eq!(now, target, "the wanted member is the primary");
    assert_eq!(later, epoch + 1, "the primary changed once");
    switchover.made_once(3);
    assert_eq!(world.api().operations(&service.name()).len(), known + 1);
    writer.finish("platform dies in a switchover");
}

#[test]
fn operations_survive_the_death_of_all_replicas_of_the_agent() {
    let world = world();
    let project = world.project("agents");
    let service = Service::of(&world, &project, "cache");
    let api = world.api();
    let mut seen = BTreeMap::new();
    for (method, path, body) in [
        ("POST", service.creation(""), Some(spec(3))),
        ("POST", service.path(":switchover"), Some(json!({}))),
        ("DELETE", service.path("?policy=DELETE_DATA"), None),
    ] {
        let operation = api.call(method, &path, body.as_ref()).ok();
        let name = operation["name"].as_str().expect("a name");
        // Once at the beginning, and again in the middle of what the next replica does.
        for pause in [200, 2500] {
            thread::sleep(Duration::from_millis(pause));
            world.kill_agent();
            note(&service, &mut seen);
        }
        let done = api.succeeded(name, LONG);
        note(&service, &mut seen);
        if method == "POST" {
            service.heals(HEALING);
        }
        say(&format!(
            "{}: survived two deaths of the agent",
            done["kind"]
        ));
    }
    for (name, uids) in seen {
        assert_eq!(uids.len(), 1, "{name} was made {} times", uids.len());
    }
    service.is_gone();
}

fn note(service: &Service<'_>, seen: &mut BTreeMap<String, BTreeSet<String>>) {
    for kind in [
        "unitset",
        "unit",
        "redisreplication",
        "pod",
        "persistentvolumeclaim",
    ] {
        for (name, uid) in service.identities(kind) {
            seen.entry(format!("{kind} {name}"))
                .or_default()
                .insert(uid);
        }
    }
}

#[test]
fn a_service_heals_while_the_hub_is_away_for_two_minutes_and_the_hub_learns_it_afterwards() {
    let world = world();
    let service = world.shared();
    let (primary, epoch) = service.primary();
    let writer = Writer::start(service.target(), "hub away for two minutes");
    world.kill();
    let away = Instant::now();
    thread::sleep(Duration::from_secs(5));
    service.kill_pods(std::slice::from_ref(&primary));
    let (next, later) = eventually(
        "the cluster elects another primary",
        HEALING,
        || match service.primary_in_cluster() {
            (next, later, true) if next != primary && epoch < later => Ok((next, later)),
            other => Err(format!("{other:?}")),
        },
    );
    writer.goes_on(200, HEALING);
    thread::sleep(Duration::from_mins(2).saturating_sub(away.elapsed()));
    world.start(&[]);
    let back = Instant::now();
    eventually(
        "the platform shows the new primary",
        HEALING,
        || match service.primary() {
            shown if shown == (next.clone(), later) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    say(&format!(
        "the platform showed the new primary {} ms after its start",
        back.elapsed().as_millis()
    ));
    service.heals(HEALING);
    writer.finish("hub away for two minutes");
}
