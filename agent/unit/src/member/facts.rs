//! What a start of the server found, and the positions that are recorded for the next one.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::record::Role;
use super::store::Store;
use crate::info::Info;

/// What a start of the server found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartFacts {
    /// The append-only file was there and held all data of the last run.
    pub aof_existed: bool,
    /// The machine was restarted, or the volume moved, since the last run, which was neither shut down cleanly nor had every write on
    /// the disk before it answered.
    pub host_restarted: bool,
    /// A primary's grant was on the volume, without a newer promise.
    pub was_primary: bool,
    /// The last recorded position.
    pub position: Position,
}

/// A position, recorded once a second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The replication id.
    pub replid: String,
    /// Bytes.
    pub offset: i64,
    /// Keys in all databases.
    pub keys: i64,
}

const POSITION: &str = ".upm/position.json";

impl StartFacts {
    /// Looks at the volume before a start. Blocking.
    pub fn look(data: &Path, store: &Store, boot_id: &str) -> Self {
        let record = store.get();
        let files = data.join("appendonlydir");
        remove_leftovers(data);
        remove_leftovers(&files);
        let manifest = files.join("appendonly.aof.manifest").exists();
        Self {
            // after a full copy Redis keeps the file of the data before until the new one is whole; what was written meanwhile is in a
            // temporary file that no start reads
            aof_existed: manifest && record.aof_current && !unfinished(&files),
            host_restarted: !record.boot_id.is_empty()
                && record.boot_id != boot_id
                && !record.clean_shutdown
                && !record.synced_writes,
            was_primary: record.grant.as_ref().is_some_and(|grant| {
                grant.role == Role::Primary && grant.epoch == record.promised_epoch
            }),
            position: Position::read(data),
        }
    }
}

/// Whether a rewrite that began after a full copy was not finished; removes its leftovers.
fn unfinished(files: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(files) else {
        return false;
    };
    let mut found = false;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("temp-") && name.to_string_lossy().ends_with(".incr")
        {
            found = true;
            if let Err(error) = std::fs::remove_file(entry.path()) {
                tracing::warn!(%error, "a leftover of an unfinished rewrite stays");
            }
        }
    }
    found
}

/// Removes files that a rewrite, a snapshot or a copy left when a kill cut it off: no start reads them, and each may be as large as the data. No
/// server runs at this moment.
fn remove_leftovers(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if is_leftover(&entry.file_name().to_string_lossy())
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(%error, path = %entry.path().display(), "a leftover of a process that was killed stays");
        }
    }
}

/// The names that Redis gives: `temp-rewriteaof-PID.aof`, `temp-rewriteaof-bg-PID.aof`, `temp-PID.rdb`, `temp-TIME.PID.rdb`. Nothing else may go.
fn is_leftover(name: &str) -> bool {
    let numbers = |text: &str, also: &[u8]| {
        text.bytes().any(|byte| byte.is_ascii_digit())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || also.contains(&byte))
    };
    let Some(rest) = name.strip_prefix("temp-") else {
        return false;
    };
    if let Some(process) = rest.strip_suffix(".aof") {
        let process = process.strip_prefix("rewriteaof-");
        return process.is_some_and(|p| numbers(p.strip_prefix("bg-").unwrap_or(p), b""));
    }
    rest.strip_suffix(".rdb")
        .is_some_and(|process| numbers(process, b"."))
}

impl Position {
    /// The last one that was recorded.
    pub fn read(data: &Path) -> Self {
        std::fs::read(data.join(POSITION))
            .ok()
            .and_then(|content| serde_json::from_slice(&content).ok())
            .unwrap_or_default()
    }

    /// Where a server is.
    pub fn of(info: &Info) -> Self {
        Self {
            replid: info.replid.clone(),
            offset: info.offset,
            keys: info.keys,
        }
    }

    /// Records it, on the disk before this returns. Written after the append-only file was synced, it says what at least is on this disk
    /// whatever happens to the machine. Blocking.
    pub fn write(&self, data: &Path) -> std::io::Result<()> {
        let content = serde_json::to_vec(self).map_err(std::io::Error::other)?;
        crate::durable::replace(&data.join(POSITION), &content, 0o600)
    }
}

/// Whether the server says with this line that its append-only file lacks something that it may have answered for.
pub fn append_failed(line: &str) -> bool {
    [
        "Error writing to the AOF file",
        "Short write while writing to the AOF file",
        "Can't recover from AOF write error",
        "Fail to fsync the AOF file",
        "Can't persist AOF for fsync error",
    ]
    .iter()
    .any(|said| line.contains(said))
}

/// Whether a server with this configuration has every write on the disk before it answers.
pub fn syncs_writes(rendered: &str) -> bool {
    rendered.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("appendfsync") && words.next() == Some("always")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusts_the_append_only_file_only_when_it_was_current() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(&data.path().join(".upm")).unwrap();
        let files = data.path().join("appendonlydir");
        std::fs::create_dir(&files).unwrap();
        assert!(
            !StartFacts::look(data.path(), &store, "b").aof_existed,
            "there is none"
        );
        std::fs::write(files.join("appendonly.aof.manifest"), "").unwrap();
        assert!(
            !StartFacts::look(data.path(), &store, "b").aof_existed,
            "it was not known to be current"
        );
        store.update(|record| record.aof_current = true).unwrap();
        assert!(StartFacts::look(data.path(), &store, "b").aof_existed);
        std::fs::write(files.join("temp-appendonly.aof.incr"), "").unwrap();
        assert!(
            !StartFacts::look(data.path(), &store, "b").aof_existed,
            "a rewrite after a full copy was not finished"
        );
    }

    #[test]
    fn a_start_removes_what_a_killed_rewrite_left_and_nothing_else() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(&data.path().join(".upm")).unwrap();
        let files = data.path().join("appendonlydir");
        std::fs::create_dir(&files).unwrap();
        let gone = [
            "temp-rewriteaof-12.aof",
            "temp-rewriteaof-bg-13.aof",
            "temp-14.rdb",
            "temp-1767225600.15.rdb",
        ];
        let kept = [
            "dump.rdb",
            "appendonly.aof.1.base.rdb",
            "appendonly.aof.1.incr.aof",
            "temp-of-mine.rdb",
            "temp-rewriteaof-.aof",
            "temp-1.rdb.keep",
        ];
        for folder in [data.path(), &files] {
            for name in gone.iter().chain(&kept) {
                std::fs::write(folder.join(name), "x").unwrap();
            }
        }
        StartFacts::look(data.path(), &store, "b");
        for folder in [data.path(), &files] {
            assert!(gone.iter().all(|name| !folder.join(name).exists()));
            assert!(kept.iter().all(|name| folder.join(name).exists()));
        }
    }

    #[test]
    fn notices_another_run_of_the_machine() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(&data.path().join(".upm")).unwrap();
        assert!(
            !StartFacts::look(data.path(), &store, "b").host_restarted,
            "the first start ever"
        );
        store
            .update(|record| record.boot_id = "a".to_owned())
            .unwrap();
        assert!(StartFacts::look(data.path(), &store, "b").host_restarted);
        assert!(!StartFacts::look(data.path(), &store, "a").host_restarted);
        store.update(|record| record.clean_shutdown = true).unwrap();
        assert!(
            !StartFacts::look(data.path(), &store, "b").host_restarted,
            "a clean shutdown synced everything"
        );
    }
}
