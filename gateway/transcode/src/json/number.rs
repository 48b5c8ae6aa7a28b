//! Numbers: exact integers from any JSON notation, ranges, and fast decimal output.

/// Whether the text is a number by the grammar of JSON.
pub(crate) fn is_number(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        let start = at;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        (at > start).then_some(at)
    };
    let start = usize::from(bytes.first() == Some(&b'-'));
    let Some(mut at) = digits(start) else {
        return false;
    };
    if bytes[start] == b'0' && at > start + 1 {
        return false;
    }
    if bytes.get(at) == Some(&b'.') {
        let Some(end) = digits(at + 1) else {
            return false;
        };
        at = end;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let Some(end) = digits(at + 1 + sign) else {
            return false;
        };
        at = end;
    }
    at == bytes.len()
}

/// The integer that a JSON number stands for; nothing when it has a fraction, is no number, or does not fit in
/// 65 bits with sign.
pub(crate) fn integer(text: &str) -> Option<i128> {
    let bytes = text.as_bytes();
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let plain = (1..=19).contains(&digits.len())
        && digits.iter().all(u8::is_ascii_digit)
        && (digits.len() == 1 || digits[0] != b'0');
    let value = if plain {
        i128::from(
            digits
                .iter()
                .fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0')),
        )
    } else {
        decimal(text)?
    };
    Some(if negative { -value } else { value })
}

/// The magnitude of a number with point or exponent, when it is whole.
fn decimal(text: &str) -> Option<i128> {
    if !is_number(text) {
        return None;
    }
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent),
        None => (text, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits: Vec<u8> = whole
        .bytes()
        .chain(fraction.bytes())
        .map(|digit| digit - b'0')
        .collect();
    while digits.last() == Some(&0) && digits.len() > whole.len() {
        digits.pop();
    }
    if digits.iter().all(|digit| *digit == 0) {
        return Some(0);
    }
    let exponent: i64 = exponent.parse().ok()?;
    let mut shift = exponent - (digits.len() as i64 - whole.len() as i64);
    while shift < 0 {
        if digits.pop()? != 0 {
            return None;
        }
        shift += 1;
    }
    let first = digits.iter().position(|digit| *digit != 0)?;
    let significant = &digits[first..];
    if significant.len() as i64 + shift > 20 {
        return None;
    }
    let value = significant
        .iter()
        .fold(0i128, |value, digit| value * 10 + i128::from(*digit));
    Some(value * 10i128.pow(shift as u32))
}

/// A double from a JSON number or one of the three names; nothing when it is neither or out of range.
pub(crate) fn double(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => text
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite() && is_number(text)),
    }
}

/// A float from a JSON number or one of the three names; nothing when it is neither or out of range.
pub(crate) fn float(text: &str) -> Option<f32> {
    match text {
        "NaN" => Some(f32::NAN),
        "Infinity" => Some(f32::INFINITY),
        "-Infinity" => Some(f32::NEG_INFINITY),
        _ => text
            .parse()
            .ok()
            .filter(|value: &f32| value.is_finite() && is_number(text)),
    }
}

pub(crate) fn push_unsigned(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

pub(crate) fn push_signed(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    push_unsigned(out, value.unsigned_abs());
}

/// Fills the place with the last digits of the value, and with zeros in front.
#[inline]
pub(crate) fn pad(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

pub(crate) fn push_double(out: &mut Vec<u8>, value: f64) {
    match name(value) {
        Some(name) => out.extend_from_slice(name),
        None => serde_json::to_writer(out, &value).expect("a vector takes every number"),
    }
}

pub(crate) fn push_float(out: &mut Vec<u8>, value: f32) {
    match name(f64::from(value)) {
        Some(name) => out.extend_from_slice(name),
        None => serde_json::to_writer(out, &value).expect("a vector takes every number"),
    }
}

fn name(value: f64) -> Option<&'static [u8]> {
    if value.is_finite() {
        None
    } else if value.is_nan() {
        Some(b"\"NaN\"")
    } else if value > 0.0 {
        Some(b"\"Infinity\"")
    } else {
        Some(b"\"-Infinity\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_integers_in_every_notation_exactly() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("1e3", 1000),
            ("1.50e1", 15),
            ("100e-2", 1),
            ("-9223372036854775808", i128::from(i64::MIN)),
        ] {
            assert_eq!(integer(text), Some(value), "{text}");
        }
        assert_eq!(
            integer("1.8446744073709551615e19"),
            Some(i128::from(u64::MAX))
        );
        assert_eq!(
            integer("18446744073709551615.000"),
            Some(i128::from(u64::MAX))
        );
        assert_eq!(integer("0e99999999999"), Some(0));
    }

    #[test]
    fn refuses_fractions_leading_zeros_and_what_is_too_long() {
        for text in [
            "",
            "-",
            "01",
            "1.5",
            "1e-1",
            "+1",
            " 1",
            "0x1",
            "1e999999999",
            "1e99999999999999999999",
            "1.",
            ".5",
        ] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    #[test]
    fn refuses_floats_out_of_range_and_other_names_of_infinity() {
        assert_eq!(double("1e309"), None);
        assert_eq!(float("3.5e38"), None);
        assert_eq!(double("inf"), None);
        assert_eq!(double("nan"), None);
        assert_eq!(double("-Infinity"), Some(f64::NEG_INFINITY));
        assert_eq!(float("1.5"), Some(1.5));
    }
}
