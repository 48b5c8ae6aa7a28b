//! A key that lies beside the store and not in it: 32 random bytes as 64 hexadecimal digits, in a file that only its owner can read.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Length of a key, in bytes.
pub const KEY_BYTES: usize = 32;

/// What a file holds.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// The key.
    pub key: [u8; KEY_BYTES],
    /// Whether the file was made just now, because there was none.
    pub made: bool,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyFile")
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}

/// Reads the file (mode 0600), or makes it with a new key. Blocks.
///
/// # Errors
/// In words, with the path: the file cannot be read or made, others may read it, or it holds no key.
pub fn open_or_make(file: &Path) -> Result<KeyFile, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", file.display());
    let mut options = std::fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut opened) => {
            let key: [u8; KEY_BYTES] = rand::random();
            opened
                .write_all(hex::encode(key).as_bytes())
                .map_err(failed)?;
            opened.sync_all().map_err(failed)?;
            Ok(KeyFile { key, made: true })
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let key = read(file, failed)?;
            Ok(KeyFile { key, made: false })
        }
        Err(error) => Err(failed(error)),
    }
}

fn read(file: &Path, failed: impl Fn(std::io::Error) -> String) -> Result<[u8; KEY_BYTES], String> {
    let mut opened = std::fs::File::open(file).map_err(&failed)?;
    let mode = opened.metadata().map_err(&failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "{}: mode {:o} lets others read it",
            file.display(),
            mode & 0o777
        ));
    }
    let mut text = String::new();
    opened.read_to_string(&mut text).map_err(&failed)?;
    hex::decode(text.trim())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| format!("{}: not a key file", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_made_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let made = open_or_make(&file).unwrap();
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!((made.made, mode & 0o777), (true, 0o600));
        let again = open_or_make(&file).unwrap();
        assert_eq!((again.made, again.key), (false, made.key));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open_or_make(&file).is_err(), "others can read it");
    }
}
