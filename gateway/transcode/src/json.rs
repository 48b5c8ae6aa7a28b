//! proto3 JSON to wire bytes and back, in one pass each, by the tables.

pub(crate) mod from_wire;
mod keys;
pub(crate) mod number;
mod plain;
mod reader;
pub(crate) mod scalar;
pub(crate) mod to_wire;
pub(crate) mod well_known;

#[cfg(test)]
mod any_descriptor;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

/// How messages are written as JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JsonOptions {
    /// Write scalars without presence, repeated fields and maps also when they have their default.
    pub always_print_primitives: bool,
    /// Write enums as numbers instead of names.
    pub enums_as_numbers: bool,
    /// Write the field names of the proto file instead of the JSON names.
    pub proto_names: bool,
    /// Write an `Any` of an unknown type as its `@type` alone instead of failing.
    pub skip_unknown_any: bool,
}

/// The name of the message in a type URL.
pub(crate) fn type_name(url: &str) -> Option<&str> {
    url.rsplit_once('/')
        .map(|(_, name)| name)
        .filter(|name| !name.is_empty())
}
