//! Keys of a Secret.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use prost::{Message as _, bytes::Bytes};
use upm_operator::call;
use upm_proto::hub::v1 as pb;

use super::{ClusterTunnels, ToHub, away, refused, send};

impl ClusterTunnels {
    pub(super) async fn secret(&self, wanted: pb::ReadSecret, to: &ToHub) -> Result<(), pb::Error> {
        self.policy
            .allows_tunnel(&wanted.namespace, &wanted.name)
            .map_err(|why| refused("DENIED_LOCAL_POLICY", why))?;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &wanted.namespace);
        let found = call::get_opt(&api, &wanted.name)
            .await
            .map_err(|error| away(error.public()))?;
        let missing = || {
            refused(
                "SECRET_NOT_FOUND",
                format!(
                    "Secret {}/{} or a key of it does not exist",
                    wanted.namespace, wanted.name
                ),
            )
        };
        let secret = found.ok_or_else(missing)?;
        if !self.policy.may_read_secret(secret.metadata.labels.as_ref()) {
            return Err(refused(
                "DENIED_LOCAL_POLICY",
                format!(
                    "Secret {}/{} is not readable for the platform",
                    wanted.namespace, wanted.name
                ),
            ));
        }
        let data = secret.data.unwrap_or_default();
        let found = wanted
            .keys
            .iter()
            .map(|key| Some((key.clone(), data.get(key)?.0.clone().into())))
            .collect::<Option<HashMap<String, Bytes>>>()
            .ok_or_else(missing)?;
        let encoded = Bytes::from(pb::SecretData { data: found }.encode_to_vec());
        send(to, encoded).await;
        Ok(())
    }
}
