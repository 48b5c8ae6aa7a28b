//! Canonical JSON (RFC 8785): one byte string per value, so that a digest names a value.

use std::fmt::Write as _;

use serde_json::Value;

/// Why a text has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotCanonical {
    /// Not JSON; the parser's words.
    Syntax(String),
    /// An integer beyond ±2^53 has no exact double.
    InexactInteger(String),
}

impl std::fmt::Display for NotCanonical {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Syntax(e) => write!(f, "not JSON: {e}"),
            Self::InexactInteger(n) => {
                write!(f, "integer {n} is beyond 2^53; write it as a string")
            }
        }
    }
}

impl std::error::Error for NotCanonical {}

/// The canonical form of a JSON text.
///
/// # Errors
/// When the text is not JSON or holds an integer beyond ±2^53.
pub fn canonical_json(text: &[u8]) -> Result<Vec<u8>, NotCanonical> {
    let value: Value =
        serde_json::from_slice(text).map_err(|e| NotCanonical::Syntax(e.to_string()))?;
    of_value(&value)
}

/// The canonical form of a value.
///
/// # Errors
/// When it holds an integer beyond ±2^53.
pub(super) fn of_value(value: &Value) -> Result<Vec<u8>, NotCanonical> {
    let mut out = String::new();
    write_value(value, &mut out)?;
    Ok(out.into_bytes())
}

fn write_value(value: &Value, out: &mut String) -> Result<(), NotCanonical> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => write_number(n, out)?,
        Value::String(s) => write_string(s, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(item, out)?;
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut members = map.iter().collect::<Vec<_>>();
            members.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
            out.push('{');
            for (i, (name, member)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                write_value(member, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn write_string(s: &str, out: &mut String) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn write_number(n: &serde_json::Number, out: &mut String) -> Result<(), NotCanonical> {
    const EXACT: u64 = 1 << 53;
    if let Some(i) = n.as_i64() {
        if i.unsigned_abs() > EXACT {
            return Err(NotCanonical::InexactInteger(n.to_string()));
        }
        let _ = write!(out, "{i}");
        return Ok(());
    }
    match n.as_f64() {
        Some(f) if !n.is_u64() && f.is_finite() => {
            write_double(f, out);
            Ok(())
        }
        _ => Err(NotCanonical::InexactInteger(n.to_string())),
    }
}

/// ECMAScript's `Number::toString`.
fn write_double(f: f64, out: &mut String) {
    if f == 0.0 {
        out.push('0');
        return;
    }
    if f < 0.0 {
        out.push('-');
    }
    // `{:e}` has the shortest digits that read back to the same double.
    let scientific = format!("{:e}", f.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let count = digits.len() as i32;
    // The value is 0.DIGITS × 10^point.
    let point = exponent + 1;
    if count <= point && point <= 21 {
        out.push_str(&digits);
        out.extend(std::iter::repeat_n('0', (point - count) as usize));
    } else if 0 < point && point <= 21 {
        out.push_str(&digits[..point as usize]);
        out.push('.');
        out.push_str(&digits[point as usize..]);
    } else if -6 < point && point <= 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', (-point) as usize));
        out.push_str(&digits);
    } else {
        out.push_str(&digits[..1]);
        if count > 1 {
            out.push('.');
            out.push_str(&digits[1..]);
        }
        out.push('e');
        out.push(if point > 0 { '+' } else { '-' });
        let _ = write!(out, "{}", (point - 1).abs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        String::from_utf8(canonical_json(text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn sorts_members_by_utf_16_and_drops_space() {
        assert_eq!(
            canonical(
                "{ \"\u{20ac}\": 1, \"\\r\": 2, \"\u{1f600}\": 3, \"1\": [ ], \"\u{fb33}\": null }"
            ),
            "{\"\\r\":2,\"1\":[],\"\u{20ac}\":1,\"\u{1f600}\":3,\"\u{fb33}\":null}"
        );
    }

    #[test]
    fn writes_numbers_as_ecmascript_does() {
        assert_eq!(
            canonical(
                "[333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001, 1.0, -0.0, 1e21, 123456789012345680000.0, 1e-7]"
            ),
            "[333333333.3333333,1e+30,4.5,0.002,1e-27,1,0,1e+21,123456789012345680000,1e-7]"
        );
    }

    #[test]
    fn refuses_an_integer_without_an_exact_double() {
        assert!(matches!(
            canonical_json(b"[9007199254740993]"),
            Err(NotCanonical::InexactInteger(_))
        ));
        assert_eq!(canonical("[9007199254740992]"), "[9007199254740992]");
    }

    proptest::proptest! {
        #[test]
        fn canonical_form_is_a_fixed_point(numbers in proptest::collection::vec(-1e300f64..1e300, 0..8), name in "\\PC{0,12}") {
            let text = serde_json::to_vec(&serde_json::json!({ name: numbers })).unwrap();
            let once = canonical_json(&text).unwrap();
            proptest::prop_assert_eq!(canonical_json(&once).unwrap(), once);
        }
    }
}
