//! Records on their way to the operation log, through the real mesh.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::Empty;
use tonic::{Request, Response, Status};
use upm_mesh::audit::{LogSink, Sink as _};
use upm_mesh::{Channel, Drain, Server, SpiffeId, Verifier};
use upm_proto::auth::v1::PolicySnapshot;
use upm_proto::operatorlog::v1 as pb;
use upm_proto::operatorlog::v1::operator_log_service_server::{
    OperatorLogService, OperatorLogServiceServer,
};

use super::{ITEMS, add};
use crate::outbox::{Sink, forward, write_entry};
use crate::{Error, Store, testing};

/// A log that is away for the first calls, and forgets to answer one that it has taken.
#[derive(Clone, Default)]
struct Log {
    entries: Arc<Mutex<Vec<pb::Entry>>>,
    calls: Arc<AtomicU32>,
    away: u32,
    unanswered: u32,
}

#[tonic::async_trait]
impl OperatorLogService for Log {
    type TailEntriesStream = Empty<Result<pb::Entry, Status>>;

    async fn append_entries(
        &self,
        request: Request<pb::AppendEntriesRequest>,
    ) -> Result<Response<pb::AppendEntriesResponse>, Status> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if call < self.away {
            return Err(Status::unavailable("away"));
        }
        let entries = request.into_inner().entries;
        assert!(entries.len() <= 500);
        self.entries.lock().unwrap().extend(entries);
        if call < self.away + self.unanswered {
            return Err(Status::unavailable("took it, did not say so"));
        }
        Ok(Response::new(pb::AppendEntriesResponse {
            head_sequence: 1,
        }))
    }

    async fn list_entries(
        &self,
        _: Request<pb::ListEntriesRequest>,
    ) -> Result<Response<pb::ListEntriesResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_entry(
        &self,
        _: Request<pb::GetEntryRequest>,
    ) -> Result<Response<pb::Entry>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn tail_entries(
        &self,
        _: Request<pb::TailEntriesRequest>,
    ) -> Result<Response<Self::TailEntriesStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn verify_entries(
        &self,
        _: Request<pb::VerifyEntriesRequest>,
    ) -> Result<Response<pb::VerifyEntriesResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

impl Log {
    fn channel(&self) -> Channel {
        let routes = tonic::service::Routes::new(OperatorLogServiceServer::new(self.clone()));
        let verifier = Verifier::fixed(&PolicySnapshot::default());
        let stack = Server::builder("operatorlog", verifier, Arc::new(LogSink))
            .routes(routes)
            .build();
        stack.in_memory(SpiffeId::module("user").unwrap())
    }

    fn methods(&self) -> Vec<String> {
        self.entries
            .lock()
            .unwrap()
            .iter()
            .map(|entry| entry.method.clone())
            .collect()
    }

    async fn wait_for(&self, count: usize) {
        let arrived = async {
            while self.methods().len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(2), arrived)
            .await
            .expect("the records arrive");
    }
}

fn entry(method: impl Into<String>) -> pb::Entry {
    pb::Entry {
        method: method.into(),
        ..pb::Entry::default()
    }
}

/// A drain cuts a call short and the last batch is sent again then: the log gets it twice.
async fn emptied(store: &Store) {
    let empty = async {
        while waiting(store).await != 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(2), empty)
        .await
        .expect("the outbox gets empty");
}

async fn waiting(store: &Store) -> i64 {
    use diesel::prelude::*;
    store
        .read("count", |conn| {
            Ok::<_, Error>(crate::schema::upm_outbox::table.count().get_result(conn)?)
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn a_record_lives_and_dies_with_its_change() {
    for test in testing::stores("user", || ITEMS).await {
        let rolled_back: Result<(), Error> = test
            .store
            .transact("fail", |conn| {
                write_entry(conn, entry("/lost"))?;
                Err(Error::StaleEtag)
            })
            .await;
        assert!(rolled_back.is_err());
        assert_eq!(waiting(&test.store).await, 0, "{}", test.database);
        test.store
            .transact("change", |conn| {
                add(conn, "a", 1)?;
                write_entry(conn, entry("/kept"))
            })
            .await
            .unwrap();
        assert_eq!(waiting(&test.store).await, 1, "{}", test.database);
    }
}

#[tokio::test]
async fn forwards_in_order_at_once_and_empties_the_outbox() {
    for test in testing::stores("user", || ITEMS).await {
        let (log, drain) = (Log::default(), Drain::new());
        let task = tokio::spawn(forward(test.store.clone(), log.channel(), drain.clone()));
        for n in 0..3 {
            test.store
                .transact("change", move |conn| {
                    write_entry(conn, entry(format!("/{n}")))
                })
                .await
                .unwrap();
        }
        log.wait_for(3).await;
        assert_eq!(log.methods(), ["/0", "/1", "/2"], "{}", test.database);
        Sink(test.store.clone()).write(entry("/refused")).await;
        log.wait_for(4).await;
        drain.begin();
        task.await.unwrap();
        assert_eq!(waiting(&test.store).await, 0, "{}", test.database);
    }
}

#[tokio::test]
async fn sends_again_what_was_not_confirmed_and_names_stay_the_same() {
    for test in testing::stores("user", || ITEMS).await {
        let log = Log {
            away: 2,
            unanswered: 1,
            ..Log::default()
        };
        test.store
            .transact("change", |conn| write_entry(conn, entry("/a")))
            .await
            .unwrap();
        let drain = Drain::new();
        let task = tokio::spawn(forward(test.store.clone(), log.channel(), drain.clone()));
        log.wait_for(2).await;
        drain.begin();
        task.await.unwrap();
        let names: BTreeSet<String> = log
            .entries
            .lock()
            .unwrap()
            .iter()
            .map(|entry| entry.name.clone())
            .collect();
        assert_eq!(
            names.len(),
            1,
            "both times under one name, so the log keeps one"
        );
        assert_eq!(waiting(&test.store).await, 0, "{}", test.database);
    }
}

#[tokio::test]
async fn cuts_batches_by_count_and_by_bytes() {
    let test = testing::sqlite("user", ITEMS).await;
    test.store
        .transact("many", |conn| {
            for n in 0..1201 {
                let request = "x".repeat(7000);
                write_entry(
                    conn,
                    pb::Entry {
                        request,
                        ..entry(format!("/{n}"))
                    },
                )?;
            }
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
    let (log, drain) = (Log::default(), Drain::new());
    let task = tokio::spawn(forward(test.store.clone(), log.channel(), drain.clone()));
    log.wait_for(1201).await;
    emptied(&test.store).await;
    drain.begin();
    task.await.unwrap();
    let expected: Vec<String> = (0..1201).map(|n| format!("/{n}")).collect();
    assert_eq!(log.methods(), expected);
    assert!(
        5 <= log.calls.load(Ordering::SeqCst),
        "2 MiB at most in one call"
    );
    let too_long = test
        .store
        .transact("long", |conn| {
            write_entry(
                conn,
                pb::Entry {
                    diff: "x".repeat(9000),
                    ..entry("/long")
                },
            )
        })
        .await;
    assert!(too_long.is_ok());
}
