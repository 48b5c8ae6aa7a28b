//! The proto3 JSON rules, one by one.

use bytes::BytesMut;

use crate::{
    JsonOptions, LoadOptions, MAX_DEPTH, Options,
    fixture::{id, print, reference, tables, tables_with, through, wire},
};

const SCALARS: &str = "demo.types.Scalars";
const LISTS: &str = "demo.types.Lists";
const MAPS: &str = "demo.types.Maps";
const KNOWN: &str = "demo.types.Known";
const CHOICE: &str = "demo.types.Choice";
const OPTIONALS: &str = "demo.types.Optionals";

fn same(message: &str, json: &str) {
    assert_eq!(through(message, json).unwrap(), json);
}

fn becomes(message: &str, json: &str, expected: &str) {
    assert_eq!(through(message, json).unwrap(), expected, "{json}");
}

fn refused(message: &str, json: &str, path: &str) {
    let error = through(message, json).expect_err(json);
    assert_eq!(error.path(), path, "{json}: {error}");
}

#[test]
fn writes_64_bit_integers_as_strings_and_takes_numbers_too() {
    becomes(
        SCALARS,
        r#"{"anInt64":-5,"aUint64":"18446744073709551615"}"#,
        r#"{"anInt64":"-5","aUint64":"18446744073709551615"}"#,
    );
    refused(SCALARS, r#"{"aUint64":-1}"#, "aUint64");
    refused(SCALARS, r#"{"anInt32":2147483648}"#, "anInt32");
    becomes(SCALARS, r#"{"anInt32":"1e2"}"#, r#"{"anInt32":100}"#);
    refused(SCALARS, r#"{"anInt32":1.5}"#, "anInt32");
}

#[test]
fn writes_infinities_and_nan_as_strings() {
    same(SCALARS, r#"{"aDouble":"NaN","aFloat":"-Infinity"}"#);
    becomes(
        SCALARS,
        r#"{"aDouble":"1.25","aFloat":3}"#,
        r#"{"aDouble":1.25,"aFloat":3.0}"#,
    );
    refused(SCALARS, r#"{"aFloat":1e39}"#, "aFloat");
    refused(SCALARS, r#"{"aDouble":"inf"}"#, "aDouble");
}

#[test]
fn takes_enums_by_name_and_number_and_keeps_unknown_numbers() {
    becomes(SCALARS, r#"{"colour":2}"#, r#"{"colour":"GREEN"}"#);
    becomes(SCALARS, r#"{"colour":"BELOW"}"#, r#"{"colour":"BELOW"}"#);
    becomes(SCALARS, r#"{"colour":77}"#, r#"{"colour":77}"#);
    becomes(SCALARS, r#"{"aliased":"SAME"}"#, "{}");
    refused(SCALARS, r#"{"colour":"green"}"#, "colour");
    let lenient = tables_with(LoadOptions {
        bind: Options {
            case_insensitive_enums: true,
            ..Options::default()
        },
        ..LoadOptions::default()
    });
    let mut out = BytesMut::new();
    lenient
        .json_to_wire(
            lenient.message(SCALARS).unwrap(),
            br#"{"colour":"green"}"#,
            &mut out,
        )
        .unwrap();
    assert_eq!(print(SCALARS, &out).unwrap(), r#"{"colour":"GREEN"}"#);
}

#[test]
fn treats_null_as_absent_except_where_null_is_a_value() {
    becomes(SCALARS, r#"{"aString":null,"colour":null}"#, "{}");
    becomes(LISTS, r#"{"strings":null}"#, "{}");
    becomes(
        KNOWN,
        r#"{"value":null,"time":null,"stringValue":null,"optionalNull":null}"#,
        r#"{"value":null,"optionalNull":null}"#,
    );
    becomes(CHOICE, r#"{"text":null,"number":1}"#, r#"{"number":"1"}"#);
    becomes(CHOICE, r#"{"nothing":null}"#, r#"{"nothing":null}"#);
    becomes(CHOICE, r#"{"nothing":"NULL_VALUE"}"#, r#"{"nothing":null}"#);
    same(KNOWN, r#"{"values":[null,1.0]}"#);
    refused(LISTS, r#"{"strings":["a",null]}"#, "strings[1]");
    refused(MAPS, r#"{"strings":{"a":null}}"#, "strings[\"a\"]");
}

#[test]
fn omits_defaults_without_presence_and_keeps_those_with() {
    becomes(
        SCALARS,
        r#"{"anInt32":0,"aString":"","aBool":false,"aDouble":0,"someBytes":""}"#,
        "{}",
    );
    assert!(
        wire(
            SCALARS,
            r#"{"anInt32":0,"aString":"","aBool":false,"aDouble":0,"colour":0}"#
        )
        .unwrap()
        .is_empty()
    );
    same(
        OPTIONALS,
        r#"{"anInt32":0,"aString":"","colour":"COLOUR_UNSPECIFIED","scalars":{}}"#,
    );
    same(
        KNOWN,
        r#"{"stringValue":"","int64Value":"0","boolValue":false}"#,
    );
}

#[test]
fn keeps_negative_zero() {
    same(SCALARS, r#"{"aDouble":-0.0}"#);
}

#[test]
fn prints_defaults_when_asked_to() {
    let options = JsonOptions {
        always_print_primitives: true,
        ..JsonOptions::default()
    };
    let mut out = Vec::new();
    tables()
        .wire_to_json(id(LISTS), b"", &mut out, &options)
        .unwrap();
    let lists: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(lists["doubles"], serde_json::json!([]));
    out.clear();
    tables()
        .wire_to_json(id(SCALARS), &[3 << 3, 0], &mut out, &options)
        .unwrap();
    let scalars: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(scalars["anInt32"], 0);
    assert_eq!(scalars["aUint64"], "0");
    assert_eq!(scalars["colour"], "COLOUR_UNSPECIFIED");
    assert_eq!(scalars.as_object().unwrap().len(), 17);
    out.clear();
    tables()
        .wire_to_json(id(OPTIONALS), b"", &mut out, &options)
        .unwrap();
    assert_eq!(out, b"{}");
}

#[test]
fn prints_proto_names_and_enum_numbers_when_asked_to() {
    let options = JsonOptions {
        proto_names: true,
        enums_as_numbers: true,
        ..JsonOptions::default()
    };
    let mut out = Vec::new();
    let wire = wire(SCALARS, r#"{"anInt32":5,"colour":"RED"}"#).unwrap();
    tables()
        .wire_to_json(id(SCALARS), &wire, &mut out, &options)
        .unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"an_int32":5,"colour":1}"#
    );
}

#[test]
fn takes_json_and_proto_names_but_not_both_for_one_field() {
    becomes(SCALARS, r#"{"an_int32":5}"#, r#"{"anInt32":5}"#);
    same(CHOICE, r#"{"renamed":"x","farAway":9}"#);
    becomes(CHOICE, r#"{"named":"x"}"#, r#"{"renamed":"x"}"#);
    refused(SCALARS, r#"{"an_int32":5,"anInt32":5}"#, "anInt32");
}

#[test]
fn refuses_unknown_and_duplicate_keys_with_their_path() {
    refused(SCALARS, r#"{"bogus":1}"#, "bogus");
    refused(
        "demo.types.Everything",
        r#"{"children":[{},{"choice":{"again":{"bogus":1}}}]}"#,
        "children[1].choice.again.bogus",
    );
    refused(SCALARS, r#"{"aBool":true,"aBool":true}"#, "aBool");
    refused(MAPS, r#"{"strings":{"a":"1","a":"2"}}"#, "strings[\"a\"]");
    refused(MAPS, r#"{"int32s":{"1":1,"1e0":2}}"#, "int32s[\"1e0\"]");
    refused(KNOWN, r#"{"structure":{"a":1,"a":2}}"#, "structure[\"a\"]");
    same(MAPS, r#"{"fixed64s":{"72057594037927937":{},"1":{}}}"#);
}

#[test]
fn ignores_unknown_fields_and_enum_names_when_told_to() {
    let lenient = tables_with(LoadOptions {
        bind: Options {
            ignore_unknown_fields: true,
            ..Options::default()
        },
        ..LoadOptions::default()
    });
    let json = br#"{"lists":{"colours":["RED","PINK"],"x":[{"y":null}]},"maps":{"sint32s":{"1":"PINK","2":"RED"}},"scalars":{"colour":"PINK"}}"#;
    let everything = lenient.message("demo.types.Everything").unwrap();
    let mut out = BytesMut::new();
    lenient.json_to_wire(everything, json, &mut out).unwrap();
    assert_eq!(
        print("demo.types.Everything", &out).unwrap(),
        r#"{"lists":{"colours":["RED"]},"maps":{"sint32s":{"2":"RED"}},"scalars":{}}"#
    );
}

#[test]
fn refuses_two_members_of_a_oneof() {
    refused(CHOICE, r#"{"text":"a","number":1}"#, "number");
    refused(CHOICE, r#"{"nothing":null,"text":""}"#, "text");
    same(CHOICE, r#"{"text":""}"#);
}

#[test]
fn takes_every_kind_of_map_key() {
    same(
        MAPS,
        r#"{"int32s":{"-1":2},"int64s":{"-9":"3"},"uint32s":{"4":"AQ=="},"bools":{"true":"x"},"sfixed32s":{"-2":"1970-01-01T00:00:00Z"}}"#,
    );
    refused(MAPS, r#"{"bools":{"yes":"x"}}"#, "bools[\"yes\"]");
    refused(MAPS, r#"{"int32s":{"a":1}}"#, "int32s[\"a\"]");
}

#[test]
fn takes_base64_of_both_alphabets_with_and_without_padding() {
    for text in ["-_8=", "-_8", "+/8=", "+/8"] {
        becomes(
            SCALARS,
            &format!(r#"{{"someBytes":"{text}"}}"#),
            r#"{"someBytes":"+/8="}"#,
        );
    }
    refused(SCALARS, r#"{"someBytes":"a*b"}"#, "someBytes");
}

#[test]
fn reads_and_writes_times_and_durations() {
    becomes(
        KNOWN,
        r#"{"time":"2024-02-29T23:59:59.120+01:00"}"#,
        r#"{"time":"2024-02-29T22:59:59.120Z"}"#,
    );
    same(KNOWN, r#"{"time":"0001-01-01T00:00:00Z"}"#);
    same(KNOWN, r#"{"time":"9999-12-31T23:59:59.999999999Z"}"#);
    same(KNOWN, r#"{"duration":"-315576000000.999999999s"}"#);
    becomes(
        KNOWN,
        r#"{"duration":"-0.5s"}"#,
        r#"{"duration":"-0.500s"}"#,
    );
    for time in [
        "2023-02-29T00:00:00Z",
        "2023-01-01T24:00:00Z",
        "2023-01-01t00:00:00Z",
        "2023-01-01T00:00:00",
        "0001-01-01T00:00:00+01:00",
        "2023-01-01T00:00:00.Z",
    ] {
        refused(KNOWN, &format!(r#"{{"time":"{time}"}}"#), "time");
    }
    for duration in [
        "1",
        "s",
        "1.s",
        "--1s",
        "315576000001s",
        "1.0123456789s",
        "+1s",
    ] {
        refused(
            KNOWN,
            &format!(r#"{{"duration":"{duration}"}}"#),
            "duration",
        );
    }
}

#[test]
fn reads_and_writes_field_masks_in_camel_case() {
    same(KNOWN, r#"{"mask":"name,book.publishTime"}"#);
    same(KNOWN, r#"{"mask":""}"#);
    refused(KNOWN, r#"{"mask":"publish_time"}"#, "mask");
    let unsayable = [4 << 3 | 2, 5, 1 << 3 | 2, 3, b'a', b'_', b'_'];
    assert!(print(KNOWN, &unsayable).is_err());
}

#[test]
fn reads_and_writes_dynamic_values() {
    same(
        KNOWN,
        r#"{"structure":{"a":[1.0,"x",true,null,{"b":{}}],"c":[]}}"#,
    );
    same(KNOWN, r#"{"list":[[],[[]]]}"#);
    same(KNOWN, r#"{"value":"x"}"#);
    let nan: Vec<u8> = [&[6 << 3 | 2, 9, 2 << 3 | 1][..], &f64::NAN.to_le_bytes()].concat();
    assert!(print(KNOWN, &nan).is_err());
}

#[test]
fn reads_any_with_its_type_anywhere_in_the_object() {
    same(
        KNOWN,
        r#"{"any":{"@type":"type.googleapis.com/demo.types.Scalars","anInt32":7}}"#,
    );
    becomes(
        KNOWN,
        r#"{"any":{"anInt32":7,"@type":"type.googleapis.com/demo.types.Scalars"}}"#,
        r#"{"any":{"@type":"type.googleapis.com/demo.types.Scalars","anInt32":7}}"#,
    );
    same(
        KNOWN,
        r#"{"any":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}}"#,
    );
    same(
        KNOWN,
        r#"{"any":{"@type":"a/google.protobuf.Any","value":{"@type":"b/google.protobuf.Int64Value","value":"3"}}}"#,
    );
    same(KNOWN, r#"{"any":{}}"#);
    refused(KNOWN, r#"{"any":{"anInt32":7}}"#, "any");
    refused(
        KNOWN,
        r#"{"any":{"@type":"type.googleapis.com/no.Such"}}"#,
        "any.@type",
    );
    refused(
        KNOWN,
        r#"{"any":{"@type":"a/demo.types.Scalars","@type":"a/demo.types.Scalars"}}"#,
        "any.@type",
    );
    refused(
        KNOWN,
        r#"{"any":{"@type":"a/google.protobuf.Duration"}}"#,
        "any",
    );
}

#[test]
fn refuses_malformed_text() {
    for json in [
        "",
        " ",
        "[]",
        "1",
        "{",
        r#"{"aBool"}"#,
        r#"{"aBool":}"#,
        r#"{"aBool":true,}"#,
        r#"{"aBool":true}x"#,
        r#"{"aString":"\ud800"}"#,
        "{\"aString\":\"\n\"}",
        r#"{"aString":"\x"}"#,
        r#"{"anInt32":01}"#,
        r#"{"anInt32":1.}"#,
        r#"{"aBool":tru}"#,
        r"{aBool:true}",
    ] {
        assert!(through(SCALARS, json).is_err(), "{json}");
    }
    let mut out = BytesMut::from(&b"before"[..]);
    assert!(
        tables()
            .json_to_wire(id(SCALARS), b"{\"aString\":\"\xff\"}", &mut out)
            .is_err()
    );
    assert_eq!(&out[..], b"before");
}

#[test]
fn decodes_escapes() {
    becomes(
        SCALARS,
        r#"{"aString":"\u00e9\ud83d\ude00\/\b\f\n\r\t\"\\ and a long plain tail"}"#,
        "{\"aString\":\"é😀/\\b\\f\\n\\r\\t\\\"\\\\ and a long plain tail\"}",
    );
}

#[test]
fn limits_the_depth_in_both_directions() {
    let nested = |depth: usize| {
        format!(
            "{}{}",
            r#"{"again":"#.repeat(depth),
            "{}".to_owned() + &"}".repeat(depth)
        )
    };
    let deepest = usize::from(MAX_DEPTH) - 1;
    same(CHOICE, &nested(deepest));
    assert!(
        through(CHOICE, &nested(deepest + 1))
            .unwrap_err()
            .description()
            .contains("100 levels")
    );
    let list = |depth: usize| format!(r#"{{"list":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(through(KNOWN, &list(90)).is_ok());
    assert!(through(KNOWN, &list(120)).is_err());
    let mut bomb = Vec::new();
    for _ in 0..200 {
        let mut outer = vec![5 << 3 | 2];
        prost::encoding::encode_varint(bomb.len() as u64, &mut outer);
        outer.extend(bomb);
        bomb = outer;
    }
    assert!(print(CHOICE, &bomb).is_err());
}

#[test]
fn takes_packed_and_unpacked_lists_in_any_mix() {
    let unpacked = [3 << 3, 1, 3 << 3, 2];
    assert_eq!(print(LISTS, &unpacked).unwrap(), r#"{"int32s":[1,2]}"#);
    let mixed = [3 << 3, 1, 3 << 3 | 2, 2, 2, 3, 3 << 3 | 2, 0];
    assert_eq!(print(LISTS, &mixed).unwrap(), r#"{"int32s":[1,2,3]}"#);
    let packed_into_loose = [18 << 3 | 0x82, 1, 2, 4, 5];
    assert_eq!(
        print(LISTS, &packed_into_loose).unwrap(),
        r#"{"loose":[4,5]}"#
    );
    assert_eq!(
        wire(LISTS, r#"{"loose":[4,5]}"#).unwrap(),
        [0x90, 1, 4, 0x90, 1, 5]
    );
    assert_eq!(
        wire(LISTS, r#"{"int32s":[4,5]}"#).unwrap(),
        [3 << 3 | 2, 2, 4, 5]
    );
}

#[test]
fn puts_wire_bytes_in_unusual_order_right() {
    let interleaved = [3 << 3, 1, 14 << 3 | 2, 1, b'a', 3 << 3, 2];
    assert_eq!(
        print(LISTS, &interleaved).unwrap(),
        r#"{"int32s":[1,2],"strings":["a"]}"#
    );
    let twice = [3 << 3, 1, 3 << 3, 2];
    assert_eq!(print(SCALARS, &twice).unwrap(), r#"{"anInt32":2}"#);
    let merged = [
        3 << 3 | 2,
        2,
        3 << 3,
        1,
        3 << 3 | 2,
        3,
        14 << 3 | 2,
        1,
        b'x',
    ];
    assert_eq!(
        print(CHOICE, &merged).unwrap(),
        r#"{"scalars":{"anInt32":1,"aString":"x"}}"#
    );
    let oneof = [1 << 3 | 2, 1, b'a', 2 << 3, 5];
    assert_eq!(print(CHOICE, &oneof).unwrap(), r#"{"number":"5"}"#);
    let key_twice = [2 << 3 | 2, 4, 8, 1, 16, 1, 2 << 3 | 2, 4, 8, 1, 16, 2];
    assert_eq!(print(MAPS, &key_twice).unwrap(), r#"{"int32s":{"1":2}}"#);
    let value_first_and_bare = [2 << 3 | 2, 4, 16, 3, 8, 7, 2 << 3 | 2, 0];
    assert_eq!(
        print(MAPS, &value_first_and_bare).unwrap(),
        r#"{"int32s":{"7":3,"0":0}}"#
    );
}

#[test]
fn passes_over_unknown_fields_of_every_wire_type() {
    let wire = [
        0xa0,
        6,
        1,
        0xa1,
        6,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0xa2,
        6,
        1,
        0,
        0xa3,
        6,
        8,
        1,
        0xa4,
        6,
        0xa5,
        6,
        0,
        0,
        0,
        0,
        3 << 3,
        5,
    ];
    assert_eq!(print(SCALARS, &wire).unwrap(), r#"{"anInt32":5}"#);
}

#[test]
fn reports_malformed_wire_bytes() {
    for wire in [
        &[8][..],
        &[3 << 3],
        &[0x72, 5, b'a'],
        &[0x72, 1, 0xff],
        &[3 << 3 | 5, 0, 0, 0, 0],
        &[0, 0],
        &[0xff; 11],
        &[0xa4, 6],
        &[0xa3, 6],
        &[0xa7, 6],
    ] {
        assert!(print(SCALARS, wire).is_err(), "{wire:?}");
    }
    let far = [
        9 << 3 | 2,
        11,
        1 << 3,
        0xff,
        0xff,
        0xff,
        0xff,
        0xff,
        0xff,
        0xff,
        0xff,
        0x7f,
        0,
    ];
    assert!(print(KNOWN, &far).is_err());
}

#[test]
fn reads_and_writes_groups_and_extensions() {
    let json = r#"{"withDefault":7,"inner":{"text":"a","leaf":[{"number":"1"},{}]},"[demo.legacy.note]":"n","[demo.legacy.counts]":["1","2"]}"#;
    same("demo.legacy.Old", json);
    let wire = wire("demo.legacy.Old", json).unwrap();
    assert_eq!(
        reference("demo.legacy.Old", &wire).unwrap(),
        serde_json::from_str::<serde_json::Value>(json).unwrap()
    );
}

#[test]
fn lengths_of_several_bytes_move_the_value() {
    let text = "x".repeat(70_000);
    same(
        CHOICE,
        &format!(r#"{{"again":{{"again":{{"text":"{text}"}}}},"farAway":1}}"#),
    );
}

/// An `Any` in an `Any`, each in a message whose fields come twice.
fn disorder_in_disorder(levels: usize) -> Vec<u8> {
    let delimited = |number: u8, bytes: &[u8]| {
        let mut field = vec![number << 3 | 2];
        prost::encoding::encode_varint(bytes.len() as u64, &mut field);
        field.extend_from_slice(bytes);
        field
    };
    let mut message = Vec::new();
    for _ in 0..levels {
        let any = [delimited(1, b"a/demo.types.Known"), delimited(2, &message)].concat();
        message = [delimited(2, b""), delimited(1, &any), delimited(2, b"")].concat();
    }
    message
}

#[test]
fn bounds_the_work_for_disorder_inside_of_disorder() {
    assert!(print(KNOWN, &disorder_in_disorder(5)).is_ok());
    assert!(print(KNOWN, &disorder_in_disorder(45)).is_err());
}

#[test]
fn counts_the_messages_that_it_put_in_order() {
    let own = tables_with(LoadOptions::default());
    let scalars = own.message(SCALARS).unwrap();
    let mut out = Vec::new();
    own.wire_to_json(scalars, &[3 << 3, 1], &mut out, &JsonOptions::default())
        .unwrap();
    assert_eq!(own.reordered(), 0);
    own.wire_to_json(
        scalars,
        &[3 << 3, 1, 3 << 3, 2],
        &mut out,
        &JsonOptions::default(),
    )
    .unwrap();
    assert_eq!(own.reordered(), 1);
}
