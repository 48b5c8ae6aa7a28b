use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Code, Detail, FieldViolation, PreconditionViolation, QuotaViolation, Status, error_json,
    read_status,
};
use crate::{BindError, Location, fixture::tables};

fn parse(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

#[test]
fn maps_every_code_to_its_http_status() {
    let numbers: Vec<_> = Code::ALL.iter().map(|code| code.http_status()).collect();
    assert_eq!(
        numbers,
        [
            200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401
        ]
    );
    for (number, code) in (0..).zip(Code::ALL) {
        assert_eq!((code.number(), Code::from_number(number)), (number, code));
    }
    assert_eq!(Code::from_number(99), Code::Unknown);
    assert_eq!(Code::from_number(-1), Code::Unknown);
    assert_eq!(Code::from_http_status(503), Code::Unavailable);
}

#[test]
fn writes_every_detail_in_the_form_of_aip_193() {
    let status = Status::new(
        Code::FailedPrecondition,
        "not \"now\"",
        "BUSY",
        "upm.example",
    )
    .with(Detail::BadRequest {
        field_violations: vec![FieldViolation {
            field: "book.title".to_owned(),
            description: "too long".to_owned(),
        }],
    })
    .with(Detail::PreconditionFailure {
        violations: vec![PreconditionViolation {
            r#type: "STATE".to_owned(),
            subject: "shelves/1".to_owned(),
            description: "closed".to_owned(),
        }],
    })
    .with(Detail::QuotaFailure {
        violations: vec![QuotaViolation {
            subject: "shelves/1".to_owned(),
            description: "full".to_owned(),
        }],
    })
    .with(Detail::RetryInfo {
        retry_delay: Duration::from_millis(1500),
    });
    let expected = json!({ "error": {
        "code": 400,
        "message": "not \"now\"",
        "status": "FAILED_PRECONDITION",
        "details": [
            { "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "BUSY", "domain": "upm.example" },
            { "@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{ "field": "book.title", "description": "too long" }] },
            { "@type": "type.googleapis.com/google.rpc.PreconditionFailure", "violations": [{ "type": "STATE", "subject": "shelves/1", "description": "closed" }] },
            { "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{ "subject": "shelves/1", "description": "full" }] },
            { "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.500s" },
        ],
    }});
    assert_eq!(parse(&status.to_json(tables())), expected);
    assert_eq!(
        read_status(&status.to_wire()),
        Some((Code::FailedPrecondition, "not \"now\""))
    );
}

#[test]
fn keeps_metadata() {
    let mut status = Status::new(Code::NotFound, "no", "ROUTE", "upm.example");
    status.details = vec![Detail::ErrorInfo {
        reason: "A".to_owned(),
        domain: "b".to_owned(),
        metadata: vec![("path".to_owned(), "/x".to_owned())],
    }];
    assert_eq!(
        parse(&status.to_json(tables()))["error"]["details"][0]["metadata"]["path"],
        "/x"
    );
}

#[test]
fn never_loses_an_error_for_its_details() {
    let unknown = [
        3 << 3 | 2,
        9,
        1 << 3 | 2,
        4,
        b'a',
        b'/',
        b'b',
        b'c',
        2 << 3 | 2,
        1,
        0xff,
    ];
    let error = parse(&error_json(tables(), Code::NotFound, "no", Some(&unknown)));
    assert_eq!(error["error"]["details"], json!([{ "@type": "a/bc" }]));
    for wire in [
        &b"\xff\xff"[..],
        &[3 << 3 | 2, 50],
        &[3 << 3 | 2, 1, 0xff],
        &[3 << 3 | 2, 2, 8, 0],
    ] {
        let error = parse(&error_json(tables(), Code::NotFound, "no", Some(wire)));
        assert_eq!(error["error"]["status"], "NOT_FOUND", "{wire:?}");
    }
    assert_eq!(
        parse(&error_json(tables(), Code::Internal, "no", None))["error"]["details"],
        json!([])
    );
}

#[test]
fn makes_a_field_violation_of_a_bind_error() {
    let error = BindError {
        location: Location::Query,
        field: "pageSize".to_owned(),
        description: "no".to_owned(),
    };
    let json = parse(&Status::invalid_request(&error, "BAD", "d").to_json(tables()));
    assert_eq!(json["error"]["code"], 400);
    assert_eq!(
        json["error"]["details"][1]["fieldViolations"][0],
        json!({ "field": "pageSize", "description": "no" })
    );
}
