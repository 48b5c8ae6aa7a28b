//! A command in a container, over a WebSocket of the API server (`v5.channel.k8s.io`).
//!
//! Input and output go by themselves, so a command that fills its output before it reads its input stops nobody but itself; and what is not
//! read stays on the connection, which stops the command.

use futures::{Sink, SinkExt as _, Stream, StreamExt as _, future};
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, Resource as _, api::AttachParams, client::Connection, core::Request};
use prost::bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;
use upm_proto::hub::v1 as pb;

use super::{away, outcome, refused};

/// Channels of the protocol.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// What to run.
#[derive(Debug, Clone)]
pub(super) struct Command<'a> {
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    pub(super) container: &'a str,
    pub(super) words: &'a [String],
    pub(super) stdin: bool,
    pub(super) tty: bool,
}

/// To a command.
#[derive(Debug)]
pub(super) enum Input {
    Data(Bytes),
    Resize(pb::TerminalSize),
    End,
}

/// From a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    Stdout(Bytes),
    Stderr(Bytes),
}

/// A command that the API server has taken.
pub(super) struct Running(Connection);

impl Running {
    /// Asks the API server to run a command.
    ///
    /// # Errors
    /// `DENIED_LOCAL_POLICY` when the agent may not, `API_SERVER_AWAY`, `COMMAND_NOT_STARTED`.
    pub(super) async fn start(client: &Client, command: Command<'_>) -> Result<Self, pb::Error> {
        let params = AttachParams {
            container: Some(command.container.to_owned()),
            stdin: command.stdin,
            stdout: true,
            // A terminal has one stream.
            stderr: !command.tty,
            tty: command.tty,
            ..AttachParams::default()
        };
        let request = Request::new(Pod::url_path(&(), Some(command.namespace)))
            .exec(command.pod, command.words, &params)
            .map_err(|error| refused("COMMAND_NOT_STARTED", error.to_string()))?;
        client.connect(request).await.map(Self).map_err(not_taken)
    }

    /// Carries input and output until the command has ended; its exit code. Dropped, it lets go of the command.
    ///
    /// # Errors
    /// `COMMAND_NOT_STARTED`, `API_SERVER_AWAY` when the connection breaks, `HALF_CLOSE_UNSUPPORTED`.
    pub(super) async fn carry(
        self,
        input: mpsc::Receiver<Input>,
        output: mpsc::Sender<Output>,
    ) -> Result<i32, pb::Error> {
        let half_close = self.0.supports_stream_close();
        let (to, from) = self.0.into_stream().split();
        let from = from.map(|message| match message {
            Ok(message) if message.is_binary() => Ok(message.into_data()),
            Ok(_) => Ok(Bytes::new()),
            Err(error) => Err(away(error)),
        });
        let to = to
            .sink_map_err(away)
            .with(|message: Vec<u8>| future::ready(Ok::<_, pb::Error>(message.into())));
        carry(Box::pin(from), Box::pin(to), half_close, input, output).await
    }
}

/// What the API server says instead of taking a command.
fn not_taken(error: kube::Error) -> pb::Error {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            refused("DENIED_LOCAL_POLICY", status.message)
        }
        kube::Error::Api(status) if status.code == 404 => refused("POD_NOT_FOUND", status.message),
        kube::Error::Api(status) if status.code < 500 => {
            refused("COMMAND_NOT_STARTED", status.message)
        }
        error => away(error),
    }
}

/// A message of the protocol.
fn message(channel: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(1 + bytes.len());
    message.push(channel);
    message.extend_from_slice(bytes);
    message
}

/// Carries input and output between a connection and its user.
async fn carry(
    mut from: impl Stream<Item = Result<Bytes, pb::Error>> + Unpin,
    mut to: impl Sink<Vec<u8>> + Unpin,
    half_close: bool,
    mut input: mpsc::Receiver<Input>,
    output: mpsc::Sender<Output>,
) -> Result<i32, pb::Error> {
    let feed = async {
        while let Some(part) = input.recv().await {
            let message = match part {
                // An empty message says nothing.
                Input::Data(bytes) if bytes.is_empty() => continue,
                Input::Data(bytes) => message(STDIN, &bytes),
                Input::Resize(size) => {
                    let size = json!({"Width": size.width as u16, "Height": size.height as u16});
                    message(RESIZE, size.to_string().as_bytes())
                }
                Input::End if half_close => vec![CLOSE, STDIN],
                Input::End => {
                    return Err(refused(
                        "HALF_CLOSE_UNSUPPORTED",
                        "this API server cannot end a command's input (Kubernetes before 1.30)",
                    ));
                }
            };
            if to.send(message).await.is_err() {
                // The command may have ended without reading all: how is on its way.
                break;
            }
        }
        Ok(())
    };
    let drain = async {
        while let Some(received) = from.next().await {
            let mut received = received?;
            if received.len() < 2 {
                continue;
            }
            let channel = received.split_to(1)[0];
            let part = match channel {
                STDOUT => Output::Stdout(received),
                STDERR => Output::Stderr(received),
                STATUS => return outcome::exit_code(&received),
                _ => continue,
            };
            if output.send(part).await.is_err() {
                return Err(away("nobody reads the output of the command"));
            }
        }
        Err(away("the connection ended before the command"))
    };
    let (mut feed, mut drain) = (std::pin::pin!(feed), std::pin::pin!(drain));
    tokio::select! {
        ended = &mut drain => ended,
        fed = &mut feed => {
            fed?;
            drain.await
        }
    }
}

#[cfg(test)]
mod tests;
