//! The API as its users call it: REST with curl.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Stands between the body and what curl writes about the answer.
const MARK: &str = "\n--- answer ";

/// An answer to a REST call.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// HTTP status; 0 when there was no answer.
    pub(crate) status: u16,
    /// JSON, or a string when the body is no single JSON value.
    pub(crate) body: Value,
    /// Headers in lower case, each with the list of its values.
    headers: Value,
}

impl Answer {
    /// The body of a call that succeeded.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// The first value of a header; empty without it.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name][0].as_str().unwrap_or_default()
    }

    /// The stable reason of a refusal.
    pub(crate) fn reason(&self) -> &str {
        self.details("ErrorInfo")["reason"]
            .as_str()
            .unwrap_or_default()
    }

    /// One fact of a refusal.
    pub(crate) fn fact(&self, name: &str) -> &str {
        self.details("ErrorInfo")["metadata"][name]
            .as_str()
            .unwrap_or_default()
    }

    /// The fields that a refusal names.
    pub(crate) fn fields(&self) -> Vec<&str> {
        self.details("BadRequest")["fieldViolations"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|violation| violation["field"].as_str())
            .collect()
    }

    fn details(&self, kind: &str) -> &Value {
        self.body["error"]["details"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|detail| detail["@type"].as_str().is_some_and(|t| t.ends_with(kind)))
            .unwrap_or(&Value::Null)
    }
}

/// A caller with a token, or without.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    address: String,
    token: String,
}

impl Api {
    pub(crate) fn anonymous(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            token: String::new(),
        }
    }

    pub(crate) fn login(address: &str, user: &str, password: &str) -> Self {
        Self::try_login(address, user, password).unwrap_or_else(|why| panic!("login: {why}"))
    }

    pub(crate) fn try_login(address: &str, user: &str, password: &str) -> Result<Self, String> {
        let mut api = Self::anonymous(address);
        let body = serde_json::json!({"userId": user, "password": password});
        let answer = api.call("POST", "/v1/auth:login", Some(&body));
        match answer.body["accessToken"].as_str() {
            Some(token) if answer.status == 200 => token.clone_into(&mut api.token),
            _ => return Err(format!("{} {}", answer.status, answer.body)),
        }
        Ok(api)
    }

    /// The access token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Calls with curl; headers and body come by its configuration on standard input, as the token must not be in a process list.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.call_with(method, path, body, &[])
    }

    pub(crate) fn call_with(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut config = vec![
            format!("url = {}", quoted(&format!("{}{path}", self.address))),
            format!("request = {method}"),
            "silent".to_owned(),
            "globoff".to_owned(),
            "max-time = 120".to_owned(),
            format!(
                "write-out = {}",
                quoted(&format!("{MARK}%{{http_code}} %{{header_json}}"))
            ),
        ];
        let mut header = |name: &str, value: &str| {
            config.push(format!("header = {}", quoted(&format!("{name}: {value}"))));
        };
        if !self.token.is_empty() {
            header("Authorization", &format!("Bearer {}", self.token));
        }
        for (name, value) in headers {
            header(name, value);
        }
        if let Some(body) = body {
            header("Content-Type", "application/json");
            config.push(format!("data = {}", quoted(&body.to_string())));
        }
        let text = curl(&config.join("\n"));
        let (body, about) = text.rsplit_once(MARK).unwrap_or(("", "0 {}"));
        let (status, headers) = about.split_once(' ').unwrap_or((about, "{}"));
        Answer {
            status: status.parse().unwrap_or_default(),
            body: serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned())),
            headers: serde_json::from_str(headers).unwrap_or_default(),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.call("GET", path, None).ok()
    }

    /// Asks for an operation until it is done; fails when it takes too long.
    pub(crate) fn settled(&self, name: &str, limit: Duration) -> Value {
        let begin = Instant::now();
        loop {
            let answer = self.call("GET", &format!("/v1/{name}"), None);
            if answer.status == 200 && answer.body["done"] == true {
                return answer.body;
            }
            assert!(
                begin.elapsed() < limit,
                "{name} is not done after {} s: {}",
                limit.as_secs(),
                answer.body
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Asks for an operation until it is done; it must have succeeded.
    pub(crate) fn succeeded(&self, name: &str, limit: Duration) -> Value {
        let operation = self.settled(name, limit);
        assert_eq!(operation["state"], "SUCCEEDED", "{operation}");
        operation
    }

    /// Begins an operation and waits for its success.
    pub(crate) fn operate(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Value {
        let operation = self.call(method, path, body).ok();
        let name = operation["name"]
            .as_str()
            .expect("an operation has a name")
            .to_owned();
        self.succeeded(&name, limit)
    }

    /// The operations of module `redis` on a service.
    pub(crate) fn operations(&self, target: &str) -> Vec<Value> {
        let path = format!(
            "/v1/operations/redis?filter=target%3D%22{}%22",
            target.replace('/', "%2F")
        );
        self.get(&path)["operations"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }
}

/// Runs curl with a configuration on its standard input.
fn curl(config: &str) -> String {
    let mut child = Command::new("curl")
        .args(["--config", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run curl");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(config.as_bytes())
        .expect("write curl's configuration");
    let output = child.wait_with_output().expect("wait for curl");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// As curl reads a quoted value of its configuration.
fn quoted(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{escaped}\"")
}
