//! Descriptors compiled into flat tables, once, at load.

pub(crate) mod bits;
pub(crate) mod builtin;
pub(crate) mod enumeration;
pub(crate) mod message;
mod method;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::BytesMut;
use http::Method;
use prost_reflect::{
    DescriptorPool, MessageDescriptor, prost::Message as _, prost_types::FileDescriptorSet,
};

pub use self::method::MethodTable;
use self::{
    enumeration::{EnumId, EnumTable},
    message::{Field, Kind, MessageTable},
};
use crate::{
    HttpRule, JsonError, JsonOptions, Lint, LoadError, Options, RouteError, RouteId, RouteMatch,
    error::DecodeError,
    json::{from_wire, to_wire},
    lint,
    route::{Binding, compile, trie::Trie},
};

/// A message of the tables, as [`Tables::message`] finds it by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub(crate) u32);

/// What is decided at load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Rules that replace the annotation of the method they select; of several for one method the last wins.
    pub rules: Vec<HttpRule>,
    /// Decode `%2F` in variables of several segments too (the documented opt-out of the default).
    pub fully_decode_reserved_expansion: bool,
    /// How requests are bound when nothing else is said.
    pub bind: Options,
    /// How responses are written when nothing else is said.
    pub json: JsonOptions,
}

/// Everything that transcoding needs, made from one descriptor set. Immutable; share it behind an `Arc`.
#[derive(Debug)]
pub struct Tables {
    pool: DescriptorPool,
    pub(crate) messages: Vec<MessageTable>,
    pub(crate) enums: Vec<EnumTable>,
    message_ids: HashMap<String, MessageId>,
    methods: Vec<MethodTable>,
    method_ids: HashMap<String, usize>,
    bindings: Vec<Binding>,
    trie: Trie,
    lints: Vec<Lint>,
    options: LoadOptions,
    pub(crate) reordered: AtomicU64,
}

impl Tables {
    /// Compiles an encoded `FileDescriptorSet` (with its imports) with the default options.
    pub fn from_descriptor_set(bytes: &[u8]) -> Result<Self, LoadError> {
        Self::load(bytes, LoadOptions::default())
    }

    /// Compiles an encoded `FileDescriptorSet` (with its imports). Extensions in it are kept.
    pub fn load(bytes: &[u8], options: LoadOptions) -> Result<Self, LoadError> {
        refuse_other_syntax(bytes)?;
        Self::from_pool(DescriptorPool::decode(bytes)?, options)
    }

    /// Compiles the files of a pool. Well-known types and error details that it lacks are added.
    pub fn from_pool(mut pool: DescriptorPool, options: LoadOptions) -> Result<Self, LoadError> {
        builtin::complete(&mut pool);
        let message_ids: HashMap<_, _> = pool
            .all_messages()
            .enumerate()
            .map(|(id, message)| (message.full_name().to_owned(), MessageId(id as u32)))
            .collect();
        let enum_ids: HashMap<_, _> = pool
            .all_enums()
            .enumerate()
            .map(|(id, one)| (one.full_name().to_owned(), EnumId(id as u32)))
            .collect();
        let messages = pool
            .all_messages()
            .map(|message| MessageTable::new(message, &message_ids, &enum_ids))
            .collect();
        let enums = pool.all_enums().map(|one| EnumTable::new(&one)).collect();
        let methods: Vec<_> = pool
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .map(|method| MethodTable::new(method, &message_ids))
            .collect();
        let method_ids = methods
            .iter()
            .enumerate()
            .map(|(id, method)| (method.path().to_owned(), id))
            .collect();
        let mut tables = Self {
            pool,
            messages,
            enums,
            message_ids,
            methods,
            method_ids,
            bindings: Vec::new(),
            trie: Trie::default(),
            lints: Vec::new(),
            options,
            reordered: AtomicU64::new(0),
        };
        tables.bindings = compile::bindings(&tables, &tables.options.rules)?;
        tables.trie = Trie::new(&tables.bindings)?;
        for id in 0..tables.bindings.len() {
            let method = tables.bindings[id].method;
            tables.methods[method].routes.push(RouteId(id as u32));
        }
        tables.lints = lint::check(&tables);
        Ok(tables)
    }

    /// Finds the route for a request path (without the query, percent-encoded as it came). `HEAD` follows `GET`.
    pub fn route(&self, method: &Method, path: &str) -> Result<RouteMatch<'_>, RouteError> {
        crate::route::find(self, method, path)
    }

    /// The methods of all services, in the order of the descriptor set.
    pub fn methods(&self) -> &[MethodTable] {
        &self.methods
    }

    /// The method with this gRPC path, `/package.Service/Method`.
    pub fn method(&self, path: &str) -> Option<&MethodTable> {
        self.method_ids.get(path).map(|id| &self.methods[*id])
    }

    /// All routes, in the order in which the rules were read.
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// The route with this id.
    pub fn binding(&self, id: RouteId) -> &Binding {
        &self.bindings[id.0 as usize]
    }

    /// The method of a route.
    pub fn method_of(&self, binding: &Binding) -> &MethodTable {
        &self.methods[binding.method]
    }

    pub(crate) fn trie(&self) -> &Trie {
        &self.trie
    }

    /// What AIP-127 finds fault with. Nothing of it keeps the tables from working.
    pub fn lints(&self) -> &[Lint] {
        &self.lints
    }

    /// How many messages came in an unusual order since load and took the slow path to JSON.
    pub fn reordered(&self) -> u64 {
        self.reordered.load(Ordering::Relaxed)
    }

    /// What was decided at load.
    pub fn options(&self) -> &LoadOptions {
        &self.options
    }

    /// The descriptors the tables were made from, with the well-known types and error details that were added.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// The message with this full name, such as `google.rpc.Status`.
    pub fn message(&self, full_name: &str) -> Option<MessageId> {
        self.message_ids.get(full_name).copied()
    }

    /// The descriptor of a message.
    pub fn descriptor(&self, id: MessageId) -> &MessageDescriptor {
        &self.table(id).descriptor
    }

    pub(crate) fn table(&self, id: MessageId) -> &MessageTable {
        &self.messages[id.0 as usize]
    }

    pub(crate) fn enumeration(&self, id: EnumId) -> &EnumTable {
        &self.enums[id.0 as usize]
    }

    /// Whether a JSON `null` is a value of this kind instead of an absent one.
    pub(crate) fn takes_null(&self, kind: Kind) -> bool {
        match kind {
            Kind::Message(id) => self.table(id).known == Some(message::Known::Value),
            Kind::Enum(id) => self.enumeration(id).null,
            _ => false,
        }
    }

    pub(crate) fn map_entry(&self, field: &Field) -> Option<(&Field, &Field)> {
        let Kind::Message(id) = field.kind else {
            return None;
        };
        let entry = self.table(id);
        Some((entry.field(1)?.1, entry.field(2)?.1))
    }

    /// Appends the wire form of a JSON text to `out`. On an error `out` is left as it was.
    pub fn json_to_wire(
        &self,
        message: MessageId,
        json: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), JsonError> {
        let start = out.len();
        to_wire::message(self, message, json, &self.options.bind, out)
            .inspect_err(|_| out.truncate(start))
    }

    /// Appends the JSON form of wire bytes to `out`. On an error `out` is left as it was.
    pub fn wire_to_json(
        &self,
        message: MessageId,
        wire: &[u8],
        out: &mut Vec<u8>,
        options: &JsonOptions,
    ) -> Result<(), DecodeError> {
        let start = out.len();
        from_wire::message(self, message, wire, *options, out).inspect_err(|_| out.truncate(start))
    }

    /// Appends the JSON form of a route's response message, or of the field that its `response_body` names.
    pub fn decode_response(
        &self,
        route: RouteId,
        wire: &[u8],
        out: &mut Vec<u8>,
        options: &JsonOptions,
    ) -> Result<(), DecodeError> {
        let binding = self.binding(route);
        let output = self.method_of(binding).output();
        let start = out.len();
        match binding.response_body {
            None => from_wire::message(self, output, wire, *options, out),
            Some(field) => from_wire::single_field(self, output, field, wire, *options, out),
        }
        .inspect_err(|_| out.truncate(start))
    }
}

/// The pool knows proto2 and proto3, and panics over the first file of another syntax instead of refusing it.
fn refuse_other_syntax(bytes: &[u8]) -> Result<(), LoadError> {
    // What cannot be decoded the pool refuses, with its reason.
    let files = FileDescriptorSet::decode(bytes).unwrap_or_default().file;
    match files
        .into_iter()
        .find(|file| !matches!(file.syntax(), "" | "proto2" | "proto3"))
    {
        Some(file) => Err(LoadError::Syntax {
            file: file.name().to_owned(),
            syntax: file.syntax().to_owned(),
        }),
        None => Ok(()),
    }
}
