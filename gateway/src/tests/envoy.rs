//! Our answers beside those of Envoy 1.40 to the same requests, as `testdata/envoy.json` has them. `stock/envoy.sh` asks Envoy itself.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::Value;

use crate::testing::{Answer, Running, Server};

const CASES: &str = include_str!("../../testdata/envoy.json");

fn cases() -> Vec<Value> {
    serde_json::from_str(CASES).unwrap()
}

fn entries(value: &Value) -> Vec<(&str, &str)> {
    let entries = value.as_object().into_iter().flatten();
    entries
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .collect()
}

fn body(request: &Value) -> Bytes {
    if let Some(length) = request["title-of-length"].as_u64() {
        let title = "x".repeat(length as usize);
        return format!("{{\"title\":\"{title}\"}}").into();
    }
    match (&request["body"], request["base64"].as_str()) {
        (_, Some(text)) => STANDARD.decode(text).unwrap().into(),
        (Value::Null, None) => Bytes::new(),
        (Value::String(text), None) => text.clone().into(),
        (json, None) => json.to_string().into(),
    }
}

/// Whether `found` has everything that `wanted` has; `null` is what must be missing.
fn has(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| match found.get(name) {
                Some(found) => has(found, wanted),
                None => wanted.is_null(),
            })
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found
                    .iter()
                    .zip(wanted)
                    .all(|(found, wanted)| has(found, wanted))
        }
        _ => found == wanted,
    }
}

/// What of an answer is not as it is wanted.
fn faults(wanted: &Value, answer: &Answer) -> Vec<String> {
    let mut faults = Vec::new();
    for (what, wanted) in wanted.as_object().unwrap() {
        let fits = match what.as_str() {
            "status" => *wanted == answer.status.as_u16(),
            "headers" => wanted.as_object().unwrap().iter().all(|(name, wanted)| {
                answer
                    .headers
                    .get(name)
                    .map(|value| value.to_str().unwrap())
                    == wanted.as_str()
            }),
            "json" => has(&answer.json(), wanted),
            "reason" => *wanted == answer.reason(),
            "lines" => has(&Value::Array(answer.lines()), wanted),
            "text" => *wanted == answer.text(),
            "base64" => *wanted == STANDARD.encode(&answer.body),
            "length" => *wanted == answer.body.len(),
            other => panic!("nobody knows what {other} is"),
        };
        if !fits {
            faults.push(format!("{what} is not {wanted} in {answer:?}"));
        }
    }
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn our_answers_are_those_that_are_recorded_beside_envoys() {
    let server = Server::start("echo");
    let gateway = Running::before(&[&server]).await;
    let mut http = gateway.http().await;
    let mut wrong = Vec::new();
    for case in cases() {
        let (sentence, request) = (case["sentence"].as_str().unwrap(), &case["request"]);
        let answer = http
            .call(
                request["method"].as_str().unwrap(),
                request["path"].as_str().unwrap(),
                &entries(&request["headers"]),
                body(request),
            )
            .await;
        for fault in faults(&case["ours"], &answer) {
            wrong.push(format!("{sentence}: {fault}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    drop(http);
    gateway.end().await;
}

#[test]
fn every_difference_from_envoy_has_its_reason() {
    let cases = cases();
    assert!(cases.len() > 30);
    for case in cases {
        let differs = case["ours"] != case["envoy"];
        assert_eq!(
            differs,
            case["because"].is_string(),
            "{}: a reason belongs to a difference",
            case["sentence"]
        );
    }
}
