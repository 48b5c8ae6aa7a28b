//! What can go wrong, by stage: loading descriptors, routing, binding a request, decoding a response.

use std::fmt;

use http::Method;

/// Why a descriptor set was refused. Nothing of it is in use when this is returned.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bytes are no valid `FileDescriptorSet`.
    #[error("descriptor set: {0}")]
    Descriptor(#[from] prost_reflect::DescriptorError),
    /// A file is written in another language than proto2 and proto3, such as an edition.
    #[error("{file}: the syntax is {syntax:?}, and only proto2 and proto3 are read")]
    Syntax {
        /// The name of the file.
        file: String,
        /// What it says of itself; `editions` for every edition.
        syntax: String,
    },
    /// A rule's path template does not follow the grammar.
    #[error("{method}: template {template:?}: {reason}")]
    Template {
        /// Full method name, `package.Service.Method`.
        method: String,
        /// The template as written.
        template: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A rule names a field that does not exist or cannot be used there, or is wrong as a whole.
    #[error("{method}: template {template:?}: {reason}")]
    Rule {
        /// Full method name, `package.Service.Method`, or the selector of an overlay rule.
        method: String,
        /// The template as written; empty when the rule has none.
        template: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two rules answer to the same requests.
    #[error("{first} and {second} both match {shape}")]
    Conflict {
        /// The rule that came first, with its template.
        first: String,
        /// The rule that collides with it, with its template.
        second: String,
        /// What both match: method and path with the variables taken out.
        shape: String,
    },
}

/// Why a request has no route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No template matches the path.
    #[error("no route matches the path")]
    NotFound,
    /// A template matches, but not for this method.
    #[error("the method is not allowed for this path")]
    MethodNotAllowed {
        /// What the `Allow` header has to say, sorted.
        allow: Vec<Method>,
    },
    /// A template matches, but a path variable is not valid percent-encoded UTF-8.
    #[error("path variable {variable}: {description}")]
    InvalidPath {
        /// The field path of the variable.
        variable: String,
        /// What is wrong with it.
        description: String,
    },
}

/// One step into a JSON document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Field(String),
    Index(usize),
    Key(String),
}

/// Why a JSON text was refused: where and what.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonError(Box<JsonErrorParts>);

#[derive(Clone, PartialEq, Eq)]
struct JsonErrorParts {
    /// Innermost step first.
    steps: Vec<Step>,
    description: String,
    offset: usize,
}

impl JsonError {
    pub(crate) fn new(offset: usize, description: impl Into<String>) -> Self {
        Self(Box::new(JsonErrorParts {
            steps: Vec::new(),
            description: description.into(),
            offset,
        }))
    }

    #[must_use]
    pub(crate) fn under(mut self, step: Step) -> Self {
        self.0.steps.push(step);
        self
    }

    /// The JSON path of the value, such as `book.pages[3].title` or `labels["tier"]`; empty for the whole text.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for step in self.0.steps.iter().rev() {
            match step {
                Step::Field(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name);
                }
                Step::Index(index) => path.extend(["[", &index.to_string(), "]"]),
                Step::Key(key) => path.extend(["[", &format!("{key:?}"), "]"]),
            }
        }
        path
    }

    /// What is wrong with the value.
    pub fn description(&self) -> &str {
        &self.0.description
    }

    /// The byte of the text at which it was noticed.
    pub fn offset(&self) -> usize {
        self.0.offset
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path();
        if path.is_empty() {
            write!(f, "{} at byte {}", self.description(), self.offset())
        } else {
            write!(
                f,
                "{path}: {} at byte {}",
                self.description(),
                self.offset()
            )
        }
    }
}

impl fmt::Debug for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonError({self})")
    }
}

impl std::error::Error for JsonError {}

/// The part of the request in which a fault lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// A variable of the path.
    Path,
    /// A query parameter.
    Query,
    /// The body.
    Body,
}

/// Why a request does not fit its method: ready to be a `BadRequest` field violation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {description}")]
pub struct BindError {
    /// The part of the request.
    pub location: Location,
    /// JSON path in the request message, or the name of the query parameter; empty for the body as a whole.
    pub field: String,
    /// What is wrong with it, for the caller.
    pub description: String,
}

impl BindError {
    pub(crate) fn new(
        location: Location,
        field: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        Self {
            location,
            field: field.into(),
            description: description.into(),
        }
    }
}

/// Why a protobuf message could not be written as JSON. The message comes from the upstream server, so this is
/// not the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The wire bytes end early, or a length, tag or wire type is wrong.
    #[error("malformed message {message}: {reason}")]
    Malformed {
        /// Full name of the message.
        message: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A string field is not UTF-8.
    #[error("{message}.{field} is not UTF-8")]
    Utf8 {
        /// Full name of the message.
        message: String,
        /// Name of the field.
        field: String,
    },
    /// A well-known type holds a value that JSON cannot say (a timestamp after the year 9999, NaN in a `Value`).
    #[error("{message}: {reason}")]
    Unrepresentable {
        /// Full name of the message.
        message: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// An `Any` holds a type that the tables do not know.
    #[error("unknown type {0:?} in google.protobuf.Any")]
    UnknownType(String),
    /// Deeper than [`crate::MAX_DEPTH`].
    #[error("nested deeper than {} levels", crate::MAX_DEPTH)]
    TooDeep,
}
