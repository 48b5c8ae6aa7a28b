use tonic::{Code, Status};
use upm_proto::{redis::v1 as pb, resource::v1::ClusterState};

use super::world::{World, ask, cluster, creation};

fn with_spec(change: impl FnOnce(&mut pb::RedisSpec)) -> pb::CreateRedisServiceRequest {
    let mut request = creation();
    change(
        request
            .redis_service
            .as_mut()
            .unwrap()
            .spec
            .as_mut()
            .unwrap(),
    );
    request
}

async fn refused(
    world: &World,
    request: pb::CreateRedisServiceRequest,
) -> (Status, String, Vec<String>) {
    let status = world
        .redis
        .clone()
        .create_redis_service(ask(request))
        .await
        .unwrap_err();
    let reason = mesh::status::reason(&status).unwrap_or_default();
    let fields = mesh::status::details(&status)
        .fields
        .into_iter()
        .map(|violation| violation.field)
        .collect();
    (status, reason, fields)
}

#[tokio::test]
async fn a_wrong_spec_names_its_field_and_leaves_nothing() {
    let world = World::new().await;
    for (request, code, reason, field) in [
        (
            with_spec(|spec| spec.members = 0),
            Code::InvalidArgument,
            "INVALID_FIELD",
            "redis_service.spec.members",
        ),
        (
            with_spec(|spec| spec.memory = "abc".into()),
            Code::InvalidArgument,
            "INVALID_FIELD",
            "redis_service.spec.memory",
        ),
        (
            with_spec(|spec| spec.version = "9.9".into()),
            Code::InvalidArgument,
            "INVALID_FIELD",
            "redis_service.spec.version",
        ),
        (
            with_spec(|spec| spec.cluster = "clusters/x".into()),
            Code::NotFound,
            "CLUSTER_NOT_FOUND",
            "redis_service.spec.cluster",
        ),
        (
            with_spec(|spec| {
                spec.parameters.insert("hz".into(), "9999".into());
            }),
            Code::InvalidArgument,
            "INVALID_FIELD",
            "redis_service.spec.parameters[hz]",
        ),
        (
            pb::CreateRedisServiceRequest {
                parent: "projects/q".into(),
                ..creation()
            },
            Code::NotFound,
            "PROJECT_NOT_FOUND",
            "parent",
        ),
        (
            pb::CreateRedisServiceRequest {
                redis_service_id: "demo-0".into(),
                ..creation()
            },
            Code::InvalidArgument,
            "INVALID_FIELD",
            "redis_service_id",
        ),
        (
            pb::CreateRedisServiceRequest {
                retained_data: 7,
                ..creation()
            },
            Code::InvalidArgument,
            "INVALID_FIELD",
            "retained_data",
        ),
        (
            pb::CreateRedisServiceRequest {
                request_id: "x".into(),
                ..creation()
            },
            Code::InvalidArgument,
            "INVALID_FIELD",
            "request_id",
        ),
    ] {
        let (status, found, fields) = refused(&world, request).await;
        assert_eq!(
            (status.code(), found.as_str()),
            (code, reason),
            "{field}: {status:?}"
        );
        assert_eq!(fields, [field]);
    }
    assert_eq!(world.stored().await, (0, 0));
}

#[tokio::test]
async fn says_everything_that_is_wrong_at_once() {
    let world = World::new().await;
    let mut request = with_spec(|spec| {
        spec.members = 99;
        spec.cpu = "fast".into();
    });
    request.redis_service_id = "Demo".into();
    request
        .redis_service
        .as_mut()
        .unwrap()
        .labels
        .insert("-".into(), "x".into());
    let (_, _, fields) = refused(&world, request).await;
    assert_eq!(
        fields,
        [
            "redis_service_id",
            "redis_service.labels[-]",
            "redis_service.spec.members",
            "redis_service.spec.cpu"
        ]
    );
}

#[tokio::test]
async fn refuses_clusters_that_are_ambiguous_cordoned_or_not_well() {
    let world = World::new().await;
    let set = |clusters| *world.resource.clusters.lock().unwrap() = clusters;
    set(vec![cluster("a"), cluster("b")]);
    let (status, _, fields) = refused(&world, creation()).await;
    assert!(status.message().contains("clusters/a, clusters/b"));
    assert_eq!(fields, ["redis_service.spec.cluster"]);
    let mut away = cluster("c");
    away.set_state(ClusterState::Unreachable);
    set(vec![away]);
    assert_eq!(refused(&world, creation()).await.1, "CLUSTER_NOT_HEALTHY");
    let mut cordoned = cluster("c");
    cordoned.cordoned = true;
    set(vec![cordoned]);
    assert_eq!(refused(&world, creation()).await.1, "CLUSTER_CORDONED");
    set(vec![]);
    assert_eq!(
        refused(&world, creation()).await.0.code(),
        Code::InvalidArgument
    );
    assert_eq!(world.stored().await, (0, 0));
}

#[tokio::test]
async fn passes_on_why_a_project_takes_no_more_services() {
    let world = World::new().await;
    *world.resource.full.lock().unwrap() = true;
    let (status, reason, _) = refused(&world, creation()).await;
    assert_eq!(
        (status.code(), reason.as_str()),
        (Code::ResourceExhausted, "QUOTA_EXCEEDED")
    );
    assert_eq!(world.stored().await, (0, 0));
}

#[tokio::test]
async fn a_service_that_is_being_created_can_do_nothing_else() {
    let world = World::new().await;
    let created = world
        .redis
        .clone()
        .create_redis_service(ask(creation()))
        .await
        .unwrap()
        .into_inner();
    let name = "projects/p/redisServices/demo".to_owned();
    let again = refused(&world, creation()).await;
    assert_eq!(
        (again.0.code(), again.1.as_str()),
        (Code::AlreadyExists, "SERVICE_EXISTS")
    );
    let restart = pb::RestartRedisServiceRequest {
        name: name.clone(),
        ..Default::default()
    };
    let scale = pb::HorizontalScaleRedisServiceRequest {
        name: name.clone(),
        members: 5,
        ..Default::default()
    };
    let switchover = pb::SwitchoverRedisServiceRequest {
        name: name.clone(),
        ..Default::default()
    };
    let delete = pb::DeleteRedisServiceRequest {
        name,
        ..Default::default()
    };
    for status in [
        world
            .redis
            .clone()
            .restart_redis_service(ask(restart))
            .await
            .unwrap_err(),
        world
            .redis
            .clone()
            .horizontal_scale_redis_service(ask(scale))
            .await
            .unwrap_err(),
        world
            .redis
            .clone()
            .switchover_redis_service(ask(switchover))
            .await
            .unwrap_err(),
        world
            .redis
            .clone()
            .delete_redis_service(ask(delete))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(
            mesh::status::reason(&status).as_deref(),
            Some("OPERATION_IN_PROGRESS")
        );
        assert_eq!(
            mesh::status::details(&status).metadata["operation"],
            created.name
        );
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let world = World::new().await;
    let name = "projects/p/redisServices/none".to_owned();
    let get = pb::GetRedisServiceRequest { name: name.clone() };
    let status = world
        .redis
        .clone()
        .get_redis_service(ask(get))
        .await
        .unwrap_err();
    assert_eq!(
        mesh::status::reason(&status).as_deref(),
        Some("SERVICE_NOT_FOUND")
    );
    let delete = pb::DeleteRedisServiceRequest {
        name: name.clone(),
        ..Default::default()
    };
    assert!(
        world
            .redis
            .clone()
            .delete_redis_service(ask(delete.clone()))
            .await
            .is_err()
    );
    let tolerant = pb::DeleteRedisServiceRequest {
        allow_missing: true,
        ..delete
    };
    let done = world
        .redis
        .clone()
        .delete_redis_service(ask(tolerant))
        .await
        .unwrap()
        .into_inner();
    assert!(done.done && done.name.is_empty());
    let odd = pb::GetRedisServiceRequest {
        name: "projects/p/mysqlServices/x".into(),
    };
    let status = world
        .redis
        .clone()
        .get_redis_service(ask(odd))
        .await
        .unwrap_err();
    assert_eq!(mesh::status::details(&status).fields[0].field, "name");
}
