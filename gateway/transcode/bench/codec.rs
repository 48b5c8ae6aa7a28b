//! The codec beside a dynamic message, and beside code that prost and pbjson generated: same messages, same answers.
//!
//! `codec` prints `case direction tables_ns dynamic_ns pbjson_ns dynamic/tables pbjson/tables`, the best of many rounds.
//! `codec CASE DIRECTION CODEC COUNT` does one of it so many times, for an instruction count.

use std::{
    error::Error,
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};
use upm_transcode::{JsonOptions, MessageId, Tables};

/// The code of prost-build and pbjson-build for `gateway/testdata/demo/books.proto`.
#[allow(
    clippy::all,
    clippy::pedantic,
    dead_code,
    unused_qualifications,
    unreachable_pub
)]
mod generated {
    include!("gen/demo.library.rs");
    include!("gen/demo.library.serde.rs");
}
use generated::{Book, ListBooksResponse};

const CODECS: [&str; 3] = ["tables", "dynamic", "pbjson"];
const DIRECTIONS: [&str; 2] = ["to-json", "to-wire"];
/// Rounds, and the time of each; the best one counts.
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(40);

fn main() -> Result<(), Box<dyn Error>> {
    let tables = Tables::from_descriptor_set(&descriptors())?;
    let cases = [Case::new(&tables, "book")?, Case::new(&tables, "list")?];
    for case in &cases {
        case.agree()?;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => compare(&cases)?,
        [name, direction, codec, count] => {
            let case = cases.iter().find(|case| case.name == *name);
            let case = case.ok_or("no such case")?;
            for _ in 0..count.parse()? {
                black_box(case.run(codec, direction)?);
            }
        }
        _ => {
            return Err(
                "codec | codec book|list to-json|to-wire tables|dynamic|pbjson COUNT".into(),
            );
        }
    }
    Ok(())
}

fn compare(cases: &[Case<'_>]) -> Result<(), Box<dyn Error>> {
    println!(
        "{:<5} {:<8} {:>10} {:>10} {:>10} {:>14} {:>13}",
        "case",
        "direction",
        "tables_ns",
        "dynamic_ns",
        "pbjson_ns",
        "dynamic/tables",
        "pbjson/tables"
    );
    for case in cases {
        for direction in DIRECTIONS {
            let mut best = [f64::MAX; 3];
            for _ in 0..ROUNDS {
                for (codec, best) in CODECS.iter().zip(&mut best) {
                    *best = best.min(case.time(codec, direction)?);
                }
            }
            let [tables, dynamic, pbjson] = best;
            println!(
                "{:<5} {direction:<8} {tables:>10.0} {dynamic:>10.0} {pbjson:>10.0} {:>14.2} {:>13.2}",
                case.name,
                dynamic / tables,
                pbjson / tables
            );
        }
    }
    Ok(())
}

struct Case<'t> {
    name: &'static str,
    tables: &'t Tables,
    id: MessageId,
    descriptor: MessageDescriptor,
    json: Vec<u8>,
    wire: Vec<u8>,
}

impl<'t> Case<'t> {
    fn new(tables: &'t Tables, name: &'static str) -> Result<Self, Box<dyn Error>> {
        let (message, json) = match name {
            "book" => ("demo.library.Book", book(1)),
            _ => (
                "demo.library.ListBooksResponse",
                json!({"books": (0..50).map(book).collect::<Vec<_>>(), "nextPageToken": "next"}),
            ),
        };
        let id = tables.message(message).ok_or("no such message")?;
        let descriptor = tables.descriptor(id).clone();
        let wire = DynamicMessage::deserialize(descriptor.clone(), &json)?.encode_to_vec();
        Ok(Self {
            name,
            tables,
            id,
            descriptor,
            json: json.to_string().into_bytes(),
            wire,
        })
    }

    /// All codecs say the same.
    fn agree(&self) -> Result<(), Box<dyn Error>> {
        // Not byte for byte: `Z` and `+00:00` are the same time.
        let message = |json: &[u8]| {
            let mut from = serde_json::Deserializer::from_slice(json);
            DynamicMessage::deserialize(self.descriptor.clone(), &mut from)
        };
        for codec in CODECS {
            let wire = self.run(codec, "to-wire")?;
            let wanted = message(&self.json)?;
            let same = DynamicMessage::decode(self.descriptor.clone(), &wire[..])? == wanted;
            if !same || message(&self.run(codec, "to-json")?)? != wanted {
                return Err(format!("{}: {codec} says something else", self.name).into());
            }
        }
        Ok(())
    }

    fn run(&self, codec: &str, direction: &str) -> Result<Vec<u8>, Box<dyn Error>> {
        let (wire, json) = (black_box(&self.wire[..]), black_box(&self.json[..]));
        let list = self.name == "list";
        Ok(match (codec, direction) {
            ("tables", "to-json") => {
                let mut out = Vec::new();
                let options = JsonOptions::default();
                self.tables
                    .wire_to_json(self.id, wire, &mut out, &options)?;
                out
            }
            ("tables", "to-wire") => {
                let mut out = BytesMut::new();
                self.tables.json_to_wire(self.id, json, &mut out)?;
                out.into()
            }
            ("dynamic", "to-json") => {
                serde_json::to_vec(&DynamicMessage::decode(self.descriptor.clone(), wire)?)?
            }
            ("dynamic", "to-wire") => {
                let mut from = serde_json::Deserializer::from_slice(json);
                DynamicMessage::deserialize(self.descriptor.clone(), &mut from)?.encode_to_vec()
            }
            ("pbjson", "to-json") if list => serde_json::to_vec(&ListBooksResponse::decode(wire)?)?,
            ("pbjson", "to-json") => serde_json::to_vec(&Book::decode(wire)?)?,
            ("pbjson", "to-wire") if list => {
                serde_json::from_slice::<ListBooksResponse>(json)?.encode_to_vec()
            }
            ("pbjson", "to-wire") => serde_json::from_slice::<Book>(json)?.encode_to_vec(),
            _ => return Err("no such codec or direction".into()),
        })
    }

    /// Nanoseconds for one message.
    fn time(&self, codec: &str, direction: &str) -> Result<f64, Box<dyn Error>> {
        let (begun, mut count) = (Instant::now(), 0);
        while begun.elapsed() < ROUND {
            for _ in 0..16 {
                black_box(self.run(codec, direction)?);
            }
            count += 16;
        }
        Ok(begun.elapsed().as_secs_f64() * 1e9 / f64::from(count))
    }
}

/// The book of the bench of the gateway.
fn book(number: usize) -> Value {
    json!({
        "name": format!("shelves/1/books/{number}"),
        "title": "On the measurement of gateways, with a \"quotation\" and a line\nbreak",
        "pages": "734",
        "availability": "ON_SHELF",
        "publishTime": "2026-11-22T10:20:30.123456Z",
        "labels": {"condition": "as new, with a slip of paper at page 12"},
        "authors": [{"displayName": "Ada Example"}, {"displayName": "Bob Muster"}],
        "binding": {"material": "linen", "spine": {"widthMm": 31}},
        "price": 31.5,
        "etag": "W/\"0123456789abcdef\"",
    })
}

fn descriptors() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    let mut compiler = protox::Compiler::new([folder]).expect("the test data is there");
    compiler.include_imports(true);
    compiler
        .open_files(["demo/books.proto"])
        .expect("the test data compiles");
    compiler.encode_file_descriptor_set()
}
