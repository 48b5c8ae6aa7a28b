//! What the schema cannot say, as pure functions. The platform asks them before it writes an intent, the controllers before they act.

mod redis_replication;
mod unit_set;

use std::fmt;

/// One thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Where, from `spec` on: `storage[0].size`.
    pub path: String,
    /// What, for people.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// A spec that can be checked on its own.
pub trait Validate {
    /// Everything that is wrong; empty when nothing is.
    fn validate(&self) -> Vec<FieldError>;

    /// What is wrong with replacing `old` by this.
    fn validate_update(&self, old: &Self) -> Vec<FieldError>;
}

/// Collects errors with their paths.
#[derive(Debug, Default)]
struct Findings(Vec<FieldError>);

impl Findings {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError {
            path: path.into(),
            message: message.into(),
        });
    }

    fn check(&mut self, holds: bool, path: impl Into<String>, message: impl Into<String>) {
        if !holds {
            self.add(path, message);
        }
    }
}

/// A lower-case name that labels and services accept.
fn is_dns_label(text: &str, max: usize) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= max
        && bytes
            .iter()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

/// A name that is the same set's twice.
fn duplicates<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(usize, &'a str)> {
    let mut seen = std::collections::BTreeSet::new();
    names
        .enumerate()
        .filter(|(_, name)| !seen.insert(*name))
        .collect()
}

impl Validate for crate::ProjectSpec {
    fn validate(&self) -> Vec<FieldError> {
        let mut findings = Findings::default();
        if let Some(ca) = self.ca.as_ref().filter(|ca| ca.enabled) {
            findings.check(
                ca.secret_name.is_some(),
                "ca.secretName",
                "is required when the CA is enabled",
            );
        }
        findings.0
    }

    fn validate_update(&self, _old: &Self) -> Vec<FieldError> {
        self.validate()
    }
}

impl Validate for crate::UnitSpec {
    fn validate(&self) -> Vec<FieldError> {
        let mut findings = Findings::default();
        findings.check(
            is_dns_label(&self.unit_set, 63),
            "unitSet",
            "is not the name of a set",
        );
        findings.check(self.ordinal >= 0, "ordinal", "is negative");
        findings.check(
            !self.template.spec.containers.is_empty(),
            "template.spec.containers",
            "is empty",
        );
        for (i, name) in duplicates(
            self.volume_claim_templates
                .iter()
                .map(|claim| claim.name.as_str()),
        ) {
            findings.add(
                format!("volumeClaimTemplates[{i}].name"),
                format!("{name} is there twice"),
            );
        }
        findings.0
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut findings = Findings(self.validate());
        // units of earlier versions did not name their set
        if !old.unit_set.is_empty() {
            findings.check(self.unit_set == old.unit_set, "unitSet", "is immutable");
            findings.check(self.ordinal == old.ordinal, "ordinal", "is immutable");
        }
        findings.0
    }
}
