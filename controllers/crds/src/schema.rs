//! Pieces of schema that the derives cannot express, and the last touch on each definition.

use crate::CustomResourceDefinition;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSON;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// What the API accepts as a positive quantity.
const QUANTITY: &str = r"^[0-9]+(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|Pi|Ei|m|k|M|G|T|P|E)?$";

/// A quantity as a string; numbers are not accepted, so that CEL can compare it.
pub(crate) fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 32, "pattern": QUANTITY })
}

/// An object of the core API that the server validates when it is used.
pub(crate) fn embedded(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Limits and requests. Bounded, with the API's own form of quantities.
pub(crate) fn resources(_: &mut SchemaGenerator) -> Schema {
    let amounts = json!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "x-kubernetes-int-or-string": true,
            "pattern": QUANTITY,
        },
    });
    json_schema!({
        "type": "object",
        "description": "Limits and requests of the main container.",
        "properties": { "limits": amounts, "requests": amounts },
    })
}

/// Conditions: one per type, merged by type.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let condition = generator.subschema_for::<crate::Condition>();
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": condition,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

/// A CEL rule with the message that a violation shows.
pub(crate) fn rule(rule: &str, message: &str) -> Value {
    json!({ "rule": rule, "message": message })
}

/// Accepts objects without `spec`, and gives them an empty one.
pub(crate) fn optional_spec(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let Some(root) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        else {
            continue;
        };
        if let Some(required) = &mut root.required {
            required.retain(|field| field != "spec");
        }
        if root.required.as_ref().is_some_and(Vec::is_empty) {
            root.required = None;
        }
        if let Some(spec) = root
            .properties
            .as_mut()
            .and_then(|properties| properties.get_mut("spec"))
        {
            spec.default = Some(JSON(json!({})));
        }
    }
    crd
}

/// Adds rules about the whole object, and the labels by which the chart finds its definitions.
pub(crate) fn finish(
    mut crd: CustomResourceDefinition,
    rules: &[Value],
) -> CustomResourceDefinition {
    crd.metadata
        .labels
        .get_or_insert_default()
        .insert("app.kubernetes.io/part-of".to_owned(), "upm".to_owned());
    for version in &mut crd.spec.versions {
        let Some(root) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        else {
            continue;
        };
        if !rules.is_empty() {
            let rules = serde_json::from_value(json!(rules))
                .expect("rules are written above in this shape");
            root.x_kubernetes_validations = Some(rules);
        }
    }
    crd
}
