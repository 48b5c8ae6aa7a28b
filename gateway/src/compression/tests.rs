use super::*;
use crate::{inbound, refusal};

const ALL: [Coding; 3] = [Coding::Gzip, Coding::Zstd, Coding::Brotli];

fn text() -> String {
    (0..2000).map(|number| format!("line {number}\n")).collect()
}

async fn packed(coding: Coding, text: &str) -> Bytes {
    let mut response = Response::new(refusal::full(text.to_owned()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    let response = compress(response, Some(coding));
    assert_eq!(response.headers()[header::CONTENT_ENCODING], coding.name());
    response.into_body().collect().await.unwrap().to_bytes()
}

async fn unpacked(coding: Coding, packed: Bytes, limit: usize) -> Result<Bytes, Refusal> {
    let fault = Fault::default();
    let parts = packed
        .chunks(100)
        .map(|part| Ok(Frame::data(Bytes::copy_from_slice(part))))
        .collect::<Vec<_>>();
    let body = http_body_util::StreamBody::new(futures::stream::iter(parts)).boxed_unsync();
    let body = decompress(body, coding, limit, &fault)?;
    let bounds = inbound::Bounds {
        bytes: Some(limit),
        pause: None,
        total: None,
    };
    inbound::collect(inbound::bounded(body, bounds, &fault), &fault).await
}

#[tokio::test]
async fn every_coding_comes_back() {
    for coding in ALL {
        let packed = packed(coding, &text()).await;
        assert!(packed.len() < text().len() / 2, "{coding:?}");
        assert_eq!(unpacked(coding, packed, 1 << 20).await.unwrap(), text());
    }
}

#[tokio::test]
async fn a_bomb_is_refused_before_it_fills_the_memory() {
    let zeros = "0".repeat(8 << 20);
    for coding in ALL {
        let packed = packed(coding, &zeros).await;
        let refused = unpacked(coding, packed, 64 * 1024).await.unwrap_err();
        assert_eq!(refused.http_status(), 413, "{coding:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_what_it_says_is_refused() {
    for coding in ALL {
        let refused = unpacked(
            coding,
            Bytes::from_static(b"{\"a\": 1}, and so on and on"),
            1000,
        )
        .await;
        assert_eq!(refused.unwrap_err().http_status(), 400, "{coding:?}");
    }
}

#[tokio::test]
async fn a_part_of_a_stream_is_readable_before_the_next_comes() {
    for coding in ALL {
        let (mut sender, body) = http_body_util::channel::Channel::<Bytes, BodyError>::new(1);
        let mut response = Response::new(body.boxed_unsync());
        let lines = HeaderValue::from_static("application/x-ndjson");
        response.headers_mut().insert(header::CONTENT_TYPE, lines);
        let mut body = compress(response, Some(coding)).into_body();
        sender
            .send_data(Bytes::from_static(b"{\"a\":1}\n"))
            .await
            .unwrap();
        let part = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let fault = Fault::default();
        let (mut first, rest) = http_body_util::channel::Channel::<Bytes, BodyError>::new(1);
        let mut back = decompress(rest.boxed_unsync(), coding, 1000, &fault).unwrap();
        first.send_data(part).await.unwrap();
        let read = back.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(read, "{\"a\":1}\n", "{coding:?}");
    }
}

#[test]
fn the_caller_chooses() {
    let of = |value: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        Coding::accepted(&headers)
    };
    assert_eq!(of("gzip, deflate, br, zstd"), Some(Coding::Zstd));
    assert_eq!(of("gzip;q=0.5, br;q=0.8"), Some(Coding::Brotli));
    assert_eq!(of("gzip;q=0"), None);
    assert_eq!(of("identity"), None);
    assert_eq!(Coding::accepted(&HeaderMap::new()), None);
}

#[test]
fn small_answers_and_images_are_left_alone() {
    for (content_type, size) in [("application/json", 100), ("image/png", 100_000)] {
        let mut response = Response::new(refusal::full("x".repeat(size)));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        let response = compress(response, Some(Coding::Gzip));
        assert!(!response.headers().contains_key(header::CONTENT_ENCODING));
    }
}
