//! For arbitrary messages the codec agrees with prost-reflect; for arbitrary bytes it never panics.

use bytes::BytesMut;
use proptest::prelude::*;
use prost_reflect::{DynamicMessage, prost::Message as _};

use crate::{
    JsonOptions,
    fixture::{Choices, arbitrary, id, print, reference, tables},
    wire::Cursor,
};

const MESSAGES: [&str; 9] = [
    "demo.types.Everything",
    "demo.types.Scalars",
    "demo.types.Lists",
    "demo.types.Optionals",
    "demo.types.Maps",
    "demo.types.Known",
    "demo.types.Choice",
    "demo.legacy.Old",
    "demo.library.Book",
];

/// Shows itself as JSON: the descriptors that a message brings along are long.
#[derive(Clone)]
struct Sample(&'static str, DynamicMessage);

impl std::fmt::Debug for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.0, serde_json::to_string(&self.1))
    }
}

fn message() -> impl Strategy<Value = Sample> {
    (
        prop::sample::select(&MESSAGES[..]),
        prop::collection::vec(any::<u8>(), 0..1500),
    )
        .prop_map(|(name, bytes)| {
            let descriptor = tables().descriptor(id(name));
            let message = arbitrary(descriptor, &mut Choices(&bytes), 4);
            // Without the fields that were set to their default.
            Sample(
                name,
                DynamicMessage::decode(descriptor.clone(), &message.encode_to_vec()[..]).unwrap(),
            )
        })
}

/// The records of a message, each as often as `picks` says and in its order, all of them at least once.
fn shuffle(wire: &[u8], picks: &[usize]) -> Vec<u8> {
    let mut records = Vec::new();
    let mut cursor = Cursor::new(wire);
    while !cursor.is_empty() {
        records.push(cursor.record().unwrap().1);
    }
    let mut shuffled: Vec<u8> = picks
        .iter()
        .filter(|_| !records.is_empty())
        .flat_map(|pick| records[pick % records.len()])
        .copied()
        .collect();
    shuffled.extend(records.iter().rev().copied().flatten());
    shuffled
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::fixture::cases(400), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_and_back_gives_an_equal_message(Sample(name, message) in message()) {
        let wire = message.encode_to_vec();
        let json = print(name, &wire).unwrap();
        let mut back = BytesMut::new();
        tables().json_to_wire(id(name), json.as_bytes(), &mut back).map_err(|error| TestCaseError::fail(format!("{error} in {json}")))?;
        let decoded = DynamicMessage::decode(tables().descriptor(id(name)).clone(), &back[..]).unwrap();
        prop_assert!(decoded == message, "{}", print(name, &back).unwrap());
    }

    #[test]
    fn json_equals_that_of_prost_reflect(Sample(name, message) in message()) {
        let wire = message.encode_to_vec();
        let ours: serde_json::Value = serde_json::from_str(&print(name, &wire).unwrap()).unwrap();
        prop_assert_eq!(ours, reference(name, &wire).unwrap());
    }

    #[test]
    fn json_of_disordered_wire_bytes_equals_that_of_prost_reflect(Sample(name, message) in message(), picks in prop::collection::vec(any::<usize>(), 0..8)) {
        let wire = shuffle(&message.encode_to_vec(), &picks);
        let ours: serde_json::Value = serde_json::from_str(&print(name, &wire).unwrap()).unwrap();
        prop_assert_eq!(ours, reference(name, &wire).unwrap());
    }

    #[test]
    fn all_print_options_give_json_that_reads_back(Sample(name, message) in message(), always in any::<bool>(), numbers in any::<bool>(), names in any::<bool>()) {
        let options = JsonOptions { always_print_primitives: always, enums_as_numbers: numbers, proto_names: names, skip_unknown_any: false };
        let mut json = Vec::new();
        tables().wire_to_json(id(name), &message.encode_to_vec(), &mut json, &options).unwrap();
        let mut back = BytesMut::new();
        tables().json_to_wire(id(name), &json, &mut back).map_err(|error| TestCaseError::fail(format!("{error} in {}", String::from_utf8_lossy(&json))))?;
        let decoded = DynamicMessage::decode(tables().descriptor(id(name)).clone(), &back[..]).unwrap();
        prop_assert!(decoded == message, "{}", print(name, &back).unwrap());
    }

    #[test]
    fn random_wire_bytes_never_panic(name in prop::sample::select(&MESSAGES[..]), wire in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = print(name, &wire);
    }

    #[test]
    fn damaged_wire_bytes_never_panic(Sample(name, message) in message(), at in any::<usize>(), with in any::<u8>()) {
        let mut wire = message.encode_to_vec();
        if !wire.is_empty() {
            let at = at % wire.len();
            wire[at] = with;
        }
        if let Ok(json) = print(name, &wire) {
            let parsed: Result<serde_json::Value, _> = serde_json::from_str(&json);
            prop_assert!(parsed.is_ok(), "{}", json);
        }
    }

    #[test]
    fn damaged_json_never_panics(Sample(name, message) in message(), at in any::<usize>(), with in prop::sample::select(&b"{}[]\",:0-1eE.+\\u\0 tfn\xff"[..])) {
        let mut json = print(name, &message.encode_to_vec()).unwrap().into_bytes();
        let at = at % json.len();
        json[at] = with;
        let mut out = BytesMut::new();
        let ours = tables().json_to_wire(id(name), &json, &mut out);
        if ours.is_ok() {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok(), "{}", String::from_utf8_lossy(&json));
            prop_assert!(DynamicMessage::decode(tables().descriptor(id(name)).clone(), &out[..]).is_ok());
        }
    }

    #[test]
    fn random_text_never_panics(name in prop::sample::select(&MESSAGES[..]), json in "[\\[\\]{}\",:0-9eE.\\-\\\\utfnals@ ]{0,60}") {
        let mut out = BytesMut::new();
        let _ = tables().json_to_wire(id(name), json.as_bytes(), &mut out);
    }
}
