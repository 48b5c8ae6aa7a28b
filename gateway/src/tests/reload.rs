//! Descriptors: from files and from servers, changed while calls run.

use std::time::Duration;

use super::upstreams::Healthy;
use crate::{
    Descriptors,
    testing::{Running, Server, descriptor_set},
};

/// The descriptors with another path for notes.
fn changed(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut set = descriptor_set().to_vec();
    let mut at = 0;
    while let Some(found) = set[at..]
        .windows(from.len())
        .position(|window| window == from.as_bytes())
    {
        set[at + found..at + found + to.len()].copy_from_slice(to.as_bytes());
        at += found + to.len();
    }
    set
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_are_exchanged_under_load_and_bad_ones_are_refused() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let file = gateway.folder.path().join("api.pb");
    let healthy: Vec<_> = (0..3).map(|_| Healthy::before(&gateway)).collect();
    let mut http = gateway.http().await;
    let put = |bytes: &[u8]| {
        let new = file.with_extension("new");
        std::fs::write(&new, bytes).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    assert_eq!(http.get("/v1/behave").await.status, 200);
    put(&changed("/v1/behave", "/v2/behave"));
    // Until the change is taken the old path works, from then on the new one; other paths always do.
    loop {
        assert_eq!(http.get("/v1/notes/7").await.status, 200);
        if http.get("/v2/behave").await.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(http.get("/v1/behave").await.status, 404);
    for bad in [
        &b"\xffnonsense"[..],
        b"",
        &changed("/v1/behave", "/v1/{ehave"),
    ] {
        put(bad);
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(
            http.get("/v2/behave").await.status,
            200,
            "the last good ones stay"
        );
    }
    put(descriptor_set());
    while http.get("/v1/behave").await.status != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for client in healthy {
        client.goes_on(5).await;
        client.end().await;
    }
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_come_from_the_servers_themselves() {
    let server = Server::start("a");
    let gateway = Running::with(&[&server], |settings| {
        settings.descriptors = Descriptors::Reflection;
    })
    .await;
    let mut http = gateway.http().await;
    assert_eq!(
        http.get("/v1/notes/7").await.json()["name"],
        "notes/7",
        "with the HTTP rules"
    );
    gateway.end().await;
}
