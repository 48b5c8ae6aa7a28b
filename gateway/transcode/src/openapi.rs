//! An OpenAPI 3.1 document of the routes, made from the same tables that serve them.
//!
//! Path variables of several segments are spelled out (`{name=shelves/*}` becomes `shelves/{shelf}`), 64-bit
//! integers are strings, well-known types stand inline, streams are `application/x-ndjson`. Comments of the proto
//! files become descriptions when the descriptor set holds source information.

mod comment;
mod operation;
mod parameter;
mod path;
mod schema;

use std::fmt;

use serde_json::{Map, Value, json};

use self::{comment::Comments, operation::Operations, schema::Schemas};
use crate::{MethodTable, Tables, status::Code};

/// Who publishes the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contact {
    /// Name of the people or organisation.
    pub name: String,
    /// Where they are found.
    pub url: String,
    /// How they are written to; left out when empty.
    pub email: String,
}

/// What the document says about the API as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// The name of the API.
    pub title: String,
    /// The version of the API.
    pub version: String,
    /// What it is for, in Markdown; left out when empty.
    pub description: String,
    /// Base URLs; none means relative to the document.
    pub servers: Vec<String>,
    /// Who publishes it.
    pub contact: Option<Contact>,
    /// The SPDX expression of its licence.
    pub license: Option<String>,
}

/// Which methods the document has and which of them need no credentials.
#[derive(Clone, Copy)]
pub struct Policy<'a> {
    /// Whether a method is in the document.
    pub include: &'a dyn Fn(&MethodTable) -> bool,
    /// Whether a method can be called without credentials.
    pub public: &'a dyn Fn(&MethodTable) -> bool,
}

impl fmt::Debug for Policy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").finish_non_exhaustive()
    }
}

/// The document of all methods; all of them need credentials.
pub fn document(tables: &Tables, info: &Info) -> Value {
    document_with(
        tables,
        info,
        Policy {
            include: &|_| true,
            public: &|_| false,
        },
    )
}

/// The document of the methods that the policy includes.
pub fn document_with(tables: &Tables, info: &Info, policy: Policy<'_>) -> Value {
    let comments = Comments::new(tables.pool());
    let schemas = Schemas::new(tables, &comments);
    let mut operations = Operations::new(tables, &comments, schemas, policy);
    for binding in tables.bindings() {
        operations.add(binding);
    }
    let (paths, tags, mut schemas) = operations.finish();
    schemas.insert("Error".to_owned(), error_schema());
    let mut document = Map::new();
    document.insert("openapi".to_owned(), json!("3.1.0"));
    document.insert("info".to_owned(), info_object(info));
    let servers: Vec<_> = info
        .servers
        .iter()
        .map(|url| json!({ "url": url }))
        .collect();
    document.insert(
        "servers".to_owned(),
        if servers.is_empty() {
            json!([{ "url": "/" }])
        } else {
            json!(servers)
        },
    );
    document.insert("security".to_owned(), json!([{ "bearer": [] }]));
    document.insert("tags".to_owned(), Value::Array(tags));
    document.insert("paths".to_owned(), Value::Object(paths));
    let error = json!({
        "description": "The error of any status but 200.",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
    });
    let components = json!({
        "schemas": schemas,
        "responses": { "Error": error },
        "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
    });
    document.insert("components".to_owned(), components);
    Value::Object(document)
}

fn info_object(info: &Info) -> Value {
    let mut object = json!({ "title": info.title, "version": info.version });
    if !info.description.is_empty() {
        object["description"] = json!(info.description);
    }
    if let Some(contact) = &info.contact {
        object["contact"] = json!({ "name": contact.name, "url": contact.url });
        if !contact.email.is_empty() {
            object["contact"]["email"] = json!(contact.email);
        }
    }
    if let Some(license) = &info.license {
        object["license"] = json!({ "name": license, "identifier": license });
    }
    object
}

/// The envelope of AIP-193.
fn error_schema() -> Value {
    let codes: Vec<_> = Code::ALL.iter().skip(1).map(|code| code.name()).collect();
    json!({
        "type": "object",
        "description": "An error, by AIP-193.",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "status"],
                "properties": {
                    "code": { "type": "integer", "format": "int32", "description": "The HTTP status." },
                    "message": { "type": "string", "description": "What went wrong, for people." },
                    "status": { "type": "string", "enum": codes, "description": "The gRPC status code." },
                    "details": {
                        "type": "array",
                        "description": "What went wrong, for programs: an ErrorInfo with reason and domain, and more by type.",
                        "items": schema::any(),
                    },
                },
            },
        },
    })
}

#[cfg(test)]
mod tests;
