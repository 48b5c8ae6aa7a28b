//! A small AIP-160: comparisons joined by AND, for example `state="READY" AND labels.team="db"`.

use crate::Error;

/// Longest filter, in bytes.
pub const MAX_BYTES: usize = 4096;
/// Most terms.
pub const MAX_TERMS: usize = 32;

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Dotted name of the field.
    pub field: String,
    /// How it is compared.
    pub op: Op,
    /// With what, as text; the caller parses numbers and times.
    pub value: String,
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `=`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `:`, "has"
    Has,
}

impl Term {
    /// `k` of a field `labels.k`.
    pub fn key_of(&self, map: &str) -> Option<&str> {
        self.field.strip_prefix(map)?.strip_prefix('.')
    }

    /// The value as a boolean.
    pub fn bool(&self) -> Result<bool, Error> {
        match self.value.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(Error::Filter(format!(
                "{}: {other:?} is neither true nor false",
                self.field
            ))),
        }
    }

    /// The value as a number.
    pub fn integer(&self) -> Result<i64, Error> {
        self.value
            .parse()
            .map_err(|_| Error::Filter(format!("{}: {:?} is no integer", self.field, self.value)))
    }

    /// Refuses every comparison but `=` and `!=`; whether it is `=`.
    pub fn equality(&self) -> Result<bool, Error> {
        match self.op {
            Op::Eq => Ok(true),
            Op::Ne => Ok(false),
            Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Has => Err(Error::Filter(format!(
                "{}: only = and != are possible",
                self.field
            ))),
        }
    }
}

/// Parses a filter over the `allowed` fields; `labels.*` allows every key of a map. An empty filter has no terms.
pub fn parse(filter: &str, allowed: &[&str]) -> Result<Vec<Term>, Error> {
    if MAX_BYTES < filter.len() {
        return Err(Error::Filter(format!("longer than {MAX_BYTES} bytes")));
    }
    let mut rest = Scanner { rest: filter };
    let mut terms = Vec::new();
    rest.space();
    while !rest.rest.is_empty() {
        if !terms.is_empty() {
            rest.and()?;
        }
        let term = rest.term()?;
        let known = allowed.iter().any(|name| match name.strip_suffix(".*") {
            Some(map) => term.key_of(map).is_some_and(|key| !key.is_empty()),
            None => *name == term.field,
        });
        if !known {
            return Err(Error::Filter(format!(
                "{:?} is not one of {}",
                term.field,
                allowed.join(", ")
            )));
        }
        terms.push(term);
        if MAX_TERMS < terms.len() {
            return Err(Error::Filter(format!("more than {MAX_TERMS} comparisons")));
        }
        rest.space();
    }
    Ok(terms)
}

struct Scanner<'a> {
    rest: &'a str,
}

impl Scanner<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn and(&mut self) -> Result<(), Error> {
        let rest = self
            .rest
            .strip_prefix("AND")
            .filter(|rest| rest.starts_with(char::is_whitespace))
            .ok_or_else(|| Error::Filter(format!("expected AND before {:?}", self.excerpt())))?;
        self.rest = rest;
        self.space();
        Ok(())
    }

    fn term(&mut self) -> Result<Term, Error> {
        let field = self.word("a field")?;
        self.space();
        let op = self.op()?;
        self.space();
        let value = if self.rest.starts_with('"') {
            self.quoted()?
        } else {
            self.word("a value")?
        };
        Ok(Term { field, op, value })
    }

    fn op(&mut self) -> Result<Op, Error> {
        const OPS: [(&str, Op); 7] = [
            ("!=", Op::Ne),
            ("<=", Op::Le),
            (">=", Op::Ge),
            ("=", Op::Eq),
            ("<", Op::Lt),
            (">", Op::Gt),
            (":", Op::Has),
        ];
        for (text, op) in OPS {
            if let Some(rest) = self.rest.strip_prefix(text) {
                self.rest = rest;
                return Ok(op);
            }
        }
        Err(Error::Filter(format!(
            "expected a comparison before {:?}",
            self.excerpt()
        )))
    }

    fn word(&mut self, what: &str) -> Result<String, Error> {
        let end = self
            .rest
            .find(|c: char| !(c.is_alphanumeric() || "._-/*+@".contains(c)))
            .unwrap_or(self.rest.len());
        if end == 0 {
            return Err(Error::Filter(format!(
                "expected {what} before {:?}",
                self.excerpt()
            )));
        }
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(word.to_owned())
    }

    fn quoted(&mut self) -> Result<String, Error> {
        let mut value = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(value);
                }
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                    _ => return Err(Error::Filter("only \\\" and \\\\ are escapes".to_owned())),
                },
                c => value.push(c),
            }
        }
        Err(Error::Filter("a quote is not closed".to_owned()))
    }

    fn excerpt(&self) -> String {
        self.rest.chars().take(20).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn term(field: &str, op: Op, value: &str) -> Term {
        Term {
            field: field.to_owned(),
            op,
            value: value.to_owned(),
        }
    }

    #[test]
    fn reads_comparisons_joined_by_and() {
        let terms = parse(
            r#" disabled = false AND labels.team="a \"b\"" AND code>=3"#,
            &["disabled", "labels.*", "code"],
        )
        .unwrap();
        assert_eq!(
            terms,
            [
                term("disabled", Op::Eq, "false"),
                term("labels.team", Op::Eq, "a \"b\""),
                term("code", Op::Ge, "3"),
            ]
        );
        assert!(parse("  ", &[]).unwrap().is_empty());
    }

    #[test]
    fn refuses_what_it_does_not_know_and_says_so() {
        for (bad, says) in [
            ("x=1", "not one of a"),
            ("a=1 OR a=2", "expected AND"),
            ("a=1 a=2", "expected AND"),
            ("a", "expected a comparison"),
            ("a=", "expected a value"),
            ("a=\"1", "not closed"),
            ("labels.=1", "not one of"),
            ("a=1 AND ", "expected a field"),
        ] {
            let error = parse(bad, &["a", "labels.*"]).unwrap_err().to_string();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,80}") {
            let _ = parse(&text, &["a", "labels.*"]);
        }

        #[test]
        fn reads_back_any_quoted_value(value in "\\PC{0,40}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let terms = parse(&format!("a=\"{quoted}\""), &["a"]).unwrap();
            prop_assert_eq!(&terms[0].value, &value);
        }
    }
}
