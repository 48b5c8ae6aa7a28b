//! One port for gRPC, gRPC-Web and REST.

use std::{
    fs,
    process::{Command, Output},
};

use prost::Message as _;
use serde_json::{Value, json};
use upm_proto::redis::v1::{GetRedisServiceRequest, RedisService, ServiceState};

use crate::road::{
    api::Api,
    kubectl::eventually,
    service::{HEALING, LONG, RECORDED, number},
    world::{World, beside, text},
};

/// Runs grpcurl with the administrator's token, which is not among the arguments.
fn grpcurl(world: &World, arguments: &[&str], rest: &[&str]) -> Output {
    Command::new(world.environment.programs.join("grpcurl"))
        .args([
            "-plaintext",
            "-expand-headers",
            "-H",
            "authorization: Bearer ${TOKEN}",
        ])
        .args(arguments)
        .arg(world.address().trim_start_matches("http://"))
        .args(rest)
        .env("TOKEN", world.api().token())
        .output()
        .expect("run grpcurl")
}

fn printed(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_stock_grpc_client_finds_and_calls_the_methods() {
    let world = beside();
    let service = world.shared();
    let listed = printed(&grpcurl(&world, &[], &["list"]));
    for name in [
        "upm.redis.v1.RedisServices",
        "upm.operation.v1.OperationService",
        "upm.auth.v1.AuthService",
    ] {
        assert!(
            listed.lines().any(|line| line == name),
            "{name} is listed:\n{listed}"
        );
    }
    let described = printed(&grpcurl(
        &world,
        &[],
        &[
            "describe",
            "upm.redis.v1.RedisServices.SwitchoverRedisService",
        ],
    ));
    assert!(
        described.contains("SwitchoverRedisServiceRequest"),
        "{described}"
    );
    let data = json!({"name": service.name()}).to_string();
    let called = grpcurl(
        &world,
        &["-d", &data],
        &["upm.redis.v1.RedisServices/GetRedisService"],
    );
    let called: Value = serde_json::from_str(&printed(&called)).expect("JSON");
    assert_eq!(called["status"]["primary"], service.primary().0, "{called}");

    let data = json!({"name": "projects/none/redisServices/none"}).to_string();
    let refused = grpcurl(
        &world,
        &["-d", &data],
        &["upm.redis.v1.RedisServices/GetRedisService"],
    );
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && told.contains("NotFound"),
        "{told}"
    );
    let internal = grpcurl(
        &world,
        &["-d", "{}"],
        &["upm.hub.v1.LedgerService/ListObjects"],
    );
    assert!(
        !internal.status.success(),
        "what is internal cannot be called from outside"
    );
}

#[test]
fn a_browser_calls_with_grpc_web() {
    let world = beside();
    let service = world.shared();
    let request = GetRedisServiceRequest {
        name: service.name(),
    }
    .encode_to_vec();
    let mut body = vec![0];
    body.extend((request.len() as u32).to_be_bytes());
    body.extend(request);
    let (sent, received) = (
        world.folder.join("web-request"),
        world.folder.join("web-answer"),
    );
    fs::write(&sent, body).expect("write the request");
    let headers = world.folder.join("web-headers");
    fs::write(
        &headers,
        format!("authorization: Bearer {}\n", world.api().token()),
    )
    .expect("write the headers");
    let status = Command::new("curl")
        .args([
            "-sS",
            "--fail",
            "-H",
            "content-type: application/grpc-web+proto",
            "-H",
            "x-grpc-web: 1",
        ])
        .args(["-H", &format!("@{}", text(&headers))])
        .args([
            "--data-binary",
            &format!("@{}", text(&sent)),
            "-o",
            text(&received),
        ])
        .arg(format!(
            "{}/upm.redis.v1.RedisServices/GetRedisService",
            world.address()
        ))
        .status()
        .expect("run curl");
    assert!(status.success());
    let frames = frames(&fs::read(&received).expect("read the answer"));
    let [(0, message), (0x80, trailers)] = &frames[..] else {
        panic!("a message and trailers were expected: {frames:?}");
    };
    let shown = RedisService::decode(message.as_slice()).expect("a service");
    assert_eq!(shown.name, service.name());
    assert_eq!(shown.status.expect("a status").state(), ServiceState::Ready);
    let trailers = String::from_utf8_lossy(trailers).replace(' ', "");
    assert!(
        trailers.lines().any(|line| line == "grpc-status:0"),
        "{trailers}"
    );
}

/// Flags and content of each frame.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let [flags, a, b, c, d, rest @ ..] = bytes {
        let (content, more) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        found.push((*flags, content.to_vec()));
        bytes = more;
    }
    assert!(bytes.is_empty(), "the answer ends with a frame");
    found
}

#[test]
fn the_api_describes_itself_and_answers_wrong_verbs_with_the_right_ones() {
    let world = beside();
    let anonymous = Api::anonymous(&world.address());
    let openapi = anonymous.get("/openapi.json");
    let paths = openapi["paths"].as_object().expect("paths");
    let (_, collection) = paths
        .iter()
        .find(|(path, _)| path.ends_with("/redisServices"))
        .expect("the path of Redis services");
    assert!(
        collection["post"].is_object() && collection["get"].is_object(),
        "{collection}"
    );
    assert!(
        openapi["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1"))
    );

    let wrong = world
        .api()
        .call("PUT", "/v1/projects/p/redisServices/s", Some(&json!({})));
    assert_eq!(
        (wrong.status, wrong.reason()),
        (405, "METHOD_NOT_ALLOWED"),
        "{}",
        wrong.body
    );
    for method in ["GET", "PATCH", "DELETE"] {
        assert!(
            wrong.header("allow").contains(method),
            "Allow: {}",
            wrong.header("allow")
        );
    }
    let lost = world.api().call("GET", "/v1/nothing/here", None);
    assert_eq!(
        (lost.status, lost.reason()),
        (404, "PATH_NOT_FOUND"),
        "{}",
        lost.body
    );
}

#[test]
fn an_operation_is_watched_line_by_line_to_its_end() {
    let world = beside();
    let service = world.shared();
    let api = world.api();
    // On a machine that stands still an operation may be over before it is watched; then the next one is.
    let lines = eventually("an operation is watched while it runs", LONG, || {
        service.heals(HEALING);
        let begun = api
            .call("POST", &service.path(":switchover"), Some(&json!({})))
            .ok();
        let name = begun["name"].as_str().expect("a name");
        let stream = api.call("GET", &format!("/v1/{name}:watch"), None);
        assert_eq!(stream.status, 200);
        assert_eq!(stream.header("content-type"), "application/x-ndjson");
        // One line is one value, which the client has parsed already.
        let lines: Vec<Value> = match &stream.body {
            Value::String(text) => text
                .lines()
                .map(|line| serde_json::from_str(line).expect("a line is JSON"))
                .collect(),
            one => vec![one.clone()],
        };
        let last = lines.last().expect("lines");
        assert_eq!(
            (&last["done"], &last["state"]),
            (&json!(true), &json!("SUCCEEDED")),
            "{last}"
        );
        if 1 < lines.len() {
            Ok(lines)
        } else {
            Err("no change was shown while it ran".to_owned())
        }
    });
    let revisions: Vec<i64> = lines.iter().map(|line| number(&line["revision"])).collect();
    assert!(revisions.is_sorted(), "{revisions:?}");
    service.heals(HEALING);
}

#[test]
fn the_operation_log_knows_who_created_what_and_is_intact() {
    let world = beside();
    let service = world.shared();
    let entry = eventually("the creation is in the operation log", RECORDED, || {
        let filter = format!("resource=\"{}\"", service.name())
            .replace('"', "%22")
            .replace('/', "%2F")
            .replace('=', "%3D");
        let page = world.api().get(&format!(
            "/v1/operatorLog/entries?pageSize=1000&filter={filter}"
        ));
        let entries = page["entries"].as_array().cloned().unwrap_or_default();
        let creation =
            |entry: &&Value| entry["method"] == "/upm.redis.v1.RedisServices/CreateRedisService";
        entries
            .iter()
            .find(creation)
            .cloned()
            .ok_or_else(|| page.to_string())
    });
    assert_eq!(entry["principal"], "users/admin", "{entry}");
    assert_eq!(entry["code"].as_i64().unwrap_or_default(), 0, "{entry}");
    assert_eq!(entry["traceId"].as_str().map(str::len), Some(32), "{entry}");
    assert_eq!(entry["sourceAddress"], "127.0.0.1", "{entry}");
    let verified = world
        .api()
        .call("POST", "/v1/operatorLog/entries:verify", Some(&json!({})))
        .ok();
    assert_eq!(verified["intact"], true, "{verified}");
    assert!(
        number(&verified["checked"]) >= number(&entry["sequence"]),
        "{verified}"
    );
}
