//! What both gateways get: descriptors, a key and a token; and the messages of the API.

use std::{error::Error, fs, path::Path};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use prost_reflect::{DescriptorPool, DynamicMessage, prost::Message as _};
use serde_json::{Value, json};

/// A book of about 500 bytes of JSON.
pub(super) fn book(number: usize) -> Value {
    json!({
        "name": format!("shelves/1/books/{number}"),
        "title": "On the measurement of gateways, with a \"quotation\" and a line\nbreak",
        "pages": "734",
        "availability": "ON_SHELF",
        "publishTime": "2026-11-22T10:20:30.123456Z",
        // One entry: the order of several is another one in each process.
        "labels": {"condition": "as new, with a slip of paper at page 12"},
        "authors": [{"displayName": "Ada Example"}, {"displayName": "Bob Muster"}],
        "binding": {"material": "linen", "spine": {"widthMm": 31}},
        "price": 31.5,
        "etag": "W/\"0123456789abcdef\"",
    })
}

pub(super) fn small() -> Value {
    json!({"name": "shelves/1/books/1", "title": "A short one", "pages": "7"})
}

pub(super) fn list() -> Value {
    json!({"books": (0..50).map(book).collect::<Vec<_>>(), "nextPageToken": "next"})
}

pub(super) fn descriptors() -> Vec<u8> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [crates.join("testdata"), crates.join("transcode/testdata")];
    let mut compiler = protox::Compiler::new(folders).expect("the test data is there");
    compiler.include_imports(true);
    compiler
        .open_files(["demo/bench.proto"])
        .expect("the test data compiles");
    compiler.encode_file_descriptor_set()
}

/// A message of `demo.library` in its gRPC frame.
pub(super) fn frame(message: &str, json: &Value) -> Vec<u8> {
    let pool = DescriptorPool::decode(&descriptors()[..]).expect("descriptors");
    let message = pool
        .get_message_by_name(&format!("demo.library.{message}"))
        .expect("a message of the API");
    let wire = DynamicMessage::deserialize(message, json)
        .expect("JSON of the message")
        .encode_to_vec();
    let mut frame = vec![0];
    frame.extend((wire.len() as u32).to_be_bytes());
    frame.extend(wire);
    frame
}

/// Writes `api.pb`, `jwks.json` and `token`.
pub(super) fn files(folder: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("api.pb"), descriptors())?;
    let random = aws_lc_rs::rand::SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref())?;
    let point = pair.public_key().as_ref();
    let part = |from: usize| URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
    let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "1", "x": part(1), "y": part(33)}]});
    fs::write(folder.join("jwks.json"), keys.to_string())?;
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("1".to_owned());
    let claims = json!({"iss": "bench", "sub": "users/1", "exp": 4_000_000_000_u64});
    let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ec_der(pkcs8.as_ref()))?;
    fs::write(folder.join("token"), token)?;
    Ok(())
}
