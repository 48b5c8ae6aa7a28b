//! Pages of other origins.

use crate::testing::{Http, Running, Server, framed};

const PAGE: (&str, &str) = ("origin", "https://page.example");

async fn gateway(server: &Server) -> Running {
    Running::with(&[server], |settings| {
        settings.config.allowed_origins = vec![PAGE.1.to_owned()];
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_learns_what_a_page_may_do_and_the_server_is_not_asked() {
    let server = Server::start("a");
    let gateway = gateway(&server).await;
    let mut http = gateway.http().await;
    let asks = [
        PAGE,
        ("access-control-request-method", "PATCH"),
        ("access-control-request-headers", "x-note, x-grpc-web"),
    ];
    for path in ["/v1/notes/7", "/demo.echo.Echo/GetNote", "/v1/nothing"] {
        let told = http.call("OPTIONS", path, &asks, "").await;
        assert_eq!((told.status.as_u16(), told.body.len()), (204, 0), "{path}");
        assert_eq!(told.header("access-control-allow-origin"), PAGE.1);
        assert!(
            told.header("access-control-allow-methods")
                .contains("PATCH")
        );
        assert_eq!(
            told.header("access-control-allow-headers"),
            "x-note, x-grpc-web"
        );
    }
    let foreign = [("origin", "https://other.example"), asks[1]];
    let told = http.call("OPTIONS", "/v1/notes/7", &foreign, "").await;
    assert_eq!(told.status, 204);
    assert!(told.header("access-control-allow-origin").is_empty());
    assert!(told.header("access-control-allow-methods").is_empty());
    // No browser asks like this: it is a method that the path does not have.
    let plain = http.call("OPTIONS", "/v1/notes/7", &[], "").await;
    assert_eq!(
        (plain.status.as_u16(), plain.header("allow")),
        (405, "GET, HEAD")
    );
    let calls = server.state.calls.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(calls, 0);
    drop(http);
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_the_status_of_grpc_web_wherever_it_is() {
    let server = Server::start("a");
    let gateway = gateway(&server).await;
    let call = framed(
        "demo.echo.GetNoteRequest",
        &serde_json::json!({"name": "notes/none"}),
    );
    let headers = [PAGE, ("content-type", "application/grpc-web+proto")];
    for mut http in [
        Http::h1(gateway.address).await,
        Http::h2(gateway.address).await,
    ] {
        let path = "/demo.echo.Echo/GetNote";
        let refused = http.call("POST", path, &headers, call.clone()).await;
        assert_eq!(
            (refused.header("grpc-status"), refused.body.len()),
            ("5", 0)
        );
        let exposed = refused.header("access-control-expose-headers");
        for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
            assert!(exposed.split(", ").any(|known| known == name), "{exposed}");
        }
    }
    let mut http = gateway.http().await;
    let got = http.call("GET", "/v1/notes/7", &[PAGE], "").await;
    assert_eq!(got.header("access-control-allow-origin"), PAGE.1);
    let exposed = got.header("access-control-expose-headers");
    assert!(
        exposed.contains("x-served-by"),
        "metadata of the server's own: {exposed}"
    );
    assert!(
        got.headers
            .get_all("vary")
            .iter()
            .any(|vary| vary == "origin"),
        "a cache must not show it to other pages"
    );
    // Refusals are readable too, or a page could not tell why.
    let unknown = http.call("GET", "/v1/nothing", &[PAGE], "").await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.header("access-control-allow-origin"), PAGE.1);
    drop(http);
    gateway.end().await;
}
