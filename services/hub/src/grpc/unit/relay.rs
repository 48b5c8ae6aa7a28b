//! A request stream that another replica may have to answer.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, future, stream};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::Error;

/// Time for the first message.
const FIRST: Duration = Duration::from_secs(10);

/// The first message, and the rest. A replica that is asked gets the first one, and the rest only when it has taken the call: so a call that
/// it has not taken can be repeated elsewhere.
pub(super) struct Relay<T> {
    first: T,
    rest: Arc<Mutex<Streaming<T>>>,
}

impl<T: Clone + Send + 'static> Relay<T> {
    /// Reads the first message.
    pub(super) async fn begin(mut from: Streaming<T>) -> Result<Self, Status> {
        let first = tokio::time::timeout(FIRST, from.message())
            .await
            .map_err(|_| Error::field("start", "did not come in time"))??
            .ok_or_else(|| Error::field("start", "is missing"))?;
        Ok(Self {
            first,
            rest: Arc::new(Mutex::new(from)),
        })
    }

    pub(super) fn first(&self) -> &T {
        &self.first
    }

    /// The whole stream for another replica, and what lets the rest go.
    pub(super) fn repeat(&self) -> (impl Stream<Item = T> + Send + 'static, CancellationToken) {
        let taken = CancellationToken::new();
        let (gate, rest) = (taken.clone(), self.rest.clone());
        let rest = stream::once(async move { gate.cancelled_owned().await })
            .flat_map(move |()| parts(rest.clone()))
            .filter_map(async |part: Result<T, Status>| match part {
                Ok(part) => Some(part),
                // A stream that breaks must not look like one that ends: the call ends with its answer, which nobody reads any more.
                Err(_) => future::pending().await,
            });
        let first = self.first.clone();
        (stream::once(async move { first }).chain(rest), taken)
    }

    /// The rest, for this replica.
    pub(super) fn into_rest(self) -> impl Stream<Item = Result<T, Error>> + Send + 'static {
        parts(self.rest).map(|part| part.map_err(|_| Error::SessionEnded("CALLER_GONE")))
    }
}

fn parts<T: Send + 'static>(
    from: Arc<Mutex<Streaming<T>>>,
) -> impl Stream<Item = Result<T, Status>> + Send + 'static {
    stream::unfold(from, async |from| {
        let next = from.lock().await.next().await;
        next.map(|part| (part, from))
    })
}
