//! Cuts a request body into JSON values: lines, values one after the other, or the elements of one array. Only strings and brackets are
//! looked at; what a value holds is for the codec to judge.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::refusal::Refusal;

/// Where the text is in its structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first value: an array may begin.
    Start,
    /// Between values.
    Between,
    /// Inside of a value.
    Value,
    /// Inside of a string of a value.
    Text,
    /// After a backslash in a string.
    Escape,
    /// After the array.
    End,
}

/// Cuts text that comes in parts.
#[derive(Debug)]
pub(crate) struct Splitter {
    buffer: BytesMut,
    /// What was looked at.
    seen: usize,
    state: State,
    /// Brackets that are open in the value.
    depth: u32,
    array: bool,
    /// Largest value, in bytes.
    limit: usize,
}

impl Splitter {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            seen: 0,
            state: State::Start,
            depth: 0,
            array: false,
            limit,
        }
    }

    pub(crate) fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next complete value; `None` when more text is needed.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        while let Some(&byte) = self.buffer.get(self.seen) {
            let step = self.step(byte)?;
            match step {
                Step::Skip => self.buffer.advance(1),
                Step::Take => {
                    self.seen += 1;
                    if self.seen > self.limit {
                        return Err(Refusal::too_large(self.limit));
                    }
                }
                // The byte belongs to the value.
                Step::Last => {
                    self.seen += 1;
                    return Ok(Some(self.cut()));
                }
                // The byte is looked at again.
                Step::Before => return Ok(Some(self.cut())),
            }
        }
        Ok(None)
    }

    /// The last value, when no more text comes.
    pub(crate) fn finish(&mut self) -> Result<Option<Bytes>, Refusal> {
        let cut_off = || Err(Refusal::malformed("the body ends inside of a value"));
        match self.state {
            // A number or word ends with the text.
            State::Value if self.depth == 0 && !self.array => Ok(Some(self.cut())),
            State::Value | State::Text | State::Escape => cut_off(),
            State::Between if self.array => cut_off(),
            _ => Ok(None),
        }
    }

    fn cut(&mut self) -> Bytes {
        self.state = State::Between;
        let value = self.buffer.split_to(self.seen).freeze();
        self.seen = 0;
        value
    }

    fn step(&mut self, byte: u8) -> Result<Step, Refusal> {
        match self.state {
            State::Escape => self.state = State::Text,
            State::Text => match byte {
                b'\\' => self.state = State::Escape,
                b'"' => {
                    self.state = State::Value;
                    if self.depth == 0 {
                        return Ok(Step::Last);
                    }
                }
                _ => {}
            },
            State::Value => match byte {
                // A number or word ends where something else begins.
                b'"' | b'{' | b'[' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r' | b','
                    if self.depth == 0 =>
                {
                    return Ok(Step::Before);
                }
                b'"' => self.state = State::Text,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Ok(Step::Last);
                    }
                }
                _ => {}
            },
            State::Start | State::Between => match byte {
                b' ' | b'\t' | b'\n' | b'\r' => return Ok(Step::Skip),
                b'[' if self.state == State::Start => {
                    self.array = true;
                    self.state = State::Between;
                    return Ok(Step::Skip);
                }
                b',' if self.array => return Ok(Step::Skip),
                b']' if self.array => {
                    self.state = State::End;
                    return Ok(Step::Skip);
                }
                b'}' | b']' | b',' => return Err(Refusal::malformed("a value was expected")),
                b'{' | b'[' => {
                    self.depth = 1;
                    self.state = State::Value;
                }
                b'"' => self.state = State::Text,
                _ => self.state = State::Value,
            },
            State::End => match byte {
                b' ' | b'\t' | b'\n' | b'\r' => return Ok(Step::Skip),
                _ => return Err(Refusal::malformed("the body goes on after its array")),
            },
        }
        Ok(Step::Take)
    }
}

enum Step {
    Skip,
    Take,
    Last,
    Before,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(text: &str, part: usize) -> Result<Vec<String>, Refusal> {
        let mut splitter = Splitter::new(1000);
        let mut found = Vec::new();
        for part in text.as_bytes().chunks(part) {
            splitter.push(part);
            while let Some(value) = splitter.next()? {
                found.push(value);
            }
        }
        found.extend(splitter.finish()?);
        Ok(found
            .into_iter()
            .map(|value| String::from_utf8(value.to_vec()).unwrap())
            .collect())
    }

    #[test]
    fn lines_arrays_and_values_in_a_row_are_cut_alike() {
        for text in [
            "{\"a\":\"}\\\"]\"}\n{\"b\":[1,{}]}\n",
            "{\"a\":\"}\\\"]\"}{\"b\":[1,{}]}",
            "[{\"a\":\"}\\\"]\"} ,\n{\"b\":[1,{}]}]\n",
        ] {
            for part in [1, 2, 1000] {
                assert_eq!(
                    split(text, part).unwrap(),
                    ["{\"a\":\"}\\\"]\"}", "{\"b\":[1,{}]}"],
                    "{text}"
                );
            }
        }
        assert_eq!(split("1 \"a\" true", 1).unwrap(), ["1", "\"a\"", "true"]);
        assert!(split(" \n", 1).unwrap().is_empty());
        assert!(split("[]", 1).unwrap().is_empty());
    }

    #[test]
    fn a_body_that_ends_too_early_or_goes_on_is_refused() {
        for text in ["{\"a\":1", "[{}", "[{}] {}", "}", "\"abc", ","] {
            assert!(split(text, 3).is_err(), "{text}");
        }
    }

    #[test]
    fn a_value_without_end_does_not_fill_the_memory() {
        let mut splitter = Splitter::new(1000);
        splitter.push("[[".repeat(1000).as_bytes());
        assert_eq!(splitter.next().unwrap_err().http_status(), 413);
    }

    proptest! {
        #[test]
        fn text_of_any_kind_never_panics(text in "[\\[\\]{}\",\\\\ a1\n]{0,40}", part in 1_usize..5) {
            let _ = split(&text, part);
        }

        #[test]
        fn any_values_come_out_as_they_went_in(values in prop::collection::vec(prop::collection::btree_map(".{0,5}", ".{0,5}", 0..3), 0..5)) {
            let lines: Vec<String> = values.iter().map(|value| serde_json::to_string(value).unwrap()).collect();
            prop_assert_eq!(&split(&lines.join("\n"), 7).unwrap(), &lines);
            prop_assert_eq!(&split(&format!("[{}]", lines.join(",")), 7).unwrap(), &lines);
        }
    }
}
