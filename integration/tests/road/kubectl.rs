//! The cluster as its administrator sees it.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::environment::Environment;

/// Runs `kubectl` and `helm`.
#[derive(Debug, Clone)]
pub(crate) struct Kubectl {
    environment: Environment,
}

impl Kubectl {
    pub(crate) fn new(environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.environment.programs.join(program));
        command
            .env_remove("KUBECONFIG")
            .arg("--kubeconfig")
            .arg(&self.environment.kubeconfig);
        command
    }

    /// Runs a program that must succeed, and returns what it printed.
    fn run(
        &self,
        program: &str,
        arguments: &[&str],
        input: Option<&str>,
    ) -> Result<String, String> {
        let mut child = self
            .command(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the program");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin
            .write_all(input.unwrap_or_default().as_bytes())
            .expect("write its input");
        drop(stdin);
        let output = child.wait_with_output().expect("wait for the program");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// `kubectl` that must succeed.
    pub(crate) fn must(&self, arguments: &[&str]) -> String {
        self.run("kubectl", arguments, None)
            .unwrap_or_else(|error| panic!("kubectl {}: {error}", arguments.join(" ")))
    }

    /// `kubectl` whose failure is an answer, too.
    pub(crate) fn try_to(&self, arguments: &[&str]) -> Result<String, String> {
        self.run("kubectl", arguments, None)
    }

    pub(crate) fn apply(&self, manifest: &str) {
        self.run("kubectl", &["apply", "-f", "-"], Some(manifest))
            .unwrap_or_else(|error| panic!("kubectl apply: {error}"));
    }

    pub(crate) fn helm(&self, arguments: &[&str]) -> String {
        self.run("helm", arguments, None)
            .unwrap_or_else(|error| panic!("helm {}: {error}", arguments.join(" ")))
    }

    /// An object, or a list, as JSON; `Null` when it does not exist.
    pub(crate) fn get(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["get", "-o", "json"];
        all.extend_from_slice(arguments);
        match self.try_to(&all) {
            Ok(text) => serde_json::from_str(&text).expect("kubectl prints JSON"),
            Err(error) if error.contains("NotFound") => Value::Null,
            Err(error) => panic!("kubectl get {}: {error}", arguments.join(" ")),
        }
    }

    /// Objects of a kind in a namespace.
    pub(crate) fn list(&self, kind: &str, namespace: &str) -> Vec<Value> {
        self.get(&[kind, "-n", namespace])["items"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Prints a line with name and address of a pod for each change of one with this label, until it is ended.
    pub(crate) fn watch_addresses(&self, namespace: &str, label: &str) -> std::process::Child {
        self.command("kubectl")
            .args(["get", "pods", "-n", namespace, "-l", label])
            .args(["--watch", "--no-headers", "-o"])
            .arg("custom-columns=NAME:.metadata.name,ADDRESS:.status.podIP")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start kubectl")
    }

    /// Runs a command in a container of a pod.
    pub(crate) fn exec(
        &self,
        namespace: &str,
        pod: &str,
        command: &[&str],
    ) -> Result<String, String> {
        let mut all = vec!["exec", "-n", namespace, pod, "-c", "redis", "--"];
        all.extend_from_slice(command);
        self.try_to(&all)
    }
}

/// Asks again and again until the answer is there; fails with the last reason after the time.
pub(crate) fn eventually<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<T, String>,
) -> T {
    let begin = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(reason) if begin.elapsed() < limit => {
                tracing::trace!(reason, "waiting for {what}");
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(reason) => panic!("{what}: not after {} s: {reason}", limit.as_secs()),
        }
    }
}
