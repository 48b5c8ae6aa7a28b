use std::time::Duration;

use tokio_stream::wrappers::ReceiverStream;

use super::*;

type Wire = mpsc::Sender<Result<pb::Bytes, Status>>;
type Ends = (
    Sender<Result<pb::Bytes, Status>>,
    Receiver<Result<pb::Bytes, Status>>,
);

/// Two ends with a connection between them that holds a few frames.
fn pair(granted: u32) -> (Ends, Ends) {
    let (to_two, at_two) = mpsc::channel(4);
    let (to_one, at_one) = mpsc::channel(4);
    (
        ends(to_two, Ok, ReceiverStream::new(at_one), granted),
        ends(to_one, Ok, ReceiverStream::new(at_two), granted),
    )
}

fn raw() -> (Wire, Ends) {
    let (wire, frames) = mpsc::channel(4);
    let (to, _) = mpsc::channel(4);
    (wire, ends(to, Ok, ReceiverStream::new(frames), WINDOW))
}

fn data(bytes: usize) -> Frame {
    Frame::Data(vec![7; bytes].into())
}

/// How much goes before it stops.
async fn fill(sender: &Sender<Result<pb::Bytes, Status>>) -> u32 {
    let mut sent = 0;
    while let Ok(true) =
        tokio::time::timeout(Duration::from_secs(1), sender.send(data(1_000))).await
    {
        sent += cost(&data(1_000));
        assert!(sent < 100 * WINDOW, "nothing holds it back");
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_stops_the_other_end_at_the_window() {
    let ((sender, _receiver), (_back, mut reader)) = pair(WINDOW);
    let sent = fill(&sender).await;
    assert!(
        sent <= WINDOW && sent > WINDOW - 2 * cost(&data(1_000)),
        "{sent}"
    );
    // What is taken is granted again.
    let mut taken = 0;
    while taken < WINDOW / 2 {
        taken += cost(&reader.next().await.unwrap().unwrap());
    }
    let more = fill(&sender).await;
    assert!(more >= WINDOW / 4 && more <= taken, "{more}");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_knows_no_credit_is_held_back_by_its_stream() {
    let ((sender, _receiver), (_back, _reader)) = pair(0);
    let sent = fill(&sender).await;
    assert!(sent < 2 * WINDOW, "{sent}");
}

#[tokio::test(start_paused = true)]
async fn any_amount_passes_in_order_both_ways_at_once() {
    let ((one, mut from_two), (two, mut from_one)) = pair(WINDOW);
    let bytes = (0..4 * WINDOW).map(|n| n as u8).collect::<Vec<_>>();
    let sends = async |sender: Sender<_>| {
        assert!(sender.send_all(bytes.clone().into(), Frame::Data).await);
        assert!(sender.send(Frame::InputEnd(pb::InputEnd {})).await);
    };
    let takes = async |receiver: &mut Receiver<_>| {
        let mut all = Vec::new();
        loop {
            match receiver.next().await.unwrap().unwrap() {
                Frame::Data(part) => all.extend_from_slice(&part),
                _ => return all,
            }
        }
    };
    let (first, second, ..) = tokio::join!(
        takes(&mut from_one),
        takes(&mut from_two),
        sends(one),
        sends(two)
    );
    assert!(first == bytes && second == bytes);
}

#[tokio::test(start_paused = true)]
async fn whoever_sends_more_than_was_granted_is_cut() {
    let (wire, (_sender, mut receiver)) = raw();
    let gone = receiver.gone();
    let flood = async {
        loop {
            let frame = Some(Frame::Stderr(vec![0; 1 << 16].into()));
            if wire.send(Ok(pb::Bytes { frame })).await.is_err() {
                return;
            }
        }
    };
    flood.await;
    assert!(gone.is_cancelled());
    let mut held = 0;
    let broken = loop {
        match receiver.next().await.unwrap() {
            Ok(frame) => held += cost(&frame),
            Err(broken) => break broken,
        }
    };
    assert!(matches!(broken, Broken::Overrun), "{broken}");
    assert!(held <= WINDOW + (1 << 17), "{held}");
}

#[tokio::test(start_paused = true)]
async fn credit_without_end_grants_no_more_than_a_window_and_unknown_frames_are_passed_over() {
    let (wire, (sender, mut receiver)) = raw();
    for frame in [
        Some(Frame::Credit(u32::MAX)),
        None,
        Some(Frame::Credit(u32::MAX)),
        Some(data(1)),
    ] {
        wire.send(Ok(pb::Bytes { frame })).await.unwrap();
    }
    assert_eq!(receiver.next().await.unwrap().unwrap(), data(1));
    assert_eq!(sender.credit.unwrap().available_permits(), WINDOW as usize);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_gone_is_noticed_by_whoever_waits_for_credit() {
    let ((sender, _receiver), two) = pair(WINDOW);
    fill(&sender).await;
    drop(two);
    let noticed = tokio::time::timeout(Duration::from_secs(1), sender.send(data(1_000)));
    assert!(!noticed.await.unwrap());
}
