//! The table of one enum.

use std::collections::HashMap;

use prost_reflect::EnumDescriptor;

/// An enum of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EnumId(pub(crate) u32);

/// Numbers below this are looked up by index.
const DENSE: i32 = 256;

#[derive(Debug)]
pub(crate) struct EnumTable {
    pub(crate) descriptor: EnumDescriptor,
    /// `google.protobuf.NullValue`, which is `null` in JSON.
    pub(crate) null: bool,
    by_name: HashMap<Box<str>, i32>,
    /// The names as JSON strings, by number.
    dense: Vec<Option<Box<str>>>,
    sparse: HashMap<i32, Box<str>>,
}

impl EnumTable {
    pub(crate) fn new(descriptor: &EnumDescriptor) -> Self {
        let mut table = Self {
            descriptor: descriptor.clone(),
            null: descriptor.full_name() == "google.protobuf.NullValue",
            by_name: HashMap::new(),
            dense: Vec::new(),
            sparse: HashMap::new(),
        };
        for value in descriptor.values() {
            table.by_name.insert(value.name().into(), value.number());
            let quoted = || format!("\"{}\"", value.name()).into_boxed_str();
            match usize::try_from(value.number()) {
                Ok(index) if value.number() < DENSE => {
                    if table.dense.len() <= index {
                        table.dense.resize(index + 1, None);
                    }
                    table.dense[index].get_or_insert_with(quoted);
                }
                _ => {
                    table.sparse.entry(value.number()).or_insert_with(quoted);
                }
            }
        }
        table
    }

    /// The name of a number as a JSON string; the first one when it has aliases.
    pub(crate) fn quoted(&self, number: i32) -> Option<&str> {
        match usize::try_from(number) {
            Ok(index) if number < DENSE => self.dense.get(index)?.as_deref(),
            _ => self.sparse.get(&number).map(|name| &**name),
        }
    }

    pub(crate) fn number(&self, name: &str, any_case: bool) -> Option<i32> {
        let exact = self.by_name.get(name);
        let found = match exact {
            None if any_case => {
                let mut names = self.by_name.iter();
                names
                    .find(|(known, _)| known.eq_ignore_ascii_case(name))
                    .map(|(_, number)| number)
            }
            exact => exact,
        };
        found.copied()
    }
}
