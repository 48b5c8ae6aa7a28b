use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use kube::runtime::watcher::Event;
use tokio_util::sync::CancellationToken;
use upm_crds::{Project, ProjectSpec, ProjectStatus};

use super::*;
use crate::Settings;

/// Fails as often as told, then reports the generation it saw.
struct Counting {
    failures: usize,
    attempts: AtomicUsize,
}

impl Controller for Counting {
    const NAME: &'static str = "counting";
    type Object = Project;
    type Observed = ();
    type Plan = ();

    async fn observe(&self, _: &Project) -> Result<(), Error> {
        Ok(())
    }

    fn plan(&self, _: &Project, (): &()) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self, project: &Project, (): &(), (): &()) -> Option<ProjectStatus> {
        Some(ProjectStatus {
            observed_generation: project.metadata.generation,
            ..ProjectStatus::default()
        })
    }

    async fn apply(&self, _: &Project, (): ()) -> Result<Next, Error> {
        if self.attempts.fetch_add(1, Ordering::SeqCst) < self.failures {
            return Err(Error::Refused("not yet".to_owned()));
        }
        Ok(Next::Await)
    }
}

/// Request lines with their bodies.
type Requests = Arc<Mutex<Vec<(String, String)>>>;

/// A client whose server keeps every request line and body, and answers with what it got.
fn client() -> (Client, Requests) {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&requests);
    let service = tower::service_fn(move |request: Request<Body>| {
        let kept = Arc::clone(&kept);
        async move {
            let line = format!("{} {}", request.method(), request.uri());
            let body = request.into_body().collect_bytes().await.unwrap();
            let body = String::from_utf8(body.to_vec()).unwrap();
            kept.lock().unwrap().push((line, body.clone()));
            Ok::<_, Infallible>(Response::new(Body::from(body.into_bytes())))
        }
    });
    (Client::new(service, "default"), requests)
}

fn project() -> Project {
    let mut project = Project::new("p1", ProjectSpec::default());
    project.metadata.generation = Some(3);
    project
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_mins(1), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

#[tokio::test]
async fn retries_a_failure_and_writes_the_status_by_server_side_apply() {
    let (client, requests) = client();
    let cancel = CancellationToken::new();
    let context = Context::new(client, Settings::default(), "counting", cancel.clone());
    let events = stream::iter([
        Ok(Event::Init),
        Ok(Event::InitApply(project())),
        Ok(Event::InitDone),
    ]);
    let informer = Informer::over(events.chain(stream::pending()).boxed(), &cancel, |_| {
        Vec::new()
    });
    let controller = Arc::new(Counting {
        failures: 1,
        attempts: AtomicUsize::new(0),
    });
    let running = {
        let controller = Arc::clone(&controller);
        tokio::spawn(async move {
            run(
                controller,
                context,
                &informer,
                Vec::new(),
                Options::default(),
            )
            .await
        })
    };
    until("it is tried twice", || {
        controller.attempts.load(Ordering::SeqCst) == 2
    })
    .await;
    let statuses = || {
        let requests = requests.lock().unwrap();
        let of_status = requests.iter().filter(|(line, _)| line.contains("/status"));
        of_status.cloned().collect::<Vec<_>>()
    };
    until("the status is written each time", || statuses().len() == 2).await;
    let (line, body) = statuses().remove(0);
    assert!(
        line.starts_with("PATCH /apis/upm.syntropycloud.io/v1alpha2/projects/p1/status?"),
        "{line}"
    );
    assert!(
        line.contains("fieldManager=counting") && line.contains("force=true"),
        "{line}"
    );
    assert!(body.contains(r#""observedGeneration":3"#), "{body}");
    let told = |(line, body): &(String, String)| {
        line.starts_with("POST ") && line.contains("/events") && body.contains("not yet")
    };
    assert!(
        requests.lock().unwrap().iter().any(told),
        "an event says what was refused"
    );
    cancel.cancel();
    tokio::time::timeout(Duration::from_mins(1), running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[test]
fn takes_the_earlier_of_two_times() {
    let second = Duration::from_secs(1);
    assert_eq!(Next::Await.or(Next::After(second)), Next::After(second));
    assert_eq!(
        Next::After(second * 2).or(Next::After(second)),
        Next::After(second)
    );
    assert_eq!(Next::Await.or(Next::Await), Next::Await);
}
