//! `file read PATH`.

use std::{
    fs::OpenOptions,
    io::{Read, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
};

use nix::libc::O_NONBLOCK;
use sha2::{Digest as _, Sha256};
use upm_proto::{
    file::CHUNK,
    unit::v1::{FileDigest, FileFacts, file_frame::Frame},
};

use super::{Refusal, path, say};

/// Writes a file's frames to `out`: as much as it was long when it was opened, so that one that grows has an end.
pub(super) fn read(path: &str, out: &mut impl Write) -> Result<(), Refusal> {
    let path = path::checked(path)?;
    let shown = path.display().to_string();
    let failed = |error| Refusal::of(&error, &shown);
    // A pipe would wait for somebody at its other end.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(path::not_regular(path));
    }
    let size = metadata.len();
    let facts = FileFacts {
        size: Some(size),
        mode: metadata.permissions().mode() & 0o777,
    };
    say(out, Frame::Facts(facts))?;
    let (mut digest, mut left) = (Sha256::new(), size);
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let most = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
        let read = match file.read(&mut chunk[..most]) {
            Ok(0) => {
                let message = format!("{shown} has become shorter meanwhile");
                return Err(Refusal::new("FILE_CHANGED", message));
            }
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        digest.update(&chunk[..read]);
        left -= read as u64;
        say(out, Frame::Data(chunk[..read].to_vec().into()))?;
    }
    let digest = FileDigest {
        sha256: digest.finalize().to_vec().into(),
        size,
    };
    say(out, Frame::Digest(digest))
}
