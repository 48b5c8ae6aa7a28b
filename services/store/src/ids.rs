//! Ids of rows and resources.

use rand::Rng;
use upm_mesh::FieldViolation;
use uuid::Uuid;

/// Longest id of a resource.
pub const RESOURCE_ID_MAX: usize = 40;

/// A new UUIDv7, hyphenated: sorts by the time it was made.
pub fn uuid7() -> String {
    Uuid::now_v7().to_string()
}

/// Checks an id that a user chose: `[a-z]([a-z0-9-]{0,38}[a-z0-9])?`. The violation's field is empty; the caller sets it with
/// [`field`] or by hand.
pub fn resource_id(id: &str) -> Result<(), FieldViolation> {
    let bytes = id.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let valid = bytes.len() <= RESOURCE_ID_MAX
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.iter().all(inner)
        && bytes.last() != Some(&b'-');
    if valid {
        return Ok(());
    }
    Err(FieldViolation {
        field: String::new(),
        description: "must match [a-z]([a-z0-9-]{0,38}[a-z0-9])?".to_owned(),
    })
}

/// As [`resource_id`], with the path of the request field that holds the id.
pub fn field(path: &str, id: &str) -> Result<(), FieldViolation> {
    resource_id(id).map_err(|violation| FieldViolation {
        field: path.to_owned(),
        ..violation
    })
}

/// The id in `<collection>/<id>`, for example `users/ada`: 1 to 255 of `A-Z a-z 0-9 . _ -`. No other character is asked of the store,
/// which might take two ids for one (MySQL ignores spaces at the end).
pub fn in_name<'a>(path: &str, collection: &str, name: &'a str) -> Result<&'a str, FieldViolation> {
    name.strip_prefix(collection)
        .and_then(|rest| rest.strip_prefix('/'))
        .filter(|id| is_plain(id))
        .ok_or_else(|| FieldViolation {
            field: path.to_owned(),
            description: format!("must be {collection}/<id>"),
        })
}

fn is_plain(id: &str) -> bool {
    (1..=255).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// A resource id for a user who chose none: `<prefix>-<8 random characters>`.
pub fn random_id(prefix: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut rng = rand::rng();
    let random: String = (0..8)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect();
    format!("{prefix}-{random}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn accepts_exactly_what_the_pattern_accepts(id in "[a-z]([a-z0-9-]{0,38}[a-z0-9])?") {
            prop_assert!(resource_id(&id).is_ok());
            for mark in ["-", "A", "_", "/", "é"] {
                let marked = format!("{id}{mark}");
                prop_assert!(resource_id(&marked).is_err());
            }
        }

        #[test]
        fn made_ids_are_valid(prefix in "[a-z]{1,20}") {
            prop_assert!(resource_id(&random_id(&prefix)).is_ok());
        }
    }

    #[test]
    fn refuses_what_is_empty_or_too_long() {
        assert!(resource_id("").is_err());
        assert!(resource_id(&"a".repeat(41)).is_err());
        assert!(resource_id(&"a".repeat(40)).is_ok());
    }

    #[test]
    fn takes_the_id_out_of_a_name() {
        assert_eq!(in_name("name", "users", "users/ada").unwrap(), "ada");
        for bad in ["users/", "users", "user/ada", "users/a/b", ""] {
            assert!(in_name("name", "users", bad).is_err(), "{bad}");
        }
    }
}
