//! Messages to domain values and back.

use std::collections::{BTreeSet, HashMap};

use upm_mesh::FieldViolation;
use upm_proto::user::v1 as pb;
use upm_store::{etag, ids, labels, mask, time};

use crate::Error;
use crate::model::{Labels, UserRow};
use crate::password::Password;

/// The collection of users.
pub(crate) const COLLECTION: &str = "users";
/// The caller's own user.
const ME: &str = "me";
const DISPLAY_NAME_CHARS: usize = 200;
const EMAIL_CHARS: usize = 254;
const CHANGEABLE: [&str; 3] = ["display_name", "email", "labels"];

/// What a user says about themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) display_name: String,
    pub(crate) email: String,
    pub(crate) labels: Labels,
}

/// A user to be made.
#[derive(Debug, Clone)]
pub(crate) struct NewUser {
    pub(crate) id: String,
    pub(crate) profile: Profile,
    pub(crate) password: Option<Password>,
}

/// A change of a profile.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) id: String,
    pub(crate) etag: String,
    pub(crate) profile: Profile,
    pub(crate) fields: BTreeSet<&'static str>,
}

/// `users/{id}`.
pub(crate) fn name(id: &str) -> String {
    format!("{COLLECTION}/{id}")
}

/// The id in `users/{id}`; `users/me` is the caller's.
pub(crate) fn parse_name(path: &str, name: &str, caller: Option<&str>) -> Result<String, Error> {
    let id = ids::in_name(path, COLLECTION, name)?;
    if id != ME {
        return Ok(id.to_owned());
    }
    let own = caller
        .and_then(|user| user.strip_prefix("users/"))
        .ok_or_else(|| FieldViolation {
            field: path.to_owned(),
            description: "users/me needs a user's token".to_owned(),
        })?;
    Ok(own.to_owned())
}

pub(crate) fn parse_new(request: &pb::CreateUserRequest) -> Result<NewUser, Error> {
    let mut problems = Vec::new();
    problems.extend(parse_id("user_id", &request.user_id).err());
    let user = request.user.clone().unwrap_or_default();
    let profile = parse_profile(user.display_name, user.email, user.labels, &mut problems);
    let password = match request.password.as_str() {
        "" => None,
        text => Password::parse("password", text)
            .map_err(|problem| problems.push(problem))
            .ok(),
    };
    if problems.is_empty() {
        Ok(NewUser {
            id: request.user_id.clone(),
            profile,
            password,
        })
    } else {
        Err(Error::Fields(problems))
    }
}

pub(crate) fn parse_first(request: &pb::CreateFirstUserRequest) -> Result<NewUser, Error> {
    parse_new(&pb::CreateUserRequest {
        user_id: request.user_id.clone(),
        // An administrator who cannot log in would be of no use.
        password: if request.password.is_empty() {
            "-".to_owned()
        } else {
            request.password.clone()
        },
        ..pb::CreateUserRequest::default()
    })
}

pub(crate) fn parse_change(
    request: pb::UpdateUserRequest,
    caller: Option<&str>,
) -> Result<Change, Error> {
    let user = request.user.unwrap_or_default();
    let id = parse_name("user.name", &user.name, caller)?;
    let fields = mask::fields(
        request.update_mask.as_ref(),
        "upm.user.v1.User",
        &CHANGEABLE,
        |field| match field {
            "display_name" => !user.display_name.is_empty(),
            "email" => !user.email.is_empty(),
            _ => !user.labels.is_empty(),
        },
    )?;
    let mut problems = Vec::new();
    let profile = parse_profile(user.display_name, user.email, user.labels, &mut problems);
    problems.retain(|problem| {
        fields
            .iter()
            .any(|field| problem.field.starts_with(&format!("user.{field}")))
    });
    if problems.is_empty() {
        Ok(Change {
            id,
            etag: user.etag,
            profile,
            fields,
        })
    } else {
        Err(Error::Fields(problems))
    }
}

pub(crate) fn user(row: &UserRow, labels: Labels) -> pb::User {
    pb::User {
        name: name(&row.id),
        uid: row.uid.clone(),
        etag: etag::of(&row.uid, row.version),
        display_name: row.display_name.clone(),
        email: row.email.clone(),
        labels: labels.into_iter().collect(),
        disabled: row.disabled,
        create_time: Some(time::timestamp(row.create_us)),
        update_time: Some(time::timestamp(row.update_us)),
        password_change_time: row.password_us.map(time::timestamp),
    }
}

fn parse_id(path: &str, id: &str) -> Result<(), FieldViolation> {
    ids::field(path, id)?;
    if id == ME {
        return Err(FieldViolation::new(path, "\"me\" is reserved".to_owned()));
    }
    Ok(())
}

fn parse_profile(
    display_name: String,
    email: String,
    labels: HashMap<String, String>,
    problems: &mut Vec<FieldViolation>,
) -> Profile {
    if DISPLAY_NAME_CHARS < display_name.chars().count()
        || display_name.chars().any(char::is_control)
    {
        problems.push(FieldViolation::new(
            "user.display_name",
            format!("must have at most {DISPLAY_NAME_CHARS} printable characters"),
        ));
    }
    if !email.is_empty() && !is_email(&email) {
        problems.push(FieldViolation::new(
            "user.email",
            format!("must be an address of at most {EMAIL_CHARS} characters"),
        ));
    }
    problems.extend(labels::check(&labels, "user.labels"));
    Profile {
        display_name,
        email,
        labels: labels.into_iter().collect(),
    }
}

fn is_email(email: &str) -> bool {
    let parts = email.split_once('@');
    email.chars().count() <= EMAIL_CHARS
        && !email.chars().any(|c| c.is_whitespace() || c.is_control())
        && parts.is_some_and(|(local, host)| {
            !local.is_empty() && !host.is_empty() && !host.contains('@')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(id: &str, user: pb::User, password: &str) -> pb::CreateUserRequest {
        pb::CreateUserRequest {
            user_id: id.to_owned(),
            user: Some(user),
            password: password.to_owned(),
            request_id: String::new(),
        }
    }

    #[test]
    fn names_every_wrong_field_at_once() {
        let user = pb::User {
            display_name: "x".repeat(201),
            email: "not an address".to_owned(),
            labels: HashMap::from([("-".to_owned(), String::new())]),
            ..pb::User::default()
        };
        let Err(Error::Fields(problems)) = parse_new(&new("Ada", user, "short")) else {
            panic!("all of it is wrong")
        };
        let fields: Vec<&str> = problems
            .iter()
            .map(|problem| problem.field.as_str())
            .collect();
        assert_eq!(
            fields,
            [
                "user_id",
                "user.display_name",
                "user.email",
                "user.labels[-]",
                "password"
            ]
        );
    }

    #[test]
    fn reserves_me() {
        assert!(parse_new(&new("me", pb::User::default(), "")).is_err());
        assert_eq!(
            parse_name("name", "users/me", Some("users/ada")).unwrap(),
            "ada"
        );
        assert!(parse_name("name", "users/me", None).is_err());
    }

    #[test]
    fn an_update_complains_only_about_the_fields_it_changes() {
        let request = pb::UpdateUserRequest {
            user: Some(pb::User {
                name: "users/ada".to_owned(),
                email: "wrong".to_owned(),
                display_name: "Ada".to_owned(),
                ..pb::User::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["display_name".to_owned()],
            }),
        };
        assert_eq!(
            parse_change(request.clone(), None).unwrap().fields,
            BTreeSet::from(["display_name"])
        );
        assert!(
            parse_change(
                pb::UpdateUserRequest {
                    update_mask: None,
                    ..request
                },
                None
            )
            .is_err()
        );
    }
}
