//! `upm agent cp`: a file of a unit to here, or the other way. Either end has the whole file or the old one, never a part.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use upm_proto::{
    file::CHUNK,
    hub::v1::{
        ReadUnitFileRequest, WriteStart, WriteUnitFileRequest, read_unit_file_response,
        write_unit_file_request::Part as Up, write_unit_file_response::Part as Down,
    },
    unit::v1::{FileDigest, FileFacts},
};

use super::{
    Client, name,
    place::{End, Pod},
};

/// What to copy, and where to.
#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// Id of the agent.
    agent: String,
    /// `NAMESPACE/POD:PATH` with an absolute path, or a file here.
    from: End,
    /// The other one.
    to: End,
    /// Container; the main one when not given.
    #[arg(long, short, default_value = "")]
    container: String,
}

/// A file of a unit.
struct Remote {
    agent: String,
    pod: Pod,
    container: String,
    path: String,
}

/// Copies.
pub(super) async fn run(client: Client, copy: Copy) -> anyhow::Result<()> {
    let remote = |pod, path| Remote {
        agent: name(&copy.agent),
        pod,
        container: copy.container.clone(),
        path,
    };
    match (copy.from, copy.to) {
        (End::Unit(pod, path), End::Local(here)) => fetch(client, remote(pod, path), &here).await,
        (End::Local(here), End::Unit(pod, path)) => bring(client, &here, remote(pod, path)).await,
        _ => bail!("exactly one end is NAMESPACE/POD:PATH"),
    }
}

/// Into a unit.
async fn bring(mut client: Client, here: &Path, there: Remote) -> anyhow::Result<()> {
    let shown = || here.display().to_string();
    let file = File::open(here).with_context(shown)?;
    let metadata = file.metadata().with_context(shown)?;
    ensure!(metadata.is_file(), "{} is not a regular file", shown());
    let facts = FileFacts {
        size: Some(metadata.len()),
        mode: metadata.permissions().mode() & 0o777,
    };
    let (parts, request) = mpsc::channel(4);
    let start = WriteStart {
        name: there.agent,
        namespace: there.pod.namespace,
        pod: there.pod.name,
        container: there.container,
        path: there.path,
        facts: Some(facts),
    };
    parts.send(up(Up::Start(start))).await?;
    let mut answer = client
        .write_unit_file(ReceiverStream::new(request))
        .await?
        .into_inner();
    // On the blocking pool: it ends with the file, or when nobody takes its parts.
    let sending = tokio::task::spawn_blocking(move || send(file, &parts));
    let mut written = None;
    while let Some(part) = answer.message().await? {
        if let Some(Down::Digest(digest)) = part.part {
            written = Some(digest);
        }
    }
    let sent = sending.await?.with_context(shown)?;
    ensure!(written == Some(sent), "the unit does not confirm the file");
    Ok(())
}

fn up(part: Up) -> WriteUnitFileRequest {
    WriteUnitFileRequest { part: Some(part) }
}

/// Sends a file and its digest.
fn send(mut file: File, parts: &mpsc::Sender<WriteUnitFileRequest>) -> io::Result<FileDigest> {
    let (mut digest, mut chunk) = (Digest::default(), vec![0; CHUNK]);
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => {
                digest.add(&chunk[..read]);
                let part = Up::Data(chunk[..read].to_vec().into());
                parts.blocking_send(up(part)).map_err(gone)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let digest = digest.end();
    let last = up(Up::Digest(digest.clone()));
    parts.blocking_send(last).map_err(gone)?;
    Ok(digest)
}

/// Out of a unit.
async fn fetch(mut client: Client, there: Remote, here: &Path) -> anyhow::Result<()> {
    use read_unit_file_response::Part;
    let request = ReadUnitFileRequest {
        name: there.agent,
        namespace: there.pod.namespace,
        pod: there.pod.name,
        container: there.container,
        path: there.path.clone(),
    };
    let mut answer = client.read_unit_file(request).await?.into_inner();
    // As `cp` does it: into a folder under the file's own name.
    let target = if here.is_dir() {
        here.join(there.path.rsplit('/').next().unwrap_or_default())
    } else {
        here.to_owned()
    };
    let mut part = PartFile::beside(&target)?;
    let (mut digest, mut announced, mut mode) = (Digest::default(), None, 0o600);
    while let Some(piece) = answer.message().await? {
        match piece.part {
            Some(Part::Facts(facts)) => mode = facts.mode & 0o777,
            Some(Part::Data(bytes)) => {
                digest.add(&bytes);
                part.file.write_all(&bytes)?;
            }
            Some(Part::Digest(digest)) => announced = Some(digest),
            None => bail!("the platform is newer than this program"),
        }
    }
    let announced = announced.context("the connection ended before the file")?;
    ensure!(
        announced == digest.end(),
        "the bytes that came are not those of the file"
    );
    part.place(&target, mode)
}

/// What bytes come to.
#[derive(Default)]
struct Digest {
    sha256: Sha256,
    size: u64,
}

impl Digest {
    fn add(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn end(self) -> FileDigest {
        FileDigest {
            sha256: self.sha256.finalize().to_vec().into(),
            size: self.size,
        }
    }
}

/// A file beside its target; removed unless it was placed.
struct PartFile {
    file: File,
    path: PathBuf,
    is_placed: bool,
}

impl PartFile {
    fn beside(target: &Path) -> anyhow::Result<Self> {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().context("a file has a name")?);
        // Of this process: two copies at once do not mix.
        name.push(format!(".upm-{}", std::process::id()));
        let path = target.with_file_name(name);
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        Ok(Self {
            file,
            path,
            is_placed: false,
        })
    }

    fn place(mut self, target: &Path, mode: u32) -> anyhow::Result<()> {
        self.file
            .set_permissions(fs::Permissions::from_mode(mode))?;
        self.file.sync_all()?;
        fs::rename(&self.path, target)?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_not_placed_leaves_the_old_file_and_no_rest() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        fs::write(&target, "old").unwrap();
        let mut part = PartFile::beside(&target).unwrap();
        part.file.write_all(b"new").unwrap();
        drop(part);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        let mut part = PartFile::beside(&target).unwrap();
        part.file.write_all(b"new").unwrap();
        part.place(&target, 0o640).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        let mode = fs::metadata(&target).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
