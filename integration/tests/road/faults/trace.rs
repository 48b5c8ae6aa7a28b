//! One trace from the HTTP request to the Kubernetes apply.

use std::{collections::BTreeSet, time::Duration};

use crate::road::{
    kubectl::eventually,
    receiver::{Receiver, Seen},
    service::{LONG, Service, spec},
    world::world,
};

/// Traces are sent in batches, some seconds after the spans have ended.
const SENT: Duration = Duration::from_secs(90);

#[test]
fn one_trace_leads_from_the_http_request_to_the_kubernetes_apply() {
    let world = world();
    let receiver = Receiver::start();
    world.kill();
    world.start(&[(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        &receiver.endpoint("127.0.0.1"),
    )]);
    world.install_agent(&[&format!(
        "telemetry.otlpEndpoint={}",
        receiver.endpoint(&world.environment.host)
    )]);

    let project = world.project("trace");
    let service = Service::of(&world, &project, "cache");
    let trace = uuid::Uuid::new_v4().simple().to_string();
    let begin = format!("00-{trace}-00f067aa0ba902b7-01");
    let api = world.api();
    let answer = api
        .call_with(
            "POST",
            &service.creation(""),
            Some(&spec(1)),
            &[("traceparent", &begin)],
        )
        .ok();
    assert_eq!(
        answer["traceId"],
        trace.as_str(),
        "the operation names the trace of its request"
    );
    api.succeeded(answer["name"].as_str().expect("a name"), LONG);

    let annotation = |kind: &str| {
        let object = service.object(kind);
        object["metadata"]["annotations"]["upm.syntropycloud.io/traceparent"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    for kind in ["unitset", "redisreplication"] {
        assert!(
            annotation(kind).contains(&trace),
            "the {kind} carries the trace: {}",
            annotation(kind)
        );
    }
    eventually("every part of the road is in the trace", SENT, || {
        let spans = receiver.trace(&trace);
        let missing = missing(&spans);
        if missing.is_empty() {
            // A parent may come after its children, from another process.
            return hangs_together(&spans, "00f067aa0ba902b7");
        }
        let names: BTreeSet<_> = spans
            .iter()
            .map(|span| format!("{}: {}", span.service, span.name))
            .collect();
        Err(format!("no span for {missing:?} among {names:#?}"))
    });

    service.delete("DELETE_DATA");
    world.kill();
    world.start(&[]);
    world.install_agent(&[]);
}

/// Parts of the road without a span.
fn missing(spans: &[Seen]) -> Vec<&'static str> {
    let road: [(&str, &str, &str); 5] = [
        ("the request", "upm", "POST /v1/projects/"),
        (
            "the module",
            "upm",
            "upm.redis.v1.RedisServices/CreateRedisService",
        ),
        ("the operation", "upm", "operation"),
        ("the hub", "upm", "upm.hub.v1.LedgerService/ApplyObjects"),
        ("the agent's apply", "upm-agent", "apply"),
    ];
    road.into_iter()
        .filter(|(_, service, name)| {
            !spans
                .iter()
                .any(|span| span.service == *service && span.name.starts_with(name))
        })
        .map(|(what, ..)| what)
        .collect()
}

/// Nearly every span has its parent in the trace; the first one's is the caller's.
fn hangs_together(spans: &[Seen], caller: &str) -> Result<(), String> {
    let known: BTreeSet<&str> = spans
        .iter()
        .map(|span| span.id.as_str())
        .chain([caller])
        .collect();
    if !spans.iter().any(|span| span.parent == caller) {
        return Err("the request's span does not follow the caller's".to_owned());
    }
    let lost: Vec<_> = spans
        .iter()
        .filter(|span| !known.contains(span.parent.as_str()))
        .collect();
    if lost.len() * 5 <= spans.len() {
        Ok(())
    } else {
        Err(format!("spans hang in the air: {lost:?}"))
    }
}
