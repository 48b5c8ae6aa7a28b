//! Units that are played: Secrets, logs, a few commands, files that are a map.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use prost::{Message as _, bytes::Bytes};
use sha2::{Digest as _, Sha256};
use upm_proto::{
    hub::v1::{self as pb, bytes::Frame, open_tunnel::Purpose},
    unit::v1::{FileDigest, FileFacts},
};

use crate::tunnel::{FromHub, ToHub};

/// What the units of a cluster have, and what was done with them.
#[derive(Default)]
pub(super) struct Units {
    pub(super) files: Mutex<HashMap<String, Vec<u8>>>,
    /// Bytes that `yes` has printed.
    pub(super) printed: AtomicU64,
    /// Bytes that files were sent, also those that came to nothing.
    pub(super) received: AtomicU64,
    /// Tunnels that run.
    pub(super) running: AtomicUsize,
}

/// Counts a tunnel while it runs, however it ends.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(super) fn digest(bytes: &[u8]) -> FileDigest {
    FileDigest {
        sha256: Sha256::digest(bytes).to_vec().into(),
        size: bytes.len() as u64,
    }
}

fn error(reason: &str) -> pb::Error {
    pb::Error {
        reason: reason.into(),
        ..pb::Error::default()
    }
}

impl Units {
    pub(super) async fn serve(
        &self,
        purpose: Purpose,
        to: ToHub,
        from: FromHub,
    ) -> Result<(), pb::Error> {
        self.running.fetch_add(1, Ordering::SeqCst);
        let _counted = Counted(&self.running);
        match purpose {
            Purpose::ReadSecret(wanted) if wanted.name == "missing" => {
                Err(error("SECRET_NOT_FOUND"))
            }
            Purpose::ReadSecret(_) => {
                let data = [("default".to_owned(), Bytes::from("hunter2"))].into();
                let encoded = pb::SecretData { data }.encode_to_vec();
                to.send(Frame::Data(encoded.into())).await;
                Ok(())
            }
            Purpose::TailLog(log) => {
                for line in 0..log.tail_lines {
                    let data = Bytes::from(format!("{} {line}\n", log.pod));
                    to.send(Frame::Data(data)).await;
                }
                if log.follow {
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
            Purpose::Exec(exec) => self.exec(exec, to, from).await,
            Purpose::ReadFile(wanted) => self.read(&wanted.path, to).await,
            Purpose::WriteFile(wanted) => self.write(wanted.path, to, from).await,
        }
    }

    async fn exec(&self, exec: pb::Exec, to: ToHub, mut from: FromHub) -> Result<(), pb::Error> {
        if exec.namespace != "p" {
            return Err(error("DENIED_LOCAL_POLICY"));
        }
        if exec.command[0] == "nothing" {
            return Err(error("COMMAND_NOT_STARTED"));
        }
        to.send(Frame::Started(pb::CommandStarted {})).await;
        let exit = match exec.command[0].as_str() {
            // Says everything twice, the terminal's sizes too, and ends when its input does.
            "cat" => {
                loop {
                    match from.next().await {
                        Some(Ok(Frame::Data(bytes))) => {
                            to.send_all(bytes.clone(), Frame::Data).await;
                            to.send_all(bytes, Frame::Stderr).await;
                        }
                        Some(Ok(Frame::Resize(size))) => {
                            let said = format!("{}x{}", size.width, size.height);
                            to.send(Frame::Data(said.into())).await;
                        }
                        Some(Ok(Frame::InputEnd(_))) => break,
                        other => panic!("{other:?}"),
                    }
                }
                to.send(Frame::Data(Bytes::from_static(b"bye"))).await;
                7
            }
            "yes" => {
                let line = Bytes::from(vec![b'y'; 8 * 1024]);
                while to.send(Frame::Data(line.clone())).await {
                    self.printed.fetch_add(line.len() as u64, Ordering::SeqCst);
                }
                141
            }
            _ => std::future::pending().await,
        };
        to.send(Frame::Exit(pb::CommandExit { code: exit })).await;
        Ok(())
    }

    async fn read(&self, path: &str, to: ToHub) -> Result<(), pb::Error> {
        let found = self.files.lock().unwrap().get(path).cloned();
        let bytes = Bytes::from(found.ok_or_else(|| error("FILE_NOT_FOUND"))?);
        let facts = FileFacts {
            size: Some(bytes.len() as u64),
            mode: 0o644,
        };
        to.send(Frame::File(facts)).await;
        to.send_all(bytes.clone(), Frame::Data).await;
        to.send(Frame::Digest(digest(&bytes))).await;
        Ok(())
    }

    async fn write(&self, path: String, to: ToHub, mut from: FromHub) -> Result<(), pb::Error> {
        to.send(Frame::Started(pb::CommandStarted {})).await;
        let mut all = Vec::new();
        loop {
            match from.next().await {
                Some(Ok(Frame::Data(bytes))) => {
                    self.received
                        .fetch_add(bytes.len() as u64, Ordering::SeqCst);
                    all.extend_from_slice(&bytes);
                }
                Some(Ok(Frame::Digest(said))) if said == digest(&all) => {
                    self.files.lock().unwrap().insert(path, all);
                    to.send(Frame::Digest(said)).await;
                    return Ok(());
                }
                Some(Ok(Frame::Digest(_))) => return Err(error("FILE_CHECKSUM_MISMATCH")),
                _ => return Err(error("FILE_INCOMPLETE")),
            }
        }
    }
}
