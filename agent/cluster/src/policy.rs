//! What the cluster lets the platform do, whatever the hub says: kinds × namespaces, as which ServiceAccount in which project, which
//! Secrets a tunnel may read, and where it may lead to commands and files.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use upm_crds::names;
use upm_proto::{
    hub::v1::Key,
    kinds::{Kind, Scope},
};

/// Objects of the agent itself: never an intent's.
const OWN: &str = "upm-agent";

/// The local policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Where packages, the cluster CA and the agent live.
    pub system_namespace: String,
    /// Namespaces of projects in which intents are done as a ServiceAccount, not as the agent.
    pub accounts: BTreeMap<String, Account>,
    /// Where the platform may run commands in units.
    pub exec: Reach,
    /// Where the platform may read and write files of units.
    pub files: Reach,
}

/// In which namespaces of projects something is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reach {
    /// In none.
    #[default]
    Nowhere,
    /// In these.
    In(BTreeSet<String>),
    /// In all.
    Everywhere,
}

impl Reach {
    /// Of a list of namespaces; `*` is every one.
    pub fn of<'a>(namespaces: impl IntoIterator<Item = &'a str>) -> Self {
        let named = namespaces
            .into_iter()
            .filter(|namespace| !namespace.is_empty())
            .map(str::to_owned)
            .collect::<BTreeSet<_>>();
        if named.is_empty() {
            Self::Nowhere
        } else if named.contains("*") {
            Self::Everywhere
        } else {
            Self::In(named)
        }
    }

    fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::Nowhere => false,
            Self::In(namespaces) => namespaces.contains(namespace),
            Self::Everywhere => true,
        }
    }
}

/// A ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Account {
    /// What the API server calls it.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// `PROJECT=NAMESPACE/NAME`: in the namespace of this project, as this ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impersonation {
    /// Namespace of the project.
    pub project: String,
    /// As whom.
    pub account: Account,
}

impl FromStr for Impersonation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |name: &&str| is_name(name);
        let parts = text.split_once('=').and_then(|(project, account)| {
            let (namespace, name) = account.split_once('/')?;
            [project, namespace, name].iter().all(named).then(|| Self {
                project: project.to_owned(),
                account: Account {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                },
            })
        });
        let impersonation =
            parts.ok_or_else(|| format!("`{text}` is not PROJECT=NAMESPACE/NAME"))?;
        if is_reserved(&impersonation.project) {
            return Err(format!(
                "`{}` is no namespace of a project",
                impersonation.project
            ));
        }
        Ok(impersonation)
    }
}

impl Policy {
    /// Whether an intent may be this object; the refusal in words otherwise.
    ///
    /// # Errors
    /// Why not.
    pub fn allows(&self, key: &Key) -> Result<(), String> {
        let refuse = |why: &str| {
            Err(format!(
                "the policy of this cluster does not allow {} {}/{}: {why}",
                key.kind, key.namespace, key.name
            ))
        };
        // What is no name would go elsewhere in the address of a request.
        let named = key.namespace.is_empty() || is_label(&key.namespace);
        if !named || !is_name(&key.name) {
            return refuse("namespace or name is none");
        }
        let Some(kind) = Kind::find(&key.group, &key.kind).filter(|kind| kind.intent) else {
            return refuse("not a kind of the platform");
        };
        match kind.scope {
            Scope::Cluster if !key.namespace.is_empty() => refuse("the kind has no namespace"),
            Scope::Cluster if is_reserved(&key.name) => refuse("the name is reserved"),
            Scope::Project if key.namespace.is_empty() || is_reserved(&key.namespace) => {
                refuse("not in this namespace")
            }
            Scope::Packages if key.namespace != self.system_namespace => {
                refuse("only in the namespace of packages")
            }
            Scope::Packages if key.name.starts_with(OWN) || key.name.starts_with("kube-") => {
                refuse("the object is not the platform's")
            }
            Scope::Cluster | Scope::Project | Scope::Packages => Ok(()),
        }
    }

    /// As whom the intents of a namespace are done; `None` for the agent itself.
    pub fn account(&self, namespace: &str) -> Option<&Account> {
        self.accounts.get(namespace)
    }

    /// Whether the platform may run a command in a unit; the refusal in words otherwise. That the pod is a unit is another question.
    ///
    /// # Errors
    /// Why not.
    pub fn allows_exec(&self, namespace: &str, pod: &str) -> Result<(), String> {
        reaches(&self.exec, "commands in units", namespace, pod)
    }

    /// Whether the platform may read and write files of a unit.
    ///
    /// # Errors
    /// Why not.
    pub fn allows_files(&self, namespace: &str, pod: &str) -> Result<(), String> {
        reaches(&self.files, "files of units", namespace, pod)
    }

    /// Whether a tunnel may lead to this object of a project's namespace at all: both names are names, and the namespace is nobody else's.
    ///
    /// # Errors
    /// Why not.
    pub fn allows_tunnel(&self, namespace: &str, name: &str) -> Result<(), String> {
        let allowed = is_label(namespace) && is_name(name) && !is_reserved(namespace);
        if allowed {
            Ok(())
        } else {
            Err(format!(
                "the policy of this cluster does not allow tunnels to `{name}` in namespace `{namespace}`"
            ))
        }
    }

    /// Whether the platform may read a Secret with these labels.
    pub fn may_read_secret(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        labels.is_some_and(|labels| {
            labels
                .get(names::label::READABLE)
                .is_some_and(|v| v == "true")
        })
    }
}

fn reaches(reach: &Reach, what: &str, namespace: &str, pod: &str) -> Result<(), String> {
    let allowed =
        is_label(namespace) && is_name(pod) && !is_reserved(namespace) && reach.covers(namespace);
    if allowed {
        Ok(())
    } else {
        Err(format!(
            "the policy of this cluster does not allow {what} in namespace {namespace}"
        ))
    }
}

/// Whether a text can be the name of an object (an RFC 1123 subdomain), and nothing else in the address of a request.
fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
}

/// Whether a text can be the name of a namespace (an RFC 1123 label).
fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

/// Letters, digits and `-` within: neither empty, so that `..` is none, nor with `-` at an end.
fn is_part(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(fine) && !text.starts_with('-') && !text.ends_with('-')
}

/// Namespaces that belong to somebody else.
fn is_reserved(namespace: &str) -> bool {
    namespace == "default" || namespace.starts_with("kube-") || namespace.starts_with("upm-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(group: &str, kind: &str, namespace: &str, name: &str) -> Key {
        Key {
            group: group.into(),
            version: "v1".into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    #[test]
    fn allows_the_engines_kinds_in_projects_and_packages_in_the_system_namespace() {
        let policy = Policy {
            system_namespace: "upm-system".into(),
            ..Policy::default()
        };
        for good in [
            key(names::GROUP, "UnitSet", "p1", "demo"),
            key(names::GROUP, "RedisReplication", "p1", "demo"),
            key(names::GROUP, "Project", "", "p1"),
            key(
                "",
                "ConfigMap",
                "upm-system",
                "redis-7.0.15-abc-config-template",
            ),
            key("", "PodTemplate", "upm-system", "redis-7.0.15-abc"),
        ] {
            assert_eq!(policy.allows(&good), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn denies_everything_else() {
        let policy = Policy {
            system_namespace: "upm-system".into(),
            ..Policy::default()
        };
        for bad in [
            key("", "Secret", "p1", "x"),
            key("", "Secret", "upm-system", "x"),
            key("", "Namespace", "", "p1"),
            key("", "ConfigMap", "p1", "x"),
            key("", "ConfigMap", "upm-system", "upm-agent-ledger"),
            key("rbac.authorization.k8s.io", "ClusterRole", "", "x"),
            key(names::GROUP, "UnitSet", "kube-system", "x"),
            key(names::GROUP, "UnitSet", "upm-system", "x"),
            key(names::GROUP, "UnitSet", "default", "x"),
            key(names::GROUP, "UnitSet", "", "x"),
            key(names::GROUP, "Project", "p1", "x"),
            key(names::GROUP, "Project", "", "kube-system"),
            // it carries a whole pod, and nobody sends one
            key(names::GROUP, "Unit", "p1", "demo-0"),
            // addresses of something else
            key(
                names::GROUP,
                "UnitSet",
                "p1",
                "a/../../../namespaces/kube-system",
            ),
            key(names::GROUP, "UnitSet", "p1/x", "demo"),
            key(names::GROUP, "UnitSet", "p1", ".."),
            key(names::GROUP, "UnitSet", "..", "demo"),
            key(names::GROUP, "UnitSet", "p1", "demo?dryRun=All"),
            key(names::GROUP, "UnitSet", "p1", "demo#x"),
            key(names::GROUP, "UnitSet", "p1", "%2e%2e"),
            key(names::GROUP, "UnitSet", "p1", "Demo"),
            key(names::GROUP, "UnitSet", "p.1", "demo"),
            key(names::GROUP, "UnitSet", "p1", ""),
            key(names::GROUP, "UnitSet", "p1", &"x".repeat(254)),
            key(
                "",
                "ConfigMap",
                "upm-system",
                "x/../../secrets/upm-cluster-ca",
            ),
            key(names::GROUP, "Project", "", "p1/status"),
        ] {
            assert!(policy.allows(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn reads_only_labelled_secrets() {
        let policy = Policy {
            system_namespace: "upm-system".into(),
            ..Policy::default()
        };
        let labelled = [(names::label::READABLE.to_owned(), "true".to_owned())].into();
        assert!(policy.may_read_secret(Some(&labelled)));
        assert!(!policy.may_read_secret(None));
        assert!(!policy.may_read_secret(Some(
            &[(names::label::READABLE.to_owned(), "yes".to_owned())].into()
        )));
    }

    #[test]
    fn commands_and_files_are_allowed_nowhere_before_the_cluster_says_where() {
        let policy = Policy::default();
        assert!(policy.allows_exec("p1", "demo-0").is_err());
        assert!(policy.allows_files("p1", "demo-0").is_err());
        assert_eq!(Reach::of([]), Reach::Nowhere);
        assert_eq!(Reach::of([""]), Reach::Nowhere);
    }

    #[test]
    fn commands_and_files_are_allowed_apart_and_only_where_they_are_named() {
        let policy = Policy {
            exec: Reach::of(["p1", "p2"]),
            files: Reach::of(["*"]),
            ..Policy::default()
        };
        assert!(policy.allows_exec("p1", "demo-0").is_ok());
        assert!(policy.allows_exec("p3", "demo-0").is_err());
        assert!(policy.allows_files("p3", "demo-0").is_ok());
        for (namespace, pod) in [
            ("kube-system", "x"),
            ("upm-system", "x"),
            ("default", "x"),
            ("", "x"),
            ("p3", "x/../../secrets"),
            ("p3/pods/x", "x"),
        ] {
            assert!(policy.allows_files(namespace, pod).is_err(), "{namespace}");
        }
    }

    #[test]
    fn tunnels_lead_only_to_names_in_namespaces_of_projects() {
        let policy = Policy::default();
        assert_eq!(policy.allows_tunnel("p1", "demo-credentials"), Ok(()));
        assert_eq!(policy.allows_tunnel("p1", "demo.v1"), Ok(()));
        for (namespace, name) in [
            ("p1", "../../kube-system/secrets/x"),
            ("p1", ".."),
            ("..", "x"),
            ("p1/secrets", "x"),
            ("p1", "x?watch=1"),
            ("p1", "x#y"),
            ("p1", "%2e%2e"),
            ("p1", ""),
            ("", "x"),
            ("kube-system", "x"),
            ("upm-system", "upm-cluster-ca"),
            ("default", "x"),
        ] {
            let refused = policy.allows_tunnel(namespace, name);
            assert!(refused.is_err(), "{namespace}/{name}");
        }
    }

    #[test]
    fn reads_as_whom_intents_of_a_project_are_done() {
        let read = "p1=upm-system/upm-p1".parse::<Impersonation>().unwrap();
        assert_eq!(read.project, "p1");
        assert_eq!(
            read.account.user(),
            "system:serviceaccount:upm-system:upm-p1"
        );
        for bad in [
            "p1",
            "p1=x",
            "=a/b",
            "p1=a/",
            "p1=a/b/c",
            "p1=a/b:c",
            "P1=a/b",
            "kube-system=a/b",
            "upm-system=a/b",
        ] {
            assert!(bad.parse::<Impersonation>().is_err(), "{bad}");
        }
    }
}
