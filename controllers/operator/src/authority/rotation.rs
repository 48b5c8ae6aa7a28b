//! One CA follows another without a moment in which two parts of a cluster do not trust each other: the next one is trusted everywhere
//! before it signs, and the one before is trusted until the last certificate that it signed has ended.
//!
//! It begins by itself two years before the CA ends, or when somebody asks for it by the annotation [`REQUESTED`] on the Secret.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use upm_crds::names;
use x509_parser::pem::Pem;

use super::{
    CA_CERTIFICATE, CERTIFICATE, ClusterAuthority, PRIVATE_KEY, new_authority, refused, text,
};
use crate::{Error, call};

/// Asks for another CA; removed when it was made.
pub const REQUESTED: &str = "upm.syntropycloud.io/rotate-requested";
/// Since when the next CA is trusted.
const NEXT_SINCE: &str = "upm.syntropycloud.io/next-since";
/// Since when the CA before signs nothing any more.
const RETIRED_SINCE: &str = "upm.syntropycloud.io/retired-since";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_PRIVATE_KEY: &str = "next.key";

/// The next CA is made so long before the one that signs ends.
const PREPARE: SignedDuration = SignedDuration::from_hours(2 * 365 * 24);
/// It is trusted so long before it signs.
const SETTLE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// And so long of that under controllers that run, which hand out what is trusted: an hourly look of each unit, and kubelet's minute.
const HANDED_OUT: Duration = Duration::from_hours(2);
/// The one before is trusted for so long after that; certificates of units live 30 days.
const RETIRE: SignedDuration = SignedDuration::from_hours(60 * 24);
/// How often the Secret is read.
const EVERY: Duration = Duration::from_mins(1);

/// What is changed in the Secret: a merge patch without its resource version.
fn step(secret: &Secret, now: Timestamp, running: Duration) -> Result<Option<Value>, Error> {
    let since = |key: &str| {
        let value = secret.annotations().get(key)?;
        value.parse::<Timestamp>().ok()
    };
    let signs = text(secret, CERTIFICATE)?;
    let ends = end_of(&signs)?;
    let trusted = text(secret, CA_CERTIFICATE).unwrap_or_else(|_| signs.clone());
    if let Some(retired) = since(RETIRED_SINCE) {
        let patch = json!({
            "metadata": {"annotations": {RETIRED_SINCE: null}},
            "data": data([(CA_CERTIFICATE, &signs)]),
        });
        return Ok((now >= retired + RETIRE).then_some(patch));
    }
    if let Some(next) = since(NEXT_SINCE) {
        let settled = now >= next + SETTLE && running >= HANDED_OUT;
        if !settled && now < ends {
            return Ok(None);
        }
        let (certificate, key) = (
            text(secret, NEXT_CERTIFICATE)?,
            text(secret, NEXT_PRIVATE_KEY)?,
        );
        let mut data = data([(CERTIFICATE, &certificate), (PRIVATE_KEY, &key)]);
        data[NEXT_CERTIFICATE] = Value::Null;
        data[NEXT_PRIVATE_KEY] = Value::Null;
        return Ok(Some(json!({
            "metadata": {"annotations": {NEXT_SINCE: null, RETIRED_SINCE: now.to_string()}},
            "data": data,
        })));
    }
    if !secret.annotations().contains_key(REQUESTED) && now + PREPARE < ends {
        return Ok(None);
    }
    let (certificate, key) = new_authority(now)?;
    let trusted = format!("{}\n{certificate}", trusted.trim_end());
    Ok(Some(json!({
        "metadata": {"annotations": {NEXT_SINCE: now.to_string(), REQUESTED: null}},
        "data": data([
            (NEXT_CERTIFICATE, &certificate),
            (NEXT_PRIVATE_KEY, &key),
            (CA_CERTIFICATE, &trusted),
        ]),
    })))
}

fn data<const N: usize>(entries: [(&str, &String); N]) -> Value {
    let bytes: BTreeMap<&str, ByteString> = entries
        .into_iter()
        .map(|(key, text)| (key, ByteString(text.as_bytes().to_vec())))
        .collect();
    json!(bytes)
}

/// When a certificate ends.
fn end_of(pem: &str) -> Result<Timestamp, Error> {
    let unreadable = || refused("the certificate cannot be read");
    let (pem, _) = Pem::read(std::io::Cursor::new(pem.as_bytes())).map_err(|_| unreadable())?;
    let certificate = pem.parse_x509().map_err(|_| unreadable())?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).map_err(|_| unreadable())
}

impl ClusterAuthority {
    /// Keeps to what the Secret says, and rotates the CA when it is time, until dropped.
    pub async fn keep(&self, client: &Client, system_namespace: &str) {
        let begun = Instant::now();
        loop {
            tokio::time::sleep(EVERY).await;
            let kept = self.keep_once(client, system_namespace, begun.elapsed());
            if let Err(error) = kept.await {
                tracing::warn!(%error, "The cluster's CA was not looked after");
            }
        }
    }

    async fn keep_once(
        &self,
        client: &Client,
        system_namespace: &str,
        running: Duration,
    ) -> Result<(), Error> {
        let secret = self.refresh(client, system_namespace).await?;
        let Some(mut patch) = step(&secret, Timestamp::now(), running)? else {
            return Ok(());
        };
        patch["metadata"]["resourceVersion"] = json!(secret.resource_version());
        let api: Api<Secret> = Api::namespaced(client.clone(), system_namespace);
        call::patch_merge(&api, names::CLUSTER_CA, &patch).await?;
        tracing::info!(annotations = %patch["metadata"]["annotations"], "The cluster's CA is being rotated");
        self.refresh(client, system_namespace).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);
    const LONG: Duration = Duration::from_hours(24);

    fn begin() -> (Secret, Timestamp) {
        let now = Timestamp::now();
        (
            ClusterAuthority::generate(now, "upm-system").unwrap().1,
            now,
        )
    }

    /// What the API server makes of a merge patch.
    fn merged(secret: &Secret, patch: &Value) -> Secret {
        let mut value = serde_json::to_value(secret).unwrap();
        merge(&mut value, patch);
        serde_json::from_value(value).unwrap()
    }

    fn merge(value: &mut Value, patch: &Value) {
        let Value::Object(fields) = patch else {
            *value = patch.clone();
            return;
        };
        if !value.is_object() {
            *value = json!({});
        }
        for (key, change) in fields {
            if change.is_null() {
                value.as_object_mut().unwrap().remove(key);
            } else {
                merge(&mut value[key], change);
            }
        }
    }

    /// Whether the one trusts what the other signs.
    fn trusts(trusting: &Secret, signing: &Secret) -> bool {
        let signs = text(signing, CERTIFICATE).unwrap();
        let trusted = ClusterAuthority::read(trusting).unwrap().trusted_pem();
        trusted.contains(signs.trim())
    }

    #[test]
    fn every_phase_of_a_rotation_trusts_the_one_before_and_after() {
        let (mut secret, mut now) = begin();
        secret
            .annotations_mut()
            .insert(REQUESTED.to_owned(), "key was seen by somebody".to_owned());
        let mut phases = vec![secret.clone()];
        for pause in [SignedDuration::ZERO, SETTLE, RETIRE] {
            now += pause;
            let patch = step(&secret, now, LONG).unwrap().unwrap();
            secret = merged(&secret, &patch);
            assert_eq!(
                step(&secret, now, LONG).unwrap(),
                None,
                "one step at a time"
            );
            phases.push(secret.clone());
        }
        for pair in phases.windows(2) {
            assert!(trusts(&pair[0], &pair[1]) && trusts(&pair[1], &pair[0]));
        }
        let (first, last) = (&phases[0], &phases[3]);
        assert!(!trusts(last, first), "the old one is not trusted for ever");
        assert!(secret.annotations().is_empty());
        let keys: Vec<&String> = secret.data.as_ref().unwrap().keys().collect();
        assert_eq!(keys, [CA_CERTIFICATE, CERTIFICATE, PRIVATE_KEY]);
    }

    #[test]
    fn rotation_begins_by_itself_before_the_end() {
        let (secret, now) = begin();
        assert_eq!(step(&secret, now, LONG).unwrap(), None);
        assert_eq!(step(&secret, now + DAY * 365 * 7, LONG).unwrap(), None);
        assert!(step(&secret, now + DAY * 365 * 9, LONG).unwrap().is_some());
    }

    #[test]
    fn next_one_signs_only_after_it_was_handed_out() {
        let (secret, now) = begin();
        let late = now + DAY * 365 * 9;
        let secret = merged(&secret, &step(&secret, late, LONG).unwrap().unwrap());
        let settled = late + SETTLE;
        assert_eq!(step(&secret, settled - DAY, LONG).unwrap(), None);
        let started = Duration::from_mins(1);
        assert_eq!(step(&secret, settled, started).unwrap(), None);
        assert!(step(&secret, settled, LONG).unwrap().is_some());
        let ended = now + DAY * 365 * 10;
        assert!(
            step(&secret, ended, started).unwrap().is_some(),
            "one that has ended protects nobody"
        );
    }

    #[test]
    fn certificate_that_signs_is_trusted_whatever_is_written() {
        let (mut secret, _) = begin();
        let (_, other) = ClusterAuthority::generate(Timestamp::now(), "x").unwrap();
        let bundle = other.data.unwrap()[CERTIFICATE].clone();
        secret
            .data
            .as_mut()
            .unwrap()
            .insert(CA_CERTIFICATE.to_owned(), bundle);
        assert!(trusts(&secret, &secret));
    }
}
