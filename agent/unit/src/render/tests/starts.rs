//! A real server comes up with the smallest, the usual and the largest value of every parameter that has a range.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;

/// Ends its server also when the test fails.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server with these parameters on a Unix socket only; `Err` with its last words when it ends before it is ready.
fn start(parameters: &[(&str, &str)]) -> Result<(), String> {
    let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let place = place.unwrap();
    let mut inputs = inputs(place.path());
    let path = place.path().to_str().unwrap().to_owned();
    for (name, value) in [
        ("UNIT_PORT", "0"),
        ("RUN_DIR", path.as_str()),
        ("DATA_MOUNT", path.as_str()),
    ] {
        inputs.env.insert(name.to_owned(), value.to_owned());
    }
    for (name, value) in parameters {
        inputs
            .values
            .insert(format!("/redis/{name}"), (*value).to_owned());
    }
    let file = place.path().join("redis.conf");
    std::fs::write(&file, render(TEMPLATE, &inputs).unwrap()).unwrap();
    let started = Command::new("redis-server")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut server = Server(started.expect("redis-server 7.0 is installed"));
    let mut words = Vec::new();
    for line in BufReader::new(server.0.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains("eady to accept connections") {
            return Ok(());
        }
        words.push(line);
    }
    let errors = BufReader::new(server.0.stderr.take().unwrap()).lines();
    words.extend(errors.map_while(Result::ok));
    Err(words.join("\n"))
}

#[test]
fn server_comes_up_at_both_ends_of_every_range() {
    start(&[]).unwrap();
    let listed: Parameters = serde_yaml::from_str(PARAMETERS).unwrap();
    let mut tried = 0;
    for parameter in &listed.parameters {
        let values: Vec<String> = match parameter.kind.as_str() {
            "Integer" => vec![parameter.minimum.clone(), parameter.maximum.clone()],
            "BufferLimit" => [&parameter.minimum, &parameter.maximum]
                .map(|bound| format!("{bound} {bound} 60"))
                .into(),
            "Boolean" => vec!["yes".to_owned(), "no".to_owned()],
            "Enumeration" => parameter.values.clone(),
            "Letters" => {
                let mut each = parameter.values.clone();
                each.push(parameter.values.concat());
                each
            }
            other => panic!("{}: unknown type {other}", parameter.name),
        };
        for value in &values {
            assert!(!value.is_empty(), "{} has no range", parameter.name);
            if let Err(words) = start(&[(&parameter.name, value)]) {
                panic!("{} {value}: {words}", parameter.name);
            }
            tried += 1;
        }
    }
    assert!(tried > 80, "{tried}");
}

#[test]
fn server_refuses_what_the_grammar_refuses() {
    for (name, value) in [("hz", "010x"), ("notify-keyspace-events", "QQ")] {
        assert!(start(&[(name, value)]).is_err(), "{name} {value}");
    }
}

/// What a member of 64 MiB holds: the data that `memory.yaml` states, also with a full backlog.
#[test]
fn smallest_member_holds_the_data_that_is_stated() {
    let secrets = tempfile::tempdir().unwrap();
    let mut inputs = inputs(secrets.path());
    inputs
        .env
        .insert("MEMORY_LIMIT".to_owned(), "67108864".to_owned());
    let rendered = render(TEMPLATE, &inputs).unwrap();
    let number = |option: &str| -> i64 { line(&rendered, option).unwrap().parse().unwrap() };
    let figures: Vec<Figures> = serde_yaml::from_str(MEMORY).unwrap();
    assert_eq!(
        number("maxmemory") - number("repl-backlog-size") - 2 * 1024 * 1024,
        figures[0].data
    );
}
