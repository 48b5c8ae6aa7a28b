//! Which cluster and which software a request means. Pure.

use upm_proto::resource::v1::{Cluster, ClusterState, Software};

use crate::Error;

/// The cluster of a request that names none: the only one there is. `field` is where the request would have named it.
pub fn only_cluster(mut clusters: Vec<Cluster>, field: &str) -> Result<Cluster, Error> {
    match clusters.len() {
        0 => Err(Error::invalid(field, "no cluster is registered")),
        1 => Ok(clusters.remove(0)),
        _ => {
            let names: Vec<_> = clusters
                .iter()
                .map(|cluster| cluster.name.as_str())
                .collect();
            Err(Error::invalid(
                field,
                format!("there are several, name one: {}", names.join(", ")),
            ))
        }
    }
}

/// Refuses a cluster that takes no new services, which the request names in `field`.
pub fn refuse_unfit(cluster: &Cluster, field: &str) -> Result<(), Error> {
    let unfit = |reason, message: String| Error::Unfit {
        what: cluster.name.clone(),
        reason,
        field: field.to_owned(),
        message,
    };
    if cluster.cordoned {
        return Err(unfit(
            "CLUSTER_CORDONED",
            format!("{} is cordoned: it takes no new services", cluster.name),
        ));
    }
    if cluster.state() != ClusterState::Healthy {
        let why = if cluster.message.is_empty() {
            String::new()
        } else {
            format!(": {}", cluster.message)
        };
        let state = cluster.state().as_str_name();
        return Err(unfit(
            "CLUSTER_NOT_HEALTHY",
            format!("{} is {state}{why}", cluster.name),
        ));
    }
    Ok(())
}

/// Which package a request means; what is not said may be any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// One of the engine's types.
    pub type_: Option<&'a str>,
    /// For example `community`.
    pub edition: Option<&'a str>,
    /// For example `7.0.15`.
    pub version: Option<&'a str>,
}

impl Wanted<'_> {
    fn is(&self, software: &Software) -> bool {
        let same = |wanted: Option<&str>, has: &str| wanted.is_none_or(|wanted| wanted == has);
        same(self.type_, &software.r#type) && same(self.edition, &software.edition)
    }
}

/// The package that is wanted; the newest that new services may use when no version is named. `field` is where the request names it.
pub fn software<'a>(
    wanted: &Wanted<'_>,
    known: &'a [Software],
    field: &str,
) -> Result<&'a Software, Error> {
    let mut meant: Vec<&Software> = known.iter().filter(|known| wanted.is(known)).collect();
    meant.sort_by_key(|software| release(&software.version));
    let offered: Vec<&Software> = meant.iter().copied().filter(|one| one.enabled).collect();
    let found = match wanted.version {
        Some(version) => {
            let of = |all: &[&'a Software]| all.iter().copied().find(|one| one.version == version);
            of(&offered).or_else(|| of(&meant))
        }
        None => offered.last().copied(),
    };
    let versions: Vec<&str> = offered
        .iter()
        .rev()
        .map(|software| software.version.as_str())
        .collect();
    let choice = if versions.is_empty() {
        "none".to_owned()
    } else {
        versions.join(", ")
    };
    match found {
        Some(software) if software.enabled => Ok(software),
        Some(software) => Err(Error::invalid(
            field,
            format!(
                "{} is not offered to new services; offered: {choice}",
                software.version
            ),
        )),
        None => Err(Error::invalid(
            field,
            format!(
                "{:?} is not in the software catalogue; offered: {choice}",
                wanted.version.unwrap_or("")
            ),
        )),
    }
}

/// Versions in their order: 7.0.9 before 7.0.15.
fn release(version: &str) -> Vec<(u64, String)> {
    version
        .split(['.', '-', '+'])
        .map(|part| {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            (
                part[..digits].parse().unwrap_or_default(),
                part[digits..].to_owned(),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use mesh::Classify;
    use proptest::prelude::*;

    use super::*;

    const FIELD: &str = "toy_service.spec.version";

    fn package(version: &str, enabled: bool) -> Software {
        Software {
            name: format!("software/toy-{version}"),
            r#type: "toy".into(),
            version: version.into(),
            enabled,
            ..Default::default()
        }
    }

    fn cluster(id: &str, state: ClusterState, cordoned: bool) -> Cluster {
        Cluster {
            name: format!("clusters/{id}"),
            state: state.into(),
            cordoned,
            ..Default::default()
        }
    }

    fn version(version: Option<&str>) -> Wanted<'_> {
        Wanted {
            version,
            ..Wanted::default()
        }
    }

    #[test]
    fn type_and_edition_choose_before_the_version() {
        let of = |type_: &str, edition: &str, version: &str| Software {
            r#type: type_.into(),
            edition: edition.into(),
            ..package(version, true)
        };
        let known = [
            of("one", "", "8.0.1"),
            of("one", "community", "8.0.2"),
            of("other", "", "11.4.1"),
        ];
        let newest = |type_, edition| {
            let wanted = Wanted {
                type_,
                edition,
                version: None,
            };
            software(&wanted, &known, FIELD).unwrap().version.clone()
        };
        assert_eq!(newest(None, None), "11.4.1");
        assert_eq!(newest(Some("one"), None), "8.0.2");
        assert_eq!(newest(Some("one"), Some("")), "8.0.1");
    }

    #[test]
    fn takes_the_newest_version_that_is_offered() {
        let known = [
            package("7.0.9", true),
            package("7.0.15", true),
            package("7.2.0", false),
        ];
        assert_eq!(
            software(&version(None), &known, FIELD).unwrap().version,
            "7.0.15"
        );
        assert_eq!(
            software(&version(Some("7.0.9")), &known, FIELD)
                .unwrap()
                .version,
            "7.0.9"
        );
    }

    #[test]
    fn lists_what_is_offered_when_a_version_is_not() {
        let known = [
            package("7.0.9", true),
            package("7.0.15", true),
            package("7.2.0", false),
        ];
        for wanted in ["9.9.9", "7.2.0"] {
            let error = software(&version(Some(wanted)), &known, FIELD).unwrap_err();
            assert_eq!(error.details().fields[0].field, FIELD);
            assert!(error.to_string().contains("7.0.15, 7.0.9"), "{error}");
        }
        assert!(software(&version(None), &[], FIELD).is_err());
    }

    #[test]
    fn wants_the_cluster_named_only_when_there_are_several() {
        let one = cluster("a", ClusterState::Healthy, false);
        assert_eq!(only_cluster(vec![one.clone()], "cluster").unwrap(), one);
        assert!(only_cluster(vec![], "cluster").is_err());
        let error = only_cluster(
            vec![one, cluster("b", ClusterState::Healthy, false)],
            "cluster",
        )
        .unwrap_err();
        assert!(
            error.to_string().contains("clusters/a, clusters/b"),
            "{error}"
        );
    }

    #[test]
    fn refuses_clusters_that_take_no_new_services() {
        assert!(refuse_unfit(&cluster("a", ClusterState::Healthy, false), "cluster").is_ok());
        for (unfit, reason) in [
            (
                cluster("a", ClusterState::Healthy, true),
                "CLUSTER_CORDONED",
            ),
            (
                cluster("a", ClusterState::Unreachable, false),
                "CLUSTER_NOT_HEALTHY",
            ),
        ] {
            let error = refuse_unfit(&unfit, "cluster").unwrap_err();
            assert_eq!(error.reason(), reason);
            assert_eq!(error.details().fields[0].field, "cluster");
        }
    }

    proptest! {
        #[test]
        fn orders_versions_by_number(a in 0_u64..200, b in 0_u64..200) {
            prop_assert_eq!(release(&format!("7.0.{a}")).cmp(&release(&format!("7.0.{b}"))), a.cmp(&b));
        }
    }
}
