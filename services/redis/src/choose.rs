//! Which cluster and which software a request means. Pure.

use engine::Error;
use upm_proto::resource::v1::{Cluster, ClusterState, Software};

use crate::spec::field;

/// The cluster of a request that names none: the only one there is.
pub(crate) fn only_cluster(mut clusters: Vec<Cluster>) -> Result<Cluster, Error> {
    match clusters.len() {
        0 => Err(Error::invalid(field("cluster"), "no cluster is registered")),
        1 => Ok(clusters.remove(0)),
        _ => {
            let names: Vec<_> = clusters
                .iter()
                .map(|cluster| cluster.name.as_str())
                .collect();
            Err(Error::invalid(
                field("cluster"),
                format!("there are several, name one: {}", names.join(", ")),
            ))
        }
    }
}

/// Refuses a cluster that takes no new services.
pub(crate) fn refuse_unfit(cluster: &Cluster) -> Result<(), Error> {
    let unfit = |reason, message: String| Error::Unfit {
        what: cluster.name.clone(),
        reason,
        field: field("cluster"),
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

/// The package of a version; the newest that new services may use when none is named.
pub(crate) fn software<'a>(
    wanted: Option<&str>,
    known: &'a [Software],
) -> Result<&'a Software, Error> {
    let mut offered: Vec<&Software> = known.iter().filter(|software| software.enabled).collect();
    offered.sort_by_key(|software| release(&software.version));
    let found = match wanted {
        Some(version) => known.iter().find(|software| software.version == version),
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
            field("version"),
            format!(
                "{} is not offered to new services; offered: {choice}",
                software.version
            ),
        )),
        None => Err(Error::invalid(
            field("version"),
            format!(
                "{:?} is not in the software catalogue; offered: {choice}",
                wanted.unwrap_or("")
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

    fn package(version: &str, enabled: bool) -> Software {
        Software {
            name: format!("software/redis-{version}"),
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

    #[test]
    fn takes_the_newest_version_that_is_offered() {
        let known = [
            package("7.0.9", true),
            package("7.0.15", true),
            package("7.2.0", false),
        ];
        assert_eq!(software(None, &known).unwrap().version, "7.0.15");
        assert_eq!(software(Some("7.0.9"), &known).unwrap().version, "7.0.9");
    }

    #[test]
    fn lists_what_is_offered_when_a_version_is_not() {
        let known = [
            package("7.0.9", true),
            package("7.0.15", true),
            package("7.2.0", false),
        ];
        for wanted in ["9.9.9", "7.2.0"] {
            let error = software(Some(wanted), &known).unwrap_err();
            assert_eq!(
                error.details().fields[0].field,
                "redis_service.spec.version"
            );
            assert!(error.to_string().contains("7.0.15, 7.0.9"), "{error}");
        }
        assert!(software(None, &[]).is_err());
    }

    #[test]
    fn wants_the_cluster_named_only_when_there_are_several() {
        let one = cluster("a", ClusterState::Healthy, false);
        assert_eq!(only_cluster(vec![one.clone()]).unwrap(), one);
        assert!(only_cluster(vec![]).is_err());
        let error =
            only_cluster(vec![one, cluster("b", ClusterState::Healthy, false)]).unwrap_err();
        assert!(
            error.to_string().contains("clusters/a, clusters/b"),
            "{error}"
        );
    }

    #[test]
    fn refuses_clusters_that_take_no_new_services() {
        assert!(refuse_unfit(&cluster("a", ClusterState::Healthy, false)).is_ok());
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
            let error = refuse_unfit(&unfit).unwrap_err();
            assert_eq!(error.reason(), reason);
            assert_eq!(
                error.details().fields[0].field,
                "redis_service.spec.cluster"
            );
        }
    }

    proptest! {
        #[test]
        fn orders_versions_by_number(a in 0_u64..200, b in 0_u64..200) {
            prop_assert_eq!(release(&format!("7.0.{a}")).cmp(&release(&format!("7.0.{b}"))), a.cmp(&b));
        }
    }
}
