//! What can be wrong with a UnitSet.

use std::cmp::Ordering;

use super::{FieldError, Findings, Validate, duplicates, is_dns_label};
use crate::unit_set::{ServiceType, UnitSetSpec};
use crate::{names, quantity};

/// Mount paths that the controller itself uses, and that nothing else may hide.
const RESERVED_MOUNTS: [&str; 1] = ["/upm"];

impl Validate for UnitSetSpec {
    fn validate(&self) -> Vec<FieldError> {
        let mut findings = Findings::default();
        findings.check(
            is_dns_label(&self.type_, 40),
            "type",
            "must be lower-case letters, digits and '-', at most 40",
        );
        findings.check(
            !self.version.is_empty() && self.version.len() <= 63,
            "version",
            "must have 1 to 63 characters",
        );
        findings.check(
            (1..=names::MAX_UNITS).contains(&self.units),
            "units",
            format!("must be between 1 and {}", names::MAX_UNITS),
        );
        self.validate_volumes(&mut findings);
        self.validate_resources(&mut findings);
        self.validate_parameters(&mut findings);
        if let Some(secret) = &self.generated_secret {
            findings.check(!secret.name.is_empty(), "generatedSecret.name", "is empty");
            findings.check(!secret.keys.is_empty(), "generatedSecret.keys", "is empty");
            for (i, key) in duplicates(secret.keys.iter().map(String::as_str)) {
                findings.add(
                    format!("generatedSecret.keys[{i}]"),
                    format!("{key} is there twice"),
                );
            }
        }
        for (path, service) in [
            ("externalService.type", &self.external_service),
            ("unitService.type", &self.unit_service),
        ] {
            let alias = service
                .as_ref()
                .is_some_and(|service| service.type_ == ServiceType::ExternalName);
            findings.check(
                !alias,
                path,
                "ExternalName has no name to point to; use ClusterIP, NodePort or LoadBalancer",
            );
        }
        for (i, extra) in self.extra_volume.iter().enumerate() {
            findings.check(
                extra.volume.secret.is_some() || extra.volume.config_map.is_some(),
                format!("extraVolume[{i}].volume"),
                "only secret and configMap volumes can be mounted",
            );
        }
        for (i, preset) in self.node_affinity_preset.iter().enumerate() {
            findings.check(
                !preset.values.is_empty(),
                format!("nodeAffinityPreset[{i}].values"),
                "is empty",
            );
        }
        findings.0
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut findings = Findings(self.validate());
        findings.check(
            self.type_ == old.type_,
            "type",
            "is immutable: another engine needs another UnitSet",
        );
        for was in &old.storage {
            let Some((i, now)) = self
                .storage
                .iter()
                .enumerate()
                .find(|(_, now)| now.name == was.name)
            else {
                findings.add(
                    "storage",
                    format!("{} cannot be removed: its volumes hold data", was.name),
                );
                continue;
            };
            findings.check(
                quantity::compare(&now.size, &was.size) != Ordering::Less,
                format!("storage[{i}].size"),
                format!(
                    "a volume cannot shrink (from {} to {})",
                    was.size.0, now.size.0
                ),
            );
            findings.check(
                now.mount_path == was.mount_path,
                format!("storage[{i}].mountPath"),
                "is immutable",
            );
            findings.check(
                now.storage_class_name == was.storage_class_name,
                format!("storage[{i}].storageClassName"),
                "is immutable: volumes cannot change their class",
            );
        }
        findings.0
    }
}

impl UnitSetSpec {
    fn validate_volumes(&self, findings: &mut Findings) {
        let storage = self.storage.iter().enumerate();
        let storage = storage.map(|(i, v)| {
            (
                format!("storage[{i}]"),
                &v.name,
                &v.mount_path,
                Some(&v.size),
            )
        });
        let scratch = self.empty_dir.iter().enumerate();
        let scratch = scratch.map(|(i, v)| {
            (
                format!("emptyDir[{i}]"),
                &v.name,
                &v.mount_path,
                Some(&v.size),
            )
        });
        let extra = self.extra_volume.iter().enumerate();
        let extra = extra.map(|(i, v)| {
            (
                format!("extraVolume[{i}]"),
                &v.volume.name,
                &v.volume_mount_path,
                None,
            )
        });
        let volumes: Vec<_> = storage.chain(scratch).chain(extra).collect();
        for (i, name) in duplicates(volumes.iter().map(|volume| volume.1.as_str())) {
            findings.add(
                format!("{}.name", volumes[i].0),
                format!("two volumes have the name {name}"),
            );
        }
        for (i, mount) in duplicates(volumes.iter().map(|volume| volume.2.as_str())) {
            findings.add(
                format!("{}.mountPath", volumes[i].0),
                format!("two volumes are mounted at {mount}"),
            );
        }
        for (path, name, mount, size) in &volumes {
            findings.check(
                is_dns_label(name, 63),
                format!("{path}.name"),
                "must be lower-case letters, digits and '-'",
            );
            findings.check(
                !name.starts_with("upm-"),
                format!("{path}.name"),
                "names that start with upm- are reserved",
            );
            findings.check(
                mount.starts_with('/'),
                format!("{path}.mountPath"),
                "must start with '/'",
            );
            findings.check(
                !RESERVED_MOUNTS
                    .iter()
                    .any(|r| mount == r || mount.starts_with(&format!("{r}/"))),
                format!("{path}.mountPath"),
                "is reserved for the unit agent",
            );
            if let Some(size) = size {
                match quantity::millis(size) {
                    Ok(millis) => findings.check(
                        millis > 0,
                        format!("{path}.size"),
                        "must be greater than zero",
                    ),
                    Err(malformed) => findings.add(format!("{path}.size"), malformed.to_string()),
                }
            }
        }
    }

    fn validate_resources(&self, findings: &mut Findings) {
        let Some(resources) = &self.resources else {
            return;
        };
        for (kind, amounts) in [
            ("limits", &resources.limits),
            ("requests", &resources.requests),
        ] {
            for (name, amount) in amounts.iter().flatten() {
                if let Err(malformed) = quantity::millis(amount) {
                    findings.add(format!("resources.{kind}.{name}"), malformed.to_string());
                }
            }
        }
        for (name, request) in resources.requests.iter().flatten() {
            let limit = resources
                .limits
                .as_ref()
                .and_then(|limits| limits.get(name));
            findings.check(
                limit.is_none_or(|limit| quantity::compare(request, limit) != Ordering::Greater),
                format!("resources.requests.{name}"),
                "is greater than the limit",
            );
        }
    }

    fn validate_parameters(&self, findings: &mut Findings) {
        for key in self.parameters.keys() {
            let fits = !key.is_empty() && key.len() <= 253 && !key.contains(char::is_whitespace);
            findings.check(
                fits,
                format!("parameters[{key}]"),
                "must have 1 to 253 characters and no blanks",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::*;
    use crate::unit_set::{EmptyDir, Storage};

    fn set() -> UnitSetSpec {
        UnitSetSpec {
            type_: "redis".to_owned(),
            version: "7.0.15".to_owned(),
            units: 3,
            startup: true,
            storage: vec![Storage {
                name: "data".to_owned(),
                size: Quantity("1Gi".to_owned()),
                storage_class_name: None,
                mount_path: "/data".to_owned(),
            }],
            ..UnitSetSpec::default()
        }
    }

    fn paths(errors: &[FieldError]) -> Vec<&str> {
        errors.iter().map(|error| error.path.as_str()).collect()
    }

    #[test]
    fn accepts_an_ordinary_set() {
        assert_eq!(set().validate(), []);
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        let mut wrong = set();
        wrong.units = 0;
        wrong.storage[0].size = Quantity("abc".to_owned());
        assert_eq!(paths(&wrong.validate()), ["units", "storage[0].size"]);
    }

    #[test]
    fn refuses_two_volumes_of_one_name_and_the_agents_folder() {
        let mut wrong = set();
        wrong.empty_dir = vec![EmptyDir {
            name: "data".to_owned(),
            size: Quantity("1Gi".to_owned()),
            mount_path: "/upm/bin".to_owned(),
        }];
        assert_eq!(
            paths(&wrong.validate()),
            ["emptyDir[0].name", "emptyDir[0].mountPath"]
        );
    }

    #[test]
    fn refuses_to_shrink_or_remove_a_storage_and_to_change_the_type() {
        let mut smaller = set();
        smaller.storage[0].size = Quantity("1023Mi".to_owned());
        assert_eq!(paths(&smaller.validate_update(&set())), ["storage[0].size"]);
        let mut same = set();
        same.storage[0].size = Quantity("1024Mi".to_owned());
        assert_eq!(same.validate_update(&set()), []);
        let mut other = set();
        other.type_ = "mysql".to_owned();
        other.storage.clear();
        assert_eq!(paths(&other.validate_update(&set())), ["type", "storage"]);
    }

    #[test]
    fn refuses_requests_above_limits() {
        let mut wrong = set();
        wrong.resources = serde_json::from_value(serde_json::json!({
            "limits": { "memory": "1Gi" }, "requests": { "memory": "1025Mi", "cpu": "x" }
        }))
        .unwrap();
        assert_eq!(
            paths(&wrong.validate()),
            ["resources.requests.cpu", "resources.requests.memory"]
        );
    }
}
