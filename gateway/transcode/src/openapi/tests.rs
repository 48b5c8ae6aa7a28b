use serde_json::{Value, json};

use super::{Contact, Info, Policy, document, document_with};
use crate::fixture::tables;

fn info() -> Info {
    Info {
        title: "Library".to_owned(),
        version: "1.0".to_owned(),
        description: "Books on shelves.".to_owned(),
        contact: Some(Contact {
            name: "Readers".to_owned(),
            url: "https://example.org".to_owned(),
            email: String::new(),
        }),
        license: Some("Apache-2.0".to_owned()),
        ..Info::default()
    }
}

fn whole() -> Value {
    document(tables(), &info())
}

fn parameter<'a>(operation: &'a Value, name: &str) -> &'a Value {
    operation["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .find(|parameter| parameter["name"] == name)
        .unwrap()
}

#[test]
fn spells_out_path_variables_and_puts_methods_of_one_shape_together() {
    let document = whole();
    let item = &document["paths"]["/v1/shelves/{shelve}/books/{book}"];
    let methods: Vec<_> = item.as_object().unwrap().keys().collect();
    assert_eq!(methods, ["delete", "get", "patch"]);
    assert_eq!(parameter(&item["get"], "shelve")["required"], true);
    assert!(document["paths"]["/v1/shelves/{shelve}/books/{book}:lend"]["post"].is_object());
    assert_eq!(
        parameter(&document["paths"]["/v1/files/{path}"]["get"], "path")["description"],
        "May contain slashes."
    );
}

#[test]
fn numbers_the_operation_ids_of_additional_bindings() {
    let document = whole();
    assert_eq!(
        document["paths"]["/v1/shelves/{shelve}/books/{book}"]["get"]["operationId"],
        "Library_GetBook"
    );
    assert_eq!(
        document["paths"]["/v1/books/{name}"]["get"]["operationId"],
        "Library_GetBook_1"
    );
}

#[test]
fn takes_descriptions_from_comments() {
    let document = whole();
    assert_eq!(
        document["paths"]["/v1/books/{name}"]["get"]["summary"],
        "Gets a book by its name"
    );
    assert_eq!(
        document["components"]["schemas"]["demo.library.Book"]["description"],
        "A book on a shelf."
    );
    assert_eq!(
        document["tags"],
        json!([{ "name": "Library", "description": "Shelves with books on them." }])
    );
}

#[test]
fn flattens_query_parameters() {
    let document = whole();
    let list = &document["paths"]["/v1/shelves/{shelve}/books"]["get"];
    assert_eq!(
        parameter(list, "filter.after")["schema"],
        json!({ "type": "string", "format": "date-time" })
    );
    assert_eq!(
        parameter(list, "filter.lent")["schema"],
        json!({ "type": "boolean" })
    );
    assert_eq!(
        parameter(list, "tags")["schema"],
        json!({ "type": "array", "items": { "type": "string" } })
    );
    assert_eq!(parameter(list, "weights")["style"], "deepObject");
    let names: Vec<_> = list["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    assert!(
        !names.contains(&"parent") && !names.contains(&"unreachable"),
        "{names:?}"
    );
}

#[test]
fn describes_fields_by_their_type_and_behavior() {
    let document = whole();
    let book = &document["components"]["schemas"]["demo.library.Book"];
    assert_eq!(book["required"], json!(["name"]));
    assert_eq!(
        book["properties"]["pages"],
        json!({ "type": "string", "format": "int64" })
    );
    assert_eq!(book["properties"]["availability"]["readOnly"], true);
    assert_eq!(
        book["properties"]["availability"]["$ref"],
        "#/components/schemas/demo.library.Availability"
    );
    assert_eq!(
        book["properties"]["labels"],
        json!({ "type": "object", "additionalProperties": { "type": "string" } })
    );
    let availability = &document["components"]["schemas"]["demo.library.Availability"];
    assert_eq!(
        availability["enum"],
        json!(["AVAILABILITY_UNSPECIFIED", "ON_SHELF", "LENT"])
    );
}

#[test]
fn leaves_path_variables_out_of_the_body() {
    let document = whole();
    let lend = &document["paths"]["/v1/shelves/{shelve}/books/{book}:lend"]["post"];
    let body = &lend["requestBody"]["content"]["application/json"]["schema"]["properties"];
    assert!(body["reader"].is_object() && body["name"].is_null());
    let due = &lend["responses"]["200"]["content"]["application/json"]["schema"];
    assert_eq!(*due, json!({ "type": "string", "format": "date-time" }));
}

#[test]
fn shows_streams_as_lines_and_http_bodies_as_they_are() {
    let document = whole();
    let watch =
        &document["paths"]["/v1/shelves/{shelve}:watch"]["get"]["responses"]["200"]["content"];
    assert!(watch["application/x-ndjson"].is_object());
    let cover = &document["paths"]["/v1/shelves/{shelve}/books/{book}/cover"];
    assert!(cover["put"]["requestBody"]["content"]["*/*"].is_object());
    assert!(cover["get"]["responses"]["200"]["content"]["*/*"].is_object());
}

#[test]
fn every_reference_has_its_target() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(key, member)| match member {
                Value::String(target) if key == "$ref" => found.push(target.clone()),
                member => references(member, found),
            }),
            Value::Array(elements) => elements
                .iter()
                .for_each(|element| references(element, found)),
            _ => {}
        }
    }
    let document = whole();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        assert!(
            document
                .pointer(reference.strip_prefix('#').unwrap())
                .is_some(),
            "{reference}"
        );
    }
}

#[test]
fn leaves_out_what_the_policy_leaves_out_and_marks_what_is_public() {
    let policy = Policy {
        include: &|method| method.name() != "GetFile",
        public: &|method| method.name() == "GetBook",
    };
    let document = document_with(tables(), &info(), policy);
    assert!(document["paths"]["/v1/files/{path}"].is_null());
    assert_eq!(
        document["paths"]["/v1/books/{name}"]["get"]["security"],
        json!([])
    );
    assert!(document["paths"]["/v1/shelves/{shelve}/books"]["get"]["security"].is_null());
    assert_eq!(
        document["components"]["securitySchemes"]["bearer"]["scheme"],
        "bearer"
    );
}
