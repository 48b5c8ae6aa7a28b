//! Commands and files of units through tunnels.

use std::sync::atomic::Ordering;

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use upm_mesh::tunnel::WINDOW;
use upm_proto::{
    hub::v1::{
        exec_in_unit_request::Part as In, exec_in_unit_response::Part as Out,
        read_unit_file_response::Part as Read, write_unit_file_request::Part as Write,
        write_unit_file_response::Part as Written,
    },
    unit::v1::FileFacts,
};

use super::{units::digest, *};

pub(super) type Caller = AgentAdminServiceClient<Channel>;

pub(super) fn start(program: &str) -> pb::ExecStart {
    pb::ExecStart {
        name: "agents/c1".into(),
        namespace: "p".into(),
        pod: "k0-0".into(),
        command: vec![program.into(), "an-argument".into()],
        stdin: true,
        ..pb::ExecStart::default()
    }
}

/// A command that was started, with its input.
pub(super) struct Command {
    pub(super) input: mpsc::Sender<pb::ExecInUnitRequest>,
    pub(super) output: Streaming<pb::ExecInUnitResponse>,
}

impl Command {
    pub(super) async fn start(caller: &Caller, start: pb::ExecStart) -> Result<Self, Status> {
        let (input, parts) = mpsc::channel(4);
        let part = Some(In::Start(start));
        input.send(pb::ExecInUnitRequest { part }).await.unwrap();
        let mut output = caller
            .clone()
            .exec_in_unit(ReceiverStream::new(parts))
            .await?
            .into_inner();
        let first = output.message().await?.unwrap().part;
        assert!(matches!(first, Some(Out::Started(_))), "{first:?}");
        Ok(Self { input, output })
    }
}

pub(super) async fn say(input: &mpsc::Sender<pb::ExecInUnitRequest>, part: In) {
    let part = Some(part);
    input.send(pb::ExecInUnitRequest { part }).await.unwrap();
}

/// What a command prints until it has ended: output, errors, exit code.
pub(super) async fn said(
    mut output: Streaming<pb::ExecInUnitResponse>,
) -> Result<(Vec<u8>, Vec<u8>, Option<i32>), Status> {
    let (mut out, mut err, mut code) = (Vec::new(), Vec::new(), None);
    while let Some(answer) = output.message().await? {
        match answer.part.unwrap() {
            Out::Stdout(bytes) => out.extend_from_slice(&bytes),
            Out::Stderr(bytes) => err.extend_from_slice(&bytes),
            Out::Exit(exit) => code = Some(exit.code),
            Out::Started(_) => panic!("started twice"),
        }
    }
    Ok((out, err, code))
}

pub(super) fn reason(status: &Status) -> String {
    mesh::status::reason(status).unwrap_or_default()
}

/// A call that another replica has passed on.
pub(super) fn hopped<T>(mut request: tonic::Request<T>) -> tonic::Request<T> {
    let metadata = request.metadata_mut();
    metadata.insert("x-upm-hop", "1".parse().unwrap());
    request
}

fn target(path: &str) -> pb::WriteStart {
    pb::WriteStart {
        name: "agents/c1".into(),
        namespace: "p".into(),
        pod: "k0-0".into(),
        path: path.into(),
        facts: Some(FileFacts::default()),
        ..pb::WriteStart::default()
    }
}

/// A file that is being written.
struct Writing {
    input: mpsc::Sender<pb::WriteUnitFileRequest>,
    output: Streaming<pb::WriteUnitFileResponse>,
}

impl Writing {
    async fn start(caller: &Caller, path: &str) -> Result<Self, Status> {
        let (input, parts) = mpsc::channel(4);
        let part = Some(Write::Start(target(path)));
        input.send(pb::WriteUnitFileRequest { part }).await.unwrap();
        let mut output = caller
            .clone()
            .write_unit_file(ReceiverStream::new(parts))
            .await?
            .into_inner();
        let first = output.message().await?.unwrap().part;
        assert!(matches!(first, Some(Written::Started(_))), "{first:?}");
        Ok(Self { input, output })
    }

    async fn send(&self, bytes: &[u8]) {
        for part in bytes.chunks(60_000) {
            let part = Some(Write::Data(part.to_vec().into()));
            self.input
                .send(pb::WriteUnitFileRequest { part })
                .await
                .unwrap();
        }
    }
}

pub(super) async fn write(caller: &Caller, path: &str, bytes: &[u8]) -> Result<(), Status> {
    let mut writing = Writing::start(caller, path).await?;
    writing.send(bytes).await;
    let part = Some(Write::Digest(digest(bytes)));
    let sent = writing.input.send(pb::WriteUnitFileRequest { part });
    sent.await.unwrap();
    let done = writing.output.message().await?.unwrap().part;
    assert_eq!(done, Some(Written::Digest(digest(bytes))));
    assert_eq!(writing.output.message().await?, None);
    Ok(())
}

pub(super) async fn read(caller: &Caller, path: &str) -> Result<Vec<u8>, Status> {
    let request = pb::ReadUnitFileRequest {
        name: "agents/c1".into(),
        namespace: "p".into(),
        pod: "k0-0".into(),
        path: path.into(),
        ..pb::ReadUnitFileRequest::default()
    };
    let mut parts = caller.clone().read_unit_file(request).await?.into_inner();
    let (mut all, mut said) = (Vec::new(), None);
    while let Some(answer) = parts.message().await? {
        match answer.part.unwrap() {
            Read::Facts(facts) => assert_eq!(facts.mode, 0o644),
            Read::Data(bytes) => all.extend_from_slice(&bytes),
            Read::Digest(digest) => said = Some(digest),
        }
    }
    assert_eq!(said, Some(digest(&all)));
    Ok(all)
}

pub(super) fn random(length: usize) -> Vec<u8> {
    use rand::RngCore as _;
    let mut bytes = vec![0; length];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

struct Link {
    hub: HubSide,
    agent: AgentSide,
    disk: Disk,
    _folder: tempfile::TempDir,
}

async fn link() -> Link {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(mesh::Authority::create().unwrap());
    let mut hub = hub(&folder, &authority, local().await).await;
    let (token, pin) = hub.token(true).await;
    let disk = Disk::default();
    let mut agent = agent(&disk, &hub.address, &pin, token_file(&folder, &token));
    agent.reason("CONNECTED").await;
    Link {
        hub,
        agent,
        disk,
        _folder: folder,
    }
}

impl Link {
    async fn until(&self, what: &str, is: impl Fn(&units::Units) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !is(&self.disk.units) {
            assert!(tokio::time::Instant::now() < deadline, "waiting for {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the agent has let go of all tunnels.
    async fn quiet(&self) {
        self.until("the end of the tunnels", |units| {
            units.running.load(Ordering::SeqCst) == 0
        })
        .await;
    }

    async fn stop(self) {
        self.agent.stop().await;
        self.hub.stop().await;
    }
}

#[tokio::test]
async fn a_command_has_input_output_errors_sizes_a_half_close_and_an_exit_code() {
    let link = link().await;
    let command = Command::start(&link.hub.admin, start("cat")).await.unwrap();
    let (input, text) = (command.input, random(1 << 20));
    let pump = async {
        for part in text.chunks(50_000) {
            say(&input, In::Stdin(part.to_vec().into())).await;
        }
        let size = pb::TerminalSize {
            width: 80,
            height: 24,
        };
        say(&input, In::Resize(size)).await;
        say(&input, In::StdinEnd(pb::StdinEnd {})).await;
    };
    let (ended, ()) = tokio::join!(said(command.output), pump);
    let (out, err, code) = ended.unwrap();
    assert!(out == [text.as_slice(), b"80x24bye"].concat() && err == text);
    assert_eq!(code, Some(7));

    // The end of the request stream is the end of the input.
    let command = Command::start(&link.hub.admin, start("cat")).await.unwrap();
    drop(command.input);
    assert_eq!(said(command.output).await.unwrap().2, Some(7));
    link.quiet().await;
    link.stop().await;
}

/// What makes a request wrong.
type Change = fn(&mut pb::ExecStart);

#[tokio::test]
async fn what_is_refused_has_a_reason_before_the_answer_begins() {
    let link = link().await;
    let caller = &link.hub.admin;
    let refused = async |start: pb::ExecStart| {
        let status = Command::start(caller, start).await.map(drop).unwrap_err();
        (status.code(), reason(&status))
    };
    let cases: [(Change, (Code, &str)); 5] = [
        (
            |start| start.command = vec!["nothing".into()],
            (Code::FailedPrecondition, "COMMAND_NOT_STARTED"),
        ),
        (
            |start| start.namespace = "q".into(),
            (Code::PermissionDenied, "DENIED_LOCAL_POLICY"),
        ),
        (
            |start| start.name = "agents/c2".into(),
            (Code::NotFound, "AGENT_NOT_FOUND"),
        ),
        (
            |start| start.command.clear(),
            (Code::InvalidArgument, "INVALID_FIELD"),
        ),
        (
            |start| start.pod = "a/b".into(),
            (Code::InvalidArgument, "INVALID_FIELD"),
        ),
    ];
    for (change, wanted) in cases {
        let mut wrong = start("cat");
        change(&mut wrong);
        let (code, said) = refused(wrong).await;
        assert_eq!((code, said.as_str()), wanted);
    }
    let missing = read(caller, "/missing").await.unwrap_err();
    assert_eq!(reason(&missing), "FILE_NOT_FOUND");
    let nowhere = read(caller, "etc/../passwd").await.unwrap_err();
    assert_eq!(reason(&nowhere), "INVALID_FIELD");
    link.quiet().await;
    link.stop().await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_the_command_and_nothing_else() {
    let mut link = link().await;
    let printed = |link: &Link| link.disk.units.printed.load(Ordering::SeqCst);
    // More tunnels than fit into the windows of a connection without credit of their own.
    let mut stalled = Vec::new();
    for _ in 0..12 {
        stalled.push(Command::start(&link.hub.admin, start("yes")).await.unwrap());
    }
    let mut last = 0;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = printed(&link);
        if now == last {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{now} bytes");
        last = now;
    }
    // A window at each end of the tunnel, a few frames between them, and what the caller's own connection holds.
    let bound = 12 * (2 * u64::from(WINDOW) + (1 << 20));
    assert!(last > 0 && last < bound, "{last} bytes are on their way");
    // The session of the same connection lives, and so does the ledger.
    link.hub.apply(1, 1).await;
    link.hub.settled(1).await;
    // Whoever reads on gets on.
    let mut read = 0;
    while read < 4 * u64::from(WINDOW) {
        let answer = stalled[0].output.message().await.unwrap().unwrap();
        if let Some(Out::Stdout(bytes)) = answer.part {
            read += bytes.len() as u64;
        }
    }
    assert!(printed(&link) > last);
    // Readers that are gone end their commands.
    drop(stalled);
    link.quiet().await;
    link.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_revoked_loses_its_commands_within_a_second() {
    let mut link = link().await;
    let mut command = Command::start(&link.hub.admin, start("sleep"))
        .await
        .unwrap();
    let stalled = Command::start(&link.hub.admin, start("yes")).await.unwrap();
    link.hub.revoke("").await.unwrap();
    let revoked = tokio::time::Instant::now();
    let cut = command.output.message().await.unwrap_err();
    assert_eq!(reason(&cut), "AGENT_REVOKED");
    let after = revoked.elapsed();
    assert!(after < Duration::from_secs(1), "{after:?}");
    link.quiet().await;
    // Who was slow hears of it behind what was on its way, and never takes it for a good end.
    let cut = said(stalled.output).await.unwrap_err();
    assert_eq!(reason(&cut), "AGENT_REVOKED");
    let refused = Command::start(&link.hub.admin, start("cat")).await;
    assert!(refused.is_err());
    link.stop().await;
}

#[tokio::test]
async fn a_hub_that_drains_ends_commands_and_is_not_held_up_by_them() {
    let link = link().await;
    let command = Command::start(&link.hub.admin, start("sleep"))
        .await
        .unwrap();
    let Link {
        hub, agent, disk, ..
    } = link;
    let stopped = tokio::time::timeout(Duration::from_secs(30), hub.stop());
    assert!(stopped.await.is_ok(), "the hub waits for a command");
    assert!(said(command.output).await.is_err());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while disk.units.running.load(Ordering::SeqCst) > 0 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_has_a_bounded_number_of_tunnels() {
    let link = link().await;
    let mut all = Vec::new();
    let refused = loop {
        match Command::start(&link.hub.admin, start("sleep")).await {
            Ok(command) => all.push(command),
            Err(status) => break status,
        }
        assert!(all.len() < 1_000);
    };
    assert_eq!(reason(&refused), "TOO_MANY_TUNNELS");
    drop(all.pop());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while Command::start(&link.hub.admin, start("cat")).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline);
    }
    drop(all);
    link.quiet().await;
    link.stop().await;
}

#[tokio::test]
async fn a_file_of_any_size_passes_both_ways_with_its_digest() {
    let link = link().await;
    for size in [0, 1, 64 * 1024, 24 << 20] {
        let bytes = random(size);
        write(&link.hub.admin, "/data/a", &bytes).await.unwrap();
        assert!(read(&link.hub.admin, "/data/a").await.unwrap() == bytes);
    }
    link.quiet().await;
    link.stop().await;
}

#[tokio::test]
async fn a_write_that_is_cut_changes_nothing() {
    let link = link().await;
    let caller = &link.hub.admin;
    write(caller, "/data/a", b"old").await.unwrap();
    // The caller is gone in the middle.
    let writing = Writing::start(caller, "/data/a").await.unwrap();
    writing.send(&random(100_000)).await;
    link.until("some bytes", |units| {
        units.received.load(Ordering::SeqCst) > 60_000
    })
    .await;
    drop(writing);
    link.quiet().await;
    assert_eq!(read(caller, "/data/a").await.unwrap(), b"old");
    // Its stream ends without a digest.
    let mut writing = Writing::start(caller, "/data/a").await.unwrap();
    writing.send(b"new").await;
    drop(writing.input);
    let incomplete = writing.output.message().await.unwrap_err();
    assert_eq!(reason(&incomplete), "FILE_INCOMPLETE");
    // The bytes are others.
    let mut writing = Writing::start(caller, "/data/a").await.unwrap();
    writing.send(b"new").await;
    let part = Some(Write::Digest(digest(b"other")));
    let sent = writing.input.send(pb::WriteUnitFileRequest { part });
    sent.await.unwrap();
    let wrong = writing.output.message().await.unwrap_err();
    assert_eq!(reason(&wrong), "FILE_CHECKSUM_MISMATCH");
    assert_eq!(read(caller, "/data/a").await.unwrap(), b"old");
    link.quiet().await;
    link.stop().await;
}
