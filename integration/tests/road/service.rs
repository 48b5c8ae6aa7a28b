//! A Redis service, seen from the API and from the cluster.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{api::Answer, kubectl::eventually, world::World, writer::Target};

/// How long an operation of a test may take.
pub(crate) const LONG: Duration = Duration::from_mins(6);
/// How long a service may take to be complete again.
pub(crate) const HEALING: Duration = Duration::from_mins(3);
/// How long an entry of the operation log may take: an outbox looks by itself every 15 s, and later when the log was away.
pub(crate) const RECORDED: Duration = Duration::from_secs(90);
/// A spec that leaves room for others on a small machine.
pub(crate) fn spec(members: u32) -> Value {
    json!({"spec": {"members": members, "cpu": "250m", "memory": "128Mi", "storage": {"size": "300Mi"}}})
}

/// A Redis service of a world.
#[derive(Clone)]
pub(crate) struct Service<'w> {
    pub(crate) world: &'w World,
    pub(crate) project: String,
    pub(crate) id: String,
}

impl<'w> Service<'w> {
    pub(crate) fn of(world: &'w World, project: &str, id: &str) -> Self {
        Self {
            world,
            project: project.to_owned(),
            id: id.to_owned(),
        }
    }

    /// Creates a service through REST and waits until the operation has succeeded.
    pub(crate) fn create(world: &'w World, project: &str, id: &str, members: u32) -> Self {
        let service = Self::of(world, project, id);
        world
            .api()
            .operate("POST", &service.creation(""), Some(&spec(members)), LONG);
        service
    }

    /// `projects/{project}/redisServices/{service}`.
    pub(crate) fn name(&self) -> String {
        format!("projects/{}/redisServices/{}", self.project, self.id)
    }

    /// Its path in the API with something behind it, for example `:switchover`.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/v1/{}{rest}", self.name())
    }

    /// The path that creates it, with further query parameters, for example `&validateOnly=true`.
    pub(crate) fn creation(&self, more: &str) -> String {
        format!(
            "/v1/projects/{}/redisServices?redisServiceId={}{more}",
            self.project, self.id
        )
    }

    /// The resource.
    pub(crate) fn get(&self) -> Value {
        self.world.api().get(&self.path(""))
    }

    pub(crate) fn try_get(&self) -> Answer {
        self.world.api().call("GET", &self.path(""), None)
    }

    /// Runs a method such as `:switchover` to its success.
    pub(crate) fn operate(&self, verb: &str, body: &Value) -> Value {
        self.world
            .api()
            .operate("POST", &self.path(verb), Some(body), LONG)
    }

    /// Deletes the service and waits for its end.
    pub(crate) fn delete(&self, policy: &str) {
        self.world.api().operate(
            "DELETE",
            &self.path(&format!("?policy={policy}")),
            None,
            LONG,
        );
    }

    /// The primary and the epoch that the platform shows.
    pub(crate) fn primary(&self) -> (String, i64) {
        let status = &self.get()["status"];
        let primary = status["primary"].as_str().unwrap_or_default().to_owned();
        (primary, number(&status["epoch"]))
    }

    /// The primary, the epoch and whether it takes writes, as the cluster shows them.
    pub(crate) fn primary_in_cluster(&self) -> (String, i64, bool) {
        let object = self.object("redisreplication");
        let status = &object["status"];
        (
            status["primary"].as_str().unwrap_or_default().to_owned(),
            number(&status["epoch"]),
            status["writable"] == true,
        )
    }

    /// An object of the cluster that has the service's name.
    pub(crate) fn object(&self, kind: &str) -> Value {
        self.world
            .kubectl
            .get(&[kind, &self.id, "-n", &self.project])
    }

    /// All objects of a kind in the service's namespace.
    pub(crate) fn objects(&self, kind: &str) -> Vec<Value> {
        self.world.kubectl.list(kind, &self.project)
    }

    /// Names and uids of objects of a kind, sorted by name.
    pub(crate) fn identities(&self, kind: &str) -> Vec<(String, String)> {
        let text = |object: &Value, field: &str| {
            object["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let mut all: Vec<_> = self
            .objects(kind)
            .iter()
            .map(|object| (text(object, "name"), text(object, "uid")))
            .collect();
        all.sort();
        all
    }

    pub(crate) fn target(&self) -> Target {
        Target::readwrite(self.world, &self.project, &self.id)
    }

    /// Members by ordinal.
    pub(crate) fn members(&self) -> Vec<String> {
        self.get()["status"]["members"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|member| member["name"].as_str().map(ToOwned::to_owned))
            .collect()
    }

    /// A member that is not the primary.
    pub(crate) fn replica(&self) -> String {
        let (primary, _) = self.primary();
        self.members()
            .into_iter()
            .find(|member| *member != primary)
            .expect("a replica")
    }

    /// Waits until everything is as it shall be: `READY`, one primary, the others follow, one pod is labelled as the primary, and the platform
    /// has this from an agent that is connected.
    pub(crate) fn heals(&self, limit: Duration) {
        if let Err(reason) = self.is_well_within(limit) {
            panic!(
                "{} is not well after {} s: {reason}",
                self.name(),
                limit.as_secs()
            );
        }
    }

    pub(crate) fn is_well_within(&self, limit: Duration) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            match self.is_well() {
                Err(_) if begin.elapsed() < limit => thread::sleep(Duration::from_millis(300)),
                outcome => return outcome,
            }
        }
    }

    fn is_well(&self) -> Result<(), String> {
        let answer = self.try_get();
        let service = answer.body;
        let members = service["status"]["members"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let count = |field: &str, wanted: &Value| {
            members
                .iter()
                .filter(|member| member[field] == *wanted)
                .count()
        };
        let wanted = service["spec"]["members"].as_u64().unwrap_or_default() as usize;
        let well = answer.status == 200
            && service["status"]["state"] == "READY"
            && service["status"]["agentConnected"] == true
            && members.len() == wanted
            && count("role", &json!("PRIMARY")) == 1
            && count("role", &json!("REPLICA")) == wanted - 1
            && count("ready", &json!(true)) == wanted
            && count("linkUp", &json!(true)) == wanted;
        if !well {
            return Err(format!("{} {service}", answer.status));
        }
        let label = "upm.syntropycloud.io/role=primary";
        let labelled = self
            .world
            .kubectl
            .get(&["pods", "-n", &self.project, "-l", label]);
        match labelled["items"].as_array().map(Vec::len) {
            Some(1) => Ok(()),
            other => Err(format!("pods with {label}: {other:?}")),
        }
    }

    /// Sends a signal to the server's process in a pod, and to a child of it that rewrites its files, which may end meanwhile.
    pub(crate) fn signal(&self, pod: &str, signal: &str) -> Result<(), String> {
        let script = format!(
            "for p in /proc/[0-9]*; do if [ \"$(cat $p/comm 2>/dev/null)\" = redis-server ]; then \
             kill -{signal} ${{p#/proc/}} && echo ${{p#/proc/}}; fi; done; true"
        );
        let killed = self
            .world
            .kubectl
            .exec(&self.project, pod, &["sh", "-c", &script])?;
        if killed.trim().is_empty() {
            return Err(format!("no redis-server runs in {pod}"));
        }
        Ok(())
    }

    /// Removes a pod without giving it time.
    pub(crate) fn kill_pods(&self, pods: &[String]) {
        let mut arguments = vec![
            "delete",
            "pod",
            "-n",
            &self.project,
            "--grace-period=0",
            "--force",
            "--wait=false",
        ];
        arguments.extend(pods.iter().map(String::as_str));
        self.world.kubectl.must(&arguments);
    }

    /// Asserts that nothing of the service is left in the platform or the cluster, except volumes.
    pub(crate) fn is_gone(&self) {
        assert_eq!(self.try_get().status, 404);
        for kind in ["unitset", "unit", "redisreplication", "pod"] {
            eventually(&format!("every {kind} is gone"), HEALING, || {
                let left = self.identities(kind);
                if left.is_empty() {
                    Ok(())
                } else {
                    Err(format!("{left:?}"))
                }
            });
        }
    }
}

/// A 64-bit number of proto3 JSON, which is a string.
pub(crate) fn number(value: &Value) -> i64 {
    value
        .as_i64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
        .unwrap_or_default()
}
