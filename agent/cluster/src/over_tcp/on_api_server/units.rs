//! Commands in units, as far as an API server without a kubelet can say: who may, and what becomes of a command that cannot be started.

use super::*;
use crate::{
    over_tcp::tunnels::{Command, reason, start},
    policy::Reach,
    tunnel::ClusterTunnels,
};

async fn pod(plane: &ControlPlane, name: &str, labels: Value) {
    let metadata = json!({"name": name, "namespace": "p", "labels": labels});
    let spec = json!({"containers": [{"name": "redis", "image": "redis:1"}]});
    plane
        .make(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
        .await;
}

#[tokio::test]
async fn a_command_needs_the_clusters_policy_a_unit_and_the_right_to_exec() {
    let plane = ControlPlane::start().await;
    for name in [SYSTEM, "p"] {
        namespace(&plane, name).await;
    }
    account(&plane, "upm-agent").await;
    pod(&plane, "k0-0", json!({"unit-operator/unit.name": "k0-0"})).await;
    pod(&plane, "stranger", json!({})).await;
    let pods = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    grant(&plane, "p", "upm-agent", pods).await;
    let own = Client::try_from(plane.config_of(SYSTEM, "upm-agent").await).unwrap();
    let tunnels = |exec: Reach| {
        let policy = Policy {
            exec,
            ..Policy::default()
        };
        Arc::new(ClusterTunnels::new(own.clone(), policy))
    };

    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(mesh::Authority::create().unwrap());
    let mut hub = hub(&folder, &authority, local().await).await;
    let (token, pin) = hub.token(true).await;
    let (disk, file) = (Disk::default(), token_file(&folder, &token));
    let place = place(&[&hub.address], &pin, file);
    let refused = async |admin: &AgentAdminServiceClient<Channel>, pod: &str, container: &str| {
        let start = pb::ExecStart {
            pod: pod.into(),
            container: container.into(),
            ..start("true")
        };
        let status = Command::start(admin, start).await.map(drop).unwrap_err();
        (reason(&status), status.message().to_owned())
    };

    let mut agent = run_as(&disk, place.clone(), |parts| {
        parts.tunnels = tunnels(Reach::Nowhere);
    });
    agent.reason("CONNECTED").await;
    let (reason, words) = refused(&hub.admin, "k0-0", "").await;
    assert_eq!(reason, "DENIED_LOCAL_POLICY");
    assert!(words.contains("does not allow commands"), "{words}");
    agent.stop().await;

    let mut agent = run_as(&disk, place, |parts| {
        parts.tunnels = tunnels(Reach::of(["p"]));
    });
    agent.reason("CONNECTED").await;
    for (pod, container, wanted) in [
        ("missing", "", "POD_NOT_FOUND"),
        ("stranger", "", "DENIED_LOCAL_POLICY"),
        ("k0-0", "shell", "CONTAINER_NOT_FOUND"),
    ] {
        assert_eq!(refused(&hub.admin, pod, container).await.0, wanted, "{pod}");
    }
    let (reason, words) = refused(&hub.admin, "k0-0", "").await;
    assert_eq!(reason, "DENIED_LOCAL_POLICY");
    assert!(words.contains("pods/exec"), "{words}");

    let exec = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get", "create"]},
    ]);
    grant(&plane, "p", "upm-agent", exec).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        // The API server learns of its own rules a moment later. The pod is on no node.
        let (reason, words) = refused(&hub.admin, "k0-0", "redis").await;
        if reason == "COMMAND_NOT_STARTED" {
            assert!(words.contains("host assigned"), "{words}");
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{reason}: {words}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    agent.stop().await;
    hub.stop().await;
}
