use upm_proto::{operation::v1::StepState, redis::v1 as pb};

use super::world::{World, ask, creation};

const NAME: &str = "projects/p/redisServices/demo";

#[tokio::test]
async fn a_plan_alone_stores_nothing() {
    let world = World::new().await;
    let request = pb::CreateRedisServiceRequest {
        validate_only: true,
        ..creation()
    };
    let plan = world
        .redis
        .clone()
        .create_redis_service(ask(request))
        .await
        .unwrap()
        .into_inner();
    assert!(plan.name.is_empty() && !plan.done && !plan.risk.is_empty());
    assert_eq!(
        (plan.kind.as_str(), plan.target.as_str()),
        ("redis.create", NAME)
    );
    assert_eq!(plan.steps.first().unwrap().name, "ReserveService");
    assert!(
        plan.steps
            .iter()
            .all(|step| step.state() == StepState::StepPending && !step.description.is_empty())
    );
    assert!(10 < plan.expected_duration.unwrap().seconds);
    assert_eq!(world.stored().await, (0, 0));
}

#[tokio::test]
async fn an_accepted_creation_is_there_at_once_and_once() {
    let world = World::new().await;
    let request = pb::CreateRedisServiceRequest {
        request_id: store::ids::uuid7(),
        ..creation()
    };
    let first = world
        .redis
        .clone()
        .create_redis_service(ask(request.clone()))
        .await
        .unwrap()
        .into_inner();
    let again = world
        .redis
        .clone()
        .create_redis_service(ask(request.clone()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first.name, again.name);
    assert_eq!(world.stored().await, (1, 1));
    let mut other = request;
    other.redis_service_id = "other".into();
    let status = world
        .redis
        .clone()
        .create_redis_service(ask(other))
        .await
        .unwrap_err();
    assert_eq!(
        mesh::status::reason(&status).as_deref(),
        Some("REQUEST_ID_REUSED")
    );

    let get = pb::GetRedisServiceRequest { name: NAME.into() };
    let shown = world
        .redis
        .clone()
        .get_redis_service(ask(get))
        .await
        .unwrap()
        .into_inner();
    let status = shown.status.unwrap();
    assert_eq!(
        (status.state(), status.operation.as_str()),
        (pb::ServiceState::Creating, first.name.as_str())
    );
    let spec = shown.spec.unwrap();
    assert_eq!(
        (spec.cluster.as_str(), spec.version.as_str(), spec.members),
        ("clusters/c", "7.0.15", 3)
    );
}

#[tokio::test]
async fn makes_an_id_when_none_is_given() {
    let world = World::new().await;
    let request = pb::CreateRedisServiceRequest {
        redis_service_id: String::new(),
        ..creation()
    };
    let made = world
        .redis
        .clone()
        .create_redis_service(ask(request))
        .await
        .unwrap()
        .into_inner();
    let id = made.target.rsplit('/').next().unwrap();
    assert_eq!(engine::names::refuse_service_id(id), None, "{id}");
}

#[tokio::test]
async fn updates_what_needs_no_work_and_names_the_method_for_the_rest() {
    let world = World::new().await;
    world
        .redis
        .clone()
        .create_redis_service(ask(creation()))
        .await
        .unwrap();
    let update = |service: pb::RedisService, paths: &[&str]| pb::UpdateRedisServiceRequest {
        redis_service: Some(pb::RedisService {
            name: NAME.into(),
            ..service
        }),
        update_mask: (!paths.is_empty()).then(|| prost_types::FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        validate_only: false,
    };
    let forbid = pb::RedisService {
        description: "the shop's".into(),
        deletion_policy: pb::DeletionPolicy::DoNotDelete.into(),
        ..Default::default()
    };
    let updated = world
        .redis
        .clone()
        .update_redis_service(ask(update(forbid, &[])))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(updated.description, "the shop's");
    assert_eq!(updated.deletion_policy(), pb::DeletionPolicy::DoNotDelete);

    let stale = pb::RedisService {
        etag: "0".into(),
        ..Default::default()
    };
    let status = world
        .redis
        .clone()
        .update_redis_service(ask(update(stale, &["description"])))
        .await
        .unwrap_err();
    assert_eq!(mesh::status::reason(&status).as_deref(), Some("STALE_ETAG"));

    let mut bigger = updated.clone();
    bigger.spec.as_mut().unwrap().members = 5;
    for paths in [&["spec.members"][..], &[][..]] {
        let status = world
            .redis
            .clone()
            .update_redis_service(ask(update(bigger.clone(), paths)))
            .await
            .unwrap_err();
        assert!(
            status.message().contains("HorizontalScaleRedisService"),
            "{status:?}"
        );
    }
    let same = world
        .redis
        .clone()
        .update_redis_service(ask(update(updated.clone(), &[])))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(same.etag, updated.etag, "what is the same is no change");
}

#[tokio::test]
async fn tells_how_to_connect_without_the_password_and_the_password_apart() {
    let world = World::new().await;
    world
        .redis
        .clone()
        .create_redis_service(ask(creation()))
        .await
        .unwrap();
    let get = pb::GetConnectionRequest { name: NAME.into() };
    let connection = world
        .redis
        .clone()
        .get_connection(ask(get))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(connection.readwrite_address, "demo-readwrite.p.svc:6379");
    assert_eq!(connection.readonly_address, "demo-readonly.p.svc:6379");
    assert_eq!(connection.password_secret, "p/demo-credentials");
    assert!(connection.command.contains("--askpass") && !connection.command.contains("s3cret"));
    let get = pb::GetPasswordRequest { name: NAME.into() };
    let password = world
        .redis
        .clone()
        .get_password(ask(get))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (password.user.as_str(), password.password.as_str()),
        ("default", "s3cret")
    );
}

#[tokio::test]
async fn filters_by_state_and_label() {
    let world = World::new().await;
    let mut request = creation();
    request
        .redis_service
        .as_mut()
        .unwrap()
        .labels
        .insert("team".into(), "shop".into());
    world
        .redis
        .clone()
        .create_redis_service(ask(request))
        .await
        .unwrap();
    let count = |filter: &str| {
        let mut client = world.redis.clone();
        let list = pb::ListRedisServicesRequest {
            parent: "projects/p".into(),
            filter: filter.into(),
            ..Default::default()
        };
        async move {
            client
                .list_redis_services(ask(list))
                .await
                .map(|page| page.into_inner().redis_services.len())
        }
    };
    assert_eq!(
        count("state=CREATING AND labels.team=shop").await.unwrap(),
        1
    );
    assert_eq!(count("state=READY").await.unwrap(), 0);
    assert_eq!(count("state!=READY").await.unwrap(), 1);
    assert!(count("state=ODD").await.is_err());
}
