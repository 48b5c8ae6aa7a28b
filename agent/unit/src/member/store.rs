//! The record on the data volume.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::record::Record;
use crate::durable;

/// The record, in memory and on the volume.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    record: Mutex<Record>,
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
}

impl Store {
    /// Opens the record in a directory of the volume; both are made when absent.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let volume = |source| Error::Volume {
            path: directory.into(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(volume)?;
        let path = directory.join("member.json");
        let record = match std::fs::read(&path) {
            Ok(content) => serde_json::from_slice(&content)
                .map_err(|source| Error::Damaged { path, source })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Record::default(),
            Err(source) => return Err(Error::Volume { path, source }),
        };
        Ok(Self {
            directory: directory.to_owned(),
            record: Mutex::new(record),
        })
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
        if next != *record {
            let path = self.directory.join("member.json");
            let content = serde_json::to_vec_pretty(&next).map_err(|source| Error::Damaged {
                path: path.clone(),
                source,
            })?;
            durable::replace(&path, &content, 0o600)
                .map_err(|source| Error::Volume { path, source })?;
            *record = next.clone();
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_across_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.update(|record| record.promised_epoch = 7).unwrap();
        assert_eq!(
            Store::open(directory.path()).unwrap().get().promised_epoch,
            7
        );
    }

    #[test]
    fn does_not_start_over_a_damaged_record() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("member.json"), b"{\"promised").unwrap();
        assert!(matches!(
            Store::open(directory.path()),
            Err(Error::Damaged { .. })
        ));
    }
}
