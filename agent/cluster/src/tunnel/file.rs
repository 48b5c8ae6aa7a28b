//! A file of a unit: the unit agent that lies in its pod reads and writes it, as a command. Neither a shell nor `tar` is needed there.

use std::future::pending;

use prost::bytes::Bytes;
use tokio::sync::mpsc;
use upm_proto::{
    file::{Decoder, Malformed, encode},
    hub::v1::{self as pb, bytes::Frame},
    unit::v1::file_frame::Frame as FileFrame,
};

use super::{
    ClusterTunnels, FromHub, ToHub, refused,
    remote::{Command, Input, Output, Running},
};

/// Where the unit agent lies in the pod of a unit.
const PROGRAM: &str = "/upm/bin/upm-unit-agent";
/// What is kept of what it says beside its answer.
const WORDS: usize = 1024;

impl ClusterTunnels {
    pub(super) async fn read_file(
        &self,
        wanted: pb::ReadFile,
        to: &ToHub,
    ) -> Result<(), pb::Error> {
        let place = (&*wanted.namespace, &*wanted.pod, &*wanted.container);
        let running = self.file("read", place, &wanted.path).await?;
        let (input, fed) = mpsc::channel(1);
        let (printed, output) = mpsc::channel(1);
        let (ended, answered) = tokio::join!(
            running.carry(fed, printed),
            answers(output, to, of_read, input)
        );
        settle(ended, answered)
    }

    pub(super) async fn write_file(
        &self,
        wanted: pb::WriteFile,
        to: &ToHub,
        from: FromHub,
    ) -> Result<(), pb::Error> {
        let place = (&*wanted.namespace, &*wanted.pod, &*wanted.container);
        let running = self.file("write", place, &wanted.path).await?;
        let (input, fed) = mpsc::channel(1);
        let (printed, output) = mpsc::channel(1);
        let facts = wanted.facts.unwrap_or_default();
        let heard = input.clone();
        let written = async {
            tokio::join!(
                running.carry(fed, printed),
                answers(output, to, of_write, heard)
            )
        };
        let (ended, answered) = tokio::select! {
            both = written => both,
            () = feed(FileFrame::Facts(facts), from, input) => return Ok(()),
        };
        settle(ended, answered)
    }

    /// Starts the unit agent on a file.
    async fn file(
        &self,
        verb: &str,
        (namespace, pod, container): (&str, &str, &str),
        path: &str,
    ) -> Result<Running, pb::Error> {
        self.policy
            .allows_files(namespace, pod)
            .map_err(|why| refused("DENIED_LOCAL_POLICY", why))?;
        let container = self.container(namespace, pod, container).await?;
        tracing::info!(
            namespace,
            pod,
            container,
            path,
            verb,
            "The platform takes a file of a unit"
        );
        let words = [PROGRAM, "file", verb, path].map(str::to_owned);
        let command = Command {
            namespace,
            pod,
            container: &container,
            words: &words,
            stdin: true,
            tty: false,
        };
        Running::start(&self.client, command).await
    }
}

/// What a read says to the hub.
fn of_read(frame: FileFrame) -> Option<Frame> {
    match frame {
        FileFrame::Facts(facts) => Some(Frame::File(facts)),
        FileFrame::Data(bytes) => Some(Frame::Data(bytes)),
        FileFrame::Digest(digest) => Some(Frame::Digest(digest)),
        FileFrame::Refused(_) => None,
    }
}

/// What a write says to the hub.
fn of_write(frame: FileFrame) -> Option<Frame> {
    match frame {
        FileFrame::Facts(_) => Some(Frame::Started(pb::CommandStarted {})),
        FileFrame::Digest(digest) => Some(Frame::Digest(digest)),
        FileFrame::Data(_) | FileFrame::Refused(_) => None,
    }
}

/// Brings the hub's frames to the unit agent. It never ends by itself: what is cut is no end of a file.
async fn feed(first: FileFrame, mut from: FromHub, input: mpsc::Sender<Input>) {
    give(&input, first).await;
    while let Some(Ok(part)) = from.next().await {
        match part {
            Frame::Data(bytes) => give(&input, FileFrame::Data(bytes)).await,
            Frame::Digest(digest) => give(&input, FileFrame::Digest(digest)).await,
            // the digest was the end; the unit agent still waits to hear that its answer is here
            _ => {}
        }
    }
    pending::<()>().await;
}

async fn give(input: &mpsc::Sender<Input>, frame: FileFrame) {
    let bytes = Bytes::from(encode(frame));
    // A unit agent that has refused takes nothing any more.
    let _ = input.send(Input::Data(bytes)).await;
}

/// How the unit agent answered.
#[derive(Debug, Default)]
struct Answered {
    /// What it said beside its answer.
    words: String,
    /// The digest came, which is the last of an answer.
    whole: bool,
}

/// Hands on the frames of the unit agent's answer, and tells it when all of it is here: until then it does not end.
///
/// # Errors
/// What it refused, or that its answer cannot be read.
async fn answers(
    mut output: mpsc::Receiver<Output>,
    to: &ToHub,
    as_frame: fn(FileFrame) -> Option<Frame>,
    input: mpsc::Sender<Input>,
) -> Result<Answered, pb::Error> {
    let (mut decoder, mut words) = (Decoder::default(), Vec::new());
    let mut whole = false;
    let mut refusal = None;
    while let Some(part) = output.recv().await {
        match part {
            Output::Stderr(bytes) => {
                let room = WORDS.saturating_sub(words.len()).min(bytes.len());
                words.extend_from_slice(&bytes[..room]);
            }
            // It reads to the end, so that the command ends by itself.
            Output::Stdout(_) if refusal.is_some() => {}
            Output::Stdout(bytes) => {
                decoder.push(&bytes);
                while let Some(frame) = decoder.frame().map_err(unreadable)? {
                    whole |= matches!(frame, FileFrame::Digest(_));
                    let last = whole || matches!(frame, FileFrame::Refused(_));
                    if let FileFrame::Refused(said) = frame {
                        refusal = Some(refused(&said.reason, said.message));
                    } else if let Some(frame) = as_frame(frame)
                        && !to.send(frame).await
                    {
                        return Ok(Answered {
                            whole: true,
                            ..Answered::default()
                        });
                    }
                    if last {
                        give(&input, FileFrame::Data(Bytes::new())).await;
                    }
                }
            }
        }
    }
    match refusal {
        Some(refusal) => Err(refusal),
        None => Ok(Answered {
            words: String::from_utf8_lossy(&words).trim().to_owned(),
            whole,
        }),
    }
}

fn unreadable(_: Malformed) -> pb::Error {
    refused(
        "FILES_UNSUPPORTED",
        "the unit agent of the pod does not answer in frames",
    )
}

/// What came of a file: what the unit agent refused says more than how it ended.
fn settle(
    ended: Result<i32, pb::Error>,
    answered: Result<Answered, pb::Error>,
) -> Result<(), pb::Error> {
    let Answered { words, whole } = answered?;
    match ended {
        Ok(0) if whole => Ok(()),
        Ok(0) => Err(refused("FILE_IO", "the answer of the unit agent was cut")),
        // Wrong usage: it knows no such subcommand.
        Ok(2) => Err(refused(
            "FILES_UNSUPPORTED",
            format!("the unit was started by an earlier version: {words}"),
        )),
        Ok(code) => Err(refused(
            "FILE_IO",
            format!("the unit agent ended with {code}: {words}"),
        )),
        Err(error) if error.reason == "COMMAND_NOT_STARTED" => Err(refused(
            "FILES_UNSUPPORTED",
            format!("no unit agent in the container: {}", error.message),
        )),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use upm_mesh::tunnel::{self, WINDOW};
    use upm_proto::unit::v1::FileRefusal;

    use super::*;

    /// What the hub hears, and how it ended.
    async fn said(parts: Vec<Output>) -> (Vec<Frame>, Result<Answered, pb::Error>) {
        let (sender, output) = mpsc::channel(1);
        let (wire, mut heard) = mpsc::channel(16);
        let (to, _from) = tunnel::ends(wire, |frame| frame, stream::pending(), WINDOW);
        let feed = async move {
            for part in parts {
                sender.send(part).await.unwrap();
            }
        };
        let (input, _fed) = mpsc::channel(1);
        let (answered, ()) = tokio::join!(answers(output, &to, of_read, input), feed);
        let mut frames = Vec::new();
        while let Ok(pb::Bytes { frame }) = heard.try_recv() {
            frames.extend(frame);
        }
        (frames, answered)
    }

    fn stdout(frame: FileFrame) -> Output {
        Output::Stdout(encode(frame).into())
    }

    #[tokio::test]
    async fn a_refusal_of_the_unit_agent_says_more_than_its_exit_code() {
        let refusal = FileFrame::Refused(FileRefusal {
            reason: "NO_SPACE".into(),
            message: "the volume is full".into(),
        });
        let data = FileFrame::Data(Bytes::from_static(b"x"));
        let (frames, answered) = said(vec![stdout(data), stdout(refusal)]).await;
        assert_eq!(frames, [Frame::Data(Bytes::from_static(b"x"))]);
        let error = settle(Ok(1), answered).unwrap_err();
        assert_eq!(error.reason, "NO_SPACE");
    }

    #[tokio::test]
    async fn answer_that_was_cut_is_no_file() {
        let data = FileFrame::Data(Bytes::from_static(b"x"));
        let (_, answered) = said(vec![stdout(data)]).await;
        assert_eq!(settle(Ok(0), answered).unwrap_err().reason, "FILE_IO");
    }

    #[tokio::test]
    async fn a_unit_of_an_earlier_version_is_said_to_be_so() {
        let usage = Output::Stderr(Bytes::from_static(
            b"error: unrecognized subcommand 'file'\n",
        ));
        let (_, answered) = said(vec![usage]).await;
        let error = settle(Ok(2), answered).unwrap_err();
        assert_eq!(error.reason, "FILES_UNSUPPORTED");
        assert!(error.message.contains("unrecognized"), "{}", error.message);
        let missing = refused("COMMAND_NOT_STARTED", "no such file");
        let error = settle(Err(missing), Ok(Answered::default())).unwrap_err();
        assert_eq!(error.reason, "FILES_UNSUPPORTED");
        let (_, answered) = said(vec![Output::Stdout(Bytes::from_static(&[0xff; 20]))]).await;
        assert_eq!(answered.unwrap_err().reason, "FILES_UNSUPPORTED");
    }
}
