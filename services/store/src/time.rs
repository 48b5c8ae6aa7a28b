//! Time in the database: microseconds since 1970, UTC, as BIGINT.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds of one second.
pub const SECOND_US: i64 = 1_000_000;
/// Microseconds of one day.
pub const DAY_US: i64 = 24 * 60 * 60 * SECOND_US;

/// Now, in microseconds.
pub fn now_us() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A duration in microseconds.
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// As protobuf.
pub fn timestamp(us: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: us.div_euclid(SECOND_US),
        nanos: (us.rem_euclid(SECOND_US) * 1_000) as i32,
    }
}

/// From protobuf; what is below a microsecond is cut off.
pub fn from_timestamp(timestamp: &prost_types::Timestamp) -> i64 {
    timestamp
        .seconds
        .saturating_mul(SECOND_US)
        .saturating_add(i64::from(timestamp.nanos) / 1_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_microsecond_time_survives_protobuf(us in -4_000_000_000_000_000_i64..4_000_000_000_000_000) {
            let shown = timestamp(us);
            prop_assert!((0..1_000_000_000).contains(&shown.nanos));
            prop_assert_eq!(from_timestamp(&shown), us);
        }
    }
}
