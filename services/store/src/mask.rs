//! Update masks (AIP-134): by prefix, the same for every update method.

use std::collections::BTreeSet;

use prost_types::FieldMask;
use upm_mesh::descriptors;

use crate::Error;

/// What says which resource it is, and which state of it. A mask may name them: an update changes none of them.
const IDENTITY: [&str; 3] = ["name", "uid", "etag"];

/// The fields that an update changes, of those that are `changeable` (dotted paths of leaves, as `quota.units`) in a `resource` (the full
/// name of its message): all for `*`, those that `is_set` says are set for an empty mask, else those that a path names or lies above.
/// Paths of output-only and immutable fields, `name`, `uid` and `etag` are ignored, so that what Get returned is a valid update; who has
/// immutable fields refuses other values of them.
///
/// # Errors
/// A violation of `update_mask` for a path that is no field, cannot be changed, or goes into a map.
pub fn fields(
    mask: Option<&FieldMask>,
    resource: &str,
    changeable: &[&'static str],
    is_set: impl Fn(&str) -> bool,
) -> Result<BTreeSet<&'static str>, Error> {
    let all = || changeable.iter().copied();
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    if paths.is_empty() {
        return Ok(all().filter(|field| is_set(field)).collect());
    }
    let mut fields = BTreeSet::new();
    for path in paths {
        if path == "*" {
            fields.extend(all());
            continue;
        }
        let named = all()
            .filter(|field| covers(path, field))
            .collect::<Vec<_>>();
        if named.is_empty() && !is_ignored(resource, path) {
            return Err(Error::field("update_mask", why_not(path, changeable)));
        }
        fields.extend(named);
    }
    Ok(fields)
}

/// Whether a path names a field or lies above it.
fn covers(path: &str, field: &str) -> bool {
    field
        .strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn is_ignored(resource: &str, path: &str) -> bool {
    descriptors::has_field(resource, path)
        && (IDENTITY.contains(&path)
            || descriptors::is_output_only(resource, path)
            || descriptors::is_immutable(resource, path))
}

fn why_not(path: &str, changeable: &[&str]) -> String {
    match changeable.iter().find(|field| covers(field, path)) {
        Some(whole) => format!("{path:?} is a part of {whole}, which is changed as a whole"),
        None => format!("{path:?} is not one of {}", changeable.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROJECT: &str = "upm.resource.v1.Project";
    const CHANGEABLE: [&str; 4] = ["display_name", "labels", "quota.services", "quota.units"];

    fn of(paths: &[&str], set: &[&str]) -> Result<Vec<&'static str>, String> {
        let mask = FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        };
        fields(Some(&mask), PROJECT, &CHANGEABLE, |field| {
            set.contains(&field)
        })
        .map(|fields| fields.into_iter().collect())
        .map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_mask_means_what_is_set_and_a_star_everything() {
        assert_eq!(of(&[], &["labels"]).unwrap(), ["labels"]);
        let nothing = fields(None, PROJECT, &CHANGEABLE, |_| false).unwrap();
        assert!(nothing.is_empty());
        assert_eq!(of(&["*"], &[]).unwrap(), CHANGEABLE);
    }

    #[test]
    fn a_path_means_itself_and_what_lies_beneath_it() {
        assert_eq!(
            of(&["quota"], &[]).unwrap(),
            ["quota.services", "quota.units"]
        );
        assert_eq!(of(&["quota.units"], &["labels"]).unwrap(), ["quota.units"]);
        assert!(of(&["quo"], &[]).is_err());
    }

    #[test]
    fn what_get_returned_is_a_valid_mask() {
        let paths = [
            "name",
            "uid",
            "etag",
            "create_time",
            "service_count",
            "labels",
        ];
        assert_eq!(of(&paths, &[]).unwrap(), ["labels"]);
    }

    #[test]
    fn refuses_what_is_no_field_and_parts_of_maps() {
        let error = of(&["labels", "nothing"], &[]).unwrap_err();
        assert!(error.contains("nothing"), "{error}");
        let error = of(&["labels.team"], &[]).unwrap_err();
        assert!(error.contains("as a whole"), "{error}");
    }

    proptest! {
        #[test]
        fn no_mask_changes_what_it_does_not_name(path in "[a-z_.]{1,16}") {
            if let Ok(found) = of(&[&path], &[]) {
                prop_assert!(found.iter().all(|field| field.starts_with(&path)));
            }
        }
    }
}
