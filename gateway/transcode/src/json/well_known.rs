//! The text forms of the well-known types: RFC 3339 times, durations, field masks, base64.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use bytes::{BufMut as _, BytesMut};

use super::number::{pad, push_unsigned};

/// 0001-01-01T00:00:00Z
const MIN_TIMESTAMP: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z
const MAX_TIMESTAMP: i64 = 253_402_300_799;
/// 10,000 years of 365.25 days, in seconds.
const MAX_DURATION: i64 = 315_576_000_000;
const DAY: i64 = 86_400;

/// Days since 1970-01-01 of a date of the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a count of days since 1970-01-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Seconds and nanoseconds of an RFC 3339 time.
pub(crate) fn parse_timestamp(text: &str) -> Option<(i64, i32)> {
    let bytes = text.as_bytes();
    let digits = |from: usize, to: usize| {
        let digits = bytes.get(from..to)?;
        digits.iter().all(u8::is_ascii_digit).then(|| {
            digits
                .iter()
                .fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))
        })
    };
    let is = |at: usize, byte: u8| (bytes.get(at) == Some(&byte)).then_some(());
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    for (at, byte) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        is(at, byte)?;
    }
    let date = days_from_civil(year, month, day);
    if civil_from_days(date) != (year, month, day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut at = 19;
    let mut nanos = 0;
    if is(at, b'.').is_some() {
        let length = bytes[at + 1..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        nanos = fraction(bytes.get(at + 1..at + 1 + length)?)?;
        at += 1 + length;
    }
    let offset = match bytes.get(at)? {
        b'Z' if bytes.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == at + 6 => {
            is(at + 3, b':')?;
            let (hours, minutes) = (digits(at + 1, at + 3)?, digits(at + 4, at + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    let seconds = date * DAY + hour * 3600 + minute * 60 + second - offset;
    (MIN_TIMESTAMP..=MAX_TIMESTAMP)
        .contains(&seconds)
        .then_some((seconds, nanos))
}

/// One to nine digits after the point, in nanoseconds.
fn fraction(digits: &[u8]) -> Option<i32> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    let value = digits
        .iter()
        .fold(0, |value, digit| value * 10 + i32::from(digit - b'0'));
    Some(value * 10i32.pow(9 - digits.len() as u32))
}

/// Appends an RFC 3339 time in UTC, without quotes. False when it is out of range.
pub(crate) fn push_timestamp(out: &mut Vec<u8>, seconds: i64, nanos: i32) -> bool {
    if !(MIN_TIMESTAMP..=MAX_TIMESTAMP).contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        return false;
    }
    let (year, month, day) = civil_from_days(seconds.div_euclid(DAY));
    let time = seconds.rem_euclid(DAY);
    let mut text = *b"0000-00-00T00:00:00";
    for (value, at, width) in [
        (year, 0, 4),
        (month, 5, 2),
        (day, 8, 2),
        (time / 3600, 11, 2),
        (time / 60 % 60, 14, 2),
        (time % 60, 17, 2),
    ] {
        pad(&mut text[at..at + width], value as u64);
    }
    out.extend_from_slice(&text);
    push_fraction(out, nanos.unsigned_abs());
    out.push(b'Z');
    true
}

/// Nothing, or a point and 3, 6 or 9 digits.
fn push_fraction(out: &mut Vec<u8>, nanos: u32) {
    let (value, width) = match nanos {
        0 => return,
        _ if nanos.is_multiple_of(1_000_000) => (nanos / 1_000_000, 3),
        _ if nanos.is_multiple_of(1_000) => (nanos / 1_000, 6),
        _ => (nanos, 9),
    };
    let mut text = *b".000000000";
    pad(&mut text[1..=width], u64::from(value));
    out.extend_from_slice(&text[..=width]);
}

/// Seconds and nanoseconds of a duration such as `-1.5s`; both have the sign.
pub(crate) fn parse_duration(text: &str) -> Option<(i64, i32)> {
    let text = text.strip_suffix('s')?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part) = match text.split_once('.') {
        Some((whole, part)) => (whole, Some(part)),
        None => (text, None),
    };
    let all_digits =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || whole.len() > 12 || !part.is_none_or(all_digits) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos = part.map_or(Some(0), |part| fraction(part.as_bytes()))?;
    if seconds > MAX_DURATION {
        return None;
    }
    Some(if negative {
        (-seconds, -nanos)
    } else {
        (seconds, nanos)
    })
}

/// Appends a duration, without quotes. False when it is out of range or its signs differ.
pub(crate) fn push_duration(out: &mut Vec<u8>, seconds: i64, nanos: i32) -> bool {
    let mixed = (seconds < 0 && nanos > 0) || (seconds > 0 && nanos < 0);
    if seconds.unsigned_abs() > MAX_DURATION as u64 || nanos.unsigned_abs() > 999_999_999 || mixed {
        return false;
    }
    if seconds < 0 || nanos < 0 {
        out.push(b'-');
    }
    push_unsigned(out, seconds.unsigned_abs());
    push_fraction(out, nanos.unsigned_abs());
    out.push(b's');
    true
}

/// A path of a field mask, as the proto file has it. Nothing when it is not in camel case.
pub(crate) fn snake_case(path: &str) -> Option<String> {
    let mut snake = String::with_capacity(path.len() + 4);
    for c in path.chars() {
        match c {
            '_' => return None,
            'A'..='Z' => {
                snake.push('_');
                snake.push(c.to_ascii_lowercase());
            }
            _ => snake.push(c),
        }
    }
    Some(snake)
}

/// Appends a path of a field mask in camel case. False when the way back would lead elsewhere.
pub(crate) fn push_camel_case(out: &mut String, path: &str) -> bool {
    let mut raise = false;
    for c in path.chars() {
        match c {
            'A'..='Z' => return false,
            '_' if raise => return false,
            '_' => raise = true,
            'a'..='z' if raise => {
                out.push(c.to_ascii_uppercase());
                raise = false;
            }
            _ if raise => return false,
            _ => out.push(c),
        }
    }
    !raise
}

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Appends what base64 stands for, in either alphabet, with or without padding. False when it is neither.
pub(crate) fn put_base64(out: &mut BytesMut, text: &str) -> bool {
    let engine = if text.contains(['-', '_']) {
        &URL_SAFE
    } else {
        &STANDARD
    };
    let start = out.len();
    out.put_bytes(0, base64::decoded_len_estimate(text.len()));
    let written = engine.decode_slice(text, &mut out[start..]);
    out.truncate(start + written.as_ref().copied().unwrap_or_default());
    written.is_ok()
}

/// Appends standard base64 with padding, in quotes.
pub(crate) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = general_purpose::STANDARD
        .encode_slice(bytes, &mut out[start..])
        .expect("the room is exact");
    out.truncate(start + written);
    out.push(b'"');
}
