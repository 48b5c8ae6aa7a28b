use futures::channel::mpsc as channel;
use futures::stream;
use k8s_openapi::api::core::v1::ConfigMap;

use super::*;

/// Only keeps a test from hanging.
const PATIENCE: Duration = Duration::from_mins(1);

fn map(name: &str, set: &str) -> ConfigMap {
    serde_json::from_value(serde_json::json!({
        "metadata": { "name": name, "namespace": "p1", "labels": { "set": set } }
    }))
    .unwrap()
}

fn informer() -> (
    channel::UnboundedSender<watcher::Result<Event<ConfigMap>>>,
    Informer<ConfigMap>,
    CancellationToken,
) {
    let (sender, receiver) = channel::unbounded();
    let cancel = CancellationToken::new();
    let informer = Informer::over(
        receiver.chain(stream::pending()).boxed(),
        &cancel,
        |map: &ConfigMap| map.labels().get("set").cloned().into_iter().collect(),
    );
    (sender, informer, cancel)
}

fn names(objects: &[Arc<ConfigMap>]) -> Vec<String> {
    objects.iter().map(|object| object.name_any()).collect()
}

async fn next(trigger: &mut Trigger<ConfigMap>) -> String {
    tokio::time::timeout(PATIENCE, trigger.next())
        .await
        .unwrap()
        .unwrap()
        .name
}

#[tokio::test]
async fn finds_objects_by_key_and_forgets_those_that_are_gone() {
    let (events, informer, _cancel) = informer();
    for event in [
        Event::Init,
        Event::InitApply(map("a", "x")),
        Event::InitApply(map("b", "x")),
        Event::InitDone,
    ] {
        events.unbounded_send(Ok(event)).unwrap();
    }
    informer.ready(PATIENCE).await.unwrap();
    let mut trigger = informer.trigger(|map: &ConfigMap| vec![ObjectRef::from_obj(map)]);
    let mut first = [next(&mut trigger).await, next(&mut trigger).await];
    first.sort();
    assert_eq!(first, ["a", "b"]);
    assert_eq!(names(&informer.indexed("x")), ["a", "b"]);

    events
        .unbounded_send(Ok(Event::Apply(map("a", "y"))))
        .unwrap();
    // the list may have announced a and b once more
    while next(&mut trigger).await != "a" || informer.indexed("y").is_empty() {}
    assert_eq!(
        (names(&informer.indexed("x")), names(&informer.indexed("y"))),
        (vec!["b".into()], vec!["a".into()])
    );

    events
        .unbounded_send(Ok(Event::Delete(map("b", "x"))))
        .unwrap();
    assert_eq!(next(&mut trigger).await, "b");
    assert!(informer.indexed("x").is_empty());
}

#[tokio::test]
async fn tells_of_objects_that_vanished_while_the_watch_was_lost() {
    let (events, informer, _cancel) = informer();
    for event in [
        Event::Init,
        Event::InitApply(map("a", "x")),
        Event::InitApply(map("b", "x")),
        Event::InitDone,
    ] {
        events.unbounded_send(Ok(event)).unwrap();
    }
    informer.ready(PATIENCE).await.unwrap();
    let mut trigger = informer.trigger(|map: &ConfigMap| vec![ObjectRef::from_obj(map)]);
    for event in [
        Event::Init,
        Event::InitApply(map("a", "x")),
        Event::InitDone,
    ] {
        events.unbounded_send(Ok(event)).unwrap();
    }
    while !(next(&mut trigger).await == "b" && informer.get("p1", "b").is_none()) {}
    assert_eq!(names(&informer.indexed("x")), ["a"]);
}

#[tokio::test]
async fn ends_its_triggers_when_it_is_cancelled() {
    let (_events, informer, cancel) = informer();
    let mut trigger = informer.trigger(|map: &ConfigMap| vec![ObjectRef::from_obj(map)]);
    cancel.cancel();
    assert!(
        tokio::time::timeout(PATIENCE, trigger.next())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn keeps_only_objects_of_interest_and_nothing_of_who_owns_their_fields() {
    let mut owned = map("a-config-value", "x");
    owned.metadata.managed_fields = Some(vec![Default::default()]);
    let events = stream::iter([
        Event::Init,
        Event::InitApply(owned),
        Event::InitApply(map("other", "x")),
        Event::InitDone,
        Event::Apply(map("another", "x")),
        Event::Apply(map("b-config-value", "x")),
    ]);
    let events = events.map(Ok).chain(stream::pending()).boxed();
    let events = slim(readable::<ConfigMap>(events));
    let cancel = CancellationToken::new();
    let informer = Informer::follow(
        kept(events, |name| name.ends_with("-config-value")),
        &cancel,
        |_| Vec::new(),
    );
    informer.ready(PATIENCE).await.unwrap();
    let mut trigger = informer.trigger(|map: &ConfigMap| vec![ObjectRef::from_obj(map)]);
    while next(&mut trigger).await != "b-config-value" {}
    let mut all = names(&informer.all());
    all.sort();
    assert_eq!(all, ["a-config-value", "b-config-value"]);
    let first = informer.get("p1", "a-config-value").unwrap();
    assert_eq!(first.metadata.managed_fields, None);
}

#[tokio::test]
async fn object_that_cannot_be_read_hides_no_other_and_is_told_of() {
    let (sender, receiver) = channel::unbounded();
    let cancel = CancellationToken::new();
    let informer: Informer<ConfigMap> =
        Informer::follow::<Record>(receiver.chain(stream::pending()).boxed(), &cancel, |_| {
            Vec::new()
        });
    let read = |name: &str, data: &str| -> Read<ConfigMap, Record> {
        let object = serde_json::json!({
            "metadata": { "name": name, "namespace": "p1" },
            "data": serde_json::from_str::<serde_json::Value>(data).unwrap(),
        });
        serde_json::from_value(object).unwrap()
    };
    for event in [
        Event::Init,
        Event::InitApply(read("a", "3")),
        Event::InitApply(read("b", "{}")),
        Event::InitDone,
    ] {
        sender.unbounded_send(Ok(event)).unwrap();
    }
    informer.ready(PATIENCE).await.unwrap();
    assert_eq!(names(&informer.all()), ["b"]);
    let mut reports = informer.reports();
    let told = reports.next().await.unwrap();
    assert_eq!(told.metadata.name.as_deref(), Some("a"));

    let mut trigger = informer.trigger(|map: &ConfigMap| vec![ObjectRef::from_obj(map)]);
    assert_eq!(next(&mut trigger).await, "b");
    sender
        .unbounded_send(Ok(Event::Apply(read("b", "\"x\""))))
        .unwrap();
    assert_eq!(next(&mut trigger).await, "b", "what it was is no more");
    assert!(informer.get("p1", "b").is_none(), "nobody acts on it");
    let told = tokio::time::timeout(PATIENCE, reports.next()).await;
    assert_eq!(told.unwrap().unwrap().metadata.name.as_deref(), Some("b"));
    assert_eq!(informer.unreadable().len(), 2);

    sender
        .unbounded_send(Ok(Event::Apply(read("a", "{}"))))
        .unwrap();
    assert_eq!(next(&mut trigger).await, "a", "it was mended");
    sender
        .unbounded_send(Ok(Event::Delete(read("b", "3"))))
        .unwrap();
    sender
        .unbounded_send(Ok(Event::Apply(read("c", "{}"))))
        .unwrap();
    assert_eq!(next(&mut trigger).await, "c");
    assert!(informer.unreadable().is_empty());
}
