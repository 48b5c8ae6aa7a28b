//! Update masks (AIP-134).

use std::collections::BTreeSet;

use prost_types::FieldMask;

use crate::Error;

/// The fields that an update changes, of those `allowed`: all for `*`, those that `is_set` says are set for an empty mask.
///
/// # Errors
/// A violation of `update_mask` for a path that cannot be changed.
pub fn fields(
    mask: Option<&FieldMask>,
    allowed: &[&'static str],
    is_set: impl Fn(&str) -> bool,
) -> Result<BTreeSet<&'static str>, Error> {
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    match paths {
        [] => Ok(allowed
            .iter()
            .copied()
            .filter(|field| is_set(field))
            .collect()),
        [all] if all == "*" => Ok(allowed.iter().copied().collect()),
        paths => paths
            .iter()
            .map(|path| {
                allowed
                    .iter()
                    .copied()
                    .find(|field| field == path)
                    .ok_or_else(|| {
                        let allowed = allowed.join(", ");
                        Error::field("update_mask", format!("{path:?} is not one of {allowed}"))
                    })
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(paths: &[&str]) -> FieldMask {
        FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }
    }

    #[test]
    fn an_empty_mask_means_what_is_set_and_a_star_everything() {
        let set = |field: &str| field == "b";
        assert_eq!(
            fields(None, &["a", "b"], set).unwrap(),
            BTreeSet::from(["b"])
        );
        let star = mask(&["*"]);
        assert_eq!(
            fields(Some(&star), &["a", "b"], set).unwrap(),
            BTreeSet::from(["a", "b"])
        );
    }

    #[test]
    fn refuses_a_field_that_cannot_be_changed() {
        let error = fields(Some(&mask(&["a", "uid"])), &["a"], |_| true).unwrap_err();
        assert!(error.to_string().contains("uid"), "{error}");
    }
}
