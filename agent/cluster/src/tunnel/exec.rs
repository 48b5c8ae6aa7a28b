//! A command in a unit.

use std::future::pending;

use tokio::sync::mpsc;
use upm_proto::hub::v1::{self as pb, bytes::Frame};

use super::{
    ClusterTunnels, FromHub, ToHub, refused,
    remote::{Command, Input, Output, Running},
};

impl ClusterTunnels {
    pub(super) async fn exec(
        &self,
        wanted: pb::Exec,
        to: &ToHub,
        from: FromHub,
    ) -> Result<(), pb::Error> {
        self.policy
            .allows_exec(&wanted.namespace, &wanted.pod)
            .map_err(|why| refused("DENIED_LOCAL_POLICY", why))?;
        let container = self
            .container(&wanted.namespace, &wanted.pod, &wanted.container)
            .await?;
        let program = wanted.command.first().map(String::as_str);
        tracing::info!(
            namespace = wanted.namespace,
            pod = wanted.pod,
            container,
            program,
            "The platform runs a command in a unit"
        );
        let command = Command {
            namespace: &wanted.namespace,
            pod: &wanted.pod,
            container: &container,
            words: &wanted.command,
            stdin: wanted.stdin,
            tty: wanted.tty,
        };
        let running = Running::start(&self.client, command).await?;
        to.send(Frame::Started(pb::CommandStarted {})).await;
        let code = attend(running, to, from, &wanted).await?;
        to.send(Frame::Exit(pb::CommandExit { code })).await;
        Ok(())
    }
}

/// Brings the hub's frames to a command, and the command's output to the hub, until the command has ended.
async fn attend(
    running: Running,
    to: &ToHub,
    mut from: FromHub,
    wanted: &pb::Exec,
) -> Result<i32, pb::Error> {
    let (input, fed) = mpsc::channel(1);
    let (printed, mut output) = mpsc::channel(1);
    let feed = async {
        if let Some(size) = wanted.size.filter(|_| wanted.tty) {
            let _ = input.send(Input::Resize(size)).await;
        }
        let mut is_open = wanted.stdin;
        while let Some(Ok(frame)) = from.next().await {
            let part = match frame {
                Frame::Data(bytes) if is_open => Input::Data(bytes),
                Frame::InputEnd(_) if is_open => {
                    is_open = false;
                    Input::End
                }
                Frame::Resize(size) if wanted.tty => Input::Resize(size),
                _ => continue,
            };
            // A command that has ended takes nothing any more.
            let _ = input.send(part).await;
        }
        // That the hub is gone ends the whole.
        pending::<()>().await;
    };
    let print = async {
        while let Some(part) = output.recv().await {
            let sent = match part {
                Output::Stdout(bytes) => to.send_all(bytes, Frame::Data).await,
                Output::Stderr(bytes) => to.send_all(bytes, Frame::Stderr).await,
            };
            if !sent {
                break;
            }
        }
    };
    // All output is sent before the exit code.
    let ended = async { tokio::join!(running.carry(fed, printed), print).0 };
    tokio::select! {
        code = ended => code,
        () = feed => Err(refused("API_SERVER_AWAY", "nobody speaks to the command")),
    }
}
