//! Sessions as versions of UPM spoke them, kept as files: today's hub hears what an agent of then said, today's agent what a hub of then
//! said, and both must come to the same end. A file is never changed; a version that says something new adds one (`make record-session`).

mod fuzz;
mod line;
mod replay;

use std::{collections::BTreeMap, path::PathBuf};

use upm_hub::{
    ledger,
    session::{Command, Reply, Session as Hub, Settings},
};
use upm_proto::hub::v1 as pb;
use upm_store::Store;

use crate::{session::Facts, simulation};
use line::{End, Line, Step};

const OWNER: &str = "projects/p/redisServices/s";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/sessions")
}

fn facts() -> Facts {
    Facts {
        build: "recorded".into(),
        cluster_uid: "cluster".into(),
        ..Facts::default()
    }
}

fn key(name: &str) -> pb::Key {
    pb::Key {
        group: "upm.syntropycloud.io".into(),
        version: "v1alpha2".into(),
        kind: "UnitSet".into(),
        namespace: "p".into(),
        name: name.into(),
    }
}

/// A hub's side of one agent: its ledger in a store, and a session while there is a connection.
struct HubSide {
    store: Store,
    id: String,
    core: Option<Hub>,
}

impl HubSide {
    async fn new(store: Store) -> Self {
        let id = simulation::approved(&store, "rec").await;
        Self {
            store,
            id,
            core: None,
        }
    }

    fn connect(&mut self, now: u64) {
        let settings = Settings {
            replica: "replica".into(),
            certificate_ends: u64::MAX,
            max_age: u64::MAX,
            wall_us: 0,
            reconnect_spread_ms: 200,
        };
        self.core = Some(Hub::new(settings, now));
    }

    async fn write(&mut self, request: pb::ApplyObjectsRequest, now: u64) {
        let (id, writer) = (self.id.clone(), writer(request.writer));
        let prepared = ledger::write::prepare(request.intents, OWNER).unwrap();
        self.store
            .transact("apply", move |conn| {
                ledger::write::apply_objects(conn, &id, &writer, &prepared)
            })
            .await
            .unwrap();
        if let Some(core) = &mut self.core {
            core.wake(now);
        }
    }

    async fn erase(&mut self, request: pb::DeleteObjectsRequest, now: u64) {
        let (id, writer) = (self.id.clone(), writer(request.writer));
        let how = ledger::write::How::default();
        self.store
            .transact("delete", move |conn| {
                ledger::write::delete_objects(conn, &id, &writer, &request.keys, how)
            })
            .await
            .unwrap();
        if let Some(core) = &mut self.core {
            core.wake(now);
        }
    }

    /// Does what the session asks of the store; true when there was something.
    async fn work(&mut self, now: u64) -> bool {
        let Some(command) = self.core.as_mut().and_then(Hub::next_command) else {
            return false;
        };
        let (id, epoch) = (self.id.clone(), self.core.as_ref().map_or(0, Hub::epoch));
        let reply: Reply = match command {
            Command::Claim(hello) => self
                .store
                .transact("claim", move |conn| {
                    ledger::session::claim(conn, &id, &hello, "replica")
                })
                .await
                .unwrap(),
            read @ (Command::Scan { .. }
            | Command::Fetch { .. }
            | Command::FetchRevisions { .. }
            | Command::Index) => self
                .store
                .read("read", move |conn| {
                    ledger::session::read(conn, &id, epoch, &read)
                })
                .await
                .unwrap(),
            write => self
                .store
                .transact("commit", move |conn| {
                    ledger::session::commit(conn, &id, epoch, &[&write])
                        .map(|mut replies| replies.remove(0))
                })
                .await
                .unwrap(),
        };
        if let Some(core) = &mut self.core {
            core.reply(now, reply);
        }
        true
    }

    /// What the ledger says of each key: generation, outcome, and the last status.
    async fn end(&self) -> BTreeMap<String, End> {
        let id = self.id.clone();
        let filter = ledger::read::Filter::default();
        let rows = self
            .store
            .read("list", move |conn| {
                ledger::read::list(conn, &id, &filter, None, 100)
            })
            .await
            .unwrap();
        rows.1
            .into_iter()
            .map(|(intent, status)| {
                let end = End {
                    generation: intent.generation as u64,
                    outcome: intent.outcome,
                    status: status.map(|status| status.body).unwrap_or_default(),
                };
                (intent.name, end)
            })
            .collect()
    }

    async fn incarnation(&self) -> Vec<u8> {
        let id = self.id.clone();
        let row = self
            .store
            .read("agent", move |conn| ledger::AgentRow::read(conn, &id))
            .await
            .unwrap();
        hex::decode(row.unwrap().incarnation).unwrap()
    }
}

fn writer(writer: Option<pb::Writer>) -> ledger::write::Writer {
    ledger::write::writer(writer, "").unwrap()
}

fn read(path: &std::path::Path) -> Vec<Line> {
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Every file with its name.
fn all() -> Vec<(String, Vec<Line>)> {
    let mut found = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, read(&path))
        })
        .collect::<Vec<_>>();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!found.is_empty(), "no session is recorded");
    found
}

mod tests {
    use super::*;

    #[tokio::test]
    async fn todays_hub_understands_every_recorded_agent() {
        for (name, lines) in all() {
            println!("{name}");
            let (store, _folder) = simulation::store().await;
            replay::agent_to_hub(store, &lines).await;
        }
    }

    #[test]
    fn todays_agent_understands_every_recorded_hub() {
        for (name, lines) in all() {
            println!("{name}");
            replay::hub_to_agent(&lines);
        }
    }

    #[test]
    fn recorded_frames_are_read_without_loss() {
        for (name, lines) in all() {
            for (at, line) in lines.iter().enumerate() {
                let kept = match &line.step {
                    Step::Hub { frame } => line::reread::<pb::HubFrame>(frame),
                    Step::Agent { frame } => line::reread::<pb::AgentFrame>(frame),
                    Step::Write { request } => line::reread::<pb::ApplyObjectsRequest>(request),
                    Step::Erase { request } => line::reread::<pb::DeleteObjectsRequest>(request),
                    _ => true,
                };
                assert!(
                    kept,
                    "{name}, line {}: a field is not known any more",
                    at + 1
                );
            }
        }
    }

    /// Records a session of this version when `UPM_RECORD_SESSION` names it; a recorded one is not overwritten.
    #[tokio::test]
    async fn a_session_of_this_version_goes_through_every_way_to_resume() {
        let (store, _folder) = simulation::store().await;
        let lines = replay::record(store).await;
        let mut kinds = lines
            .iter()
            .filter_map(Line::kind)
            .collect::<std::collections::BTreeSet<_>>();
        for wanted in [
            "agent:Buckets",
            "agent:DesiredAck",
            "agent:Heartbeat",
            "agent:Hello",
            "agent:Need",
            "agent:Result",
            "agent:Status",
            "hub:Apply",
            "hub:Bookmark",
            "hub:BucketQuery",
            "hub:Credit",
            "hub:Delete",
            "hub:Fragment",
            "hub:Interest",
            "hub:Pong",
            "hub:SnapshotBegin",
            "hub:SnapshotEnd",
            "hub:SnapshotEntry",
            "hub:StatusAck",
            "hub:Welcome",
        ] {
            assert!(kinds.remove(wanted), "no {wanted} in the session");
        }
        assert!(
            line::patches(&lines),
            "an intent and a status go as patches"
        );
        assert!(
            line::expires(&lines),
            "a time to live runs out, and the intent comes back"
        );
        if let Ok(name) = std::env::var("UPM_RECORD_SESSION") {
            let path = folder().join(format!("{name}.jsonl"));
            assert!(!path.exists(), "{name} is recorded already");
            let text = lines
                .iter()
                .map(|line| serde_json::to_string(line).unwrap() + "\n")
                .collect::<String>();
            std::fs::create_dir_all(folder()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }
}
