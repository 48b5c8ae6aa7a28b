//! `file read PATH`, `file write PATH`: a file of the container on its way to or from the platform, as frames in standard output and input.
//!
//! The cluster's agent runs it in the container by `exec`, so it has the rights of the container's user and needs nothing of the image. A write
//! is there as a whole or not at all: the bytes go into a file beside the target, which takes its name only when the digest is right.

mod path;
mod read;
mod write;

use std::{
    io::{self, Read, Write},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::Duration,
};

use upm_proto::{
    file::{Decoder, encode},
    unit::v1::{FileRefusal, file_frame::Frame},
};

/// A write whose sender says nothing for so long is given up: the connection may be gone without a word.
const SILENCE: Duration = Duration::from_mins(2);
/// How long the answer may be on its way. When a command ends, the API server may cut what it printed last: so it ends when its reader has said
/// by any frame, or by the end of the input, that the answer is there.
const ANSWERED: Duration = Duration::from_secs(20);

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Its frames go to standard output.
    Read,
    /// Its frames come from standard input.
    Write,
}

/// Why a file is not read or written; [`FileRefusal`] has the reasons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refusal {
    /// UPPER_SNAKE.
    pub reason: &'static str,
    /// In words.
    pub message: String,
}

impl Refusal {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// What the system refuses.
    fn of(error: &io::Error, what: &str) -> Self {
        use io::ErrorKind;
        let reason = match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => "FILE_NOT_FOUND",
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "FILE_PERMISSION_DENIED",
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "NO_SPACE",
            ErrorKind::IsADirectory => "FILE_NOT_REGULAR",
            ErrorKind::InvalidFilename => "FILE_PATH_INVALID",
            _ => "FILE_IO",
        };
        Self::new(reason, format!("{what}: {error}"))
    }
}

/// Does what was asked, with this process's input and output. A refusal is in the output, and returned.
///
/// # Errors
/// See [`FileRefusal`].
pub fn run(verb: Verb, path: &str) -> Result<(), Refusal> {
    let mut out = io::stdout().lock();
    let frames = frames(io::stdin());
    let done = match verb {
        Verb::Read => read::read(path, &mut out),
        Verb::Write => write::write(path, || next(&frames, SILENCE), &mut out),
    };
    if let Err(refusal) = &done {
        let frame = Frame::Refused(FileRefusal {
            reason: refusal.reason.to_owned(),
            message: refusal.message.clone(),
        });
        // Whoever does not read it has the exit code.
        let _ = say(&mut out, frame);
    }
    while matches!(
        next(&frames, ANSWERED),
        Ok(Frame::Facts(_) | Frame::Digest(_))
    ) {}
    done
}

/// Writes a frame.
fn say(out: &mut impl Write, frame: Frame) -> Result<(), Refusal> {
    out.write_all(&encode(frame))
        .and_then(|()| out.flush())
        .map_err(|error| Refusal::of(&error, "answer"))
}

/// Frames from an input, read by a thread of its own so that waiting for them has an end. It ends with the input or the process.
fn frames(mut input: impl Read + Send + 'static) -> Receiver<Result<Frame, Refusal>> {
    let (sender, frames) = sync_channel(2);
    std::thread::spawn(move || {
        let (mut decoder, mut chunk) = (Decoder::default(), vec![0; 64 * 1024]);
        loop {
            let read = match input.read(&mut chunk) {
                Ok(0) => return,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let _ = sender.send(Err(Refusal::of(&error, "standard input")));
                    return;
                }
            };
            decoder.push(&chunk[..read]);
            loop {
                let frame = match decoder.frame() {
                    Ok(Some(frame)) => Ok(frame),
                    Ok(None) => break,
                    Err(error) => Err(Refusal::new("FILE_IO", error.to_string())),
                };
                let over = frame.is_err();
                if sender.send(frame).is_err() || over {
                    return;
                }
            }
        }
    });
    frames
}

/// The next frame of a write.
fn next(frames: &Receiver<Result<Frame, Refusal>>, within: Duration) -> Result<Frame, Refusal> {
    let incomplete = |why| Err(Refusal::new("FILE_INCOMPLETE", why));
    match frames.recv_timeout(within) {
        Ok(frame) => frame,
        Err(RecvTimeoutError::Disconnected) => incomplete("the bytes ended before the digest"),
        Err(RecvTimeoutError::Timeout) => incomplete("nothing has come for too long"),
    }
}

#[cfg(test)]
mod tests;
