//! The keys that a map already has.

use std::{borrow::Cow, collections::HashSet};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key<'a> {
    /// Integers and booleans, as 64 bits.
    Bits(u64),
    Text(Cow<'a, str>),
}

/// Few keys are compared one by one; many go into a set.
#[derive(Debug, Default)]
pub(crate) struct Keys<'a> {
    few: Vec<Key<'a>>,
    many: HashSet<Key<'a>>,
}

const FEW: usize = 16;

impl<'a> Keys<'a> {
    /// Adds a key; false when it is there already.
    pub(crate) fn add(&mut self, key: Key<'a>) -> bool {
        if self.many.is_empty() {
            if self.few.contains(&key) {
                return false;
            }
            self.few.push(key);
            if self.few.len() > FEW {
                self.many = self.few.drain(..).collect();
            }
            return true;
        }
        self.many.insert(key)
    }
}
