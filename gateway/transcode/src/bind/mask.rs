//! The update mask of a PATCH, derived from what the body holds.

use bytes::BytesMut;

use crate::{tables::message::Field, wire};

/// Collects the paths of the leaves that a JSON body sets. Maps, repeated fields and well-known types are leaves as
/// a whole; an empty object is a leaf itself; `null` counts, for it clears.
#[derive(Debug, Default)]
pub(crate) struct Mask {
    prefix: String,
    /// For each message entered: length of the prefix before, number of paths before.
    entered: Vec<(usize, usize)>,
    paths: Vec<String>,
    without: Vec<String>,
}

impl Mask {
    /// A mask that leaves out these paths.
    pub(crate) fn without(without: Vec<String>) -> Self {
        Self {
            without,
            ..Self::default()
        }
    }

    fn add(&mut self, path: String) {
        if !self.without.contains(&path) {
            self.paths.push(path);
        }
    }

    pub(crate) fn leaf(&mut self, name: &str) {
        self.add(format!("{}{name}", self.prefix));
    }

    pub(crate) fn enter(&mut self, name: &str) {
        self.entered.push((self.prefix.len(), self.paths.len()));
        self.prefix.push_str(name);
        self.prefix.push('.');
    }

    pub(crate) fn leave(&mut self) {
        let Some((length, paths)) = self.entered.pop() else {
            return;
        };
        if paths == self.paths.len() {
            let path = self.prefix.trim_end_matches('.').to_owned();
            self.add(path);
        }
        self.prefix.truncate(length);
    }

    /// Writes the mask as the value of `field`; nothing when it has no paths.
    pub(crate) fn put(&self, field: &Field, out: &mut BytesMut) {
        if self.paths.is_empty() {
            return;
        }
        out.extend_from_slice(field.tag());
        let start = wire::open(out);
        for path in &self.paths {
            wire::put_bytes_field(out, 1, path.as_bytes());
        }
        wire::close(out, start);
    }
}
