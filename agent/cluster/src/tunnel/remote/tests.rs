use std::time::Duration;

use futures::channel::mpsc as pipes;

use super::*;

/// The API server's end of a connection, and what a command's user has.
struct Played {
    says: pipes::Sender<Result<Bytes, pb::Error>>,
    hears: pipes::Receiver<Vec<u8>>,
    input: mpsc::Sender<Input>,
    output: mpsc::Receiver<Output>,
    ended: tokio::task::JoinHandle<Result<i32, pb::Error>>,
}

fn play(half_close: bool) -> Played {
    let (says, from) = pipes::channel(1);
    let (to, hears) = pipes::channel(1);
    let (input, fed) = mpsc::channel(1);
    let (printed, output) = mpsc::channel(1);
    let ended = tokio::spawn(carry(from, to, half_close, fed, printed));
    Played {
        says,
        hears,
        input,
        output,
        ended,
    }
}

const SUCCESS: &[u8] = br#"{"status":"Success"}"#;

impl Played {
    async fn say(&mut self, channel: u8, bytes: &[u8]) {
        let message = message(channel, bytes);
        self.says.send(Ok(message.into())).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn input_output_resizes_and_ends_have_channels_of_their_own() {
    let mut played = play(true);
    let size = pb::TerminalSize {
        width: 80,
        height: 24,
    };
    for part in [
        Input::Data(Bytes::from_static(b"in")),
        Input::Data(Bytes::new()),
        Input::Resize(size),
        Input::End,
    ] {
        played.input.send(part).await.unwrap();
    }
    assert_eq!(played.hears.next().await.unwrap(), b"\0in");
    let resized = played.hears.next().await.unwrap();
    assert_eq!(resized, b"\x04{\"Height\":24,\"Width\":80}");
    assert_eq!(played.hears.next().await.unwrap(), [CLOSE, STDIN]);
    // Output goes on after the end of the input.
    played.say(STDOUT, b"out").await;
    played.say(STDERR, b"").await;
    played.say(STDERR, b"err").await;
    let out = Output::Stdout(Bytes::from_static(b"out"));
    let err = Output::Stderr(Bytes::from_static(b"err"));
    assert_eq!(played.output.recv().await, Some(out));
    assert_eq!(played.output.recv().await, Some(err));
    played.say(STATUS, SUCCESS).await;
    assert_eq!(played.ended.await.unwrap().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn output_that_nobody_reads_stays_on_the_connection() {
    let mut played = play(true);
    let mut taken = 0;
    while let Ok(()) =
        tokio::time::timeout(Duration::from_secs(1), played.say(STDOUT, b"more")).await
    {
        taken += 1;
        assert!(taken < 100, "nothing holds it back");
    }
    // Input goes on meanwhile.
    let part = Input::Data(Bytes::from_static(b"in"));
    played.input.send(part).await.unwrap();
    assert_eq!(played.hears.next().await.unwrap(), b"\0in");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_does_not_read_its_input_still_says_how_it_ended() {
    let mut played = play(true);
    let closed = std::mem::replace(&mut played.hears, pipes::channel(1).1);
    drop(closed);
    let part = Input::Data(Bytes::from_static(b"in"));
    played.input.send(part).await.unwrap();
    played.say(STATUS, SUCCESS).await;
    assert_eq!(played.ended.await.unwrap().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_before_the_command_is_no_success() {
    let played = play(true);
    drop(played.says);
    let error = played.ended.await.unwrap().unwrap_err();
    assert_eq!(error.reason, "API_SERVER_AWAY");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_cannot_end_the_input_is_said_to_be_so() {
    let played = play(false);
    played.input.send(Input::End).await.unwrap();
    let error = played.ended.await.unwrap().unwrap_err();
    assert_eq!(error.reason, "HALF_CLOSE_UNSUPPORTED");
}
