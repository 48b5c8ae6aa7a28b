//! Where calls go: to the modules of the platform over the mesh, or to gRPC servers over pools of our own.

mod balance;
mod connection;
mod contain;
mod endpoint;
mod health;
mod pool;
mod target;

use std::{collections::HashMap, sync::Arc};

use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use tower::{Service as _, ServiceExt as _};
use upm_mesh::Peers;
use upm_transcode::status::Code;

pub(crate) use self::pool::Pool;
pub use self::target::Target;
use crate::{
    Body, BodyError,
    forward::{Call, Payload},
    refusal::Refusal,
};

/// All upstreams of a gateway (or of one worker of it).
pub(crate) enum Upstreams {
    /// The modules; their channels balance, repeat and re-dial.
    Mesh(Peers),
    /// A pool for each service.
    Pools(HashMap<Arc<str>, Pool>),
}

impl Upstreams {
    pub(crate) async fn send(&self, call: Call) -> Result<Response<Body>, Refusal> {
        match self {
            Self::Mesh(peers) => mesh(peers, call).await,
            Self::Pools(pools) => match pools.get(&call.owner) {
                Some(pool) => pool.send(call).await,
                None => Err(Refusal::no_endpoint()),
            },
        }
    }
}

async fn mesh(peers: &Peers, call: Call) -> Result<Response<Body>, Refusal> {
    let Call {
        method,
        owner,
        headers,
        payload,
        ..
    } = call;
    let body = match payload {
        Payload::Whole(bytes) => tonic::body::Body::new(Full::new(bytes)),
        Payload::Stream(body) => tonic::body::Body::new(body),
    };
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = Uri::from(method.path.clone());
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = headers;
    let failed = |error: tonic::Status| {
        tracing::debug!(module = &*owner, %error, "The call to a module failed");
        Refusal::channel(&owner, Code::from_number(error.code() as i32))
    };
    let mut channel = peers.channel(&owner);
    let ready = channel.ready().await.map_err(failed)?;
    let response = ready.call(request).await.map_err(failed)?;
    Ok(response.map(|body| body.map_err(|status| BodyError::of(&status)).boxed_unsync()))
}
