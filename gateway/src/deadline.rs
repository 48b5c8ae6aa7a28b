//! How long a call may take, as the caller says it: `grpc-timeout`, `X-Server-Timeout`.

use std::time::Duration;

use http::HeaderMap;
use upm_mesh::deadline::{HEADER as GRPC, parse};

use crate::refusal::Refusal;

/// Seconds, as browsers and curl can say it.
pub(crate) const SERVER: &str = "x-server-timeout";

/// The shortest of what the caller and the method allow.
pub(crate) fn of(
    caller: &HeaderMap,
    method: Option<Duration>,
) -> Result<Option<Duration>, Refusal> {
    Ok([read(caller)?, seconds(caller)?, method]
        .into_iter()
        .flatten()
        .min())
}

fn read(caller: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = caller.get(GRPC) else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .and_then(parse)
        .map(Some)
        .ok_or_else(|| Refusal::malformed("grpc-timeout is up to eight digits and a unit"))
}

fn seconds(caller: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = caller.get(SERVER) else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.parse::<f64>().ok())
        .filter(|seconds| *seconds > 0.0 && *seconds <= 86_400.0)
        .map(|seconds| Some(Duration::from_secs_f64(seconds)))
        .ok_or_else(|| Refusal::malformed("X-Server-Timeout is a number of seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn the_shortest_time_counts() {
        let minute = Some(Duration::from_mins(1));
        let of = |name, value| of(&headers(name, value), minute).unwrap().unwrap();
        assert_eq!(of(GRPC, "1500m"), Duration::from_millis(1500));
        assert_eq!(of(GRPC, "2M"), Duration::from_mins(1));
        assert_eq!(of(SERVER, "1.5"), Duration::from_millis(1500));
    }

    #[test]
    fn a_malformed_time_is_refused() {
        for (name, value) in [
            (GRPC, "1"),
            (GRPC, "123456789S"),
            (GRPC, "-1S"),
            (SERVER, "soon"),
            (SERVER, "0"),
        ] {
            assert!(of(&headers(name, value), None).is_err(), "{name}: {value}");
        }
    }
}
