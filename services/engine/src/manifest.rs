//! What the servers of a package need and offer, as its manifest says. Pure.

use std::collections::BTreeMap;

use crds::quantity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use mesh::FieldViolation;
use serde::{Deserialize, Serialize};
use upm_proto::resource::v1::Software;

use crate::Error;

/// A package's manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The package's type, such as `redis`. The port of clients has it as its name.
    pub type_: String,
    /// Ports by name.
    pub ports: BTreeMap<String, u16>,
    /// Volumes that each unit brings.
    pub storage: Vec<StorageNeed>,
    /// Users whose passwords are made in the cluster. The first is the one that clients get.
    pub users: Vec<String>,
}

/// A volume that each unit brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageNeed {
    /// For example `data`.
    pub name: String,
    /// Where the server finds it.
    pub mount_path: String,
    /// The least size, a Kubernetes quantity; empty for none.
    pub minimum: String,
}

/// What clients need beside a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Port of the servers.
    pub port: u16,
    /// User, and the password's key in the Secret.
    pub user: String,
}

impl Manifest {
    /// That of a catalogue entry. One that was imported without a manifest has an empty one.
    pub fn of(software: &Software) -> Self {
        let manifest = software.manifest.clone().unwrap_or_default();
        Self {
            type_: software.r#type.clone(),
            ports: manifest
                .ports
                .into_iter()
                .filter_map(|port| Some((port.name, u16::try_from(port.port).ok()?)))
                .collect(),
            storage: manifest
                .storage
                .into_iter()
                .map(|storage| StorageNeed {
                    name: storage.name,
                    mount_path: storage.mount_path,
                    minimum: storage.minimum,
                })
                .collect(),
            users: manifest.users,
        }
    }

    /// As it is stored.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|source| Error::Encode {
            what: "a manifest",
            source,
        })
    }

    /// What clients need. The refusal names `field`, which the request names the package in.
    pub fn access(&self, field: &str) -> Result<Access, FieldViolation> {
        let lacks = |what: &str| {
            let text = format!("the manifest of the package names no {what}: import it with one");
            FieldViolation::new(field, text)
        };
        let port = self.ports.get(&self.type_).copied();
        Ok(Access {
            port: port.ok_or_else(|| lacks("port of clients"))?,
            user: self.users.first().ok_or_else(|| lacks("user"))?.clone(),
        })
    }

    /// Why volumes of this size, a quantity that the request has in `field`, are too small.
    pub fn refuse_small(&self, size: &str, field: &str) -> Option<FieldViolation> {
        let bytes = |text: &str| quantity::millis(&Quantity(text.to_owned())).ok();
        let least = self
            .storage
            .iter()
            .filter(|storage| !storage.minimum.is_empty())
            .max_by_key(|storage| bytes(&storage.minimum))?;
        (bytes(size)? < bytes(&least.minimum)?).then(|| {
            let text = format!(
                "{size} is less than the {} that the package needs",
                least.minimum
            );
            FieldViolation::new(field, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use upm_proto::resource::v1::{PackageManifest, PackagePort, PackageStorage};

    use super::*;

    fn manifest() -> Manifest {
        let port = |name: &str, port| PackagePort {
            name: name.into(),
            port,
        };
        let storage = |name: &str, minimum: &str| PackageStorage {
            name: name.into(),
            mount_path: format!("/{name}"),
            minimum: minimum.into(),
        };
        Manifest::of(&Software {
            r#type: "toy".into(),
            manifest: Some(PackageManifest {
                ports: vec![port("agent", 2), port("toy", 7)],
                storage: vec![storage("log", ""), storage("data", "300Mi")],
                users: vec!["app".into(), "internal".into()],
                ..PackageManifest::default()
            }),
            ..Software::default()
        })
    }

    #[test]
    fn clients_get_the_port_of_the_type_and_the_first_user() {
        let access = manifest().access("version").unwrap();
        assert_eq!((access.port, access.user.as_str()), (7, "app"));
        let refused = Manifest::of(&Software::default()).access("version");
        assert_eq!(refused.unwrap_err().field, "version");
    }

    #[test]
    fn volumes_smaller_than_the_package_needs_are_refused() {
        let manifest = manifest();
        assert!(manifest.refuse_small("299Mi", "size").is_some());
        assert_eq!(manifest.refuse_small("300Mi", "size"), None);
        assert_eq!(Manifest::default().refuse_small("1", "size"), None);
    }

    #[test]
    fn a_manifest_is_read_as_it_was_stored() {
        let stored = manifest().to_json().unwrap();
        assert_eq!(
            serde_json::from_str::<Manifest>(&stored).unwrap(),
            manifest()
        );
    }
}
