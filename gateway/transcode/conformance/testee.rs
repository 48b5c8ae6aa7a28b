//! What the protobuf project's conformance runner calls: reads requests from standard input, transcodes, writes what came of it.
//!
//! The one argument is the folder with the runner's `.proto` files. Only what a transcoder does is answered: protobuf to JSON, JSON to
//! protobuf, and JSON to JSON by way of protobuf; the rest is reported as skipped.

use std::{
    error::Error,
    io::{self, Read as _, Write as _},
};

use bytes::BytesMut;
use prost::{Enumeration, Message, Oneof};
use upm_transcode::{DecodeError, JsonOptions, LoadOptions, MessageId, Options, Tables};

/// `conformance.ConformanceRequest`
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(oneof = "Payload", tags = "1, 2, 7, 8")]
    payload: Option<Payload>,
    #[prost(enumeration = "Format", tag = "3")]
    requested_output_format: i32,
    #[prost(string, tag = "4")]
    message_type: String,
    #[prost(int32, tag = "5")]
    test_category: i32,
}

#[derive(Clone, PartialEq, Oneof)]
enum Payload {
    #[prost(bytes, tag = "1")]
    Protobuf(Vec<u8>),
    #[prost(string, tag = "2")]
    Json(String),
    #[prost(string, tag = "7")]
    Jspb(String),
    #[prost(string, tag = "8")]
    Text(String),
}

/// `conformance.WireFormat`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
enum Format {
    Unspecified = 0,
    Protobuf = 1,
    Json = 2,
    Jspb = 3,
    Text = 4,
}

/// `conformance.TestCategory.JSON_IGNORE_UNKNOWN_PARSING_TEST`
const IGNORE_UNKNOWN: i32 = 3;

/// `conformance.ConformanceResponse`
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(oneof = "Outcome", tags = "1, 2, 3, 4, 5, 6")]
    outcome: Option<Outcome>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Outcome {
    #[prost(string, tag = "1")]
    ParseError(String),
    #[prost(string, tag = "2")]
    RuntimeError(String),
    #[prost(bytes, tag = "3")]
    Protobuf(Vec<u8>),
    #[prost(string, tag = "4")]
    Json(String),
    #[prost(string, tag = "5")]
    Skipped(String),
    #[prost(string, tag = "6")]
    SerializeError(String),
}

/// The messages that the runner sends.
const FILES: [&str; 2] = [
    "google/protobuf/test_messages_proto3.proto",
    "google/protobuf/test_messages_proto2.proto",
];

struct Testee {
    strict: Tables,
    lenient: Tables,
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args()
        .nth(1)
        .ok_or("needs the folder with the runner's .proto files")?;
    let testee = Testee::new(&folder)?;
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut length = [0; 4];
    // The runner ends the conversation by closing its end.
    while input.read_exact(&mut length).is_ok() {
        let mut request = vec![0; u32::from_le_bytes(length) as usize];
        input.read_exact(&mut request)?;
        let response = Response {
            outcome: Some(testee.answer(Request::decode(&request[..])?)),
        }
        .encode_to_vec();
        output.write_all(&(response.len() as u32).to_le_bytes())?;
        output.write_all(&response)?;
        output.flush()?;
    }
    Ok(())
}

impl Testee {
    fn new(folder: &str) -> Result<Self, Box<dyn Error>> {
        let mut compiler = protox::Compiler::new([folder])?;
        compiler.include_imports(true).open_files(FILES)?;
        let set = compiler.encode_file_descriptor_set();
        let lenient = LoadOptions {
            bind: Options {
                ignore_unknown_fields: true,
                ..Options::default()
            },
            ..LoadOptions::default()
        };
        Ok(Self {
            strict: Tables::from_descriptor_set(&set)?,
            lenient: Tables::load(&set, lenient)?,
        })
    }

    fn answer(&self, request: Request) -> Outcome {
        // The first question: which failures are expected. The runner has them in a file.
        if request.message_type == "conformance.FailureSet" {
            return Outcome::Protobuf(Vec::new());
        }
        let tables = if request.test_category == IGNORE_UNKNOWN {
            &self.lenient
        } else {
            &self.strict
        };
        let Some(id) = tables.message(&request.message_type) else {
            let name = &request.message_type;
            return Outcome::Skipped(format!("{name} is in a file with an edition"));
        };
        let asked = Format::try_from(request.requested_output_format);
        match (request.payload, asked) {
            (Some(Payload::Protobuf(wire)), Ok(Format::Json)) => json(tables, id, &wire),
            (Some(Payload::Json(text)), Ok(format @ (Format::Protobuf | Format::Json))) => {
                let mut wire = BytesMut::new();
                match tables.json_to_wire(id, text.as_bytes(), &mut wire) {
                    Err(error) => Outcome::ParseError(error.to_string()),
                    Ok(()) if format == Format::Json => json(tables, id, &wire),
                    Ok(()) => Outcome::Protobuf(wire.to_vec()),
                }
            }
            (Some(Payload::Protobuf(_)), Ok(Format::Protobuf)) => {
                Outcome::Skipped("nothing is transcoded from protobuf to protobuf".to_owned())
            }
            (Some(_), Ok(_)) => Outcome::Skipped("neither protobuf nor JSON".to_owned()),
            (None, _) | (_, Err(_)) => Outcome::RuntimeError("an unknown request".to_owned()),
        }
    }
}

fn json(tables: &Tables, id: MessageId, wire: &[u8]) -> Outcome {
    let mut text = Vec::new();
    match tables.wire_to_json(id, wire, &mut text, &JsonOptions::default()) {
        Ok(()) => match String::from_utf8(text) {
            Ok(text) => Outcome::Json(text),
            Err(error) => Outcome::RuntimeError(error.to_string()),
        },
        Err(error @ (DecodeError::Unrepresentable { .. } | DecodeError::UnknownType(_))) => {
            Outcome::SerializeError(error.to_string())
        }
        Err(error) => Outcome::ParseError(error.to_string()),
    }
}
