use http::Method;
use proptest::prelude::*;

use crate::{
    HttpRule, LoadError, LoadOptions, Pattern, RouteError, Tables,
    fixture::{descriptor_set, tables, tables_with},
    template::{Segment, Template},
};

fn rule(method: &str, pattern: Pattern) -> HttpRule {
    HttpRule {
        selector: format!("demo.library.Library.{method}"),
        pattern: Some(pattern),
        ..HttpRule::default()
    }
}

fn get(method: &str, path: &str) -> HttpRule {
    rule(method, Pattern::Get(path.to_owned()))
}

fn load(rules: Vec<HttpRule>) -> Result<Tables, LoadError> {
    Tables::load(
        descriptor_set(),
        LoadOptions {
            rules,
            ..LoadOptions::default()
        },
    )
}

/// Method name and variables of the route.
fn found(tables: &Tables, method: Method, path: &str) -> Option<(String, Vec<String>)> {
    let matched = tables.route(&method, path).ok()?;
    Some((
        matched.method().name().to_owned(),
        matched
            .variables()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
    ))
}

fn goes_to(method: Method, path: &str, name: &str, variables: &[&str]) {
    let expected = Some((
        name.to_owned(),
        variables
            .iter()
            .map(|variable| (*variable).to_owned())
            .collect(),
    ));
    assert_eq!(found(tables(), method, path), expected, "{path}");
}

#[test]
fn finds_variables_of_several_segments_and_nested_fields() {
    goes_to(
        Method::GET,
        "/v1/shelves/1/books/2",
        "GetBook",
        &["name=shelves/1/books/2"],
    );
    goes_to(Method::GET, "/v1/books/2", "GetBook", &["name=2"]);
    goes_to(
        Method::PATCH,
        "/v1/shelves/1/books/2",
        "UpdateBook",
        &["book.name=shelves/1/books/2"],
    );
    goes_to(
        Method::GET,
        "/v1/shelves/1/books/2/cover",
        "GetCover",
        &["name=shelves/1/books/2"],
    );
    goes_to(
        Method::GET,
        "/v1/files/a/b/c.txt",
        "GetFile",
        &["path=a/b/c.txt"],
    );
    goes_to(Method::GET, "/v1/files", "GetFile", &["path="]);
}

#[test]
fn finds_custom_verbs_and_leaves_other_colons_in_the_value() {
    goes_to(
        Method::POST,
        "/v1/shelves/1/books/2:lend",
        "LendBook",
        &["name=shelves/1/books/2"],
    );
    goes_to(
        Method::GET,
        "/v1/shelves/1/books/a:b",
        "GetBook",
        &["name=shelves/1/books/a:b"],
    );
    goes_to(
        Method::POST,
        "/v1/shelves/1/books/a:b:lend",
        "LendBook",
        &["name=shelves/1/books/a:b"],
    );
    goes_to(
        Method::GET,
        "/v1/shelves/1/books/2%3Alend",
        "GetBook",
        &["name=shelves/1/books/2:lend"],
    );
    goes_to(Method::GET, "/v1/files/a:lend", "GetFile", &["path=a:lend"]);
    let not_post = tables()
        .route(&Method::GET, "/v1/shelves/1/books/2:lend")
        .unwrap_err();
    assert_eq!(
        not_post,
        RouteError::MethodNotAllowed {
            allow: vec![Method::POST]
        }
    );
}

#[test]
fn decodes_single_segments_fully_and_keeps_slashes_in_longer_ones() {
    goes_to(
        Method::GET,
        "/v1/books/a%2Fb%20c",
        "GetBook",
        &["name=a/b c"],
    );
    goes_to(
        Method::GET,
        "/v1/shelves/1/books/a%2Fb%2fc%20d",
        "GetBook",
        &["name=shelves/1/books/a%2Fb%2fc d"],
    );
    goes_to(
        Method::GET,
        "/v1/%73helves/1/books/2",
        "GetBook",
        &["name=shelves/1/books/2"],
    );
    let open = tables_with(LoadOptions {
        fully_decode_reserved_expansion: true,
        ..LoadOptions::default()
    });
    assert_eq!(
        found(&open, Method::GET, "/v1/files/a%2Fb").unwrap().1,
        ["path=a/b"]
    );
    for path in ["/v1/books/%ff", "/v1/books/%4", "/v1/books/%zz"] {
        assert!(
            matches!(
                tables().route(&Method::GET, path),
                Err(RouteError::InvalidPath { .. })
            ),
            "{path}"
        );
    }
}

#[test]
fn refuses_empty_segments_and_trailing_slashes() {
    for path in [
        "",
        "/",
        "v1/books/2",
        "/v1/books/",
        "/v1//books/2",
        "/v1/shelves/1/books/2/",
        "/v1/books",
        "/nothing",
    ] {
        assert_eq!(
            tables().route(&Method::GET, path).unwrap_err(),
            RouteError::NotFound,
            "{path}"
        );
    }
    goes_to(
        Method::GET,
        "/v1/shelves/1/books/:lend",
        "GetBook",
        &["name=shelves/1/books/:lend"],
    );
}

#[test]
fn names_the_allowed_methods() {
    let error = tables()
        .route(&Method::PUT, "/v1/shelves/1/books/2")
        .unwrap_err();
    let names = ["DELETE", "GET", "HEAD", "PATCH", "PROPFIND"];
    assert_eq!(
        error,
        RouteError::MethodNotAllowed {
            allow: names.iter().map(|name| name.parse().unwrap()).collect()
        }
    );
}

#[test]
fn answers_head_like_get_and_custom_kinds() {
    goes_to(Method::HEAD, "/v1/books/2", "GetBook", &["name=2"]);
    goes_to(
        "PROPFIND".parse().unwrap(),
        "/v1/shelves/1/books/2",
        "Probe",
        &["name=shelves/1/books/2"],
    );
    let head = Pattern::Custom {
        kind: "HEAD".to_owned(),
        path: "/v1/books/{name}".to_owned(),
    };
    let any = Pattern::Custom {
        kind: "*".to_owned(),
        path: "/any/{name}".to_owned(),
    };
    let own = load(vec![rule("Probe", head), rule("Internal", any)]).unwrap();
    assert_eq!(found(&own, Method::HEAD, "/v1/books/2").unwrap().0, "Probe");
    assert_eq!(
        found(&own, Method::GET, "/v1/books/2").unwrap().0,
        "GetBook"
    );
    assert_eq!(found(&own, Method::TRACE, "/any/2").unwrap().0, "Internal");
}

#[test]
fn prefers_literals_to_stars_and_stars_to_the_rest() {
    let own = load(vec![
        get("Internal", "/v1/books/special"),
        get("Probe", "/v1/{name=**}"),
    ])
    .unwrap();
    assert_eq!(
        found(&own, Method::GET, "/v1/books/special").unwrap().0,
        "Internal"
    );
    assert_eq!(
        found(&own, Method::GET, "/v1/books/other").unwrap().0,
        "GetBook"
    );
    assert_eq!(
        found(&own, Method::GET, "/v1/books/other/more").unwrap().1,
        ["name=books/other/more"]
    );
}

#[test]
fn leaves_a_literal_that_lacks_the_method_for_a_variable_that_has_it() {
    let own = load(vec![rule(
        "Internal",
        Pattern::Post("/v1/books/special".to_owned()),
    )])
    .unwrap();
    assert_eq!(
        found(&own, Method::GET, "/v1/books/special").unwrap().0,
        "GetBook"
    );
    assert_eq!(
        found(&own, Method::POST, "/v1/books/special").unwrap().0,
        "Internal"
    );
}

#[test]
fn overlay_rules_replace_annotations_and_the_last_wins() {
    let own = load(vec![
        get("GetFile", "/first/{path}"),
        get("GetFile", "/second/{path}"),
    ])
    .unwrap();
    assert!(found(&own, Method::GET, "/v1/files/a").is_none());
    assert!(found(&own, Method::GET, "/first/a").is_none());
    assert_eq!(found(&own, Method::GET, "/second/a").unwrap().0, "GetFile");
    assert!(
        load(vec![get("NoSuch", "/a")])
            .unwrap_err()
            .to_string()
            .contains("NoSuch")
    );
}

#[test]
fn reads_overlay_rules_from_service_configuration() {
    let rule: HttpRule = serde_json::from_str(
        r#"{"selector":"a.B.C","post":"/v1/x","body":"*","additional_bindings":[{"custom":{"kind":"HEAD","path":"/y"},"responseBody":"z"}]}"#,
    )
    .unwrap();
    assert_eq!(rule.pattern, Some(Pattern::Post("/v1/x".to_owned())));
    assert_eq!(
        rule.additional_bindings[0].pattern.as_ref().unwrap().kind(),
        "HEAD"
    );
    assert_eq!(rule.additional_bindings[0].response_body, "z");
}

#[test]
fn refuses_conflicts_and_names_both_places() {
    let error = load(vec![get("Internal", "/v1/shelves/{name}/books/*")]).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, LoadError::Conflict { .. }));
    for part in [
        "demo.library.Library.GetBook",
        "/v1/{name=shelves/*/books/*}",
        "demo.library.Library.Internal",
        "/v1/shelves/{name}/books/*",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn refuses_rules_that_do_not_fit_their_method() {
    let with = |method: &str, path: &str, body: &str, response_body: &str| {
        let mut rule = rule(method, Pattern::Post(path.to_owned()));
        rule.body = body.to_owned();
        rule.response_body = response_body.to_owned();
        load(vec![rule]).unwrap_err().to_string()
    };
    for (text, part) in [
        (with("Internal", "/a/{bogus}", "", ""), "bogus"),
        (
            with("Internal", "/a/{name.inner}", "", ""),
            "name has no fields",
        ),
        (with("ListBooks", "/a/{tags}", "", ""), "is repeated"),
        (with("ListBooks", "/a/{weights}", "", ""), "is a map"),
        (with("ListBooks", "/a/{filter}", "", ""), "is a message"),
        (with("Internal", "/a", "bogus", ""), "body"),
        (with("Internal", "/a", "", "bogus"), "response_body"),
    ] {
        assert!(text.contains(part) && text.contains("/a"), "{text}");
    }
    let mut nested = get("Internal", "/a");
    nested.additional_bindings.push(get("", "/b"));
    nested.additional_bindings[0]
        .additional_bindings
        .push(get("", "/c"));
    assert!(
        load(vec![nested])
            .unwrap_err()
            .to_string()
            .contains("additional bindings")
    );
    assert!(
        load(vec![HttpRule {
            selector: "demo.library.Library.Internal".to_owned(),
            ..HttpRule::default()
        }])
        .is_err()
    );
}

#[test]
fn refuses_templates_against_the_grammar() {
    for text in [
        "",
        "a",
        "/",
        "/a/",
        "//a",
        "/a//b",
        "/{",
        "/{}",
        "/{a",
        "/{a=}",
        "/{a=b/}",
        "/{a=**}/b",
        "/**/b",
        "/{a={b}}",
        "/{a}/{a}",
        "/a:",
        "/a:b/c",
        "/a:b:c",
        "/{a.}",
        "/{.a}",
        "/{1a}",
        "/a*",
        "/{a}b",
        "/a b",
        "/a?b",
        "/%zz",
        "/{a=*}{b=*}",
        "/***",
    ] {
        assert!(Template::parse(text).is_err(), "{text}");
    }
}

#[test]
fn refuses_files_with_an_edition_and_names_them() {
    use prost_reflect::{
        prost::Message as _,
        prost_types::{FileDescriptorProto, FileDescriptorSet},
    };
    let file = FileDescriptorProto {
        name: Some("demo/edition.proto".to_owned()),
        syntax: Some("editions".to_owned()),
        ..FileDescriptorProto::default()
    };
    let set = FileDescriptorSet { file: vec![file] }.encode_to_vec();
    let error = Tables::from_descriptor_set(&set).unwrap_err().to_string();
    assert!(
        error.contains("demo/edition.proto") && error.contains("editions"),
        "{error}"
    );
}

#[test]
fn refuses_bytes_that_are_no_descriptors() {
    let cut = &descriptor_set()[..descriptor_set().len() - 3];
    for bytes in [cut, &b"\xff\xff"[..], b"{}"] {
        assert!(matches!(
            Tables::from_descriptor_set(bytes),
            Err(LoadError::Descriptor(_))
        ));
    }
}

#[test]
fn parses_templates_into_segments_variables_and_verb() {
    let template = Template::parse("/v1/{a.b=x/*/y/**}:verb").unwrap();
    let literal = |text: &str| Segment::Literal(text.to_owned());
    assert_eq!(
        template.segments(),
        [
            literal("v1"),
            literal("x"),
            Segment::Any,
            literal("y"),
            Segment::Rest
        ]
    );
    assert_eq!(
        (template.variables()[0].start, template.variables()[0].end),
        (1, 5)
    );
    assert_eq!(template.verb(), Some("verb"));
    assert_eq!(template.shape(), "/v1/x/*/y/**:verb");
}

#[test]
fn lints_what_aip_127_advises_against() {
    let mut with_body = get("Internal", "/a/{name}");
    with_body.body = "*".to_owned();
    let own = load(vec![
        with_body,
        rule("Probe", Pattern::Post("/b/{name}".to_owned())),
    ])
    .unwrap();
    let advice = |method: &str| {
        own.lints()
            .iter()
            .filter(|lint| lint.method.ends_with(method))
            .map(|lint| lint.advice)
            .collect::<Vec<_>>()
    };
    assert_eq!(advice(".Internal"), ["GET and DELETE have no body"]);
    assert_eq!(advice(".Probe"), ["POST, PUT and PATCH have a body"]);
    assert!(advice(".GetBook").is_empty());
    assert_eq!(advice(".ListBooks").len(), 1);
}

/// Whether a template matches, by a direct reading of its segments.
fn matches(template: &Template, path: &str) -> bool {
    let (path, verb) = match template.verb() {
        Some(verb) => match path
            .strip_suffix(verb)
            .and_then(|path| path.strip_suffix(':'))
        {
            Some(path) => (path, true),
            None => return false,
        },
        None => (path, false),
    };
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    let parts: Vec<_> = rest.split('/').collect();
    if parts.iter().any(|part| part.is_empty()) || (verb && parts.is_empty()) {
        return false;
    }
    let segments = template.segments();
    let open = segments.last() == Some(&Segment::Rest);
    let fixed = segments.len() - usize::from(open);
    (if open {
        parts.len() >= fixed
    } else {
        parts.len() == fixed
    }) && segments[..fixed]
        .iter()
        .zip(&parts)
        .all(|(segment, part)| match segment {
            Segment::Literal(literal) => literal == part,
            _ => true,
        })
}

fn template() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(&["a", "b", "c", "*", "*"][..]);
    let tail = prop::sample::select(&["", "", "", "/**", ":go", ":stop", "/**:go"][..]);
    (prop::collection::vec(segment, 1..4), tail)
        .prop_map(|(segments, tail)| format!("/{}{tail}", segments.join("/")))
}

fn path() -> impl Strategy<Value = String> {
    let part = prop::sample::select(&["a", "b", "c", "d", "a:go", "x:stop", "q:other", ""][..]);
    prop::collection::vec(part, 0..5).prop_map(|parts| format!("/{}", parts.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::fixture::cases(300), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_route_is_found_exactly_when_some_template_matches(
        templates in prop::collection::btree_set(template(), 1..8),
        paths in prop::collection::vec(path(), 20),
    ) {
        // Additional bindings of one method, on a host that has no other routes for these paths.
        let mut rules = templates.iter().map(|template| get("Internal", template));
        let mut rule = rules.next().unwrap();
        rule.additional_bindings = rules.map(|rule| HttpRule { selector: String::new(), ..rule }).collect();
        let own = load(vec![rule]).unwrap();
        let parsed: Vec<_> = templates.iter().map(|template| Template::parse(template).unwrap()).collect();
        for path in paths {
            let any = parsed.iter().any(|template| matches(template, &path));
            match own.route(&Method::GET, &path) {
                Ok(matched) => prop_assert!(matches(matched.binding().template(), &path), "{} by {}", path, matched.binding().template()),
                Err(error) => prop_assert!(!any, "{}: {}", path, error),
            }
        }
    }

    #[test]
    fn variables_hold_what_the_path_says(shelf in "[a-z0-9_~.-]{1,8}", book in "[a-z0-9é /%:]{1,8}") {
        let encoded = percent_encoding::utf8_percent_encode(&book, percent_encoding::NON_ALPHANUMERIC).to_string();
        let path = format!("/v1/shelves/{shelf}/books/{encoded}");
        let matched = tables().route(&Method::GET, &path).unwrap();
        let expected = format!("shelves/{shelf}/books/{}", book.replace('/', "%2F"));
        prop_assert_eq!(matched.variable("name"), Some(expected.as_str()));
        let single = format!("/v1/books/{encoded}");
        let matched = tables().route(&Method::GET, &single).unwrap();
        prop_assert_eq!(matched.variable("name"), Some(book.as_str()));
    }

    #[test]
    fn damaged_descriptors_are_refused_or_taken_and_never_panic(at in any::<usize>(), with in any::<u8>(), cut in any::<bool>()) {
        let mut set = descriptor_set().to_vec();
        let at = at % set.len();
        if cut {
            set.truncate(at);
        } else {
            set[at] = with;
        }
        let _ = Tables::from_descriptor_set(&set);
    }

    #[test]
    fn random_paths_and_templates_never_panic(path in "[/a-c%0-9:*{}=.é]{0,24}") {
        let _ = tables().route(&Method::GET, &path);
        let _ = Template::parse(&path);
    }
}
