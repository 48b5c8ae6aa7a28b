//! All update methods behave alike: through REST, on the whole platform.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::tests::anywhere;
use super::*;

const PASSWORD: &str = "a password for a test";

/// One update method, by its resource.
struct Row {
    /// How the resource is made; nothing for one that is there.
    make: Option<(&'static str, Value)>,
    /// Its name.
    name: &'static str,
    /// A field with two values.
    one: (&'static str, [Value; 2]),
    /// A field that must not change with the first one, as it is made.
    other: (&'static str, Value),
    /// A field that only the platform writes, with a value that it does not have.
    output_only: (&'static str, Value),
}

/// The methods of the platform that are tried here, and `UpdateRedisService`, which needs a cluster: `upm-redis` tries it.
fn rows() -> Vec<Row> {
    let labels = || ("labels", json!({"team": "a"}));
    let uid = || ("uid", json!("other"));
    let name = || ("displayName", [json!("one"), json!("two")]);
    let of_people = json!({"displayName": "one", "labels": {"team": "a"}});
    vec![
        Row {
            make: Some((
                "/v1/users",
                json!({"userId": "ada", "user": of_people.clone()}),
            )),
            name: "users/ada",
            one: name(),
            other: labels(),
            output_only: uid(),
        },
        Row {
            make: Some(("/v1/projects?projectId=p1", of_people.clone())),
            name: "projects/p1",
            one: name(),
            other: labels(),
            output_only: uid(),
        },
        Row {
            make: Some(("/v1/clusters?clusterId=c1", of_people)),
            name: "clusters/c1",
            one: name(),
            other: labels(),
            output_only: uid(),
        },
        Row {
            make: Some((
                "/v1/roles?roleId=watcher",
                json!({"description": "one", "permissions": ["user.users.get"]}),
            )),
            name: "roles/watcher",
            one: ("description", [json!("one"), json!("two")]),
            other: ("permissions", json!(["user.users.get"])),
            output_only: ("builtIn", json!(true)),
        },
        Row {
            make: None,
            name: "software/redis-7.0.15",
            one: ("enabled", [json!(true), json!(false)]),
            other: ("version", json!("7.0.15")),
            output_only: ("digest", Value::Null),
        },
    ]
}

struct Api {
    address: SocketAddr,
    token: String,
}

impl Api {
    async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let authorization = match self.token.as_str() {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: upm\r\n{authorization}Content-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = serde_json::from_str(body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}: {answer}"));
        (status, body)
    }

    async fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert_eq!(status, 200, "{method} {path} {body}: {answer}");
        answer
    }

    async fn get(&self, row: &Row) -> Value {
        let path = format!("/v1/{}", row.name);
        self.done("GET", &path, &Value::Null).await
    }

    async fn patch(&self, row: &Row, query: &str, body: &Value) -> (u16, Value) {
        let path = format!("/v1/{}{query}", row.name);
        self.call("PATCH", &path, body).await
    }
}

fn with(field: &str, value: &Value) -> Value {
    json!({ field: value })
}

async fn one_method(api: &Api, row: &Row) {
    let name = row.name;
    if let Some((path, body)) = &row.make {
        api.done("POST", path, body).await;
    }
    let (one, [first, second]) = &row.one;
    let (other, kept) = &row.other;
    let made = api.get(row).await;
    assert_eq!((&made[one], &made[other]), (first, kept), "{name}");

    // a mask changes what it names, and nothing else that is in the body
    let mut body = with(one, second);
    if made.get("labels").is_some() {
        body["labels"] = json!({});
    }
    let only = format!("?updateMask={one}");
    let (status, answer) = api.patch(row, &only, &body).await;
    assert_eq!(status, 200, "{name}, with a mask: {answer}");
    let now = api.get(row).await;
    // what has its default value is left out of JSON
    let value = |resource: &Value| resource.get(one).cloned().unwrap_or(json!(false));
    assert_eq!((&value(&now), &now[other]), (second, kept), "{name}");

    // without a mask: what the body has
    let (status, answer) = api.patch(row, "", &with(one, first)).await;
    assert_eq!(status, 200, "{name}, without a mask: {answer}");
    let now = api.get(row).await;
    assert_eq!((&now[one], &now[other]), (first, kept), "{name}");

    // a field that is none, in the mask and in the body
    for (query, body) in [
        ("?updateMask=nothing", with(one, second)),
        ("", with("nothing", second)),
    ] {
        let (status, answer) = api.patch(row, query, &body).await;
        assert_eq!(status, 400, "{name} {query} {body}: {answer}");
    }
    assert_eq!(value(&api.get(row).await), *first, "{name}");

    // what Get returned is a valid update, and what only the platform writes is not changed by it
    let before = api.get(row).await;
    let mut whole = before.clone();
    let (field, wrong) = &row.output_only;
    if !wrong.is_null() {
        whole[field] = wrong.clone();
    }
    let (status, answer) = api.patch(row, "", &whole).await;
    assert_eq!(status, 200, "{name}, as Get returned it: {answer}");
    let after = api.get(row).await;
    for field in [one, other, field] {
        assert_eq!(after.get(field), before.get(field), "{name}: {field}");
    }

    // the state of before is another one
    let mut stale = with(one, second);
    stale["etag"] = made["etag"].clone();
    let (status, answer) = api.patch(row, "", &stale).await;
    assert_eq!(status, 409, "{name}, with an old etag: {answer}");
    assert!(
        answer.to_string().contains("STALE_ETAG"),
        "{name}: {answer}"
    );
    stale["etag"] = after["etag"].clone();
    let (status, answer) = api.patch(row, "", &stale).await;
    assert_eq!(status, 200, "{name}, with its etag: {answer}");
    assert_eq!(value(&api.get(row).await), *second, "{name}");

    // one that is not there
    let (collection, _) = name.split_once('/').unwrap();
    let lost = format!("/v1/{collection}/nobody{only}");
    let (status, answer) = api.call("PATCH", &lost, &with(one, first)).await;
    assert_eq!(status, 404, "{lost}: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_update_method_follows_the_same_rules() {
    let folder = tempfile::tempdir().unwrap();
    let dev = anywhere(folder.path().join("data"));
    let drain = Drain::new();
    let (platform, address) = dev.platform(drain.clone()).await.unwrap();
    let running = tokio::spawn(platform.run());
    let mut api = Api {
        address,
        token: String::new(),
    };
    let token = folder.path().join("data/setup-token");
    let patience = std::time::Duration::from_mins(2);
    let deadline = tokio::time::Instant::now() + patience;
    api.token = loop {
        if let Ok(token) = std::fs::read_to_string(&token) {
            let body = json!({"setupToken": token.trim(), "userId": "root", "password": PASSWORD});
            let (status, answer) = api.call("POST", "/v1/auth:setup", &body).await;
            if status == 200 {
                break answer["accessToken"].as_str().unwrap().to_owned();
            }
        }
        assert!(tokio::time::Instant::now() < deadline, "no setup");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    // modules learn of the administrator a moment later
    while api.call("GET", "/v1/users", &Value::Null).await.0 != 200 {
        assert!(tokio::time::Instant::now() < deadline, "no permission");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    for row in rows() {
        one_method(&api, &row).await;
    }
    drain.begin();
    running.await.unwrap().unwrap();
}

/// A method that is not in the table is not tried.
#[test]
fn the_table_has_every_update_method() {
    let updates = upm_proto::policy::METHODS.iter().filter(|method| {
        let name = method.path.rsplit('/').next().unwrap_or_default();
        name.starts_with("Update")
    });
    let tried: Vec<&str> = rows()
        .iter()
        .map(|row| match row.name.split_once('/').unwrap().0 {
            "users" => "UpdateUser",
            "projects" => "UpdateProject",
            "clusters" => "UpdateCluster",
            "roles" => "UpdateRole",
            "software" => "UpdateSoftware",
            other => panic!("{other}"),
        })
        .chain(["UpdateRedisService"])
        .collect();
    for method in updates {
        let name = method.path.rsplit('/').next().unwrap_or_default();
        assert!(tried.contains(&name), "{name}");
    }
}
