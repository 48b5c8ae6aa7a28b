//! A pull reader over a JSON text. It borrows from the text wherever it can and checks the grammar as it goes.

use std::borrow::Cow;

use super::plain;
use crate::{JsonError, MAX_DEPTH};

type Result<T> = std::result::Result<T, JsonError>;

/// What the next value is, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peek {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

impl Peek {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::True | Self::False => "a boolean",
            Self::Null => "null",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(json: &'a [u8]) -> Result<Self> {
        let text = std::str::from_utf8(json)
            .map_err(|error| JsonError::new(error.valid_up_to(), "the text is not UTF-8"))?;
        Ok(Self {
            text,
            bytes: json,
            at: 0,
        })
    }

    pub(crate) fn fault(&self, description: impl Into<String>) -> JsonError {
        JsonError::new(self.at, description)
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    #[inline]
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    /// Nothing but space may follow the value.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.space();
        if self.at < self.bytes.len() {
            Err(self.fault("text after the end of the value"))
        } else {
            Ok(())
        }
    }

    #[inline]
    pub(crate) fn peek(&mut self) -> Result<Peek> {
        self.space();
        Ok(match self.bytes.get(self.at) {
            Some(b'{') => Peek::Object,
            Some(b'[') => Peek::Array,
            Some(b'"') => Peek::String,
            Some(b'-' | b'0'..=b'9') => Peek::Number,
            Some(b't') => Peek::True,
            Some(b'f') => Peek::False,
            Some(b'n') => Peek::Null,
            Some(_) => return Err(self.fault("expected a value")),
            None => return Err(self.fault("the text ends early")),
        })
    }

    /// Enters the object that begins here; true when it has a first key.
    pub(crate) fn enter_object(&mut self) -> Result<bool> {
        self.enter(Peek::Object, b'}')
    }

    /// Enters the array that begins here; true when it has a first element.
    pub(crate) fn enter_array(&mut self) -> Result<bool> {
        self.enter(Peek::Array, b']')
    }

    fn enter(&mut self, wanted: Peek, close: u8) -> Result<bool> {
        let found = self.peek()?;
        if found != wanted {
            return Err(self.fault(format!(
                "expected {}, found {}",
                wanted.name(),
                found.name()
            )));
        }
        self.at += 1;
        self.space();
        Ok(!self.eat(close))
    }

    /// After a member: true when another follows, false when the object ended.
    #[inline]
    pub(crate) fn more_in_object(&mut self) -> Result<bool> {
        self.more(b'}', "expected ',' or '}'")
    }

    /// After an element: true when another follows, false when the array ended.
    #[inline]
    pub(crate) fn more_in_array(&mut self) -> Result<bool> {
        self.more(b']', "expected ',' or ']'")
    }

    fn more(&mut self, close: u8, otherwise: &str) -> Result<bool> {
        self.space();
        if self.eat(b',') {
            Ok(true)
        } else if self.eat(close) {
            Ok(false)
        } else {
            Err(self.fault(otherwise))
        }
    }

    /// A key with its colon.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<Cow<'a, str>> {
        self.space();
        if self.bytes.get(self.at) != Some(&b'"') {
            return Err(self.fault("expected a key"));
        }
        let key = self.string()?;
        self.space();
        if self.eat(b':') {
            Ok(key)
        } else {
            Err(self.fault("expected ':'"))
        }
    }

    /// A string; borrowed when it has no escapes.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>> {
        self.at += 1;
        let start = self.at;
        self.plain();
        if self.bytes.get(self.at) == Some(&b'"') {
            let text = &self.text[start..self.at];
            self.at += 1;
            return Ok(Cow::Borrowed(text));
        }
        let mut unescaped = self.text[start..self.at].to_owned();
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(unescaped));
                }
                Some(b'\\') => {
                    self.at += 1;
                    unescaped.push(self.escape()?);
                }
                Some(_) => return Err(self.fault("a control character in a string")),
                None => return Err(self.fault("the text ends inside a string")),
            }
            let start = self.at;
            self.plain();
            unescaped.push_str(&self.text[start..self.at]);
        }
    }

    /// Passes over characters that stand for themselves.
    fn plain(&mut self) {
        self.at += plain::prefix(&self.bytes[self.at..]);
    }

    fn escape(&mut self) -> Result<char> {
        let escape = self.bytes.get(self.at).copied();
        self.at += 1;
        Ok(match escape {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let mut code = self.hex4()?;
                if (0xd800..0xdc00).contains(&code) && self.bytes[self.at..].starts_with(b"\\u") {
                    self.at += 2;
                    let low = self.hex4()?;
                    if (0xdc00..0xe000).contains(&low) {
                        code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    }
                }
                char::from_u32(code)
                    .ok_or_else(|| self.fault("an escaped surrogate without its pair"))?
            }
            _ => return Err(self.fault("an unknown escape in a string")),
        })
    }

    fn hex4(&mut self) -> Result<u32> {
        let digits = self
            .bytes
            .get(self.at..self.at + 4)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else {
            return Err(self.fault("expected four hexadecimal digits"));
        };
        self.at += 4;
        Ok(digits.iter().fold(0, |code, digit| {
            code * 16 + char::from(*digit).to_digit(16).unwrap_or(0)
        }))
    }

    /// A number, as it is written.
    pub(crate) fn number(&mut self) -> Result<&'a str> {
        let start = self.at;
        while matches!(
            self.bytes.get(self.at),
            Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
        ) {
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        let simple = text.len() < 19
            && !text.starts_with(['0', '-'])
            && text.bytes().all(|byte| byte.is_ascii_digit());
        if simple || super::number::is_number(text) {
            Ok(text)
        } else {
            self.at = start;
            Err(self.fault("malformed number"))
        }
    }

    /// `true`, `false` or `null`, of which the first letter is known.
    pub(crate) fn literal(&mut self, literal: &'static str) -> Result<()> {
        if self.bytes[self.at..].starts_with(literal.as_bytes()) {
            self.at += literal.len();
            Ok(())
        } else {
            Err(self.fault("expected a value"))
        }
    }

    /// Passes over one value of any kind.
    pub(crate) fn skip(&mut self, depth: u16) -> Result<()> {
        match self.peek()? {
            Peek::String => self.string().map(drop),
            Peek::Number => self.number().map(drop),
            Peek::True => self.literal("true"),
            Peek::False => self.literal("false"),
            Peek::Null => self.literal("null"),
            Peek::Object | Peek::Array if depth >= MAX_DEPTH => Err(self.too_deep()),
            Peek::Object => {
                let mut more = self.enter_object()?;
                while more {
                    self.key()?;
                    self.skip(depth + 1)?;
                    more = self.more_in_object()?;
                }
                Ok(())
            }
            Peek::Array => {
                let mut more = self.enter_array()?;
                while more {
                    self.skip(depth + 1)?;
                    more = self.more_in_array()?;
                }
                Ok(())
            }
        }
    }

    pub(crate) fn too_deep(&self) -> JsonError {
        self.fault(format!("nested deeper than {MAX_DEPTH} levels"))
    }
}
