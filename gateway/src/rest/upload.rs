//! Request streams over REST: JSON values become messages as they come, and so do the bytes of an `HttpBody`. Path and query belong to the
//! first message.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::request::Parts;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use upm_transcode::{BodyKind, RouteId, RouteMatch};

use super::{Splitter, content_type, is_json};
use crate::{
    Body, BodyError, dispatch::Exchange, forward::Payload, frame, inbound::Fault, refusal::Refusal,
    view::View,
};

/// Largest piece of an `HttpBody` in one message, in bytes.
const PIECE: usize = 256 * 1024;

/// The messages of a request. Waits for the first, because it may be refused.
pub(super) async fn stream(
    exchange: &Exchange<'_>,
    matched: &RouteMatch<'_>,
    parts: &Parts,
    body: Body,
    fault: &Fault,
) -> Result<Payload, Refusal> {
    let limit = exchange.gateway.config().max_body_bytes;
    let query = parts.uri.query();
    let raw = matched.body_kind() == BodyKind::HttpBody;
    let mut source = if raw {
        Source::Pieces(body, Bytes::new())
    } else {
        Source::Values(body, Splitter::new(limit), false)
    };
    let first = source.next(fault).await?;
    if first.is_some() && !raw && !is_json(&parts.headers) {
        return Err(Refusal::content_type());
    }
    let Some(first) = first.or_else(|| raw.then(Bytes::new)) else {
        return Ok(Payload::Whole(Bytes::new()));
    };
    let mut message = frame::open(first.len() + 64);
    if raw {
        matched.encode_http_body(query, content_type(&parts.headers), &first, &mut message)
    } else {
        matched.encode_request(query, &first, &mut message)
    }
    .map_err(|error| Refusal::bind(&error))?;
    let later = Later {
        source,
        view: exchange.view.clone(),
        route: matched.id(),
        fault: fault.clone(),
        count: 1,
    };
    let rest = stream::unfold(Some(later), Later::next);
    let first = stream::iter([Ok(Frame::data(frame::seal(message)))]);
    Ok(Payload::Stream(
        StreamBody::new(first.chain(rest)).boxed_unsync(),
    ))
}

/// Where messages come from.
enum Source {
    /// JSON values; true when the body has ended.
    Values(Body, Splitter, bool),
    /// Bytes, with what is left of the last part.
    Pieces(Body, Bytes),
}

impl Source {
    async fn next(&mut self, fault: &Fault) -> Result<Option<Bytes>, Refusal> {
        match self {
            Self::Values(body, splitter, ended) => loop {
                if let Some(value) = splitter.next()? {
                    return Ok(Some(value));
                }
                if *ended {
                    return Ok(None);
                }
                let Some(data) = part(body, fault).await? else {
                    *ended = true;
                    return splitter.finish();
                };
                splitter.push(&data);
            },
            Self::Pieces(body, left) => {
                while left.is_empty() {
                    match part(body, fault).await? {
                        Some(data) => *left = data,
                        None => return Ok(None),
                    }
                }
                Ok(Some(left.split_to(left.len().min(PIECE))))
            }
        }
    }
}

async fn part(body: &mut Body, fault: &Fault) -> Result<Option<Bytes>, Refusal> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(_)) => {
                return Err(fault
                    .take()
                    .unwrap_or_else(|| Refusal::malformed("the body was cut")));
            }
        }
    }
}

/// The messages after the first.
struct Later {
    source: Source,
    view: Arc<View>,
    route: RouteId,
    fault: Fault,
    count: u64,
}

type Item = Result<Frame<Bytes>, BodyError>;

impl Later {
    async fn next(later: Option<Self>) -> Option<(Item, Option<Self>)> {
        let mut later = later?;
        let message = match later.source.next(&later.fault).await {
            Ok(None) => return None,
            Ok(Some(value)) => later.message(&value),
            Err(refusal) => Err(refusal),
        };
        Some(match message {
            Ok(message) => (Ok(Frame::data(message)), Some(later)),
            Err(refusal) => (Err(later.fault.set(refusal)), None),
        })
    }

    fn message(&mut self, value: &[u8]) -> Result<Bytes, Refusal> {
        self.count += 1;
        let mut message = frame::open(value.len());
        match self.source {
            Source::Values(..) => self
                .view
                .tables
                .encode_next(self.route, value, &mut message),
            Source::Pieces(..) => {
                self.view
                    .tables
                    .encode_next_http_body(self.route, value, &mut message)
            }
        }
        .map_err(|error| Refusal::bind_at(&error, self.count))?;
        Ok(frame::seal(message))
    }
}
