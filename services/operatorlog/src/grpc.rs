//! The service.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::sync::{Notify, mpsc};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use upm_mesh::{Context, Drain};
use upm_proto::operatorlog::v1::{self as pb, operator_log_service_server::OperatorLogService};
use upm_store::{
    Store, filter,
    page::{PageRequest, Query},
    time,
};

use crate::{
    Error,
    chain::{self, Head},
    model::{self, Condition},
    seal::Seal,
};

/// Entries that are read at once.
const BATCH: i64 = 500;
/// A tail looks again after this time even when nobody told it to: another replica may have written.
const TAIL_TICK: Duration = Duration::from_secs(2);

/// Serves `OperatorLogService`.
#[derive(Debug, Clone)]
pub(crate) struct Handler {
    store: Store,
    seal: Option<Arc<Seal>>,
    appended: Arc<Notify>,
    drain: Drain,
}

impl Handler {
    pub(crate) fn new(store: Store, seal: Option<Arc<Seal>>, drain: Drain) -> Self {
        Self {
            store,
            seal,
            appended: Arc::new(Notify::new()),
            drain,
        }
    }

    async fn verify(&self, first: i64, last: i64) -> Result<pb::VerifyEntriesResponse, Error> {
        // Read before the entries: what is appended meanwhile comes after it.
        let (end, signature) = self.store.read("operatorlog.head", model::end).await?;
        let mut head = self.head_before(first).await?;
        let mut checked = 0;
        loop {
            let after = head.sequence;
            let rows = self
                .store
                .read("operatorlog.verify", move |conn| {
                    Ok::<_, Error>(model::after(conn, after, BATCH)?)
                })
                .await?;
            let complete = rows.len() < BATCH as usize;
            for row in rows {
                let entry = pb::Entry::from(row);
                if last > 0 && entry.sequence > last {
                    return Ok(intact(head, checked));
                }
                match chain::check(&head, &entry) {
                    Ok(next) => head = next,
                    Err(problem) => return Ok(broken(head, checked, entry.sequence, problem)),
                }
                if head.sequence == end.sequence && head.hash != end.hash {
                    let problem = "it is not the end that the log remembers".to_owned();
                    return Ok(broken(head, checked, entry.sequence, problem));
                }
                checked += 1;
            }
            if !complete {
                continue;
            }
            if head.sequence < end.sequence {
                let problem = format!("entries up to {} are missing at the end", end.sequence);
                let first_missing = head.sequence + 1;
                return Ok(broken(head, checked, first_missing, problem));
            }
            return Ok(self.signed(end, signature, head, checked));
        }
    }

    /// The verdict on a chain that holds up to its end; `head` may be behind that end by now.
    fn signed(
        &self,
        end: Head,
        signature: String,
        head: Head,
        checked: i64,
    ) -> pb::VerifyEntriesResponse {
        let Some(seal) = self.seal.as_ref().filter(|_| end.sequence > 0) else {
            return intact(head, checked);
        };
        if !seal.continues(&end, &signature) {
            let problem = "the end of the log has no signature of its key".to_owned();
            return broken(head, checked, end.sequence, problem);
        }
        pb::VerifyEntriesResponse {
            signed_head: end.to_string(),
            head_signature: signature,
            public_key: seal.public_key(),
            ..intact(head, checked)
        }
    }

    /// What the entry before `first` says; the beginning for the first one.
    async fn head_before(&self, first: i64) -> Result<Head, Error> {
        let before = first.max(1) - 1;
        if before == 0 {
            return Ok(Head {
                sequence: 0,
                hash: String::new(),
            });
        }
        let rows = self
            .store
            .read("operatorlog.verify", move |conn| {
                Ok::<_, Error>(model::after(conn, before - 1, 1)?)
            })
            .await?;
        let entry = rows.into_iter().next().map(pb::Entry::from);
        match entry {
            Some(entry) if entry.sequence == before => Ok(Head {
                sequence: before,
                hash: entry.hash,
            }),
            _ => Err(Error::Invalid {
                field: "first_sequence",
                description: format!("there is no entry {before} before it"),
            }),
        }
    }
}

fn broken(
    head: Head,
    checked: i64,
    broken_sequence: i64,
    problem: String,
) -> pb::VerifyEntriesResponse {
    pb::VerifyEntriesResponse {
        intact: false,
        checked,
        broken_sequence,
        problem,
        head_hash: head.hash,
        ..pb::VerifyEntriesResponse::default()
    }
}

fn intact(head: Head, checked: i64) -> pb::VerifyEntriesResponse {
    pb::VerifyEntriesResponse {
        intact: true,
        checked,
        head_hash: head.hash,
        ..pb::VerifyEntriesResponse::default()
    }
}

/// What `ListEntriesRequest.filter` may name.
const FILTERS: [&str; 6] = [
    "principal",
    "method",
    "resource",
    "module",
    "code",
    "event_time",
];

/// A time as in RFC 3339, compared by any of `=`, `!=`, `<`, `<=`, `>`, `>=`.
fn event_time(term: &filter::Term) -> Result<Condition, Error> {
    let at = term.value.parse::<prost_types::Timestamp>();
    let at = at.map_err(|_| Error::Invalid {
        field: "filter",
        description: format!("event_time: {:?} is no time as in RFC 3339", term.value),
    })?;
    if term.op == filter::Op::Has {
        return Err(Error::Invalid {
            field: "filter",
            description: "event_time: `:` is not possible".to_owned(),
        });
    }
    Ok(Condition::EventTime(term.op, time::from_timestamp(&at)))
}

fn conditions(text: &str) -> Result<Vec<Condition>, Error> {
    let terms = filter::parse(text, &FILTERS)?;
    terms
        .into_iter()
        .map(|term| {
            if term.field == "event_time" {
                return event_time(&term);
            }
            if !term.equality()? {
                return Err(Error::Invalid {
                    field: "filter",
                    description: format!("{}: only = is possible", term.field),
                });
            }
            Ok(match term.field.as_str() {
                "principal" => Condition::Principal(term.value.clone()),
                "method" => Condition::Method(term.value.clone()),
                "resource" => Condition::Resource(term.value.clone()),
                "module" => Condition::Module(term.value.clone()),
                _ => Condition::Code(term.integer()? as i32),
            })
        })
        .collect()
}

#[tonic::async_trait]
impl OperatorLogService for Handler {
    async fn list_entries(
        &self,
        request: Request<pb::ListEntriesRequest>,
    ) -> Result<Response<pb::ListEntriesResponse>, Status> {
        let request = request.into_inner();
        let wanted = conditions(&request.filter)?;
        let query = Query {
            method: "operatorlog.entries",
            filter: &request.filter,
            ..Query::default()
        };
        let page =
            PageRequest::<i64>::parse(&self.store, query, request.page_size, &request.page_token)
                .map_err(Error::from)?;
        let (before, limit) = (page.after().copied().unwrap_or(i64::MAX), page.limit());
        let rows = self
            .store
            .read("operatorlog.list", move |conn| {
                Ok::<_, Error>(model::before(conn, before, &wanted, limit)?)
            })
            .await?;
        let (rows, next_page_token) = page.finish(rows, |row| row.sequence).map_err(Error::from)?;
        Ok(Response::new(pb::ListEntriesResponse {
            entries: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn get_entry(
        &self,
        request: Request<pb::GetEntryRequest>,
    ) -> Result<Response<pb::Entry>, Status> {
        let name = request.into_inner().name;
        let id = name.rsplit('/').next().unwrap_or_default().to_owned();
        let row = self
            .store
            .read("operatorlog.get", move |conn| {
                Ok::<_, Error>(model::find(conn, &id)?)
            })
            .await?
            .ok_or(Error::NoEntry(name))?;
        Ok(Response::new(row.into()))
    }

    type TailEntriesStream = Pin<Box<dyn Stream<Item = Result<pb::Entry, Status>> + Send>>;

    async fn tail_entries(
        &self,
        request: Request<pb::TailEntriesRequest>,
    ) -> Result<Response<Self::TailEntriesStream>, Status> {
        let request = request.into_inner();
        let wanted = conditions(&request.filter)?;
        let mut after = request.after_sequence;
        if after == 0 {
            after = self
                .store
                .read("operatorlog.head", model::head)
                .await?
                .sequence;
        }
        let (sender, receiver) = mpsc::channel(64);
        let handler = self.clone();
        // The task ends with its receiver: the stream's owner.
        tokio::spawn(async move {
            if let Err(status) = handler.follow(after, &wanted, &sender).await {
                sender.send(Err(status)).await.ok();
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn verify_entries(
        &self,
        request: Request<pb::VerifyEntriesRequest>,
    ) -> Result<Response<pb::VerifyEntriesResponse>, Status> {
        let request = request.into_inner();
        let answer = self
            .verify(request.first_sequence, request.last_sequence)
            .await?;
        Ok(Response::new(answer))
    }

    async fn append_entries(
        &self,
        request: Request<pb::AppendEntriesRequest>,
    ) -> Result<Response<pb::AppendEntriesResponse>, Status> {
        let ctx = Context::of(&request)?;
        let module = ctx.caller.module().unwrap_or_default();
        let entries = request.into_inner().entries;
        if let Some(foreign) = entries.iter().find(|entry| entry.module != module) {
            return Err(Error::NotOwn {
                module: module.to_owned(),
                of: foreign.module.chars().take(64).collect(),
            }
            .into());
        }
        let seal = self.seal.clone();
        let head = self
            .store
            .transact("operatorlog.append", move |conn| {
                model::append(conn, &entries, seal.as_deref())
            })
            .await?;
        self.appended.notify_waiters();
        Ok(Response::new(pb::AppendEntriesResponse {
            head_sequence: head.sequence,
        }))
    }
}

impl Handler {
    async fn follow(
        &self,
        mut after: i64,
        wanted: &[Condition],
        sender: &mpsc::Sender<Result<pb::Entry, Status>>,
    ) -> Result<(), Status> {
        loop {
            let appended = self.appended.notified();
            let rows = self
                .store
                .read("operatorlog.tail", move |conn| {
                    Ok::<_, Error>(model::after(conn, after, BATCH)?)
                })
                .await?;
            for row in rows {
                after = row.sequence;
                if wanted.iter().all(|c| c.holds(&row))
                    && sender.send(Ok(row.into())).await.is_err()
                {
                    return Ok(());
                }
            }
            tokio::select! {
                () = appended => {}
                () = tokio::time::sleep(TAIL_TICK) => {}
                () = sender.closed() => return Ok(()),
                () = self.drain.signalled() => return Err(Status::unavailable("the replica stops")),
            }
        }
    }
}
