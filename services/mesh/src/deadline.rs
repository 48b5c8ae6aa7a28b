//! The header `grpc-timeout`.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

/// The header's name.
pub const HEADER: &str = "grpc-timeout";

/// The time that the caller gives; `None` without a header or with a malformed one.
pub fn read(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get(HEADER)?.to_str().ok()?)
}

/// The header's text: up to eight digits and a unit of `HMSmun`. `None` when it is malformed.
pub fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The header's value, rounded up to the finest unit that has room in eight digits.
pub fn write(time: Duration) -> HeaderValue {
    const ROOM: u128 = 99_999_999;
    let units = [
        (time.as_nanos().div_ceil(1_000), "u"),
        (time.as_nanos().div_ceil(1_000_000), "m"),
        (time.as_nanos().div_ceil(1_000_000_000), "S"),
    ];
    let text = units
        .into_iter()
        .find(|(count, _)| *count <= ROOM)
        .map_or_else(
            || format!("{ROOM}S"),
            |(count, unit)| format!("{count}{unit}"),
        );
    HeaderValue::try_from(text).expect("digits and a letter are a header value")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, value.parse().expect("a header value"));
        headers
    }

    #[test]
    fn malformed_times_are_no_times() {
        for text in ["", "S", "1", "-1S", "123456789S", "1x", "1 S", "+5S"] {
            assert_eq!(read(&headers(text)), None, "{text}");
        }
        assert_eq!(read(&HeaderMap::new()), None);
        assert_eq!(read(&headers("3M")), Some(Duration::from_mins(3)));
    }

    proptest! {
        #[test]
        fn a_written_time_reads_back_and_is_never_shorter(micros in 0_u64..40_000_000_000_000) {
            let time = Duration::from_micros(micros);
            let mut map = HeaderMap::new();
            map.insert(HEADER, write(time));
            let read = read(&map).expect("a time");
            prop_assert!(read >= time && read <= time + Duration::from_secs(1));
        }
    }
}
