//! `file write PATH`.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use sha2::{Digest as _, Sha256};
use upm_proto::unit::v1::{FileDigest, FileFacts, file_frame::Frame};

use super::{Refusal, path, say};

/// Mode of a new file when none is asked for.
const MODE: u32 = 0o644;
/// So much is synced as it comes: the disk holds back the sender, and the last sync is short.
const SYNCED: u64 = 64 << 20;
/// The part of a writer that has ended may be renamed or removed between opening and locking it; that often it is not.
const TRIES: usize = 8;

/// Writes a file from frames: facts, data, digest. Answers with facts when it takes the bytes, with the digest when the file has its name.
pub(super) fn write(
    path: &str,
    mut next: impl FnMut() -> Result<Frame, Refusal>,
    out: &mut impl Write,
) -> Result<(), Refusal> {
    let Frame::Facts(facts) = next()? else {
        return Err(unexpected());
    };
    let target = Target::of(path::checked(path)?, &facts)?;
    let mut part = Part::open(&target.path)?;
    let taken = FileFacts {
        mode: target.mode,
        ..facts
    };
    say(out, Frame::Facts(taken))?;
    let (mut digest, mut size, mut synced) = (Sha256::new(), 0_u64, 0_u64);
    let announced = loop {
        match next()? {
            Frame::Data(bytes) => {
                part.file
                    .write_all(&bytes)
                    .map_err(|error| part.failed(&error))?;
                digest.update(&bytes);
                size += bytes.len() as u64;
                if size - synced >= SYNCED {
                    part.file.sync_data().map_err(|error| part.failed(&error))?;
                    synced = size;
                }
            }
            Frame::Digest(announced) => break announced,
            Frame::Facts(_) | Frame::Refused(_) => return Err(unexpected()),
        }
    };
    let digest = FileDigest {
        sha256: digest.finalize().to_vec().into(),
        size,
    };
    if announced != digest || facts.size.is_some_and(|said| said != size) {
        return Err(Refusal::new(
            "FILE_CHECKSUM_MISMATCH",
            format!("{size} bytes came, and they are not those that were announced"),
        ));
    }
    part.take_name_of(&target)?;
    say(out, Frame::Digest(digest))
}

fn unexpected() -> Refusal {
    Refusal::new("FILE_IO", "facts, data, digest are expected, in this order")
}

/// What is to be there.
struct Target {
    /// Behind symbolic links.
    path: PathBuf,
    mode: u32,
}

impl Target {
    fn of(path: &Path, facts: &FileFacts) -> Result<Self, Refusal> {
        let wanted = match facts.mode & 0o777 {
            0 => MODE,
            mode => mode,
        };
        let shown = path.display().to_string();
        match fs::metadata(path) {
            Ok(present) if !present.is_file() => Err(path::not_regular(path)),
            Ok(present) => Ok(Self {
                path: fs::canonicalize(path).map_err(|error| Refusal::of(&error, &shown))?,
                mode: present.permissions().mode() & 0o777,
            }),
            // A link that leads nowhere is no place for a file.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && fs::symlink_metadata(path).is_err() =>
            {
                Ok(Self {
                    path: path.to_owned(),
                    mode: wanted,
                })
            }
            Err(error) => Err(Refusal::of(&error, &shown)),
        }
    }
}

/// The file beside the target, locked by its writer. Removed when dropped, unless it has taken the target's name. One of a writer that was killed
/// is taken over by the next write to the same target.
struct Part {
    file: File,
    path: PathBuf,
    is_placed: bool,
}

impl Part {
    fn open(target: &Path) -> Result<Self, Refusal> {
        let path = beside(target);
        let failed = |error: &io::Error| Refusal::of(error, &path.display().to_string());
        for _ in 0..TRIES {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(O_NOFOLLOW | O_NONBLOCK)
                .open(&path)
                .map_err(|error| failed(&error))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let message = format!("{} is being written", target.display());
                    return Err(Refusal::new("FILE_BUSY", message));
                }
                Err(TryLockError::Error(error)) => return Err(failed(&error)),
            }
            let own = file.metadata().map_err(|error| failed(&error))?;
            if !own.is_file() {
                return Err(path::not_regular(&path));
            }
            // Its last writer may have given it another name before it let go of the lock.
            let is_it = fs::symlink_metadata(&path)
                .is_ok_and(|now| (now.dev(), now.ino()) == (own.dev(), own.ino()));
            if is_it {
                file.set_len(0).map_err(|error| failed(&error))?;
                return Ok(Self {
                    file,
                    path,
                    is_placed: false,
                });
            }
        }
        let message = format!("{} is being written", target.display());
        Err(Refusal::new("FILE_BUSY", message))
    }

    fn failed(&self, error: &io::Error) -> Refusal {
        Refusal::of(error, &self.path.display().to_string())
    }

    /// Makes it the target, so that after any crash either the old or the new file is there.
    fn take_name_of(mut self, target: &Target) -> Result<(), Refusal> {
        let folder = target.path.parent().unwrap_or(Path::new("/"));
        self.file
            .set_permissions(Permissions::from_mode(target.mode))
            .and_then(|()| self.file.sync_all())
            .and_then(|()| fs::rename(&self.path, &target.path))
            .map_err(|error| self.failed(&error))?;
        self.is_placed = true;
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| self.failed(&error))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_placed {
            // It is locked, so it is nobody else's.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A name beside a target that fits whatever the target's length is.
fn beside(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default();
    let digest = Sha256::digest(name.as_encoded_bytes());
    target.with_file_name(format!(".upm-part-{}", hex::encode(&digest[..8])))
}
