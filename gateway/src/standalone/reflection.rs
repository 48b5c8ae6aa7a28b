//! Descriptors from the servers themselves: `grpc.reflection.v1.ServerReflection`, or its elder `v1alpha`, which has the same messages.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt as _;
use prost::Message as _;
use tokio::time::Instant;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, ServerReflectionResponse, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};
use upm_transcode::status::Code;

use crate::{
    Error,
    catalog::Method,
    forward::{Call, Payload},
    frame,
    refusal::Upstream,
    upstream::Pool,
};

const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
const TIMEOUT: Duration = Duration::from_secs(10);
/// More files than that are no API.
const MOST_FILES: usize = 10_000;
/// Larger answers are refused, in bytes.
const LARGEST: usize = 16 * 1024 * 1024;

/// All files of all services, as an encoded `FileDescriptorSet` in an order that is always the same.
pub(super) async fn read(pools: &HashMap<Arc<str>, Pool>) -> Result<Vec<u8>, Error> {
    let mut files = BTreeMap::new();
    let ordered: BTreeMap<_, _> = pools.iter().collect();
    for (service, pool) in ordered {
        let asked = MessageRequest::FileContainingSymbol(service.to_string());
        let mut missing: BTreeSet<String> = BTreeSet::new();
        for file in ask(pool, asked).await? {
            missing.extend(add(&mut files, file)?);
        }
        while let Some(name) = missing.pop_first() {
            if files.contains_key(&name) {
                continue;
            }
            if files.len() > MOST_FILES {
                return Err(Error::Reflection(
                    "the upstream has too many files".to_owned(),
                ));
            }
            for file in ask(pool, MessageRequest::FileByFilename(name.clone())).await? {
                missing.extend(add(&mut files, file)?);
            }
            if !files.contains_key(&name) {
                return Err(Error::Reflection(format!(
                    "the upstream does not give {name}"
                )));
            }
        }
    }
    Ok(set(&files))
}

/// Keeps a file as it came (its options must not be lost); tells what it imports.
fn add(files: &mut BTreeMap<String, Vec<u8>>, file: Vec<u8>) -> Result<Vec<String>, Error> {
    let read = prost_reflect::prost_types::FileDescriptorProto::decode(&file[..])
        .map_err(|error| Error::Reflection(error.to_string()))?;
    files.entry(read.name().to_owned()).or_insert(file);
    Ok(read.dependency)
}

fn set(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut set = Vec::new();
    for file in files.values() {
        prost::encoding::bytes::encode(1, file, &mut set);
    }
    set
}

async fn ask(pool: &Pool, asked: MessageRequest) -> Result<Vec<Vec<u8>>, Error> {
    for path in PATHS {
        match tokio::time::timeout(TIMEOUT, ask_at(pool, path, asked.clone())).await {
            Err(_) => return Err(Error::Reflection("the upstream does not answer".to_owned())),
            Ok(Err(Code::Unimplemented)) => {}
            Ok(Err(code)) => {
                return Err(Error::Reflection(format!(
                    "the upstream answers {}",
                    code.name()
                )));
            }
            Ok(Ok(files)) => return Ok(files),
        }
    }
    Err(Error::Reflection(
        "the upstream has no reflection service".to_owned(),
    ))
}

async fn ask_at(pool: &Pool, path: &str, asked: MessageRequest) -> Result<Vec<Vec<u8>>, Code> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(asked),
    };
    let mut message = frame::open(request.encoded_len());
    request.encode(&mut message).map_err(|_| Code::Internal)?;
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let call = Call {
        method: Arc::new(Method::stream(path).ok_or(Code::Internal)?),
        owner: "".into(),
        headers,
        payload: Payload::Whole(frame::seal(message)),
        deadline: Some(Instant::now() + TIMEOUT),
    };
    let response = pool.send(call).await.map_err(|refusal| refusal.code())?;
    let (parts, body) = response.into_parts();
    let collected = http_body_util::Limited::new(body, LARGEST)
        .collect()
        .await
        .map_err(|_| Code::Unavailable)?;
    let status =
        Upstream::read(&parts.headers).or_else(|| collected.trailers().and_then(Upstream::read));
    match status.map(|status| status.code) {
        Some(Code::Ok) => {}
        Some(code) => return Err(code),
        None => return Err(Code::Unavailable),
    }
    let message = frame::only(collected.to_bytes()).ok_or(Code::Internal)?;
    files(message)
}

fn files(message: Bytes) -> Result<Vec<Vec<u8>>, Code> {
    let answer = ServerReflectionResponse::decode(message).map_err(|_| Code::Internal)?;
    match answer.message_response {
        Some(MessageResponse::FileDescriptorResponse(files)) => Ok(files.file_descriptor_proto),
        Some(MessageResponse::ErrorResponse(error)) => Err(Code::from_number(error.error_code)),
        _ => Err(Code::Internal),
    }
}
