//! The table of one RPC method.

use std::collections::HashMap;

use prost_reflect::{
    DynamicMessage, MethodDescriptor, Value, prost::Message as _,
    prost_types::method_options::IdempotencyLevel,
};

use super::MessageId;
use crate::{RouteId, wire::Cursor};

/// One RPC method.
#[derive(Debug)]
pub struct MethodTable {
    descriptor: MethodDescriptor,
    path: String,
    input: MessageId,
    output: MessageId,
    options: DynamicMessage,
    pub(crate) routes: Vec<RouteId>,
}

impl MethodTable {
    pub(crate) fn new(descriptor: MethodDescriptor, messages: &HashMap<String, MessageId>) -> Self {
        Self {
            path: format!(
                "/{}/{}",
                descriptor.parent_service().full_name(),
                descriptor.name()
            ),
            input: messages[descriptor.input().full_name()],
            output: messages[descriptor.output().full_name()],
            options: descriptor.options(),
            routes: Vec::new(),
            descriptor,
        }
    }

    /// The gRPC path, `/package.Service/Method`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The method's own name, such as `GetBook`.
    pub fn name(&self) -> &str {
        self.descriptor.name()
    }

    /// The full name, such as `library.v1.Library.GetBook`.
    pub fn full_name(&self) -> &str {
        self.descriptor.full_name()
    }

    /// The full name of its service, such as `library.v1.Library`.
    pub fn service(&self) -> &str {
        self.descriptor.parent_service().full_name()
    }

    /// The message that a request carries.
    pub fn input(&self) -> MessageId {
        self.input
    }

    /// The message that a response carries.
    pub fn output(&self) -> MessageId {
        self.output
    }

    /// Whether the request is a stream.
    pub fn client_streaming(&self) -> bool {
        self.descriptor.is_client_streaming()
    }

    /// Whether the response is a stream.
    pub fn server_streaming(&self) -> bool {
        self.descriptor.is_server_streaming()
    }

    /// The routes to this method, the main rule first.
    pub fn routes(&self) -> &[RouteId] {
        &self.routes
    }

    /// The descriptor, for everything else.
    pub fn descriptor(&self) -> &MethodDescriptor {
        &self.descriptor
    }

    /// The standard option `idempotency_level`.
    pub fn idempotency(&self) -> IdempotencyLevel {
        self.descriptor
            .method_descriptor_proto()
            .options
            .as_ref()
            .map_or(IdempotencyLevel::IdempotencyUnknown, |options| {
                options.idempotency_level()
            })
    }

    /// The `MethodOptions` with all extensions that the descriptor set knows.
    pub fn options(&self) -> &DynamicMessage {
        &self.options
    }

    /// The value of an extension of `MethodOptions`, such as `google.api.http`, when it is set.
    pub fn option(&self, full_name: &str) -> Option<Value> {
        let extension = self
            .descriptor
            .parent_pool()
            .get_extension_by_name(full_name)?;
        self.options
            .has_extension(&extension)
            .then(|| self.options.get_extension(&extension).into_owned())
    }

    /// The wire bytes of the message extension with this number, to be decoded with a generated type; works
    /// also when the descriptor set does not define the extension.
    pub fn option_wire(&self, number: u32) -> Option<Vec<u8>> {
        extension_wire(&self.options.encode_to_vec(), number)
    }
}

/// All values of a length-delimited field of an options message, merged.
pub(crate) fn extension_wire(options: &[u8], number: u32) -> Option<Vec<u8>> {
    let mut cursor = Cursor::new(options);
    let mut merged = None;
    while !cursor.is_empty() {
        let (found, wire_type) = cursor.tag().ok()?;
        if found == number && wire_type == crate::wire::DELIMITED {
            merged
                .get_or_insert_with(Vec::new)
                .extend_from_slice(cursor.delimited().ok()?);
        } else {
            cursor.skip(found, wire_type).ok()?;
        }
    }
    merged
}
