//! The module behind the real mesh, on SQLite and on a real MariaDB.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tonic::{Code, Request, Status};
use upm_mesh::audit::LogSink;
use upm_mesh::{Channel, Context, Drain, Peers, Server, SpiffeId, Stack, status};
use upm_proto::operatorlog::v1::{
    self as pb, operator_log_service_client::OperatorLogServiceClient,
};
use upm_store::testing::{self, People, TestStore};
use upm_store::{Cache, ModuleContext};

use crate::{Config, MIGRATIONS, module};

const AUDITOR: &str = "users/auditor";
const NOBODY: &str = "users/nobody";

type Client = OperatorLogServiceClient<Channel>;

struct World {
    test: TestStore,
    people: People,
    stack: Stack,
    drain: Drain,
    tasks: upm_mesh::Tasks,
}

impl Drop for World {
    fn drop(&mut self) {
        self.drain.begin();
    }
}

async fn worlds() -> Vec<World> {
    let mut worlds = Vec::new();
    for test in testing::stores("operatorlog", || MIGRATIONS).await {
        worlds.push(World::new(test).await);
    }
    worlds
}

/// Worlds whose module signs with the key in this folder.
async fn signing_worlds(folder: &Path) -> Vec<(World, Config)> {
    let mut worlds = Vec::new();
    for test in testing::stores("operatorlog", || MIGRATIONS).await {
        let config = Config {
            key_file: Some(folder.join(test.database)),
            adopt_head: None,
        };
        worlds.push((World::with(test, config.clone()).await, config));
    }
    worlds
}

fn entry(number: i64) -> pb::Entry {
    pb::Entry {
        name: format!("operatorLog/entries/e{number:04}"),
        event_time: Some(upm_store::time::timestamp(number * 1_000_000)),
        principal: ["users/ada", "users/bob"][(number % 2) as usize].to_owned(),
        module: "redis".to_owned(),
        method: "/upm.redis.v1.RedisServices/CreateRedisService".to_owned(),
        resource: format!("projects/p/redisServices/r{number}"),
        code: if number == 3 { 9 } else { 0 },
        ..pb::Entry::default()
    }
}

async fn start(test: &TestStore, config: Config) -> (Stack, People, Drain, upm_mesh::Tasks) {
    let drain = Drain::new();
    let ctx = ModuleContext {
        name: "operatorlog",
        store: test.store.clone(),
        cache: Cache::in_process(),
        peers: Peers::new(),
        drain: drain.clone(),
    };
    let mut module = module(ctx, config).await.expect("the module starts");
    let tasks = std::mem::take(&mut module.tasks);
    let people =
        People::new()
            .may(AUDITOR, &["operatorlog.*.*"], None)
            .may(NOBODY, &["redis.*.*"], None);
    let stack = Server::builder("operatorlog", people.verifier(), Arc::new(LogSink))
        .routes(module.routes)
        .build();
    (stack, people, drain, tasks)
}

impl World {
    async fn new(test: TestStore) -> Self {
        Self::with(test, Config::default()).await
    }

    async fn with(test: TestStore, config: Config) -> Self {
        let (stack, people, drain, tasks) = start(&test, config).await;
        Self {
            test,
            people,
            stack,
            drain,
            tasks,
        }
    }

    /// The same store with a process that was started anew.
    async fn restart(&mut self, config: Config) {
        self.drain.begin();
        let (stack, people, drain, tasks) = start(&self.test, config).await;
        (self.stack, self.people, self.drain) = (stack, people, drain);
        drop(std::mem::replace(&mut self.tasks, tasks));
    }

    fn client(&self) -> Client {
        self.client_of("gateway")
    }

    fn client_of(&self, module: &str) -> Client {
        Client::new(
            self.stack
                .in_memory(SpiffeId::module(module).expect("a module")),
        )
    }

    fn auditor<T>(&self, message: T) -> Request<T> {
        self.people.request(AUDITOR, message)
    }

    async fn append(&self, numbers: std::ops::RangeInclusive<i64>) -> Result<i64, Status> {
        let request = Context::internal("a test").forward(pb::AppendEntriesRequest {
            entries: numbers.map(entry).collect(),
        });
        let answer = self.client_of("redis").append_entries(request).await?;
        Ok(answer.into_inner().head_sequence)
    }

    async fn verify(&self, first: i64, last: i64) -> Result<pb::VerifyEntriesResponse, Status> {
        let request = pb::VerifyEntriesRequest {
            first_sequence: first,
            last_sequence: last,
        };
        let answer = self.client().verify_entries(self.auditor(request)).await?;
        Ok(answer.into_inner())
    }

    /// Someone with access to the database changes it behind the module's back.
    async fn tamper(&self, sql: &'static str) {
        self.test
            .store
            .transact("tamper", move |conn| {
                use diesel::prelude::*;
                diesel::sql_query(sql).execute(conn)?;
                Ok::<_, crate::Error>(())
            })
            .await
            .expect("changed");
    }
}

fn reason(status: &Status) -> String {
    status::reason(status).unwrap_or_else(|| format!("no reason: {status:?}"))
}

#[tokio::test]
async fn entries_are_appended_once_and_listed_newest_first_by_page_and_filter() {
    for world in worlds().await {
        assert_eq!(world.append(1..=4).await.unwrap(), 4);
        // told twice: an outbox delivers at least once
        assert_eq!(world.append(3..=6).await.unwrap(), 6);
        let list = async |filter: &str, page_size: i32| {
            let mut numbers = Vec::new();
            let mut request = pb::ListEntriesRequest {
                page_size,
                filter: filter.to_owned(),
                ..pb::ListEntriesRequest::default()
            };
            loop {
                let request_now = world.auditor(request.clone());
                let page = world.client().list_entries(request_now).await?.into_inner();
                numbers.extend(page.entries.iter().map(|entry| entry.sequence.to_string()));
                if page.next_page_token.is_empty() {
                    return Ok::<_, Status>(numbers.join(" "));
                }
                request.page_token = page.next_page_token;
            }
        };
        let database = world.test.database;
        assert_eq!(list("", 4).await.unwrap(), "6 5 4 3 2 1", "{database}");
        assert_eq!(list("principal=\"users/bob\"", 1).await.unwrap(), "5 3 1");
        assert_eq!(list("code=9", 0).await.unwrap(), "3", "{database}");
        assert_eq!(
            list("principal=\"users/bob\" AND code=0", 0).await.unwrap(),
            "5 1"
        );
        // Every field that the comment of the filter names.
        for (filter, expected) in [
            ("event_time>\"1970-01-01T00:00:04Z\"", "6 5"),
            ("event_time<=\"1970-01-01T00:00:02Z\"", "2 1"),
            (
                "event_time>=\"1970-01-01T00:00:02Z\" AND event_time<\"1970-01-01T00:00:04Z\"",
                "3 2",
            ),
            ("event_time=\"1970-01-01T01:00:05+01:00\"", "5"),
            ("event_time!=\"1970-01-01T00:00:05Z\"", "6 4 3 2 1"),
            (
                "module=redis AND resource=\"projects/p/redisServices/r2\"",
                "2",
            ),
            (
                "method=\"/upm.redis.v1.RedisServices/CreateRedisService\" AND code=9",
                "3",
            ),
        ] {
            assert_eq!(
                list(filter, 0).await.unwrap(),
                expected,
                "{database} {filter}"
            );
        }
        for wrong in [
            "event_time>yesterday",
            "event_time:\"1970-01-01T00:00:04Z\"",
        ] {
            assert!(list(wrong, 0).await.is_err(), "{wrong}");
        }
        let refused = list("diff=x", 0).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let one = pb::GetEntryRequest {
            name: "operatorLog/entries/e0003".to_owned(),
        };
        let one = world.client().get_entry(world.auditor(one)).await.unwrap();
        assert_eq!(one.into_inner().sequence, 3);
        let none = pb::GetEntryRequest {
            name: "operatorLog/entries/e9999".to_owned(),
        };
        let none = world.client().get_entry(world.auditor(none)).await;
        assert_eq!(none.unwrap_err().code(), Code::NotFound, "{database}");
    }
}

#[tokio::test]
async fn only_modules_append_and_only_who_may_reads() {
    for world in worlds().await {
        let append = pb::AppendEntriesRequest {
            entries: vec![entry(1)],
        };
        let mut forwarded = world.auditor(append);
        let address = "203.0.113.9".parse().expect("ASCII");
        forwarded.metadata_mut().insert("x-forwarded-for", address);
        let refused = world.client().append_entries(forwarded).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
        let list = world
            .people
            .request(NOBODY, pb::ListEntriesRequest::default());
        let refused = world.client().list_entries(list).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert_eq!(
            world.verify(0, 0).await.unwrap().checked,
            0,
            "{}",
            world.test.database
        );
    }
}

#[tokio::test]
async fn a_module_appends_no_entries_of_another() {
    for world in worlds().await {
        let request = Context::internal("a test").forward(pb::AppendEntriesRequest {
            entries: vec![entry(1)],
        });
        let refused = world.client_of("user").append_entries(request).await;
        let refused = refused.unwrap_err();
        assert_eq!(
            reason(&refused),
            "ENTRY_OF_OTHER_MODULE",
            "{}",
            world.test.database
        );
    }
}

#[tokio::test]
async fn an_end_that_was_cut_off_does_not_verify() {
    for world in worlds().await {
        world.append(1..=10).await.unwrap();
        world.tamper("DELETE FROM entries WHERE sequence > 7").await;
        let verified = world.verify(0, 0).await.unwrap();
        assert_eq!(
            (verified.intact, verified.checked, verified.broken_sequence),
            (false, 7, 8),
            "{}: {verified:?}",
            world.test.database
        );
        assert!(
            world.verify(0, 5).await.unwrap().intact,
            "what is asked for is there"
        );
    }
}

#[tokio::test]
async fn appends_of_many_modules_at_once_make_one_chain() {
    for world in worlds().await {
        let all: Vec<_> = (0..8)
            .map(|n| world.append(n * 10 + 1..=n * 10 + 10))
            .collect();
        for answer in futures::future::join_all(all).await {
            answer.unwrap_or_else(|status| panic!("{}: {status:?}", world.test.database));
        }
        let verified = world.verify(0, 0).await.unwrap();
        assert_eq!(
            (verified.intact, verified.checked),
            (true, 80),
            "{}: {verified:?}",
            world.test.database
        );
    }
}

#[tokio::test]
async fn a_changed_entry_and_a_missing_entry_break_the_chain_where_they_are() {
    for world in worlds().await {
        world.append(1..=20).await.unwrap();
        let database = world.test.database;
        let part = world.verify(5, 10).await.unwrap();
        assert_eq!((part.intact, part.checked), (true, 6), "{database}");
        let nothing_before = world.verify(100, 0).await.unwrap_err();
        assert_eq!(
            status::details(&nothing_before).fields[0].field,
            "first_sequence"
        );
        world
            .tamper("UPDATE entries SET principal = 'users/eve' WHERE sequence = 7")
            .await;
        let changed = world.verify(0, 0).await.unwrap();
        assert_eq!(
            (changed.intact, changed.broken_sequence, changed.checked),
            (false, 7, 6),
            "{database}"
        );
        world.tamper("DELETE FROM entries WHERE sequence = 5").await;
        let missing = world.verify(0, 0).await.unwrap();
        assert_eq!(
            (missing.intact, missing.broken_sequence),
            (false, 6),
            "{database}: {missing:?}"
        );
    }
}

#[tokio::test]
async fn a_tail_tells_what_is_appended_after_it_and_ends_with_the_module() {
    for world in worlds().await {
        world.append(1..=3).await.unwrap();
        let database = world.test.database;
        let tail = async |after_sequence: i64, filter: &str| {
            let request = pb::TailEntriesRequest {
                after_sequence,
                filter: filter.to_owned(),
            };
            let mut client = world.client();
            client
                .tail_entries(world.auditor(request))
                .await
                .unwrap()
                .into_inner()
        };
        let mut new = tail(0, "").await;
        let mut bobs = tail(1, "principal=\"users/bob\"").await;
        world.append(4..=5).await.unwrap();
        let mut seen = Vec::new();
        for stream in [&mut new, &mut bobs] {
            for _ in 0..2 {
                let next = tokio::time::timeout(Duration::from_mins(2), stream.message());
                let entry = next.await.expect("in time").unwrap().expect("an entry");
                seen.push(entry.sequence);
            }
        }
        assert_eq!(seen, [4, 5, 3, 5], "{database}");
        world.drain.begin();
        let ended = tokio::time::timeout(Duration::from_mins(2), new.message());
        let ended = ended.await.expect("in time").unwrap_err();
        assert_eq!(ended.code(), Code::Unavailable, "{}", reason(&ended));
    }
}

#[tokio::test]
async fn whoever_has_only_the_store_makes_no_head() {
    let folder = tempfile::tempdir().unwrap();
    for (world, _) in signing_worlds(folder.path()).await {
        let database = world.test.database;
        world.append(1..=9).await.unwrap();
        let honest = world.verify(0, 0).await.unwrap();
        assert!(honest.intact, "{database}: {honest:?}");
        assert_eq!(honest.signed_head, format!("9:{}", honest.head_hash));
        let key = hex::decode(&honest.public_key).unwrap();
        let signature = hex::decode(&honest.head_signature).unwrap();
        aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, key)
            .verify(
                format!("upm operation log {}", honest.signed_head).as_bytes(),
                &signature,
            )
            .expect("anybody with the public key can check it");
        // An end that was cut off, with a head that fits what is left.
        world.tamper("DELETE FROM entries WHERE sequence > 7").await;
        world
            .tamper("UPDATE chain_head SET sequence = 7, hash = (SELECT hash FROM entries WHERE sequence = 7)")
            .await;
        let cut = world.verify(0, 0).await.unwrap();
        assert_eq!((cut.intact, cut.broken_sequence), (false, 7), "{database}");
        assert!(cut.problem.contains("signature"), "{}", cut.problem);
        world.append(10..=12).await.unwrap();
        let later = world.verify(0, 0).await.unwrap();
        assert!(
            !later.intact,
            "{database}: what is appended does not hide it"
        );
        assert!(
            world.verify(0, 5).await.unwrap().signed_head.is_empty(),
            "{database}: a part has no signed end"
        );
    }
}

#[tokio::test]
async fn a_log_older_than_its_key_is_signed_only_when_told() {
    let folder = tempfile::tempdir().unwrap();
    // There already, as a mounted Secret is.
    let key_file = Some(folder.path().join("key"));
    upm_store::key_file::open_or_make(&folder.path().join("key")).unwrap();
    for mut world in worlds().await {
        let database = world.test.database;
        world.append(1..=5).await.unwrap();
        let noted = world.verify(0, 3).await.unwrap().head_hash;
        let config = |adopt_head: Option<String>| Config {
            key_file: key_file.clone(),
            adopt_head,
        };
        world.restart(config(None)).await;
        world.append(6..=7).await.unwrap();
        assert!(!world.verify(0, 0).await.unwrap().intact, "{database}");
        let other = "0a".repeat(32);
        world.restart(config(Some(format!("3:{other}")))).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!world.verify(0, 0).await.unwrap().intact, "{database}");
        world.restart(config(Some(format!("3:{noted}")))).await;
        let signed = async {
            while !world.verify(0, 0).await.unwrap().intact {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let signed = tokio::time::timeout(Duration::from_mins(2), signed).await;
        signed.unwrap_or_else(|_| panic!("{database}: it is signed in the end"));
        world.append(8..=9).await.unwrap();
        world.restart(config(None)).await;
        let verified = world.verify(0, 0).await.unwrap();
        assert_eq!((verified.intact, verified.checked), (true, 9), "{database}");
    }
}

#[tokio::test]
async fn a_key_that_is_made_signs_what_was_there_before() {
    let folder = tempfile::tempdir().unwrap();
    for mut world in worlds().await {
        let database = world.test.database;
        world.append(1..=3).await.unwrap();
        let config = Config {
            key_file: Some(folder.path().join(database)),
            adopt_head: None,
        };
        world.restart(config).await;
        let verified = world.verify(0, 0).await.unwrap();
        assert!(verified.intact, "{database}: {verified:?}");
        assert!(!verified.head_signature.is_empty(), "{database}");
        testing::migrates_down_and_up(&world.test, || MIGRATIONS).await;
    }
}
