//! Objects as intents of the ledger: typed when they are built, JSON from here on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use upm_proto::hub::v1 as hub;

use crate::Error;

/// Which part of a service an object is. Steps write parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// The project's namespace; shared by the services of a project.
    Project,
    /// Template, values and PodTemplate of a software version; shared by all services that run it.
    Package,
    /// The UnitSet of the pool with this id.
    Pool(String),
    /// What makes a service out of running units.
    Topology,
}

/// One object that a service wants in its cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct IntentTemplate {
    /// What it is for.
    pub part: Part,
    /// Who may change it later, when that is not the service itself.
    pub shared_owner: Option<String>,
    /// Its name.
    pub key: hub::Key,
    /// The object without status and without nulls.
    pub json: Value,
    /// Objects that must exist before it.
    pub depends_on: Vec<hub::Key>,
}

impl IntentTemplate {
    /// An intent for a typed object, which must serialize with `apiVersion`, `kind` and `metadata.name`.
    pub fn of<T: Serialize>(part: Part, object: &T) -> Result<Self, Error> {
        let mut json = serde_json::to_value(object).map_err(|source| Error::Encode {
            what: "an object of the cluster",
            source,
        })?;
        if let Some(fields) = json.as_object_mut() {
            fields.remove("status");
        }
        prune(&mut json);
        let key = key_of(&json).ok_or(Error::Broken("an object without kind or name"))?;
        Ok(Self {
            part,
            shared_owner: None,
            key,
            json,
            depends_on: Vec::new(),
        })
    }

    /// Makes it belong to something that several services share.
    pub fn shared(mut self, owner: impl Into<String>) -> Self {
        self.shared_owner = Some(owner.into());
        self
    }

    /// Makes it wait for other objects.
    pub fn after(mut self, keys: impl IntoIterator<Item = hub::Key>) -> Self {
        self.depends_on.extend(keys);
        self
    }
}

/// What the module remembers of one intent: its identity in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Which part it is.
    pub part: Part,
    /// API group, version, kind, namespace, name.
    pub key: MarkKey,
    /// Chosen once per life of the object.
    pub uid: uuid::Uuid,
    /// Counts up with each change.
    pub generation: u64,
    /// SHA-256 of the object, hex.
    pub digest: String,
    /// Whether a tombstone was asked for.
    #[serde(default)]
    pub deleted: bool,
}

/// A key that can be stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MarkKey {
    /// API group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// The intents of one service by `kind/name`.
pub type Marks = BTreeMap<String, Mark>;

/// Where a mark is kept.
pub fn mark_name(key: &hub::Key) -> String {
    format!("{}/{}", key.kind, key.name)
}

/// Notes that these objects are wanted now: a changed one gets its next generation, a new one (or one that was deleted before) a new
/// identity. The same wish twice changes nothing, which is what makes a repeated step write the same intent.
pub fn mark(marks: &mut Marks, templates: &[IntentTemplate], new_uid: impl Fn() -> uuid::Uuid) {
    for template in templates {
        let digest = digest(&template.json);
        let name = mark_name(&template.key);
        match marks.get_mut(&name) {
            Some(mark) if !mark.deleted => {
                if mark.digest != digest {
                    mark.generation += 1;
                    mark.digest = digest;
                }
            }
            Some(_) | None => {
                let mark = Mark {
                    part: template.part.clone(),
                    key: MarkKey::from(&template.key),
                    uid: new_uid(),
                    generation: 1,
                    digest,
                    deleted: false,
                };
                marks.insert(name, mark);
            }
        }
    }
}

/// The ledger's form of a template under its mark.
pub fn to_hub(template: &IntentTemplate, mark: &Mark) -> hub::Intent {
    hub::Intent {
        key: Some(template.key.clone()),
        intent_uid: mark.uid.as_bytes().to_vec().into(),
        generation: mark.generation,
        json: canonical(&template.json).into_bytes().into(),
        preconditions: (!template.depends_on.is_empty()).then(|| hub::Preconditions {
            depends_on: template.depends_on.clone(),
            ..Default::default()
        }),
        wave: 0,
        priority: hub::Priority::Normal.into(),
        force: true,
        // A service outlives any absence of the hub.
        ttl_seconds: 0,
    }
}

/// An identity that every writer of a shared object arrives at by itself. `buried` is that of the object's last life, if it had one: an
/// identity is never used again.
pub fn shared_uid(owner: &str, agent: &str, key: &hub::Key, buried: &[u8]) -> uuid::Uuid {
    let mut hash = Sha256::new();
    hash.update(buried);
    for part in [
        owner,
        agent,
        &key.group,
        &key.kind,
        &key.namespace,
        &key.name,
    ] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// SHA-256 of the canonical form, hex.
pub fn digest(json: &Value) -> String {
    Sha256::digest(canonical(json).as_bytes()).iter().fold(
        String::with_capacity(64),
        |mut hex, byte| {
            use std::fmt::Write;
            let _ = write!(hex, "{byte:02x}");
            hex
        },
    )
}

/// JSON with sorted keys and no spaces.
pub fn canonical(json: &Value) -> String {
    fn write(json: &Value, out: &mut String) {
        match json {
            Value::Object(fields) => {
                let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
                out.push('{');
                for (at, (key, value)) in sorted.into_iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    out.push_str(&Value::String(key.clone()).to_string());
                    out.push(':');
                    write(value, out);
                }
                out.push('}');
            }
            Value::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write(item, out);
                }
                out.push(']');
            }
            scalar => out.push_str(&scalar.to_string()),
        }
    }
    let mut out = String::new();
    write(json, &mut out);
    out
}

/// Removes nulls: to server-side apply they would be claims on fields.
fn prune(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn key_of(json: &Value) -> Option<hub::Key> {
    let api_version = json["apiVersion"].as_str()?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Some(hub::Key {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: json["kind"].as_str()?.to_owned(),
        namespace: json["metadata"]["namespace"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        name: json["metadata"]["name"].as_str()?.to_owned(),
    })
}

impl From<&hub::Key> for MarkKey {
    fn from(key: &hub::Key) -> Self {
        Self {
            group: key.group.clone(),
            version: key.version.clone(),
            kind: key.kind.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        }
    }
}

impl From<&MarkKey> for hub::Key {
    fn from(key: &MarkKey) -> Self {
        Self {
            group: key.group.clone(),
            version: key.version.clone(),
            kind: key.kind.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn template(units: u32) -> IntentTemplate {
        let object = json!({
            "apiVersion": "upm.syntropycloud.io/v1alpha2", "kind": "UnitSet",
            "metadata": {"name": "demo", "namespace": "p", "labels": null},
            "spec": {"units": units}, "status": {"readyUnits": 3},
        });
        IntentTemplate::of(Part::Pool(String::new()), &object).unwrap()
    }

    #[test]
    fn leaves_status_and_nulls_out() {
        let made = template(3);
        assert_eq!(made.json["status"], Value::Null);
        assert!(
            !made.json["metadata"]
                .as_object()
                .unwrap()
                .contains_key("labels")
        );
        assert_eq!(
            (made.key.group.as_str(), made.key.version.as_str()),
            ("upm.syntropycloud.io", "v1alpha2")
        );
    }

    #[test]
    fn gives_a_deleted_object_a_new_identity() {
        let mut marks = Marks::new();
        mark(&mut marks, &[template(3)], uuid::Uuid::now_v7);
        let first = marks["UnitSet/demo"].clone();
        marks.get_mut("UnitSet/demo").unwrap().deleted = true;
        mark(&mut marks, &[template(3)], uuid::Uuid::now_v7);
        assert_ne!(marks["UnitSet/demo"].uid, first.uid);
        assert!(!marks["UnitSet/demo"].deleted);
    }

    #[test]
    fn orders_keys_and_keeps_strings_escaped() {
        assert_eq!(
            canonical(&json!({"b": [1, {"z": "\"", "a": true}], "a": 1.5})),
            r#"{"a":1.5,"b":[1,{"a":true,"z":"\""}]}"#
        );
    }

    #[test]
    fn a_shared_object_has_one_identity_for_all_writers() {
        let key = template(1).key;
        assert_eq!(
            shared_uid("projects/p", "c", &key, &[]),
            shared_uid("projects/p", "c", &key, &[])
        );
        assert_ne!(
            shared_uid("projects/p", "c", &key, &[]),
            shared_uid("projects/p", "d", &key, &[])
        );
    }

    proptest! {
        #[test]
        fn generations_count_changes_and_only_changes(wishes in proptest::collection::vec(1_u32..4, 1..20)) {
            let mut marks = Marks::new();
            let mut changes = 0;
            let mut last = None;
            for units in wishes {
                mark(&mut marks, &[template(units)], uuid::Uuid::now_v7);
                if last != Some(units) {
                    changes += 1;
                }
                last = Some(units);
                prop_assert_eq!(marks["UnitSet/demo"].generation, changes);
            }
        }
    }
}
