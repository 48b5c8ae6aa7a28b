//! The grammar of path templates:
//!
//! ```text
//! Template = "/" Segments [ ":" LITERAL ]
//! Segments = Segment { "/" Segment }
//! Segment  = "*" | "**" | LITERAL | Variable
//! Variable = "{" FieldPath [ "=" Segments ] "}"
//! FieldPath = IDENT { "." IDENT }
//! ```
//!
//! Variables do not nest, and `**` is the last segment.

use std::fmt;

use percent_encoding::percent_decode_str;

/// One segment of a path, variables taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// This text, percent-decoded.
    Literal(String),
    /// One segment of any text: `*`.
    Any,
    /// All segments that are left, also none: `**`.
    Rest,
}

/// A variable and the segments that it spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// The field path, with the names of the proto file.
    pub field_path: String,
    /// The first segment.
    pub start: usize,
    /// The segment after the last.
    pub end: usize,
}

/// A parsed path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    segments: Vec<Segment>,
    variables: Vec<Variable>,
    verb: Option<String>,
}

impl Template {
    /// Parses a template. The error says what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser {
            text,
            at: 0,
            segments: Vec::new(),
            variables: Vec::new(),
        };
        parser.expect('/')?;
        parser.segments(false)?;
        let verb = if parser.eat(':') {
            Some(parser.literal()?)
        } else {
            None
        };
        if parser.at < text.len() {
            return Err(parser.fault("unexpected text"));
        }
        if let Some(position) = parser
            .segments
            .iter()
            .position(|segment| *segment == Segment::Rest)
            && position + 1 < parser.segments.len()
        {
            return Err("\"**\" is not the last segment".to_owned());
        }
        for (index, variable) in parser.variables.iter().enumerate() {
            if parser.variables[..index]
                .iter()
                .any(|other| other.field_path == variable.field_path)
            {
                return Err(format!("variable {} occurs twice", variable.field_path));
            }
        }
        Ok(Self {
            text: text.to_owned(),
            segments: parser.segments,
            variables: parser.variables,
            verb,
        })
    }

    /// The segments, variables taken apart.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The variables, from left to right.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// The custom verb after the colon.
    pub fn verb(&self) -> Option<&str> {
        self.verb.as_deref()
    }

    /// The template without its variables: templates of equal shape match the same paths.
    pub fn shape(&self) -> String {
        let mut shape = String::new();
        for segment in &self.segments {
            shape.push('/');
            match segment {
                Segment::Literal(literal) => shape.push_str(literal),
                Segment::Any => shape.push('*'),
                Segment::Rest => shape.push_str("**"),
            }
        }
        if let Some(verb) = &self.verb {
            shape.push(':');
            shape.push_str(verb);
        }
        shape
    }

    /// Whether the variable can hold slashes, so that `%2F` in it is kept.
    pub fn spans_several(&self, variable: &Variable) -> bool {
        variable.end - variable.start != 1 || self.segments[variable.start] == Segment::Rest
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    segments: Vec<Segment>,
    variables: Vec<Variable>,
}

impl Parser<'_> {
    fn fault(&self, reason: &str) -> String {
        format!("{reason} at character {}", self.at + 1)
    }

    fn eat(&mut self, expected: char) -> bool {
        let found = self.text[self.at..].starts_with(expected);
        if found {
            self.at += expected.len_utf8();
        }
        found
    }

    fn expect(&mut self, expected: char) -> Result<(), String> {
        if self.eat(expected) {
            Ok(())
        } else {
            Err(self.fault(&format!("expected {expected:?}")))
        }
    }

    fn segments(&mut self, in_variable: bool) -> Result<(), String> {
        loop {
            self.segment(in_variable)?;
            if !self.eat('/') {
                return Ok(());
            }
        }
    }

    fn segment(&mut self, in_variable: bool) -> Result<(), String> {
        if self.eat('*') {
            let segment = if self.eat('*') {
                Segment::Rest
            } else {
                Segment::Any
            };
            self.segments.push(segment);
        } else if self.text[self.at..].starts_with('{') {
            if in_variable {
                return Err(self.fault("a variable inside a variable"));
            }
            self.at += 1;
            self.variable()?;
        } else {
            let literal = self.literal()?;
            self.segments.push(Segment::Literal(literal));
        }
        Ok(())
    }

    fn variable(&mut self) -> Result<(), String> {
        let field_path = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        let ident = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !field_path.split('.').all(ident) {
            return Err(self.fault("expected a field path"));
        }
        let start = self.segments.len();
        if self.eat('=') {
            self.segments(true)?;
        } else {
            self.segments.push(Segment::Any);
        }
        self.expect('}')?;
        self.variables.push(Variable {
            field_path,
            start,
            end: self.segments.len(),
        });
        Ok(())
    }

    fn literal(&mut self) -> Result<String, String> {
        let start = self.at;
        let raw = self.take_while(|c| {
            !matches!(c, '/' | ':' | '{' | '}' | '*' | '?' | '#' | '=')
                && !c.is_control()
                && !c.is_whitespace()
        });
        if raw.is_empty() {
            return Err(self.fault("expected a segment"));
        }
        match decode(&raw, false) {
            Some(decoded) if !decoded.contains('/') => Ok(decoded),
            _ => {
                self.at = start;
                Err(self.fault("a segment with wrong percent-encoding"))
            }
        }
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> String {
        let rest = &self.text[self.at..];
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_owned()
    }
}

/// Percent-decodes; with `keep_slash`, `%2F` stays as it is. Nothing when an escape is broken or the result is
/// not UTF-8.
pub(crate) fn decode(raw: &str, keep_slash: bool) -> Option<String> {
    let bytes = raw.as_bytes();
    if !bytes.contains(&b'%') {
        return Some(raw.to_owned());
    }
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    if (0..bytes.len()).any(|at| bytes[at] == b'%' && !(hex(at + 1) && hex(at + 2))) {
        return None;
    }
    if !keep_slash {
        return percent_decode_str(raw)
            .decode_utf8()
            .ok()
            .map(std::borrow::Cow::into_owned);
    }
    let mut decoded = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find("%2F").into_iter().chain(rest.find("%2f")).min() {
        decoded.push_str(&percent_decode_str(&rest[..at]).decode_utf8().ok()?);
        decoded.push_str(&rest[at..at + 3]);
        rest = &rest[at + 3..];
    }
    decoded.push_str(&percent_decode_str(rest).decode_utf8().ok()?);
    Some(decoded)
}
