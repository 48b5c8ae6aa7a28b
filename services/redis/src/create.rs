//! Creating a service: everything is checked before anything is stored.

use engine::{
    DeletionPolicy, Error, Package, Services,
    accept::{Acceptance, Change, NewService, Request},
    choose::{self, Wanted},
    desired::{Input, RetainedVolumes},
    names::{Parent, ServiceName, refuse_service_id},
};
use mesh::{Context, FieldViolation};
use serde_json::json;
use upm_proto::{operation::v1::Operation, redis::v1 as pb, resource::v1::Cluster};

use crate::{
    description, fit, pb as convert, plan,
    redis::Redis,
    spec::{RedisSpec, Wish, field, violation},
};
use engine::Engine as _;

const METHOD: &str = "/upm.redis.v1.RedisServices/CreateRedisService";

/// A request that can be understood.
struct Parsed {
    project: String,
    id: Option<String>,
    wish: Wish,
    deletion_policy: DeletionPolicy,
    retained: RetainedVolumes,
}

pub(crate) async fn create(
    services: &Services<Redis>,
    ctx: &Context,
    request: pb::CreateRedisServiceRequest,
) -> Result<Operation, Error> {
    let once = Request {
        method: METHOD,
        request_id: request.request_id.clone(),
        content: convert::content(&request),
    };
    if !request.validate_only
        && let Some(known) = services.replay(ctx, &once).await?
    {
        return Ok(known);
    }
    let parsed = parse(&request)?;
    let own = services.on_behalf(ctx);
    let catalogue = services.catalogue();
    if catalogue.project(&own, &parsed.project).await?.is_none() {
        return Err(Error::Missing {
            what: format!("projects/{}", parsed.project),
            reason: "PROJECT_NOT_FOUND",
            field: "parent".to_owned(),
        });
    }
    let cluster = cluster(services, &own, &parsed.wish).await?;
    choose::refuse_unfit(&cluster, &field("cluster"))?;
    let (package, spec) = resolve(services, &own, &cluster, parsed.wish).await?;
    let id = parsed
        .id
        .unwrap_or_else(|| store::ids::random_id("redis").replace('-', ""));
    let name = ServiceName::new(&parsed.project, Redis::COLLECTION, &id);
    let input = Input {
        units: engine::units(&Redis::pools(&spec)),
        retained: parsed.retained,
        ..Input::default()
    };
    services.refuse_taken(&name, &input, &spec.cluster).await?;
    catalogue
        .reserve(&own, &name.to_string(), &spec.cluster, spec.members, true)
        .await?;
    let mut plan = plan::create(&name, &spec, parsed.retained);
    let cluster_id = spec.cluster.clone();
    let nodes = catalogue.nodes(&own, &cluster_id).await;
    fit::refuse_hopeless(&cluster_id, &spec, &nodes)?;
    let classes = catalogue.storage_classes(&own, &cluster_id).await;
    fit::refuse_unknown_class(&cluster_id, &spec, &classes)?;
    let placed = placed_on(services, &cluster_id).await?;
    if let Some(warning) = fit::warning(&spec, spec.members, placed, &nodes) {
        plan.risk = format!("{}; {warning}", plan.risk);
    }
    if request.validate_only {
        return Ok(services.preview(&name, &plan));
    }
    let service = request.redis_service.unwrap_or_default();
    let stored = engine::spec_to_json::<Redis>(&spec)?;
    let acceptance = Acceptance {
        name,
        plan,
        input,
        diff: json!({"spec": {"after": stored}, "retained_data": parsed.retained}),
        change: Change::Create(NewService {
            spec: stored,
            spec_version: Redis::SPEC_VERSION,
            labels: service.labels.into_iter().collect(),
            description: service.description,
            deletion_policy: parsed.deletion_policy,
            cluster: spec.cluster.clone(),
            package,
        }),
    };
    services.accept(ctx, once, acceptance).await
}

/// What the services of this engine on a cluster ask for together.
pub(crate) async fn placed_on(
    services: &Services<Redis>,
    cluster: &str,
) -> Result<fit::Request, Error> {
    let mut sum = fit::Request::default();
    for service in services.on_cluster(cluster).await? {
        let spec: RedisSpec = engine::spec_of::<Redis>(&service)?;
        sum = sum.plus(fit::Request::of(&spec).times(spec.members));
    }
    Ok(sum)
}

/// Reads everything that needs nobody else, and says all that is wrong with it at once.
fn parse(request: &pb::CreateRedisServiceRequest) -> Result<Parsed, Error> {
    let parent = Parent::parse(&request.parent, "parent")?;
    let project = parent
        .project()
        .ok_or_else(|| Error::invalid("parent", "a service belongs to one project"))?
        .to_owned();
    let mut wrong: Vec<FieldViolation> = Vec::new();
    let id = Some(request.redis_service_id.clone()).filter(|id| !id.is_empty());
    if let Some(why) = id.as_deref().and_then(refuse_service_id) {
        wrong.push(violation("redis_service_id", why));
    }
    let service = request.redis_service.clone().unwrap_or_default();
    wrong.extend(store::labels::check(
        &service.labels,
        "redis_service.labels",
    ));
    wrong.extend(description::check(
        &service.description,
        "redis_service.description",
    ));
    let deletion_policy =
        convert::policy(service.deletion_policy, "redis_service.deletion_policy")?;
    let retained = convert::retained(request.retained_data)?;
    match Wish::parse(service.spec.as_ref()) {
        Ok(wish) if wrong.is_empty() => Ok(Parsed {
            project,
            id,
            wish,
            deletion_policy: deletion_policy.unwrap_or_default(),
            retained,
        }),
        Ok(_) => Err(Error::Invalid(wrong)),
        Err(more) => {
            wrong.extend(more);
            Err(Error::Invalid(wrong))
        }
    }
}

async fn cluster(services: &Services<Redis>, own: &Context, wish: &Wish) -> Result<Cluster, Error> {
    if let Some(id) = &wish.cluster {
        let found = services.catalogue().cluster(own, id).await?;
        return found.ok_or_else(|| Error::Missing {
            what: format!("clusters/{id}"),
            reason: "CLUSTER_NOT_FOUND",
            field: field("cluster"),
        });
    }
    let clusters = services.catalogue().clusters(own).await?;
    choose::only_cluster(clusters, &field("cluster"))
}

async fn resolve(
    services: &Services<Redis>,
    own: &Context,
    cluster: &Cluster,
    wish: Wish,
) -> Result<(Package, RedisSpec), Error> {
    let catalogue = services.catalogue();
    let known = catalogue.software(own, Redis::TYPES).await?;
    let wanted = Wanted {
        version: wish.version.as_deref(),
        ..Wanted::default()
    };
    let chosen = choose::software(&wanted, &known, &field("version"))?;
    let software = catalogue.package(own, &chosen.name).await?;
    let cluster = cluster
        .name
        .strip_prefix("clusters/")
        .unwrap_or(&cluster.name);
    let spec = wish.resolve(cluster, &software).map_err(Error::Invalid)?;
    Ok((Package::of(&software)?, spec))
}
