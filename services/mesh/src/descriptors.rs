//! What the `.proto` files say of fields, for code that treats all messages alike.

use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::{DescriptorPool, ExtensionDescriptor, FieldDescriptor, Kind, Value};

/// `google.api.FieldBehavior.OUTPUT_ONLY`.
const OUTPUT_ONLY: i32 = 3;
/// `google.api.FieldBehavior.IMMUTABLE`.
const IMMUTABLE: i32 = 5;
/// `google.api.FieldBehavior.INPUT_ONLY`.
const INPUT_ONLY: i32 = 4;

/// All descriptors. They are part of the binary and a test decodes them.
pub(crate) static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(upm_proto::DESCRIPTOR_SET).ok());

static BEHAVIOR: LazyLock<Option<ExtensionDescriptor>> = LazyLock::new(|| {
    POOL.as_ref()?
        .get_extension_by_name("google.api.field_behavior")
});

/// A descriptor set (encoded) with those methods alone for which `shows` says yes to `/package.Service/Method`; a service that has none left is
/// left out. Messages stay.
///
/// # Errors
/// When the bytes are no descriptor set.
pub fn only(
    encoded: &[u8],
    shows: &dyn Fn(&str) -> bool,
) -> Result<prost_types::FileDescriptorSet, prost::DecodeError> {
    let mut set = prost_types::FileDescriptorSet::decode(encoded)?;
    for file in &mut set.file {
        let package = file.package().to_owned();
        for service in &mut file.service {
            let name = service.name().to_owned();
            service
                .method
                .retain(|method| shows(&format!("/{package}.{name}/{}", method.name())));
        }
        file.service.retain(|service| !service.method.is_empty());
    }
    Ok(set)
}

/// Whether a message (its full name) has a field at a dotted path of proto names. A path may go into messages, not into maps or lists.
pub fn has_field(message: &str, path: &str) -> bool {
    field(message, path).is_some()
}

/// Whether a field is OUTPUT_ONLY, or lies in one that is; false for a field that does not exist.
pub fn is_output_only(message: &str, path: &str) -> bool {
    any_behaves(message, path, OUTPUT_ONLY)
}

/// Whether a field is IMMUTABLE, or lies in one that is; false for a field that does not exist.
pub fn is_immutable(message: &str, path: &str) -> bool {
    any_behaves(message, path, IMMUTABLE)
}

fn any_behaves(message: &str, path: &str, behavior: i32) -> bool {
    let prefixes = path
        .match_indices('.')
        .map(|(at, _)| &path[..at])
        .chain([path]);
    prefixes
        .filter_map(|prefix| field(message, prefix))
        .any(|field| behaves(&field, behavior))
}

fn field(message: &str, path: &str) -> Option<FieldDescriptor> {
    let mut within = POOL.as_ref()?.get_message_by_name(message);
    let mut found = None;
    for name in path.split('.') {
        let field = within?.get_field_by_name(name)?;
        within = match field.kind() {
            Kind::Message(inner) if !field.is_list() && !field.is_map() => Some(inner),
            _ => None,
        };
        found = Some(field);
    }
    found
}

/// Whether a field is INPUT_ONLY. Without descriptors every field is.
pub(crate) fn is_input_only(field: &FieldDescriptor) -> bool {
    BEHAVIOR.is_none() || behaves(field, INPUT_ONLY)
}

fn behaves(field: &FieldDescriptor, behavior: i32) -> bool {
    let Some(extension) = BEHAVIOR.as_ref() else {
        return false;
    };
    let options = field.options();
    let values = options.get_extension(extension);
    values
        .as_list()
        .is_some_and(|values| values.contains(&Value::EnumNumber(behavior)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_keeps_only_the_methods_that_are_shown() {
        let shown = "/upm.hub.v1.LedgerService/GetObject";
        let set = only(upm_proto::DESCRIPTOR_SET, &|path| path == shown).unwrap();
        let services: Vec<_> = set.file.iter().flat_map(|file| &file.service).collect();
        assert_eq!(services.len(), 1);
        assert_eq!(services[0].name(), "LedgerService");
        assert_eq!(services[0].method.len(), 1);
        assert_eq!(services[0].method[0].name(), "GetObject");
        assert!(only(b"\xff", &|_| true).is_err());
    }

    #[test]
    fn fields_are_found_by_their_paths() {
        let project = "upm.resource.v1.Project";
        for path in ["display_name", "quota", "quota.units", "labels"] {
            assert!(has_field(project, path), "{path}");
            assert!(!is_output_only(project, path), "{path}");
        }
        for path in ["uid", "create_time", "create_time.seconds"] {
            assert!(is_output_only(project, path), "{path}");
        }
        for path in ["", "quota.", "labels.team", "nothing", "uid.x"] {
            assert!(!has_field(project, path), "{path}");
        }
        assert!(!has_field("upm.nothing.v1.X", "a"));
    }
}
