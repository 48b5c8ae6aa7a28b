//! Resource names of data services.

use std::fmt;

use crate::Error;

/// `projects/{project}/{collection}/{service}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceName {
    /// Project id; also the namespace in the cluster.
    pub project: String,
    /// For example `redisServices`.
    pub collection: String,
    /// Service id; also the name of its objects in the cluster.
    pub service: String,
}

/// Where services are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parent {
    /// `projects/{project}`.
    Project(String),
    /// `projects/-`.
    All,
}

impl ServiceName {
    /// Puts a name together.
    pub fn new(project: &str, collection: &str, service: &str) -> Self {
        Self {
            project: project.to_owned(),
            collection: collection.to_owned(),
            service: service.to_owned(),
        }
    }

    /// Reads a name of this collection. `field` is the request field it came in.
    pub fn parse(text: &str, collection: &str, field: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            ["projects", project, found, service]
                if found == collection && !project.is_empty() && !service.is_empty() =>
            {
                Ok(Self::new(project, collection, service))
            }
            _ => Err(Error::invalid(
                field,
                format!(
                    "{text:?} is not of the form projects/{{project}}/{collection}/{{service}}"
                ),
            )),
        }
    }
}

impl ServiceName {
    /// Name of the UnitSet of a pool: the service's own name for the main one.
    pub fn set(&self, pool: &str) -> String {
        if pool == crate::desired::MAIN {
            self.service.clone()
        } else {
            format!("{}-{pool}", self.service)
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "projects/{}/{}/{}",
            self.project, self.collection, self.service
        )
    }
}

impl Parent {
    /// Reads a parent. `field` is the request field it came in.
    pub fn parse(text: &str, field: &str) -> Result<Self, Error> {
        match text.split_once('/') {
            Some(("projects", "-")) => Ok(Self::All),
            Some(("projects", project)) if !project.is_empty() && !project.contains('/') => {
                Ok(Self::Project(project.to_owned()))
            }
            _ => Err(Error::invalid(
                field,
                format!("{text:?} is not of the form projects/{{project}}"),
            )),
        }
    }

    /// The project, unless it is all.
    pub fn project(&self) -> Option<&str> {
        match self {
            Self::Project(project) => Some(project),
            Self::All => None,
        }
    }
}

/// Ids of the pools beside the main one. They have at most four letters, because they end names of UnitSets, and are never taken away:
/// ids of services do not end in them.
pub const POOLS: [&str; 2] = ["px", "ctl"];

/// Why an id cannot name a service; `None` when it can. The form itself is the store's rule for ids.
pub fn refuse_service_id(id: &str) -> Option<String> {
    if let Err(violation) = store::ids::resource_id(id) {
        return Some(violation.description);
    }
    if id == "default" || id.starts_with("kube-") || id.starts_with("upm-") {
        return Some(format!("{id:?} is reserved: default, kube-* and upm-* are"));
    }
    let ends_in_number = id
        .rsplit_once('-')
        .is_some_and(|(_, tail)| !tail.is_empty() && tail.bytes().all(|c| c.is_ascii_digit()));
    if ends_in_number {
        return Some(format!(
            "{id:?} ends in -<digits>, as the names of units do"
        ));
    }
    let pool = id.rsplit_once('-').map(|(_, tail)| tail);
    if let Some(pool) = pool.filter(|tail| POOLS.contains(tail)) {
        return Some(format!(
            "{id:?} ends in -{pool}, as the names of UnitSets of pools do"
        ));
    }
    for suffix in ["-headless", "-svc"] {
        if id.ends_with(suffix) {
            return Some(format!(
                "{id:?} ends in {suffix}, as the names of Kubernetes services do"
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let name = ServiceName::new("p", "redisServices", "demo");
        assert_eq!(
            ServiceName::parse(&name.to_string(), "redisServices", "name").unwrap(),
            name
        );
        for wrong in [
            "",
            "projects/p",
            "projects/p/mysqlServices/demo",
            "projects//redisServices/x",
        ] {
            assert!(
                ServiceName::parse(wrong, "redisServices", "name").is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn refuses_ids_that_collide_with_names_in_the_cluster() {
        for id in ["demo", "a", "orders-2x", "cache-eu"] {
            assert_eq!(refuse_service_id(id), None, "{id}");
        }
        for id in [
            "demo-0",
            "x-headless",
            "x-svc",
            "x-px",
            "x-ctl",
            "default",
            "kube-x",
            "upm-x",
            "Demo",
            "",
            "9a",
        ] {
            assert!(refuse_service_id(id).is_some(), "{id}");
        }
    }

    #[test]
    fn pools_end_names_within_four_letters() {
        let name = ServiceName::new("p", "toyServices", "demo");
        assert_eq!(name.set(crate::desired::MAIN), "demo");
        assert_eq!(name.set("px"), "demo-px");
        assert!(POOLS.iter().all(|pool| pool.len() <= 4));
    }

    proptest! {
        #[test]
        fn never_accepts_the_name_of_a_unit(id in "[a-z]{1,8}", ordinal in 0_u32..100) {
            let unit = format!("{id}-{ordinal}");
            prop_assert!(refuse_service_id(&unit).is_some());
        }
    }
}
