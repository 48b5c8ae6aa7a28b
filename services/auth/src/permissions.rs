//! The roles out of the box, and what a permission covers.

use upm_mesh::auth::matches;
use upm_proto::auth::v1::RoleScope;

/// A role that every installation has. It never changes but with the version of UPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    /// Id, as in `roles/{id}`.
    pub id: &'static str,
    /// For people.
    pub description: &'static str,
    /// Where it may be bound.
    pub scope: RoleScope,
    /// `<module>.<resource>.<verb>`, each part may be `*`.
    pub permissions: &'static [&'static str],
}

/// The administrator's role.
pub(crate) const ADMINISTRATOR: &str = "roles/platform-admin";

/// Everything.
pub const PLATFORM_ADMIN: &[&str] = &["*.*.*"];

/// Reading everything but secrets: those have verbs of their own (`getPassword`).
pub const PLATFORM_VIEWER: &[&str] = &["*.*.get", "*.*.list"];

/// Everything with the services of a project, and the project's own settings.
pub const PROJECT_ADMIN: &[&str] = &[
    "*.services.*",
    "resource.projects.get",
    "resource.projects.list",
    "resource.projects.update",
];

/// Running the services of a project: all but creating and deleting them, and reading passwords to connect.
pub const PROJECT_OPERATOR: &[&str] = &[
    "*.services.get",
    "*.services.getPassword",
    "*.services.list",
    "*.services.backup",
    "*.services.expand",
    "*.services.expose",
    "*.services.pause",
    "*.services.reconfigure",
    "*.services.restart",
    "*.services.resume",
    "*.services.scale",
    "*.services.start",
    "*.services.stop",
    "*.services.switchover",
    "*.services.update",
    "*.services.upgrade",
    "resource.projects.get",
    "resource.projects.list",
];

/// Looking at the services of a project.
pub const PROJECT_VIEWER: &[&str] = &[
    "*.services.get",
    "*.services.list",
    "resource.projects.get",
    "resource.projects.list",
];

/// The operation log with its verification, and reading everything but secrets.
pub const AUDITOR: &[&str] = &["operatorlog.*.*", "*.*.get", "*.*.list"];

/// All built-in roles, by id.
pub const BUILT_IN: &[BuiltIn] = &[
    BuiltIn {
        id: "auditor",
        description: "Reads everything but secrets, and verifies the operation log",
        scope: RoleScope::Platform,
        permissions: AUDITOR,
    },
    BuiltIn {
        id: "platform-admin",
        description: "Does everything",
        scope: RoleScope::Platform,
        permissions: PLATFORM_ADMIN,
    },
    BuiltIn {
        id: "platform-viewer",
        description: "Reads everything but secrets",
        scope: RoleScope::Platform,
        permissions: PLATFORM_VIEWER,
    },
    BuiltIn {
        id: "project-admin",
        description: "Does everything with the services of a project",
        scope: RoleScope::Project,
        permissions: PROJECT_ADMIN,
    },
    BuiltIn {
        id: "project-operator",
        description: "Runs the services of a project",
        scope: RoleScope::Project,
        permissions: PROJECT_OPERATOR,
    },
    BuiltIn {
        id: "project-viewer",
        description: "Reads the services of a project",
        scope: RoleScope::Project,
        permissions: PROJECT_VIEWER,
    },
];

/// The built-in role with an id.
pub(crate) fn built_in(id: &str) -> Option<&'static BuiltIn> {
    BUILT_IN.iter().find(|role| role.id == id)
}

/// The first of `wanted` that nothing `held` covers. Wildcards are covered only by wildcards.
pub(crate) fn first_missing<'a>(held: &[String], wanted: &'a [String]) -> Option<&'a str> {
    wanted
        .iter()
        .find(|wanted| !held.iter().any(|held| matches(held, wanted)))
        .map(String::as_str)
}

/// Whether a text is a permission: three parts, each `*` or a name.
pub(crate) fn is_permission(text: &str) -> bool {
    let part = |part: &str| {
        part == "*"
            || (part.len() <= 64
                && part.starts_with(|c: char| c.is_ascii_lowercase())
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
    };
    text.split('.').count() == 3 && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use upm_proto::policy::METHODS;

    use super::*;

    fn may(role: &[&str], permission: &str) -> bool {
        role.iter().any(|held| matches(held, permission))
    }

    #[test]
    fn built_in_roles_are_sorted_and_well_formed() {
        assert!(BUILT_IN.is_sorted_by_key(|role| role.id));
        for role in BUILT_IN {
            assert!(
                role.permissions.iter().all(|text| is_permission(text)),
                "{}",
                role.id
            );
        }
    }

    #[test]
    fn every_permission_of_the_api_is_well_formed_and_the_administrator_has_it() {
        for method in METHODS
            .iter()
            .filter(|method| !method.permission.is_empty())
        {
            assert!(is_permission(method.permission), "{}", method.permission);
            assert!(may(PLATFORM_ADMIN, method.permission));
        }
    }

    #[test]
    fn viewers_read_no_secret_and_change_nothing() {
        for role in [PLATFORM_VIEWER, PROJECT_VIEWER] {
            for method in METHODS.iter().filter(|method| may(role, method.permission)) {
                let verb = method.permission.rsplit('.').next().unwrap_or_default();
                assert!(verb == "get" || verb == "list", "{}", method.path);
            }
        }
    }

    #[test]
    fn project_roles_hold_each_other_from_viewer_to_admin() {
        let owned = |role: &[&str]| role.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let (viewer, operator, admin) = (
            owned(PROJECT_VIEWER),
            owned(PROJECT_OPERATOR),
            owned(PROJECT_ADMIN),
        );
        assert_eq!(first_missing(&operator, &viewer), None);
        assert_eq!(first_missing(&admin, &operator), None);
        assert_eq!(first_missing(&operator, &admin), Some("*.services.*"));
        assert!(!may(PROJECT_OPERATOR, "redis.services.delete"));
    }

    #[test]
    fn a_wildcard_is_covered_only_by_a_wildcard() {
        let held = vec!["redis.services.get".to_owned(), "mysql.*.*".to_owned()];
        let wanted = |text: &str| vec![text.to_owned()];
        assert_eq!(first_missing(&held, &wanted("mysql.services.*")), None);
        assert_eq!(
            first_missing(&held, &wanted("redis.services.*")),
            Some("redis.services.*")
        );
        assert_eq!(first_missing(&held, &wanted("*.*.*")), Some("*.*.*"));
    }

    #[test]
    fn refuses_what_is_no_permission() {
        for bad in [
            "", "a", "a.b", "a.b.c.d", "A.b.c", "a..c", "a.b.c d", "a.b.**",
        ] {
            assert!(!is_permission(bad), "{bad}");
        }
    }
}
