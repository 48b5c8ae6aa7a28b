//! Both ends of a tunnel: frames within credit, so that a tunnel whose reader is slow holds up nothing else on its connection.
//!
//! Each end reads its stream as fast as it comes, into a queue that the window bounds, and grants more as its user takes frames. The
//! connection's own flow control could not do that: it is shared, and a few tunnels that nobody reads would use it up for the session.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::Status;
use upm_proto::hub::v1::{self as pb, bytes::Frame};

/// What an end may send before the other one has granted more; frames count as [`cost`] says.
pub const WINDOW: u32 = 256 * 1024;
/// Bytes of one data frame.
pub const CHUNK: usize = 32 * 1024;
/// More is granted when so much was taken: often enough to keep the other end busy, seldom enough to cost nothing.
const GRANT: u32 = WINDOW / 4;
/// What a frame costs beside its bytes.
const OVERHEAD: u32 = 64;

/// What a frame counts.
pub fn cost(frame: &Frame) -> u32 {
    match frame {
        Frame::Hello(_) | Frame::Credit(_) => 0,
        Frame::Data(bytes) | Frame::Stderr(bytes) => u32::try_from(bytes.len())
            .unwrap_or(u32::MAX)
            .saturating_add(OVERHEAD),
        _ => OVERHEAD,
    }
}

/// Why an end hears nothing more.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The other end sent more than it was granted.
    #[error("more was sent than was granted")]
    Overrun,
    /// The stream broke.
    #[error("the stream of a tunnel broke: {}", .0.message())]
    Stream(Box<Status>),
}

/// The way out of one end. `T` is what its stream carries. The stream that comes in is read until this and the receiver are dropped, because
/// grants come in it.
#[derive(Debug)]
pub struct Sender<T> {
    to: mpsc::Sender<T>,
    wrap: fn(pb::Bytes) -> T,
    /// `None` when the other end grants nothing.
    credit: Option<Arc<Semaphore>>,
    reader: Arc<AbortOnDropHandle<()>>,
}

/// The way in of one end. What it has not taken is dropped with it.
#[derive(Debug)]
pub struct Receiver<T> {
    queue: mpsc::UnboundedReceiver<Result<Frame, Broken>>,
    held: Arc<Held>,
    /// Taken and not granted again yet.
    taken: u32,
    /// For grants.
    back: Sender<T>,
    gone: CancellationToken,
}

/// What was received and not granted again.
#[derive(Debug, Default)]
struct Held {
    cost: AtomicU32,
    less: Notify,
}

/// Both ways of one end. `granted` is what the other end's first message grants: 0 when it knows no credit; it is then held back by its stream alone.
pub fn ends<T: Send + 'static>(
    to: mpsc::Sender<T>,
    wrap: fn(pb::Bytes) -> T,
    from: impl Stream<Item = Result<pb::Bytes, Status>> + Send + Unpin + 'static,
    granted: u32,
) -> (Sender<T>, Receiver<T>) {
    let credit = (granted > 0).then(|| Arc::new(Semaphore::new(granted as usize)));
    let (into, queue) = mpsc::unbounded_channel();
    let (held, gone) = (Arc::new(Held::default()), CancellationToken::new());
    let reading = {
        let (credit, held) = (credit.clone(), held.clone());
        let ended = gone.clone().drop_guard();
        async move {
            let broken = read(from, &into, credit.as_deref(), &held).await.err();
            if let Some(broken) = broken {
                let _ = into.send(Err(broken));
            }
            drop(ended);
        }
    };
    let reader = Arc::new(AbortOnDropHandle::new(tokio::spawn(reading)));
    let sender = Sender {
        to,
        wrap,
        credit,
        reader,
    };
    let receiver = Receiver {
        queue,
        held,
        taken: 0,
        back: sender.clone(),
        gone,
    };
    (sender, receiver)
}

/// Reads to the end of the stream.
async fn read(
    mut from: impl Stream<Item = Result<pb::Bytes, Status>> + Unpin,
    into: &mpsc::UnboundedSender<Result<Frame, Broken>>,
    credit: Option<&Semaphore>,
    held: &Held,
) -> Result<(), Broken> {
    while let Some(next) = from.next().await {
        let next = next.map_err(|status| Broken::Stream(Box::new(status)))?;
        match (next.frame, credit) {
            (Some(Frame::Credit(more)), Some(credit)) => {
                // Nobody is granted more than a window, however often.
                let room = (WINDOW as usize).saturating_sub(credit.available_permits());
                credit.add_permits((more as usize).min(room));
            }
            (None | Some(Frame::Credit(_)), _) => {}
            (Some(frame), credit) => {
                let cost = cost(&frame);
                let before = held.cost.fetch_add(cost, Ordering::AcqRel);
                if into.send(Ok(frame)).is_err() {
                    // Nobody takes frames any more; grants are still of use.
                    continue;
                }
                match credit {
                    Some(_) if before.saturating_add(cost) > WINDOW => return Err(Broken::Overrun),
                    Some(_) => {}
                    None => held.below(WINDOW).await,
                }
            }
        }
    }
    Ok(())
}

impl Held {
    fn release(&self, cost: u32) {
        self.cost.fetch_sub(cost, Ordering::AcqRel);
        self.less.notify_one();
    }

    async fn below(&self, bound: u32) {
        while self.cost.load(Ordering::Acquire) > bound {
            self.less.notified().await;
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            to: self.to.clone(),
            wrap: self.wrap,
            credit: self.credit.clone(),
            reader: self.reader.clone(),
        }
    }
}

impl<T> Sender<T> {
    /// Sends a frame when there is credit for it; false when nobody takes it any more.
    pub async fn send(&self, frame: Frame) -> bool {
        let paid = async {
            if let Some(credit) = &self.credit
                && let Ok(permits) = credit.acquire_many(cost(&frame)).await
            {
                permits.forget();
            }
        };
        tokio::select! {
            () = paid => {}
            () = self.to.closed() => return false,
        }
        let frame = pb::Bytes { frame: Some(frame) };
        self.to.send((self.wrap)(frame)).await.is_ok()
    }

    /// Sends bytes in frames of at most [`CHUNK`]; false when nobody takes them any more.
    pub async fn send_all(&self, mut bytes: Bytes, frame: fn(Bytes) -> Frame) -> bool {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(CHUNK));
            if !self.send(frame(part)).await {
                return false;
            }
        }
        true
    }
}

impl<T> Receiver<T> {
    /// The next frame; `None` at the end of the stream. Grants what the frames before it cost: whoever asks for the next has dealt with them.
    pub async fn next(&mut self) -> Option<Result<Frame, Broken>> {
        if self.taken >= GRANT {
            let more = std::mem::take(&mut self.taken);
            self.held.release(more);
            // An end that grants none heeds none.
            if self.back.credit.is_some() {
                self.back.send(Frame::Credit(more)).await;
            }
        }
        let next = self.queue.recv().await;
        if let Some(Ok(frame)) = &next {
            self.taken += cost(frame);
        }
        next
    }

    /// Cancelled when the stream has ended, also when frames of it are not taken yet.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }
}

#[cfg(test)]
mod tests;
