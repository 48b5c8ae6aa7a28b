//! What can be done with a service that exists.

use engine::{
    DeletionPolicy, Engine as _, Error, Life, Observed, Predicate, Service, Services,
    accept::{Acceptance, Change, Request},
    all_hold,
    desired::{Input, MAIN, Switchover},
    names::ServiceName,
    workflows::Scaling,
};
use mesh::Context;
use serde_json::json;
use upm_proto::{operation::v1::Operation, redis::v1 as pb};

use crate::{create, description, fit, pb as convert, plan, redis::Redis, spec, status};

const DELETE: &str = "/upm.redis.v1.RedisServices/DeleteRedisService";
const RESTART: &str = "/upm.redis.v1.RedisServices/RestartRedisService";
const FAILOVER: &str = "/upm.redis.v1.RedisServices/FailoverRedisService";
const SWITCHOVER: &str = "/upm.redis.v1.RedisServices/SwitchoverRedisService";
const SCALE: &str = "/upm.redis.v1.RedisServices/HorizontalScaleRedisService";
/// What an update can change.
const CHANGEABLE: [&str; 3] = ["labels", "description", "deletion_policy"];

/// A name in a request's field `name`.
pub(crate) fn name(text: &str) -> Result<ServiceName, Error> {
    ServiceName::parse(text, Redis::COLLECTION, "name")
}

pub(crate) async fn delete(
    services: &Services<Redis>,
    ctx: &Context,
    request: pb::DeleteRedisServiceRequest,
) -> Result<Operation, Error> {
    let once = Request {
        method: DELETE,
        request_id: request.request_id.clone(),
        content: json!({"name": request.name, "policy": request.policy, "etag": request.etag}),
    };
    if let Some(known) = replayed(services, ctx, &once, request.validate_only).await? {
        return Ok(known);
    }
    let name = name(&request.name)?;
    let asked = convert::policy(request.policy, "policy")?;
    if asked == Some(DeletionPolicy::DoNotDelete) {
        return Err(Error::invalid(
            "policy",
            "KEEP_DATA or DELETE_DATA; DO_NOT_DELETE is a setting of the service",
        ));
    }
    let service = match services.find(&name).await {
        Err(Error::ServiceNotFound(_)) if request.allow_missing => {
            return Ok(convert::nothing_to_delete(&name.to_string()));
        }
        found => found?,
    };
    store::etag::check(&request.etag, &service.etag())?;
    services.refuse_conflict(&service, "delete").await?;
    let policy = match service.deletion_policy {
        DeletionPolicy::DoNotDelete => DeletionPolicy::DoNotDelete,
        own => asked.unwrap_or(own),
    };
    let volumes = policy.volumes().ok_or_else(|| {
        Error::refused(
            name.to_string(),
            "DELETION_FORBIDDEN",
            "its deletion_policy is DO_NOT_DELETE; change it first",
        )
    })?;
    let plan = plan::delete(&name, &service.desired.units(), volumes);
    let input = Input {
        volumes,
        ..Input::default()
    };
    let diff = json!({"deleted": {"before": service.spec}, "volumes": volumes});
    begin(
        services,
        ctx,
        once,
        request.validate_only,
        service,
        Some(Life::Deleting),
        plan,
        input,
        diff,
    )
    .await
}

pub(crate) async fn restart(
    services: &Services<Redis>,
    ctx: &Context,
    request: pb::RestartRedisServiceRequest,
) -> Result<Operation, Error> {
    let once = Request {
        method: RESTART,
        request_id: request.request_id.clone(),
        content: json!({"name": request.name}),
    };
    if let Some(known) = replayed(services, ctx, &once, request.validate_only).await? {
        return Ok(known);
    }
    let service = active(services, &request.name, "restart").await?;
    let mark = convert::restart_mark();
    let plan = plan::restart(&service.desired.units(), &mark);
    let before = service.desired.pools.get(MAIN);
    let before = before.and_then(|pool| pool.restarted_at.clone());
    let diff = json!({"restarted_at": {"before": before, "after": mark}});
    begin(
        services,
        ctx,
        once,
        request.validate_only,
        service,
        None,
        plan,
        Input::default(),
        diff,
    )
    .await
}

pub(crate) async fn failover(
    services: &Services<Redis>,
    ctx: &Context,
    request: pb::FailoverRedisServiceRequest,
) -> Result<Operation, Error> {
    let once = Request {
        method: FAILOVER,
        request_id: request.request_id.clone(),
        content: json!({"name": request.name, "accept_loss": request.accept_loss, "expected_epoch": request.expected_epoch}),
    };
    if let Some(known) = replayed(services, ctx, &once, request.validate_only).await? {
        return Ok(known);
    }
    let service = active(services, &request.name, "failover").await?;
    let observed = observed(services, ctx, &service).await?;
    let (loss, to) = accepted(&service, &observed, &request)?;
    let diff = json!({"primary": {"before": null, "after": to.target}, "accepted_loss": {"before": null, "after": loss}});
    let plan = plan::failover(to, &loss);
    begin(
        services,
        ctx,
        once,
        request.validate_only,
        service,
        None,
        plan,
        Input::default(),
        diff,
    )
    .await
}

pub(crate) async fn switchover(
    services: &Services<Redis>,
    ctx: &Context,
    request: pb::SwitchoverRedisServiceRequest,
) -> Result<Operation, Error> {
    let once = Request {
        method: SWITCHOVER,
        request_id: request.request_id.clone(),
        content: json!({"name": request.name, "target": request.target, "expected_epoch": request.expected_epoch}),
    };
    if let Some(known) = replayed(services, ctx, &once, request.validate_only).await? {
        return Ok(known);
    }
    let service = active(services, &request.name, "switchover").await?;
    let observed = observed(services, ctx, &service).await?;
    let (from, to) = wanted_primary(&service, &observed, &request)?;
    let diff = json!({"primary": {"before": from, "after": to.target}, "epoch": to.expected_epoch});
    let plan = plan::switchover(&from, to);
    begin(
        services,
        ctx,
        once,
        request.validate_only,
        service,
        None,
        plan,
        Input::default(),
        diff,
    )
    .await
}

pub(crate) async fn scale(
    services: &Services<Redis>,
    ctx: &Context,
    request: pb::HorizontalScaleRedisServiceRequest,
) -> Result<Operation, Error> {
    let once = Request {
        method: SCALE,
        request_id: request.request_id.clone(),
        content: json!({"name": request.name, "members": request.members}),
    };
    if let Some(known) = replayed(services, ctx, &once, request.validate_only).await? {
        return Ok(known);
    }
    let mut wrong = Vec::new();
    let to = spec::members(request.members, "members", &mut wrong);
    if !wrong.is_empty() {
        return Err(Error::Invalid(wrong));
    }
    let service = active(services, &request.name, "scale").await?;
    let mut wanted = engine::spec_of::<Redis>(&service)?;
    let from = wanted.members;
    if from == to {
        return Err(Error::invalid(
            "members",
            format!("the service has {to} members already"),
        ));
    }
    if from < to {
        let own = services.on_behalf(ctx);
        let target = service.name.to_string();
        services
            .catalogue()
            .reserve(&own, &target, &service.cluster, to, true)
            .await?;
    }
    wanted.members = to;
    let scaling = Scaling {
        units: service.desired.units(),
        members: service.desired.topology.members.clone(),
        pool: MAIN.to_owned(),
        to,
        takes_part: true,
        spec: engine::spec_to_json::<Redis>(&wanted)?,
    };
    let mut plan = plan::scale(from, &scaling);
    if from < to {
        let own = services.on_behalf(ctx);
        let nodes = services.catalogue().nodes(&own, &service.cluster).await;
        let placed = create::placed_on(services, &service.cluster).await?;
        if let Some(warning) = fit::warning(&wanted, to - from, placed, &nodes) {
            plan.risk = format!("{}; {warning}", plan.risk);
        }
    }
    let diff = json!({"spec.members": {"before": from, "after": to}});
    begin(
        services,
        ctx,
        once,
        request.validate_only,
        service,
        None,
        plan,
        Input::default(),
        diff,
    )
    .await
}

pub(crate) async fn update(
    services: &Services<Redis>,
    ctx: &Context,
    request: pb::UpdateRedisServiceRequest,
) -> Result<pb::RedisService, Error> {
    let given = request
        .redis_service
        .ok_or_else(|| Error::invalid("redis_service", "is required"))?;
    let name = ServiceName::parse(&given.name, Redis::COLLECTION, "redis_service.name")?;
    let current = services.find(&name).await?;
    refuse_spec_change(request.update_mask.as_ref(), given.spec.as_ref(), &current)?;
    let mask = request.update_mask.map(without_spec);
    let fields = store::mask::fields(
        mask.as_ref(),
        "upm.redis.v1.RedisService",
        &CHANGEABLE,
        |field| match field {
            "labels" => !given.labels.is_empty(),
            "description" => !given.description.is_empty(),
            _ => given.deletion_policy != 0,
        },
    )?;
    let mut wrong = Vec::new();
    if fields.contains("labels") {
        wrong.extend(store::labels::check(&given.labels, "redis_service.labels"));
    }
    if fields.contains("description") {
        wrong.extend(description::check(
            &given.description,
            "redis_service.description",
        ));
    }
    if !wrong.is_empty() {
        return Err(Error::Invalid(wrong));
    }
    let policy = convert::policy(given.deletion_policy, "redis_service.deletion_policy")?
        .unwrap_or_default();
    let change = move |service: &mut Service| {
        if fields.contains("labels") {
            service.labels = given.labels.clone().into_iter().collect();
        }
        if fields.contains("description") {
            service.description.clone_from(&given.description);
        }
        if fields.contains("deletion_policy") {
            service.deletion_policy = policy;
        }
        Ok(())
    };
    let service = services
        .update(ctx, &name, &given.etag, request.validate_only, change)
        .await?;
    let observed = services.observe(ctx, &service).await;
    convert::service(&service, observed.as_ref())
}

/// Fields of the spec have methods of their own. A spec as it is now, which Get returned, changes nothing.
fn refuse_spec_change(
    mask: Option<&prost_types::FieldMask>,
    given: Option<&pb::RedisSpec>,
    current: &Service,
) -> Result<(), Error> {
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    let has: pb::RedisSpec = (&engine::spec_of::<Redis>(current)?).into();
    if given == Some(&has) {
        return Ok(());
    }
    let members = given.map(|given| given.members);
    let mut named = paths
        .iter()
        .filter(|path| is_spec(path))
        .filter(|path| *path != "spec.members" || members != Some(has.members));
    let all = paths.is_empty() || paths.iter().any(|path| path == "*");
    let meant = named
        .next()
        .map(String::as_str)
        .or((given.is_some() && all).then_some("spec"));
    let Some(path) = meant else {
        return Ok(());
    };
    let scaled = members.is_some_and(|members| members != has.members);
    let why = if path == "spec.members" || (path == "spec" && scaled) {
        "the number of members is changed by HorizontalScaleRedisService"
    } else {
        "the spec needs work in the cluster, which an update does not do; only the number of members can be changed now, by HorizontalScaleRedisService"
    };
    Err(Error::invalid(format!("redis_service.{path}"), why))
}

fn is_spec(path: &str) -> bool {
    path == "spec" || path.starts_with("spec.")
}

/// The mask without the spec, once that is known to change nothing.
fn without_spec(mask: prost_types::FieldMask) -> prost_types::FieldMask {
    let named = !mask.paths.is_empty();
    let mut paths = mask.paths;
    paths.retain(|path| !is_spec(path));
    if named && paths.is_empty() {
        // An empty mask would mean whatever is set.
        paths.push("etag".to_owned());
    }
    prost_types::FieldMask { paths }
}

/// The switchover that is asked for, as it can be done now, and who is the primary.
fn wanted_primary(
    service: &Service,
    observed: &Observed,
    request: &pb::SwitchoverRedisServiceRequest,
) -> Result<(String, Switchover), Error> {
    let name = service.name.to_string();
    let refused = |reason, message: String, predicates: Vec<Predicate>| Error::Refused {
        name: name.clone(),
        reason,
        message,
        predicates,
    };
    let primary = status::primary(service, observed).ok_or_else(|| {
        refused(
            "NO_PRIMARY",
            "no member is the primary now".to_owned(),
            status::writable(service, observed),
        )
    })?;
    if request.expected_epoch != 0 && request.expected_epoch != primary.epoch {
        let message = format!(
            "the service is at epoch {}, not {}",
            primary.epoch, request.expected_epoch
        );
        return Err(refused(
            "STALE_EPOCH",
            message.clone(),
            vec![Predicate::unmet("EPOCH_CURRENT", message)],
        ));
    }
    let target = if request.target.is_empty() {
        status::best_replica(service, observed, service.desired.members_of(MAIN)).ok_or_else(
            || {
                let message = "no replica follows the primary".to_owned();
                refused(
                    "NO_CANDIDATE",
                    message,
                    status::replication_ready(service, observed),
                )
            },
        )?
    } else {
        request.target.clone()
    };
    let member = crds::names::ordinal(&service.name.service, &target)
        .and_then(|ordinal| u32::try_from(ordinal).ok())
        .is_some_and(|ordinal| ordinal < service.desired.members_of(MAIN));
    if !member {
        return Err(Error::invalid(
            "target",
            format!("{target:?} is not a member of {name}"),
        ));
    }
    if target == primary.unit {
        return Err(refused(
            "ALREADY_PRIMARY",
            format!("{target} is the primary already"),
            Vec::new(),
        ));
    }
    let predicates = status::target_ready(service, observed, &target);
    if !all_hold(&predicates) {
        return Err(refused(
            "TARGET_NOT_READY",
            engine::unmet_in_words(&predicates),
            predicates,
        ));
    }
    let to = Switchover {
        target,
        expected_epoch: primary.epoch,
        accept_loss: None,
    };
    Ok((primary.unit, to))
}

/// The loss as the cluster states it, and the switchover that accepts exactly this one.
fn accepted(
    service: &Service,
    observed: &Observed,
    request: &pb::FailoverRedisServiceRequest,
) -> Result<(String, Switchover), Error> {
    let refused = |reason, message: String| Error::Refused {
        name: service.name.to_string(),
        reason,
        predicates: vec![Predicate::unmet(reason, message.clone())],
        message,
    };
    let Some((epoch, refusal)) = status::refusal(service, observed) else {
        let message = "no election was refused: a primary leads, or one is being elected";
        return Err(refused("NOTHING_REFUSED", message.to_owned()));
    };
    if request.expected_epoch != 0 && request.expected_epoch != epoch {
        let message = format!(
            "the service is at epoch {epoch}, not {}",
            request.expected_epoch
        );
        return Err(refused("STALE_EPOCH", message));
    }
    let Some(target) = refusal.candidate else {
        let message = "no member with data can be asked; bring one back, or restore a backup";
        return Err(refused("NO_CANDIDATE", message.to_owned()));
    };
    let only_looks = request.validate_only && request.accept_loss.is_empty();
    if !only_looks && request.accept_loss != refusal.loss_id {
        let message = format!(
            "{}; to accept this, repeat with accept_loss {}",
            refusal.loss, refusal.loss_id
        );
        return Err(refused("LOSS_NOT_ACCEPTED", message));
    }
    let to = Switchover {
        target,
        expected_epoch: epoch,
        accept_loss: Some(refusal.loss_id),
    };
    Ok((refusal.loss, to))
}

/// A service that was created and on which nothing works.
async fn active(
    services: &Services<Redis>,
    text: &str,
    verb: &'static str,
) -> Result<Service, Error> {
    let service = services.find(&name(text)?).await?;
    services.refuse_conflict(&service, verb).await?;
    let message = match service.life {
        Life::Active => return Ok(service),
        Life::Creating => "it is being created",
        Life::Failed => "its creation failed; delete it",
        Life::Deleting | Life::Retained => "it is being deleted",
    };
    Err(Error::refused(
        service.name.to_string(),
        "SERVICE_NOT_READY",
        message,
    ))
}

async fn observed(
    services: &Services<Redis>,
    ctx: &Context,
    service: &Service,
) -> Result<Observed, Error> {
    let unknown =
        || mesh::Status::unavailable("the hub does not answer; what the service does is not known");
    let observed = services.observe(ctx, service).await.ok_or_else(unknown)?;
    if observed.agent_connected() != Some(true) {
        return Err(Error::Refused {
            name: service.name.to_string(),
            reason: "AGENT_NOT_CONNECTED",
            message: format!(
                "the agent of clusters/{} is away; who is the primary is not known",
                service.cluster
            ),
            predicates: vec![observed.agent_predicate(&service.cluster)],
        });
    }
    Ok(observed)
}

async fn replayed(
    services: &Services<Redis>,
    ctx: &Context,
    once: &Request,
    validate_only: bool,
) -> Result<Option<Operation>, Error> {
    if validate_only {
        return Ok(None);
    }
    services.replay(ctx, once).await
}

#[allow(clippy::too_many_arguments)]
async fn begin(
    services: &Services<Redis>,
    ctx: &Context,
    once: Request,
    validate_only: bool,
    seen: Service,
    life: Option<Life>,
    plan: engine::Plan,
    input: Input,
    diff: serde_json::Value,
) -> Result<Operation, Error> {
    let name = seen.name.clone();
    if validate_only {
        return Ok(services.preview(&name, &plan));
    }
    let acceptance = Acceptance {
        name,
        plan,
        input,
        change: Change::Begin { seen, life },
        diff,
    };
    services.accept(ctx, once, acceptance).await
}

#[cfg(test)]
mod tests {
    use mesh::Classify;

    use super::*;
    use crate::status::tests::{UP, observed as seen, replication, service, units};

    fn ask(target: &str, expected_epoch: i64) -> pb::SwitchoverRedisServiceRequest {
        pb::SwitchoverRedisServiceRequest {
            target: target.into(),
            expected_epoch,
            ..Default::default()
        }
    }

    #[test]
    fn refuses_a_switchover_with_a_stale_epoch_or_a_target_that_cannot_be_it() {
        let service = service(3);
        let links = [UP, UP, (false, -1)];
        let observed = seen(
            &service,
            units(&[true; 3]),
            replication(0, &links, true),
            true,
        );
        for (request, reason) in [
            (ask("demo-1", 3), "STALE_EPOCH"),
            (ask("demo-0", 0), "ALREADY_PRIMARY"),
            (ask("demo-2", 4), "TARGET_NOT_READY"),
            (ask("demo-3", 0), "INVALID_FIELD"),
            (ask("other-1", 0), "INVALID_FIELD"),
        ] {
            let error = wanted_primary(&service, &observed, &request).unwrap_err();
            assert_eq!(error.reason(), reason, "{request:?}");
            let details = error.details();
            assert!(
                reason != "TARGET_NOT_READY" || details.preconditions[0].kind == "TARGET_LINKED"
            );
        }
        let (from, wish) = wanted_primary(&service, &observed, &ask("", 4)).unwrap();
        assert_eq!(
            (from.as_str(), wish.target.as_str(), wish.expected_epoch),
            ("demo-0", "demo-1", 4)
        );
    }

    #[test]
    fn failover_accepts_exactly_the_stated_loss() {
        let service = service(3);
        let mut status = replication(0, &[UP; 3], false);
        let ask =
            |accept_loss: &str, expected_epoch, validate_only| pb::FailoverRedisServiceRequest {
                accept_loss: accept_loss.into(),
                expected_epoch,
                validate_only,
                ..Default::default()
            };
        let refused = |status: &serde_json::Value, request: &pb::FailoverRedisServiceRequest| {
            let observed = seen(&service, units(&[true; 3]), status.clone(), true);
            accepted(&service, &observed, request)
        };
        let reason = |status: &serde_json::Value, request: &pb::FailoverRedisServiceRequest| {
            refused(status, request).unwrap_err().reason().to_owned()
        };
        assert_eq!(reason(&status, &ask("x", 0, false)), "NOTHING_REFUSED");
        status["refusal"] = json!({"loss": "", "lossId": ""});
        assert_eq!(reason(&status, &ask("", 0, false)), "NO_CANDIDATE");
        status["refusal"] = json!({"candidate": "demo-1", "loss": "demo-1 lacks 10 bytes", "lossId": "0123456789ab"});
        assert_eq!(
            reason(&status, &ask("0123456789ab", 3, false)),
            "STALE_EPOCH"
        );
        let other = refused(&status, &ask("another", 0, false)).unwrap_err();
        assert_eq!(other.reason(), "LOSS_NOT_ACCEPTED");
        assert!(other.to_string().contains("0123456789ab"), "{other}");
        let (loss, wish) = refused(&status, &ask("", 0, true)).unwrap();
        assert_eq!(
            (loss.as_str(), wish.target.as_str()),
            ("demo-1 lacks 10 bytes", "demo-1")
        );
        let (_, wish) = refused(&status, &ask("0123456789ab", 4, false)).unwrap();
        assert_eq!(wish.accept_loss.as_deref(), Some("0123456789ab"));
    }

    #[test]
    fn refuses_a_switchover_without_a_primary_or_a_candidate() {
        let service = service(2);
        let mut none = replication(0, &[UP; 2], false);
        none["primary"] = serde_json::Value::Null;
        let observed = seen(&service, units(&[true; 2]), none, true);
        assert_eq!(
            wanted_primary(&service, &observed, &ask("", 0))
                .unwrap_err()
                .reason(),
            "NO_PRIMARY"
        );
        let alone = replication(0, &[UP, (false, -1)], true);
        let observed = seen(&service, units(&[true; 2]), alone, true);
        assert_eq!(
            wanted_primary(&service, &observed, &ask("", 0))
                .unwrap_err()
                .reason(),
            "NO_CANDIDATE"
        );
    }
}
