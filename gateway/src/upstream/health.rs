//! Active health: the standard service `grpc.health.v1.Health`, asked again and again.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header, uri::PathAndQuery};
use http_body_util::BodyExt as _;
use upm_transcode::status::Code;

use super::{contain::Contain, endpoint::Endpoint};
use crate::{
    frame,
    refusal::{self, Upstream},
};

/// How often an endpoint is asked.
const INTERVAL: Duration = Duration::from_secs(5);
/// An answer that takes longer is none.
const TIMEOUT: Duration = Duration::from_secs(2);
/// So many bad answers one after the other take an endpoint out; one good answer brings it back.
const BAD: u32 = 2;
/// `SERVING` in a `HealthCheckResponse`.
const SERVING: &[u8] = &[0x08, 0x01];

/// What an endpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Serving,
    NotServing,
    /// The server has no health service: connections and calls speak for it.
    Nothing,
    /// No answer.
    Silent,
}

/// Asks until it is cancelled, or until the endpoint has no health service.
pub(super) async fn watch(endpoint: Arc<Endpoint>, contain: Arc<Contain>) {
    let mut bad = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL.mul_f64(rand::random_range(0.8..=1.2))) => {}
            () = endpoint.cancel().cancelled() => return,
        }
        if !endpoint.is_connected() {
            continue;
        }
        let said = tokio::time::timeout(TIMEOUT, ask(&endpoint, &contain)).await;
        match said.unwrap_or(Said::Silent) {
            Said::Serving => {
                bad = 0;
                endpoint.set_healthy(true);
            }
            Said::Nothing => {
                endpoint.set_healthy(true);
                return;
            }
            Said::NotServing | Said::Silent => {
                bad += 1;
                if bad >= BAD {
                    endpoint.set_healthy(false);
                }
            }
        }
    }
}

async fn ask(endpoint: &Arc<Endpoint>, contain: &Arc<Contain>) -> Said {
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let body = refusal::full(frame::seal(frame::open(0)));
    let Ok(response) = endpoint.send(&path, headers, body, false, contain).await else {
        return Said::Silent;
    };
    let (parts, body) = response.into_parts();
    let Ok(collected) = http_body_util::Limited::new(body, 1024).collect().await else {
        return Said::Silent;
    };
    let status =
        Upstream::read(&parts.headers).or_else(|| collected.trailers().and_then(Upstream::read));
    let bytes: Bytes = collected.to_bytes();
    match status.map(|status| status.code) {
        Some(Code::Ok) if bytes.get(frame::PREFIX..) == Some(SERVING) => Said::Serving,
        Some(Code::Ok) => Said::NotServing,
        Some(Code::Unimplemented | Code::NotFound) => Said::Nothing,
        _ => Said::Silent,
    }
}
