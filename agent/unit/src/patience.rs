//! Deadlines that count only the time in which this process itself runs.

use std::pin::pin;
use std::time::Duration;

/// A process that gets no CPU for longer than a slice loses no more than that slice.
const SLICES: u32 = 10;

/// What `work` gives within the limit; `None` after it. An answer that came while this process stood still was in time: it must not
/// take the server for silent, and end it, because it did not run itself.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    for _ in 0..SLICES {
        if let Ok(done) = tokio::time::timeout(limit / SLICES, work.as_mut()).await {
            return Some(done);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn gives_up_after_the_limit_and_not_before() {
        let begun = tokio::time::Instant::now();
        assert_eq!(within(LIMIT, std::future::pending::<()>()).await, None);
        assert!(begun.elapsed() >= LIMIT && begun.elapsed() < LIMIT * 11 / 10);
        let late = tokio::time::sleep(LIMIT * 9 / 10);
        assert_eq!(within(LIMIT, late).await, Some(()));
    }

    #[tokio::test]
    async fn takes_an_answer_that_came_while_the_process_stood_still() {
        let (answer, asked) = oneshot::channel();
        // runs on this thread as well, so only after the deadline, if time that stands still counted
        let server = tokio::spawn(async move {
            std::thread::sleep(LIMIT * 2);
            tokio::task::yield_now().await;
            answer.send(()).unwrap();
        });
        assert!(within(LIMIT, asked).await.is_some());
        server.await.unwrap();
    }
}
