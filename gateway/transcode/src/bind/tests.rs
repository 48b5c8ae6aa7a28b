use std::sync::OnceLock;

use bytes::BytesMut;
use http::Method;
use proptest::prelude::*;

use crate::{
    BindError, BodyKind, HttpBody, HttpRule, LoadOptions, Location, Options, Pattern, Tables,
    fixture::{print, tables, tables_with},
};

struct Call<'a>(Method, &'a str, &'a str, &'a str);

fn bind_in(tables: &Tables, call: &Call<'_>) -> Result<String, BindError> {
    let matched = tables.route(&call.0, call.1).unwrap();
    let mut wire = BytesMut::from(&b"head"[..]);
    let result = matched.encode_request(Some(call.2), call.3.as_bytes(), &mut wire);
    if result.is_err() {
        assert_eq!(&wire[..], b"head");
    }
    result?;
    Ok(print(
        tables.descriptor(matched.method().input()).full_name(),
        &wire[4..],
    )
    .unwrap())
}

fn bind(method: Method, path: &str, query: &str, body: &str) -> Result<String, BindError> {
    bind_in(tables(), &Call(method, path, query, body))
}

fn list(query: &str) -> Result<String, BindError> {
    bind(Method::GET, "/v1/shelves/1/books", query, "")
}

fn lists(query: &str, rest: &str) {
    let expected: serde_json::Value =
        serde_json::from_str(&format!(r#"{{"parent":"shelves/1"{rest}}}"#)).unwrap();
    let bound: serde_json::Value = serde_json::from_str(&list(query).unwrap()).unwrap();
    assert_eq!(bound, expected, "{query}");
}

fn refused(query: &str, field: &str) {
    let error = list(query).expect_err(query);
    assert_eq!(
        (error.location, error.field.as_str()),
        (Location::Query, field),
        "{query}: {error}"
    );
}

#[test]
fn binds_nested_repeated_and_well_known_query_parameters() {
    lists(
        "pageSize=10&page_token=a%20b%2Bc+d",
        r#","pageSize":10,"pageToken":"a b+c d""#,
    );
    lists(
        "filter.titlePrefix=x&filter.after=2024-01-01T00:00:00Z",
        r#","filter":{"titlePrefix":"x","after":"2024-01-01T00:00:00Z"}"#,
    );
    lists("tags=a&tags=b&tags=", r#","tags":["a","b",""]"#);
    lists("states=LENT&states=1", r#","states":["LENT","ON_SHELF"]"#);
    lists(
        "weights[a]=1&weights%5Bb%5D=2",
        r#","weights":{"a":1,"b":2}"#,
    );
    lists(
        "maxAge=1.5s&readMask=title,publishTime",
        r#","maxAge":"1.500s","readMask":"title,publishTime""#,
    );
    lists(
        "filter.lent=false&filter.availability=2",
        r#","filter":{"lent":false,"availability":"LENT"}"#,
    );
    lists("&&", "");
}

#[test]
fn refuses_query_parameters_that_do_not_fit_and_names_them() {
    refused("bogus=1", "bogus");
    refused("filter.bogus=1", "filter.bogus");
    refused("pageSize=ten", "pageSize");
    refused("pageSize=2147483648", "pageSize");
    refused("pageSize=1&page_size=2", "page_size");
    refused(
        "filter.after=2024-01-01T00:00:00Z&filter.maxPages=3",
        "filter.maxPages",
    );
    refused("filter.lent=1", "filter.lent");
    refused("filter=x", "filter");
    refused("weights=1", "weights");
    refused("weights[a]=1&weights[a]=2", "weights[a]");
    refused("tags[a]=1", "tags[a]");
    refused("states=GONE", "states");
    refused("unreachable.displayName=x", "unreachable.displayName");
    refused("unreachable=x", "unreachable");
    refused("pageToken=%ff", "pageToken");
}

#[test]
fn ignores_the_query_parameters_it_is_told_to() {
    let bind = Options {
        ignored_query: vec!["key".to_owned(), "$*".to_owned()],
        ..Options::default()
    };
    let own = tables_with(LoadOptions {
        bind,
        ..LoadOptions::default()
    });
    let call = |query: &'static str| Call(Method::GET, "/v1/shelves/1/books", query, "");
    assert_eq!(
        bind_in(&own, &call("key=1&$alt=json&pageSize=2")).unwrap(),
        r#"{"pageSize":2,"parent":"shelves/1"}"#
    );
    assert!(bind_in(&own, &call("keys=1")).is_err());
}

#[test]
fn refuses_a_body_or_query_where_there_is_none() {
    let error = bind(Method::GET, "/v1/books/2", "", "{}").unwrap_err();
    assert_eq!(error.location, Location::Body);
    assert_eq!(
        bind(Method::GET, "/v1/books/2", "", " \n").unwrap(),
        r#"{"name":"2"}"#
    );
    let error = bind(Method::POST, "/v1/shelves/1/books/2:lend", "reader=x", "{}").unwrap_err();
    assert_eq!(
        (error.location, error.field.as_str()),
        (Location::Query, "reader")
    );
}

#[test]
fn takes_the_path_over_the_body_over_the_query() {
    let lent = bind(
        Method::POST,
        "/v1/shelves/1/books/2:lend",
        "",
        r#"{"name":"other","reader":"r","period":"60s"}"#,
    )
    .unwrap();
    assert_eq!(
        lent,
        r#"{"name":"shelves/1/books/2","reader":"r","period":"60s"}"#
    );
    let created = bind(
        Method::POST,
        "/v1/shelves/1/books",
        "validateOnly=true&book.title=query&parent=x",
        r#"{"title":"body"}"#,
    )
    .unwrap();
    assert_eq!(
        created,
        r#"{"validateOnly":true,"book":{"title":"body"},"parent":"shelves/1"}"#
    );
    let strict = tables_with(LoadOptions {
        bind: Options {
            refuse_clashes: true,
            ..Options::default()
        },
        ..LoadOptions::default()
    });
    for query in ["book.title=query", "parent=x"] {
        assert!(
            bind_in(
                &strict,
                &Call(Method::POST, "/v1/shelves/1/books", query, "{}")
            )
            .is_err(),
            "{query}"
        );
    }
}

#[test]
fn takes_an_empty_body_as_an_absent_one() {
    assert_eq!(
        bind(Method::POST, "/v1/shelves/1/books", "", "").unwrap(),
        r#"{"parent":"shelves/1"}"#
    );
    assert_eq!(
        bind(Method::POST, "/v1/shelves/1/books/2:lend", "", "").unwrap(),
        r#"{"name":"shelves/1/books/2"}"#
    );
    assert_eq!(
        bind(Method::POST, "/v1/shelves/1/books", "", "null").unwrap(),
        r#"{"parent":"shelves/1"}"#
    );
}

#[test]
fn names_the_path_of_a_wrong_body_field_from_the_request() {
    let error = bind(
        Method::POST,
        "/v1/shelves/1/books",
        "",
        r#"{"authors":[{},{"bogus":1}]}"#,
    )
    .unwrap_err();
    assert_eq!(
        (error.location, error.field.as_str()),
        (Location::Body, "book.authors[1].bogus")
    );
    let error = bind(
        Method::POST,
        "/v1/shelves/1/books/2:lend",
        "",
        r#"{"period":"1h"}"#,
    )
    .unwrap_err();
    assert_eq!(error.field, "period");
    let error = bind(Method::POST, "/v1/shelves/1/books", "", "[]").unwrap_err();
    assert_eq!(
        (error.field.as_str(), error.description.as_str()),
        ("book", "expected an object, found an array")
    );
}

fn mask(query: &str, body: &str) -> Option<String> {
    let request = bind(Method::PATCH, "/v1/shelves/1/books/2", query, body).unwrap();
    let request: serde_json::Value = serde_json::from_str(&request).unwrap();
    assert_eq!(request["book"]["name"], "shelves/1/books/2");
    request["updateMask"].as_str().map(str::to_owned)
}

#[test]
fn derives_the_update_mask_from_the_leaves_of_the_body() {
    assert_eq!(
        mask("", r#"{"title":"t","pages":"3"}"#).unwrap(),
        "title,pages"
    );
    assert_eq!(
        mask("", r#"{"binding":{"spine":{"widthMm":3},"material":"m"}}"#).unwrap(),
        "binding.spine.widthMm,binding.material"
    );
    assert_eq!(mask("", r#"{"labels":{"a":"b"},"authors":[{"displayName":"x"}],"publishTime":"2024-01-01T00:00:00Z"}"#).unwrap(), "labels,authors,publishTime");
    assert_eq!(
        mask("", r#"{"binding":{},"title":null,"price":1.5}"#).unwrap(),
        "binding,title,price"
    );
    assert_eq!(mask("", r#"{"publish_time":null}"#).unwrap(), "publishTime");
}

#[test]
fn leaves_a_mask_alone_that_the_caller_gave_and_what_the_path_names() {
    assert_eq!(
        mask("updateMask=pages", r#"{"title":"t"}"#).unwrap(),
        "pages"
    );
    assert_eq!(
        mask("", r#"{"name":"shelves/9/books/9","title":"t"}"#).unwrap(),
        "title"
    );
    assert_eq!(mask("", "{}"), None);
    assert_eq!(mask("", ""), None);
    let created = bind(Method::POST, "/v1/shelves/1/books", "", r#"{"title":"t"}"#).unwrap();
    assert!(!created.contains("Mask"));
}

#[test]
fn binds_path_variables_of_other_types_and_refuses_wrong_ones() {
    let rule = HttpRule {
        selector: "demo.library.Library.ListBooks".to_owned(),
        pattern: Some(Pattern::Get(
            "/sized/{page_size}/{filter.max_pages}/{filter.availability}".to_owned(),
        )),
        ..HttpRule::default()
    };
    let own = tables_with(LoadOptions {
        rules: vec![rule],
        ..LoadOptions::default()
    });
    let bound = bind_in(
        &own,
        &Call(Method::GET, "/sized/3/-4/LENT", "filter.titlePrefix=a", ""),
    )
    .unwrap();
    assert_eq!(
        bound,
        r#"{"pageSize":3,"filter":{"titlePrefix":"a","maxPages":"-4","availability":"LENT"}}"#
    );
    let error = bind_in(&own, &Call(Method::GET, "/sized/x/1/LENT", "", "")).unwrap_err();
    assert_eq!(
        (error.location, error.field.as_str()),
        (Location::Path, "page_size")
    );
    // Whether there is a body makes no difference to what the path may hold.
    let own = with_body("/sized/{page_size}");
    for body in ["", "{}", r#"{"pageToken":"a"}"#] {
        let error = bind_in(&own, &Call(Method::POST, "/sized/x", "", body)).unwrap_err();
        assert_eq!(
            (error.location, error.field.as_str()),
            (Location::Path, "page_size"),
            "{body}"
        );
    }
}

static LISTED: OnceLock<Tables> = OnceLock::new();

/// Tables in which books are listed by POST with a whole body.
fn with_body(template: &str) -> Tables {
    let rule = HttpRule {
        selector: "demo.library.Library.ListBooks".to_owned(),
        pattern: Some(Pattern::Post(template.to_owned())),
        body: "*".to_owned(),
        ..HttpRule::default()
    };
    tables_with(LoadOptions {
        rules: vec![rule],
        ..LoadOptions::default()
    })
}

#[test]
fn passes_http_bodies_through() {
    let matched = tables()
        .route(&Method::PUT, "/v1/shelves/1/books/2/cover")
        .unwrap();
    assert_eq!(matched.body_kind(), BodyKind::HttpBody);
    let mut wire = BytesMut::new();
    matched
        .encode_http_body(Some("language=de"), "image/png", b"\x89PNG", &mut wire)
        .unwrap();
    assert_eq!(
        print("demo.library.PutCoverRequest", &wire).unwrap(),
        r#"{"language":"de","cover":{"contentType":"image/png","data":"iVBORw=="},"name":"shelves/1/books/2"}"#
    );
    let matched = tables()
        .route(&Method::GET, "/v1/shelves/1/books/2/cover")
        .unwrap();
    assert!(tables().responds_with_http_body(matched.binding()));
    let wire = [1 << 3 | 2, 1, b't', 2 << 3 | 2, 2, 1, 2];
    assert_eq!(
        HttpBody::from_wire(&wire),
        Some(HttpBody {
            content_type: "t",
            data: &[1, 2]
        })
    );
    assert_eq!(HttpBody::from_wire(&[1 << 3 | 2, 9]), None);
    let matched = tables()
        .route(&Method::POST, "/v1/shelves/1/books")
        .unwrap();
    assert_eq!(matched.body_kind(), BodyKind::Json);
    assert!(
        matched
            .encode_http_body(None, "t", b"", &mut BytesMut::new())
            .is_err()
    );
}

#[test]
fn answers_with_the_field_that_response_body_names() {
    let respond = |method: Method, path: &str, wire: &[u8]| {
        let mut json = Vec::new();
        tables()
            .route(&method, path)
            .unwrap()
            .decode_response(wire, &mut json)
            .unwrap();
        String::from_utf8(json).unwrap()
    };
    assert_eq!(
        respond(
            Method::POST,
            "/v1/shelves/1/books/2:lend",
            &[1 << 3 | 2, 2, 1 << 3, 60]
        ),
        r#""1970-01-01T00:01:00Z""#
    );
    assert_eq!(
        respond(Method::POST, "/v1/shelves/1/books/2:lend", b""),
        r#""1970-01-01T00:00:00Z""#
    );
    assert_eq!(respond(Method::GET, "/v1/shelves/1/titles", b""), "[]");
    let interleaved = [
        1 << 3 | 2,
        0,
        2 << 3 | 2,
        1,
        b'x',
        1 << 3 | 2,
        3,
        2 << 3 | 2,
        1,
        b't',
    ];
    assert_eq!(
        respond(Method::GET, "/v1/shelves/1/titles", &interleaved),
        r#"[{},{"title":"t"}]"#
    );
    assert_eq!(
        respond(Method::GET, "/v1/shelves/1/books", &interleaved),
        r#"{"books":[{},{"title":"t"}],"nextPageToken":"x"}"#
    );
}

#[test]
fn gives_access_to_the_options_of_a_method() {
    let method = tables().method("/demo.library.Library/GetBook").unwrap();
    let rule = method.option("google.api.http").unwrap();
    let rule = rule.as_message().unwrap();
    assert_eq!(
        rule.get_field_by_name("get").unwrap().as_str(),
        Some("/v1/{name=shelves/*/books/*}")
    );
    assert!(method.option_wire(crate::http_rule::EXTENSION).is_some());
    assert!(
        tables()
            .method("/demo.library.Library/Internal")
            .unwrap()
            .option("google.api.http")
            .is_none()
    );
    assert!(
        tables()
            .method("/demo.library.Library/WatchShelf")
            .unwrap()
            .server_streaming()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::fixture::cases(500), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_queries_never_panic(query in "(pageSize|filter|tags|weights|a|\\.|\\[|\\]|=|&|%|\\+|1|é|%5B){0,12}") {
        let _ = list(&query);
    }

    #[test]
    fn a_query_binds_what_the_same_body_binds(
        size in any::<i32>(),
        tags in prop::collection::vec("[a-z &=%+]{0,4}", 0..4),
        states in prop::collection::vec(0_i32..3, 0..5),
        lent in prop::option::of(any::<bool>()),
    ) {
        let mut query = format!("pageSize={size}");
        for tag in &tags {
            let tag = percent_encoding::utf8_percent_encode(tag, percent_encoding::NON_ALPHANUMERIC);
            query.push_str(&format!("&tags={tag}"));
        }
        for state in &states {
            query.push_str(&format!("&states={state}"));
        }
        let mut body = serde_json::json!({"pageSize": size, "tags": tags, "states": states});
        if let Some(lent) = lent {
            query.push_str(&format!("&filter.lent={lent}"));
            body["filter"] = serde_json::json!({"lent": lent});
        }
        let own = LISTED.get_or_init(|| with_body("/listed/{parent=shelves/*}"));
        let by_body = bind_in(own, &Call(Method::POST, "/listed/shelves/1", "", &body.to_string())).unwrap();
        let as_json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        prop_assert_eq!(as_json(&list(&query).unwrap()), as_json(&by_body));
    }

    #[test]
    fn strings_come_through_the_query_unchanged(text in "\\PC{0,20}") {
        let encoded = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let bound: serde_json::Value = serde_json::from_str(&list(&format!("filter.titlePrefix={encoded}&tags={encoded}")).unwrap()).unwrap();
        prop_assert_eq!(bound["tags"][0].as_str(), Some(text.as_str()));
    }
}
