//! The twin of Redis inside the process.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::Error;

const CAPACITY: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct InProcess {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<String, Entry>,
    by_end: BTreeSet<(Instant, String)>,
}

#[derive(Debug)]
struct Entry {
    value: Vec<u8>,
    end: Instant,
}

impl InProcess {
    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.fresh()
            .by_key
            .get(key)
            .map(|entry| entry.value.clone())
    }

    pub(super) fn set(&self, key: &str, value: &[u8], ttl: Duration) {
        self.fresh().put(key, value.to_vec(), end_after(ttl));
    }

    pub(super) fn del(&self, key: &str) -> bool {
        self.fresh().remove(key).is_some()
    }

    pub(super) fn incr(&self, key: &str, ttl: Duration) -> Result<i64, Error> {
        let mut entries = self.fresh();
        let (count, end) = match entries.by_key.get(key) {
            None => (0, end_after(ttl)),
            Some(entry) => (integer(&entry.value)?, entry.end),
        };
        let next = count + 1;
        entries.put(key, next.to_string().into_bytes(), end);
        Ok(next)
    }

    pub(super) fn decr(&self, key: &str) -> Result<(), Error> {
        let mut entries = self.fresh();
        let Some(entry) = entries.by_key.get(key) else {
            return Ok(());
        };
        let (count, end) = (integer(&entry.value)?, entry.end);
        entries.put(key, (count - 1).max(0).to_string().into_bytes(), end);
        Ok(())
    }

    pub(super) fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Duration,
    ) -> bool {
        let mut entries = self.fresh();
        if entries.by_key.get(key).map(|entry| entry.value.as_slice()) != expected {
            return false;
        }
        entries.put(key, value.to_vec(), end_after(ttl));
        true
    }

    /// The entries without those that have ended.
    fn fresh(&self) -> MutexGuard<'_, Entries> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while entries.by_end.first().is_some_and(|(end, _)| *end <= now) {
            entries.remove_soonest();
        }
        entries
    }
}

impl Entries {
    fn put(&mut self, key: &str, value: Vec<u8>, end: Instant) {
        self.remove(key);
        if CAPACITY <= self.by_key.len() {
            self.remove_soonest();
        }
        self.by_end.insert((end, key.to_owned()));
        self.by_key.insert(key.to_owned(), Entry { value, end });
    }

    fn remove(&mut self, key: &str) -> Option<Entry> {
        let (key, entry) = self.by_key.remove_entry(key)?;
        self.by_end.remove(&(entry.end, key));
        Some(entry)
    }

    fn remove_soonest(&mut self) {
        if let Some((_, key)) = self.by_end.pop_first() {
            self.by_key.remove(&key);
        }
    }
}

fn integer(value: &[u8]) -> Result<i64, Error> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse::<i64>().ok())
        .ok_or_else(|| Error::Cache("the value is not an integer".to_owned()))
}

fn end_after(ttl: Duration) -> Instant {
    Instant::now() + ttl.max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_soonest_makes_room() {
        let cache = InProcess::default();
        cache.set("soon", b"1", Duration::from_mins(1));
        for n in 0..CAPACITY {
            cache.set(&format!("later {n}"), b"1", Duration::from_hours(1));
        }
        assert_eq!(cache.get("soon"), None);
        assert_eq!(cache.get("later 0").as_deref(), Some(&b"1"[..]));
        assert_eq!(cache.fresh().by_key.len(), CAPACITY);
        assert_eq!(cache.fresh().by_end.len(), CAPACITY);
    }
}
