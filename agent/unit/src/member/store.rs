//! The record on the data volume, and the lock that keeps a second agent off it.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::record::Record;
use crate::durable;

/// The record.
const RECORD: &str = "member.json";
/// There while the append-only file holds all data. It is removed before the record says so: removing needs no space on a full volume.
const WHOLE: &str = "append-only-whole";
/// Held locked while a unit agent uses the volume.
const LOCK: &str = "lock";
/// Space that is given up for the record when the volume is full.
const RESERVE: &str = "reserve";
/// Bytes: more than a record and its directory entry need.
const RESERVED: usize = 64 * 1024;

/// The record, in memory and on the volume.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    record: Mutex<Record>,
    /// Released when the store is dropped, or the process ends.
    _lock: File,
}

/// Why the record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The volume refuses.
    #[error("{path}: {source}")]
    Volume {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The content is not a record. A promise may be in it, so it is not passed over.
    #[error("{path}: {source}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Another unit agent uses the volume: two servers on one append-only file would destroy it.
    #[error("{0}: another unit agent uses this volume")]
    InUse(PathBuf),
}

impl Store {
    /// Opens the record in a directory of the volume; both are made when absent, and with them the member id. Blocking.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let volume = |source| Error::Volume {
            path: directory.into(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(volume)?;
        let lock = File::create(directory.join(LOCK)).map_err(volume)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse(directory.into())),
            Err(TryLockError::Error(source)) => return Err(volume(source)),
        }
        let record = Self::read(directory)?;
        let store = Self {
            directory: directory.to_owned(),
            record: Mutex::new(record),
            _lock: lock,
        };
        store.reserve();
        store.update(|record| {
            if record.member_id.is_empty() {
                record.member_id = crate::random_hex::<16>();
            }
            record.version = record.version.max(super::record::VERSION);
        })?;
        Ok(store)
    }

    /// The record as it is on a volume, without taking the volume. Blocking.
    pub fn read(directory: &Path) -> Result<Record, Error> {
        let path = directory.join(RECORD);
        let mut record: Record = match std::fs::read(&path) {
            Ok(content) => serde_json::from_slice(&content)
                .map_err(|source| Error::Damaged { path, source })?,
            Err(error) if error.kind() == ErrorKind::NotFound => Record::default(),
            Err(source) => return Err(Error::Volume { path, source }),
        };
        record.aof_current &= directory.join(WHOLE).exists();
        Ok(record)
    }

    /// The record as it is on the volume.
    pub fn get(&self) -> Record {
        self.record
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces the record if it is still `base`; returns whether it was. Blocking.
    pub fn swap(&self, base: &Record, next: Record) -> Result<bool, Error> {
        let mut held = false;
        self.update(|record| {
            held = record == base;
            if held {
                *record = next;
            }
        })?;
        Ok(held)
    }

    /// Changes the record: on the volume first, then in memory. Blocking.
    pub fn update(&self, change: impl FnOnce(&mut Record)) -> Result<Record, Error> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = record.clone();
        change(&mut next);
        if next == *record {
            return Ok(next);
        }
        let path = self.directory.join(RECORD);
        let content = serde_json::to_vec_pretty(&next).map_err(|source| Error::Damaged {
            path: path.clone(),
            source,
        })?;
        let volume = |source| Error::Volume {
            path: path.clone(),
            source,
        };
        if record.aof_current != next.aof_current {
            self.mark(next.aof_current).map_err(volume)?;
            // holds also when the rest of the change cannot be written
            record.aof_current &= next.aof_current;
        }
        match durable::replace(&path, &content, 0o600) {
            Err(error) if error.kind() == ErrorKind::StorageFull => {
                // the server fills whatever is free; what was kept back is for this
                let _ = std::fs::remove_file(self.directory.join(RESERVE));
                durable::replace(&path, &content, 0o600).map_err(volume)?;
                self.reserve();
            }
            outcome => outcome.map_err(volume)?,
        }
        *record = next.clone();
        Ok(next)
    }

    /// From now on the append-only file does not count as whole. Needs no space on the volume. Blocking.
    pub fn distrust_append_only(&self) {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.aof_current = false;
        if let Err(error) = self.mark(false) {
            tracing::error!(%error, "the append-only file still counts as whole");
        }
    }

    fn mark(&self, whole: bool) -> std::io::Result<()> {
        let path = self.directory.join(WHOLE);
        if whole {
            return File::create(path)?.sync_all();
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Keeps some space back; on a volume that is full already there is none to keep.
    fn reserve(&self) {
        let path = self.directory.join(RESERVE);
        let kept = std::fs::metadata(&path).is_ok_and(|file| file.len() == RESERVED as u64);
        if !kept && let Err(error) = std::fs::write(&path, vec![1; RESERVED]) {
            tracing::warn!(%error, "no space is kept back for the record");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_across_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let before = store
            .update(|record| (record.promised_epoch, record.aof_current) = (7, true))
            .unwrap();
        drop(store);
        assert_eq!(Store::open(directory.path()).unwrap().get(), before);
    }

    #[test]
    fn member_id_is_born_with_the_volume() {
        let id = |path: &Path| Store::open(path).unwrap().get().member_id;
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let born = id(one.path());
        assert_eq!(born.len(), 32);
        assert_eq!(id(one.path()), born);
        assert_ne!(id(other.path()), born);
    }

    #[test]
    fn second_agent_cannot_take_the_volume() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert!(matches!(
            Store::open(directory.path()),
            Err(Error::InUse(_))
        ));
        drop(store);
        assert!(Store::open(directory.path()).is_ok());
    }

    #[test]
    fn keeps_what_a_later_version_wrote() {
        let directory = tempfile::tempdir().unwrap();
        let record = br#"{"version": 9, "promised_epoch": 3, "grant": null, "quorum": [1]}"#;
        std::fs::write(directory.path().join(RECORD), record).unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.update(|record| record.promised_epoch = 4).unwrap();
        drop(store);
        let kept = Store::read(directory.path()).unwrap();
        assert_eq!((kept.version, kept.promised_epoch), (9, 4));
        assert_eq!(kept.unknown["quorum"], serde_json::json!([1]));
    }

    #[test]
    fn distrust_outlives_a_record_that_was_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.update(|record| record.aof_current = true).unwrap();
        store.distrust_append_only();
        drop(store);
        let content = std::fs::read_to_string(directory.path().join(RECORD)).unwrap();
        assert!(content.contains("\"aof_current\": true"), "{content}");
        assert!(!Store::open(directory.path()).unwrap().get().aof_current);
    }

    #[test]
    fn does_not_start_over_a_damaged_record() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(RECORD), b"{\"promised").unwrap();
        assert!(matches!(
            Store::open(directory.path()),
            Err(Error::Damaged { .. })
        ));
    }
}
