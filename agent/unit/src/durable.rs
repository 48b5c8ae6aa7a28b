//! Files that are there, whole, after a power loss.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a file so that after any crash either the old or the new content is there: written beside, synced, renamed, directory synced.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let directory = path
        .parent()
        .ok_or_else(|| std::io::Error::other("a file needs a directory"))?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
    }
    std::fs::rename(&beside, path)?;
    std::fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn replaces_the_whole_file_with_the_given_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("member.json");
        replace(&path, b"a long first text", 0o600).unwrap();
        replace(&path, b"second", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
