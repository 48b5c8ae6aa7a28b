//! Requests that are wrong: each is refused with an error that says what, and nothing is left behind.

use serde_json::{Value, json};

use crate::road::{
    api::{Answer, Api},
    kubectl::eventually,
    service::{RECORDED, Service, spec},
    world::{World, beside},
};

/// A request body with one field of the spec changed.
fn with(field: &str, value: Value) -> Value {
    let mut body = spec(1);
    body["spec"][field] = value;
    body
}

fn create(world: &World, project: &str, id: &str, body: &Value) -> Answer {
    let service = Service::of(world, project, id);
    let answer = world.api().call("POST", &service.creation(""), Some(body));
    let error = &answer.body["error"];
    assert_eq!(error["code"], answer.status, "{}", answer.body);
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{}",
        answer.body
    );
    assert!(
        !answer.reason().is_empty(),
        "a refusal has a reason: {}",
        answer.body
    );
    answer
}

/// Nothing of the project's services is in the store or in the cluster.
fn nothing_is_left(world: &World, project: &str) {
    let api = world.api();
    let services = api.get(&format!("/v1/projects/{project}/redisServices"));
    assert_eq!(
        services["redisServices"].as_array().map_or(0, Vec::len),
        0,
        "{services}"
    );
    let shown = api.get(&format!("/v1/projects/{project}"));
    assert_eq!(
        shown["serviceCount"].as_i64().unwrap_or_default(),
        0,
        "{shown}"
    );
    let operations = api.get("/v1/operations/redis?pageSize=1000")["operations"].clone();
    let of_project = |operation: &&Value| {
        operation["target"]
            .as_str()
            .is_some_and(|t| t.starts_with(&format!("projects/{project}/")))
    };
    assert_eq!(
        operations
            .as_array()
            .into_iter()
            .flatten()
            .filter(of_project)
            .count(),
        0,
        "{operations}"
    );
    for kind in [
        "unitset",
        "unit",
        "redisreplication",
        "pod",
        "persistentvolumeclaim",
        "secret",
    ] {
        let left = world.kubectl.list(kind, project);
        assert!(left.is_empty(), "{kind}: {left:?}");
    }
    // Being empty, the project can go.
    world.upm(&["project", "delete", project]);
}

#[test]
fn a_wrong_spec_is_refused_with_the_name_of_the_field_and_leaves_nothing() {
    let world = beside();
    let project = world.project("wrong");
    for (body, field) in [
        (with("members", json!(0)), "redis_service.spec.members"),
        (with("members", json!(-3)), "redis_service.spec.members"),
        (with("members", json!(10)), "redis_service.spec.members"),
        (
            with("version", json!("99.1.2")),
            "redis_service.spec.version",
        ),
        (with("memory", json!("abc")), "redis_service.spec.memory"),
        (with("memory", json!("1Mi")), "redis_service.spec.memory"),
        (with("cpu", json!("-1")), "redis_service.spec.cpu"),
        (
            with("storage", json!({"size": "1Ki"})),
            "redis_service.spec.storage.size",
        ),
        (with("cluster", json!("here")), "redis_service.spec.cluster"),
        (json!({}), "redis_service.spec"),
    ] {
        let answer = create(&world, &project, "cache", &body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(
            answer.fields().contains(&field),
            "{body} names {field}: {:?}",
            answer.fields()
        );
        assert_eq!(
            answer.body["error"]["status"], "INVALID_ARGUMENT",
            "{}",
            answer.body
        );
    }
    let parameters = with("parameters", json!({"no-such-parameter": "1"}));
    let answer = create(&world, &project, "cache", &parameters);
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(
        answer
            .fields()
            .iter()
            .any(|field| field.contains("no-such-parameter")),
        "{:?}",
        answer.fields()
    );
    let elsewhere = create(
        &world,
        &project,
        "cache",
        &with("cluster", json!("clusters/nowhere")),
    );
    assert_eq!(
        (elsewhere.status, elsewhere.reason()),
        (404, "CLUSTER_NOT_FOUND"),
        "{}",
        elsewhere.body
    );
    let several = json!({"spec": {"members": 0, "memory": "abc", "storage": {"size": "x"}}});
    assert_eq!(
        create(&world, &project, "cache", &several).fields().len(),
        3,
        "all wrong fields are named at once"
    );
    nothing_is_left(&world, &project);
}

#[test]
fn a_malformed_body_is_refused_with_the_place_that_is_wrong() {
    let world = beside();
    let project = world.project("malformed");
    for (body, field) in [
        (with("memers", json!(3)), "memers"),
        (json!({"spec": {"members": "three"}}), "members"),
        (
            json!({"spec": {"members": 1, "placement": "NEARBY"}}),
            "placement",
        ),
        (json!({"spec": 7}), "spec"),
    ] {
        let answer = create(&world, &project, "cache", &body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(
            answer
                .fields()
                .iter()
                .any(|named| named.starts_with("redisService.spec") && named.ends_with(field)),
            "{body} names {field}: {}",
            answer.body
        );
    }
    let service = Service::of(&world, &project, "cache");
    let unknown = world.api().call(
        "POST",
        &service.creation("&validateOnyl=true"),
        Some(&spec(1)),
    );
    assert_eq!(
        unknown.status, 400,
        "an unknown query parameter is refused: {}",
        unknown.body
    );
    nothing_is_left(&world, &project);
}

#[test]
fn an_id_that_cannot_be_used_is_refused() {
    let world = beside();
    let project = world.project("ids");
    for id in [
        "default",
        "kube-cache",
        "upm-cache",
        "cache-0",
        "cache-svc",
        "cache-headless",
        "Cache",
        "9lives",
        "a_b",
    ] {
        let answer = create(&world, &project, id, &spec(1));
        assert_eq!(answer.status, 400, "{id}: {}", answer.body);
        assert!(
            answer.fields().contains(&"redis_service_id"),
            "{id}: {}",
            answer.body
        );
    }
    for id in ["default", "kube-system", "upm-system", "UPPER"] {
        let answer = world.api().call(
            "POST",
            &format!("/v1/projects?projectId={id}"),
            Some(&json!({})),
        );
        assert_eq!(answer.status, 400, "{id}: {}", answer.body);
        assert!(
            answer.fields().contains(&"project_id"),
            "{id}: {}",
            answer.body
        );
    }
    nothing_is_left(&world, &project);
}

#[test]
fn a_name_that_is_taken_and_a_project_that_is_missing_are_told() {
    let world = beside();
    let service = world.shared();
    let before = service.get();
    let taken = create(&world, &service.project, &service.id, &spec(1));
    assert_eq!(
        (taken.status, taken.reason()),
        (409, "SERVICE_EXISTS"),
        "{}",
        taken.body
    );
    assert_eq!(service.get()["uid"], before["uid"]);
    assert_eq!(service.get()["spec"], before["spec"]);

    let missing = create(&world, "no-such-project", "cache", &spec(1));
    assert_eq!(
        (missing.status, missing.reason()),
        (404, "PROJECT_NOT_FOUND"),
        "{}",
        missing.body
    );
    assert!(
        world
            .kubectl
            .get(&["namespace", "no-such-project"])
            .is_null()
    );
    let nobody = world.api().call("GET", &service.path("x"), None);
    assert_eq!(
        (nobody.status, nobody.reason()),
        (404, "SERVICE_NOT_FOUND"),
        "{}",
        nobody.body
    );
}

#[test]
fn a_caller_without_permission_or_token_is_refused_and_the_refusal_is_recorded() {
    let world = beside();
    let service = world.shared();
    let project = world.project("guarded");
    let viewer = viewer(&world, &project);
    let guarded = Service::of(&world, &project, "cache");
    let answer = viewer.call("POST", &guarded.creation(""), Some(&spec(1)));
    assert_eq!(
        (answer.status, answer.reason()),
        (403, "PERMISSION_DENIED"),
        "{}",
        answer.body
    );
    assert_eq!(
        answer.fact("permission"),
        "redis.services.create",
        "{}",
        answer.body
    );
    assert_eq!(
        answer.fact("project"),
        format!("projects/{project}"),
        "{}",
        answer.body
    );
    let services = viewer.get(&format!("/v1/projects/{project}/redisServices"));
    assert!(
        services["redisServices"]
            .as_array()
            .is_none_or(Vec::is_empty),
        "a viewer may list: {services}"
    );
    let elsewhere = viewer.call("GET", &service.path(""), None);
    assert_eq!(
        elsewhere.status, 403,
        "another project's service is not shown: {}",
        elsewhere.body
    );
    let password = viewer.call("POST", &service.path(":getPassword"), Some(&json!({})));
    assert_eq!(password.status, 403, "{}", password.body);

    let anonymous =
        Api::anonymous(&world.address()).call("POST", &guarded.creation(""), Some(&spec(1)));
    assert_eq!(
        (anonymous.status, anonymous.reason()),
        (401, "TOKEN_MISSING"),
        "{}",
        anonymous.body
    );
    assert_eq!(anonymous.header("www-authenticate"), "Bearer");
    let forged = [("Authorization", "Bearer eyJhbGciOiJub25lIn0.e30.")];
    let forged =
        Api::anonymous(&world.address()).call_with("GET", &service.path(""), None, &forged);
    assert_eq!(forged.status, 401, "{}", forged.body);

    eventually("the refusal is in the operation log", RECORDED, || {
        let path = "/v1/operatorLog/entries?filter=principal%3D%22users%2Fwatcher%22&pageSize=100";
        let entries = world.api().get(path)["entries"].clone();
        let refused = |entry: &&Value| {
            entry["method"] == "/upm.redis.v1.RedisServices/CreateRedisService"
                && entry["code"] == 7
        };
        match entries.as_array().into_iter().flatten().find(refused) {
            Some(_) => Ok(()),
            None => Err(entries.to_string()),
        }
    });
    nothing_is_left(&world, &project);
}

/// A user who may look at one project.
fn viewer(world: &World, project: &str) -> Api {
    let api = world.api();
    let password = format!("pw-{}", uuid::Uuid::new_v4());
    let user = json!({"userId": "watcher", "user": {"displayName": "Watcher"}});
    let made = api.call("POST", "/v1/users", Some(&user));
    assert!(matches!(made.status, 200 | 409), "{}", made.body);
    let reset = json!({"newPassword": password});
    api.call("POST", "/v1/users/watcher:resetPassword", Some(&reset))
        .ok();
    let binding = json!({
        "role": "roles/project-viewer", "user": "users/watcher", "project": format!("projects/{project}"),
    });
    api.call("POST", "/v1/roleBindings", Some(&binding)).ok();
    let viewer = Api::login(&world.address(), "watcher", &password);
    // Modules learn a new binding by their watch, each for itself.
    for collection in ["", "/redisServices"] {
        let path = format!("/v1/projects/{project}{collection}");
        eventually("the binding is in force", RECORDED, || {
            let answer = viewer.call("GET", &path, None);
            if answer.status == 200 {
                Ok(())
            } else {
                Err(answer.body.to_string())
            }
        });
    }
    viewer
}
