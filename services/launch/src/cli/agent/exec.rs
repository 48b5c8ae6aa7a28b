//! `upm agent exec`: a command in a unit, with this process's input, output and terminal.

use std::{
    convert::Infallible,
    io::{self, Read as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use upm_proto::hub::v1::{
    ExecInUnitRequest, ExecInUnitResponse, ExecStart, StdinEnd, exec_in_unit_request::Part as In,
    exec_in_unit_response::Part as Out,
};

use super::{Client, name, place::Pod, terminal};

/// Bytes of a part of the input.
const CHUNK: usize = 32 * 1024;

/// What to run, and where.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Id of the agent.
    agent: String,
    /// `NAMESPACE/POD` of a unit.
    pod: Pod,
    /// Container; the main one when not given.
    #[arg(long, short, default_value = "")]
    container: String,
    /// Give it this process's standard input.
    #[arg(long = "stdin", short = 'i')]
    stdin: bool,
    /// Give it a terminal.
    #[arg(long, short)]
    tty: bool,
    /// The command with its arguments. The program is recorded, the arguments are not.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs the command; its exit code.
pub(super) async fn run(mut client: Client, exec: Exec) -> anyhow::Result<ExitCode> {
    let raw = exec.tty.then(terminal::Raw::begin).transpose()?;
    let (input, parts) = mpsc::channel(4);
    let start = ExecStart {
        name: name(&exec.agent),
        namespace: exec.pod.namespace,
        pod: exec.pod.name,
        container: exec.container,
        command: exec.command,
        stdin: exec.stdin,
        tty: exec.tty,
        size: exec.tty.then(terminal::size).flatten(),
    };
    send(&input, In::Start(start)).await;
    let output = client
        .exec_in_unit(ReceiverStream::new(parts))
        .await?
        .into_inner();
    if exec.stdin {
        let input = input.clone();
        // A thread of its own: nobody waits for it when the command has ended while it waits for a key.
        std::thread::spawn(move || feed(&input));
    }
    let sizes = async {
        if exec.tty {
            follow_size(&input).await;
        }
        // The stream of the input stays open: its end would be the end of the command's input.
        std::future::pending::<Infallible>().await
    };
    let code = tokio::select! {
        code = print(output) => code,
        never = sizes => match never {},
    };
    drop(raw);
    // What does not fit is an error all the same.
    Ok(ExitCode::from(u8::try_from(code?).unwrap_or(u8::MAX)))
}

async fn send(input: &mpsc::Sender<ExecInUnitRequest>, part: In) -> bool {
    let part = Some(part);
    input.send(ExecInUnitRequest { part }).await.is_ok()
}

/// Brings standard input to the command.
fn feed(input: &mpsc::Sender<ExecInUnitRequest>) {
    let (mut from, mut chunk) = (io::stdin().lock(), vec![0; CHUNK]);
    loop {
        let part = match from.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => In::StdinEnd(StdinEnd {}),
            Ok(read) => In::Stdin(chunk[..read].to_vec().into()),
        };
        let over = matches!(part, In::StdinEnd(_));
        let part = Some(part);
        if input.blocking_send(ExecInUnitRequest { part }).is_err() || over {
            return;
        }
    }
}

/// Tells each new size of the terminal.
async fn follow_size(input: &mpsc::Sender<ExecInUnitRequest>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return;
    };
    while changes.recv().await.is_some() {
        if let Some(size) = terminal::size()
            && !send(input, In::Resize(size)).await
        {
            return;
        }
    }
}

/// Prints what the command says; its exit code.
async fn print(mut output: Streaming<ExecInUnitResponse>) -> anyhow::Result<i32> {
    let mut code = None;
    while let Some(answer) = output.message().await? {
        match answer.part {
            Some(Out::Stdout(bytes)) => write(&mut io::stdout().lock(), &bytes)?,
            Some(Out::Stderr(bytes)) => write(&mut io::stderr().lock(), &bytes)?,
            Some(Out::Exit(exit)) => code = Some(exit.code),
            Some(Out::Started(_)) | None => {}
        }
    }
    code.context("the connection ended before the command")
}

fn write(to: &mut impl io::Write, bytes: &[u8]) -> anyhow::Result<()> {
    to.write_all(bytes)?;
    Ok(to.flush()?)
}
