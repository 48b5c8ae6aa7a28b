//! Keys of a Secret: an answer that is read as a whole.

use std::time::Duration;

use prost::Message as _;
use upm_proto::hub::v1::{self as pb, bytes::Frame, open_tunnel::Purpose};

use super::{End, Use, open};
use crate::{Error, Hub};

/// Bytes of an answer.
const ANSWER: usize = 1024 * 1024;

/// Reads keys of a Secret.
pub(crate) async fn read_secret(
    hub: &Hub,
    request: pb::ReadSecretRequest,
    within: Duration,
) -> Result<pb::SecretData, Error> {
    let agent = request.agent_id;
    let purpose = Purpose::ReadSecret(pb::ReadSecret {
        namespace: request.namespace,
        name: request.name,
        keys: request.keys,
    });
    // It is short and small: there is no need to bound how many there are.
    let using = Use::begin(hub, &agent, usize::MAX)?;
    let read = async {
        let end = open(hub, &agent, purpose, within).await?;
        collect(&agent, end).await
    };
    tokio::select! {
        () = using.cut.cancelled() => Err(Error::Revoked(agent.clone())),
        read = tokio::time::timeout(within, read) => {
            read.map_err(|_| Error::TunnelTimeout(agent.clone()))?
        }
    }
}

async fn collect(agent: &str, mut end: End) -> Result<pb::SecretData, Error> {
    let mut data = Vec::new();
    while let Some(frame) = end.next(agent).await? {
        let Frame::Data(more) = frame else {
            continue;
        };
        if data.len() + more.len() > ANSWER {
            return Err(Error::Overloaded("the answer of the tunnel is too large"));
        }
        data.extend_from_slice(&more);
    }
    pb::SecretData::decode(data.as_slice()).map_err(|_| Error::Corrupt("tunnel answer"))
}
