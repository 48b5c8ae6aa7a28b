//! The agent in the test cluster.

use std::time::Duration;

use serde_json::Value;

use super::{CLUSTER, Form, World, text};
use crate::road::kubectl::eventually;

/// Namespace of the agent.
pub(crate) const SYSTEM: &str = "upm-system";
/// How long the agent may take until the platform calls the cluster healthy.
pub(crate) const CONNECTING: Duration = Duration::from_mins(3);
const DEPLOYMENT: &str = "deployment/upm-agent";
const SELECTOR: &str = "app.kubernetes.io/name=upm-agent";

impl World {
    /// Removes what an earlier platform left in the cluster.
    pub(super) fn clean_cluster(&self) {
        let script = self.environment.root.join("integration/cluster/empty.sh");
        let done = std::process::Command::new(script)
            .status()
            .expect("run the script");
        assert!(done.success(), "the cluster cannot be emptied");
    }

    /// Registers the cluster and installs the agent with its chart. Returns what the agent trusts.
    pub(super) fn join(&self) -> String {
        let answer = self.upm(&["cluster", "join", CLUSTER, "--auto-approve", "-o", "json"]);
        let join: Value = serde_json::from_str(&answer).expect("JSON");
        let token = join["token"].as_str().expect("a token");
        let pin = join["caPin"].as_str().expect("a pin").to_owned();
        self.kubectl.apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {SYSTEM}}}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: upm-agent-join, namespace: {SYSTEM}}}\nstringData: {{token: {token:?}}}\n"
        ));
        let definitions = self.environment.root.join("helm/upm-agent/crds");
        self.kubectl.must(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            text(&definitions),
        ]);
        self.install(&pin, &[]);
        self.healthy(CONNECTING);
        pin
    }

    /// SHA-256 of the public key of the hub's CA, as agents are told.
    pub(crate) fn pin(&self) -> &str {
        &self.pin
    }

    /// Installs the agent anew with other values.
    pub(crate) fn install_agent(&self, more: &[&str]) {
        self.install(&self.pin, more);
        self.renewed();
        self.healthy(CONNECTING);
    }

    /// Waits until the pods of before are gone and one of the new ones leads. Helm waits for the new ones only: whoever leads may still be one
    /// that is about to end, and what it does then breaks off.
    fn renewed(&self) {
        eventually("a new replica leads", CONNECTING, || {
            let pods = self.agent_pods();
            let lease = self.kubectl.get(&["lease", "upm-agent", "-n", SYSTEM]);
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
            if pods.len() == 2 && pods.iter().any(|pod| holder.starts_with(pod.as_str())) {
                Ok(())
            } else {
                Err(format!("{holder:?} leads, there are {pods:?}"))
            }
        });
    }

    fn install(&self, pin: &str, more: &[&str]) {
        let environment = &self.environment;
        let chart = environment.root.join("helm/upm-agent");
        let mut sets = vec![
            format!("hub.endpoints={{{}}}", self.hub_address()),
            format!("hub.caPin={pin}"),
            format!("image.reference={}", environment.agent_image),
            format!("unitAgent.image={}", environment.unit_agent_image),
            format!("images.prefix={}", environment.image_prefix),
        ];
        if self.form == Form::Dev {
            // The platform of this form dies in many tests. What an agent does that is told nothing is seen with the other form.
            sets.push("hub.longestPauseSeconds=1".to_owned());
        }
        let mut arguments = vec![
            "upgrade",
            "--install",
            "upm-agent",
            text(&chart),
            "-n",
            SYSTEM,
            "--wait",
            "--timeout",
            "3m",
        ];
        for set in &sets {
            arguments.extend(["--set", set]);
        }
        for set in more {
            arguments.extend(["--set", set]);
        }
        self.kubectl.helm(&arguments);
    }

    /// Waits until the platform calls the cluster healthy.
    pub(crate) fn healthy(&self, limit: Duration) {
        eventually("the cluster is healthy", limit, || {
            let output = self.try_upm(&["cluster", "get", CLUSTER, "-o", "json"]);
            let cluster: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            match cluster["state"].as_str() {
                Some("HEALTHY") => Ok(()),
                _ => Err(format!(
                    "{cluster} {}",
                    String::from_utf8_lossy(&output.stderr)
                )),
            }
        });
    }

    /// Changes the number of the agent's replicas and waits until it is so.
    pub(crate) fn scale_agent(&self, replicas: usize) {
        let count = || self.agent_pods().len();
        let wanted = self.kubectl.get(&[DEPLOYMENT, "-n", SYSTEM])["spec"]["replicas"].as_u64();
        if wanted != Some(replicas as u64) {
            let argument = format!("--replicas={replicas}");
            self.kubectl
                .must(&["scale", DEPLOYMENT, "-n", SYSTEM, &argument]);
        }
        eventually("the agent has its replicas", CONNECTING, || {
            if count() == replicas {
                Ok(())
            } else {
                Err(format!("{} pods", count()))
            }
        });
    }

    /// Names of the agent's pods.
    pub(crate) fn agent_pods(&self) -> Vec<String> {
        let pods = self.kubectl.get(&["pods", "-n", SYSTEM, "-l", SELECTOR]);
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        pods.iter()
            .filter_map(|pod| pod["metadata"]["name"].as_str().map(ToOwned::to_owned))
            .collect()
    }

    /// Ends all pods of the agent at once, without giving them time.
    pub(crate) fn kill_agent(&self) {
        self.kubectl.must(&[
            "delete",
            "pods",
            "-n",
            SYSTEM,
            "-l",
            SELECTOR,
            "--grace-period=0",
            "--force",
            "--wait=false",
        ]);
    }
}
