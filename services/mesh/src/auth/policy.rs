//! The snapshot as tables: which user has which permission where.

use std::collections::{BTreeSet, HashMap, HashSet};

use jsonwebtoken::DecodingKey;
use upm_proto::auth::v1::PolicySnapshot;

/// In which projects somebody has a permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Projects {
    /// In all, because the permission is bound on the platform.
    All,
    /// In these, `projects/{project}`; maybe none.
    Only(BTreeSet<String>),
}

impl Projects {
    /// In none.
    pub fn none() -> Self {
        Self::Only(BTreeSet::new())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Only(projects) if projects.is_empty())
    }

    /// Whether a project (`projects/{project}`) is among them.
    pub fn contains(&self, project: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(projects) => projects.contains(project),
        }
    }
}

/// A permission that somebody has beyond somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beyond {
    /// `<module>.<resource>.<verb>`, each part may be `*`.
    pub permission: String,
    /// `projects/{project}`, `None` for the platform.
    pub project: Option<String>,
}

/// One binding.
struct Grant {
    role: String,
    /// `None` for the platform.
    project: Option<String>,
}

pub(super) struct Policy {
    revision: i64,
    /// Permissions with wildcards by role.
    roles: HashMap<String, Vec<String>>,
    /// Bindings by user.
    grants: HashMap<String, Vec<Grant>>,
    disabled: HashSet<String>,
    /// Keys by id.
    keys: HashMap<String, DecodingKey>,
}

impl Policy {
    pub(super) fn new(snapshot: &PolicySnapshot) -> Self {
        let roles = snapshot
            .roles
            .iter()
            .map(|role| (role.name.clone(), role.permissions.clone()))
            .collect();
        let mut grants: HashMap<String, Vec<Grant>> = HashMap::new();
        for binding in &snapshot.role_bindings {
            grants.entry(binding.user.clone()).or_default().push(Grant {
                role: binding.role.clone(),
                project: (!binding.project.is_empty()).then(|| binding.project.clone()),
            });
        }
        let keys = snapshot
            .jwks
            .iter()
            .flat_map(|jwks| &jwks.keys)
            .filter(|key| key.kty == "EC" && key.crv == "P-256")
            .filter_map(
                |key| match DecodingKey::from_ec_components(&key.x, &key.y) {
                    Ok(decoding) => Some((key.kid.clone(), decoding)),
                    Err(error) => {
                        tracing::warn!(kid = key.kid, %error, "a key of the policy cannot be used");
                        None
                    }
                },
            )
            .collect();
        Self {
            revision: snapshot.revision,
            roles,
            grants,
            disabled: snapshot.disabled_users.iter().cloned().collect(),
            keys,
        }
    }

    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    pub(super) fn keys(&self) -> &HashMap<String, DecodingKey> {
        &self.keys
    }

    pub(super) fn is_disabled(&self, user: &str) -> bool {
        self.disabled.contains(user)
    }

    pub(super) fn may(&self, user: &str, permission: &str, project: Option<&str>) -> bool {
        self.grants_of(user, permission)
            .any(|grant| match (&grant.project, project) {
                (None, _) => true,
                (Some(bound), Some(asked)) => bound == asked,
                (Some(_), None) => false,
            })
    }

    pub(super) fn projects(&self, user: &str, permission: &str) -> Projects {
        let mut only = BTreeSet::new();
        for grant in self.grants_of(user, permission) {
            match &grant.project {
                None => return Projects::All,
                Some(project) => only.insert(project.clone()),
            };
        }
        Projects::Only(only)
    }

    /// The first permission that `other` has and `user` has not, with its project (`None` for the platform). What a disabled `other` may
    /// again when enabled counts too.
    pub(super) fn first_beyond(&self, user: &str, other: &str) -> Option<Beyond> {
        for grant in self.grants.get(other).into_iter().flatten() {
            for permission in self.roles.get(&grant.role).into_iter().flatten() {
                if !self.may(user, permission, grant.project.as_deref()) {
                    return Some(Beyond {
                        permission: permission.clone(),
                        project: grant.project.clone(),
                    });
                }
            }
        }
        None
    }

    /// Who has a role on the platform, disabled or not.
    pub(super) fn holders(&self, role: &str) -> BTreeSet<String> {
        self.grants
            .iter()
            .filter(|(_, grants)| {
                grants
                    .iter()
                    .any(|grant| grant.project.is_none() && grant.role == role)
            })
            .map(|(user, _)| user.clone())
            .collect()
    }

    /// The bindings of a user whose role has the permission.
    fn grants_of<'a>(
        &'a self,
        user: &str,
        permission: &'a str,
    ) -> impl Iterator<Item = &'a Grant> + use<'a> {
        let grants = if self.is_disabled(user) {
            None
        } else {
            self.grants.get(user)
        };
        grants.into_iter().flatten().filter(move |grant| {
            self.roles
                .get(&grant.role)
                .is_some_and(|granted| granted.iter().any(|pattern| matches(pattern, permission)))
        })
    }
}

/// Whether a granted permission (`redis.*.*`) covers an asked one (`redis.services.get`). Both have three parts; `*` stands for any one part.
pub fn matches(granted: &str, asked: &str) -> bool {
    if asked.is_empty() {
        return false;
    }
    let mut asked = asked.split('.');
    for part in granted.split('.') {
        match asked.next() {
            Some(name) if part == "*" || part == name => {}
            _ => return false,
        }
    }
    asked.next().is_none()
}
