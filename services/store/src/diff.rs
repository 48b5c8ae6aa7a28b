//! What a change did, for the operation log: `{field: {"before": …, "after": …}}`, one shape for all modules.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// A diff that is being written. Only what differs is in it; no secret may be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Diff(Map<String, Value>);

impl Diff {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a field (its name as in JSON), if it has changed.
    #[must_use]
    pub fn field<T: Serialize + ?Sized>(mut self, name: &str, before: &T, after: &T) -> Self {
        let (before, after) = (json!(before), json!(after));
        if before != after {
            self.0
                .insert(name.to_owned(), json!({ "before": before, "after": after }));
        }
        self
    }

    /// Notes what was not there before.
    #[must_use]
    pub fn added<T: Serialize + ?Sized>(self, name: &str, after: &T) -> Self {
        self.field(name, &Value::Null, &json!(after))
    }

    /// Notes what is not there any more.
    #[must_use]
    pub fn removed<T: Serialize + ?Sized>(self, name: &str, before: &T) -> Self {
        self.field(name, &json!(before), &Value::Null)
    }

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Diff> for Value {
    fn from(diff: Diff) -> Self {
        Self::Object(diff.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_noted() {
        let diff = Diff::new()
            .field("email", "a@x", "b@x")
            .field("displayName", "Ada", "Ada")
            .added("uid", "u")
            .removed("role", "roles/a");
        let expected = json!({
            "email": {"before": "a@x", "after": "b@x"},
            "uid": {"before": null, "after": "u"},
            "role": {"before": "roles/a", "after": null},
        });
        assert_eq!(Value::from(diff), expected);
        assert!(Diff::new().field("a", &1, &1).is_empty());
    }
}
