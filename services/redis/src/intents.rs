//! A service's own objects in its cluster. Pure.

use std::collections::BTreeMap;

use crds::{
    names,
    redis_replication::{
        Bootstrap, DataLossPolicy, Failover, Node, RedisReplication, RedisReplicationSpec,
        RedisSecret, ReplicaNode, Switchover,
    },
    unit_set::{
        GeneratedSecret, PodAntiAffinityPreset, RetainedVolumes, Storage, UnitSet, UnitSetSpec,
        VolumeRetentionPolicy,
    },
};
use engine::{
    Error, Package,
    intent::{IntentTemplate, Part},
    names::ServiceName,
    shape::{self, Shape},
};
use k8s_openapi::{
    api::core::v1::ResourceRequirements,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use upm_proto::hub::v1::Key;

use crate::spec::{DataLoss, Placement, RedisSpec};

/// The UnitSet and the RedisReplication of a service.
pub(crate) fn intents(
    spec: &RedisSpec,
    shape: &Shape,
    names: &ServiceName,
    package: &Package,
) -> Result<Vec<IntentTemplate>, Error> {
    let project = Key {
        group: names::GROUP.to_owned(),
        version: "v1alpha2".to_owned(),
        kind: "Project".to_owned(),
        namespace: String::new(),
        name: names.project.clone(),
    };
    let units = UnitSet {
        metadata: metadata(names),
        spec: unit_set(spec, shape, names, package)?,
        status: None,
    };
    let replication = RedisReplication {
        metadata: metadata(names),
        spec: replication(spec, shape, names),
        status: None,
    };
    Ok(vec![
        IntentTemplate::of(Part::Units, &units)?.after([project.clone()]),
        IntentTemplate::of(Part::Replication, &replication)?.after([project]),
    ])
}

fn metadata(names: &ServiceName) -> ObjectMeta {
    ObjectMeta {
        name: Some(names.service.clone()),
        namespace: Some(names.project.clone()),
        labels: Some(BTreeMap::from([(
            names::label::MANAGED_BY.to_owned(),
            "upm".to_owned(),
        )])),
        ..Default::default()
    }
}

fn unit_set(
    spec: &RedisSpec,
    shape: &Shape,
    names: &ServiceName,
    package: &Package,
) -> Result<UnitSetSpec, Error> {
    let manifest = package.manifest()?;
    let amounts = BTreeMap::from([
        ("cpu".to_owned(), Quantity(spec.cpu.clone())),
        ("memory".to_owned(), Quantity(spec.memory.clone())),
    ]);
    Ok(UnitSetSpec {
        type_: package.type_.clone(),
        edition: Some(package.edition.clone()).filter(|edition| !edition.is_empty()),
        version: package.version.clone(),
        package: Some(package.name.clone()),
        units: i32::try_from(shape.units).unwrap_or(i32::MAX),
        startup: true,
        restarted_at: shape.restarted_at.clone(),
        parameters: spec.parameters.clone(),
        resources: Some(ResourceRequirements {
            limits: Some(amounts.clone()),
            requests: Some(amounts),
            ..Default::default()
        }),
        pod_anti_affinity_preset: Some(match spec.placement {
            Placement::SpreadPreferred => PodAntiAffinityPreset::Soft,
            Placement::SpreadRequired => PodAntiAffinityPreset::Hard,
        }),
        storage: manifest
            .storage
            .into_iter()
            .map(|need| Storage {
                name: need.name,
                size: Quantity(spec.volume_size.clone()),
                storage_class_name: spec.storage_class.clone(),
                mount_path: need.mount_path,
            })
            .collect(),
        // a password for each: whoever knows that of the clients' user must not pass for a replica that acknowledges
        generated_secret: Some(GeneratedSecret {
            name: names::credentials(&names.service),
            keys: manifest.users,
        }),
        volume_retention_policy: match shape.volumes {
            shape::Volumes::Retain => VolumeRetentionPolicy::Retain,
            shape::Volumes::Delete => VolumeRetentionPolicy::Delete,
        },
        retained_volumes: match shape.retained {
            shape::RetainedVolumes::Refuse => RetainedVolumes::Refuse,
            shape::RetainedVolumes::Adopt => RetainedVolumes::Adopt,
            shape::RetainedVolumes::Discard => RetainedVolumes::Discard,
        },
        ..Default::default()
    })
}

/// The first unit is the source until an election or a switchover names another; the spec is not changed then.
fn replication(spec: &RedisSpec, shape: &Shape, names: &ServiceName) -> RedisReplicationSpec {
    let host = |ordinal| names::unit_host(&names.service, ordinal, &names.project);
    let port = i32::from(spec.access.port);
    let members = i32::try_from(shape.members).unwrap_or(i32::MAX);
    let wish = shape.switchover.as_ref();
    RedisReplicationSpec {
        source: Node {
            name: names::unit_name(&names.service, 0),
            host: host(0),
            port,
            ..Default::default()
        },
        replica: (1..members)
            .map(|ordinal| ReplicaNode {
                name: names::unit_name(&names.service, ordinal),
                host: host(ordinal),
                port,
                ..Default::default()
            })
            .collect(),
        secret: RedisSecret {
            name: names::credentials(&names.service),
            redis: spec.access.user.clone(),
        },
        failover: wish.and_then(|wish| {
            Some(Failover {
                request_id: wish.request_id.clone(),
                expected_epoch: wish.expected_epoch,
                accept_loss: wish.accept_loss.clone()?,
            })
        }),
        switchover: wish
            .filter(|wish| wish.accept_loss.is_none())
            .map(|wish| Switchover {
                request_id: wish.request_id.clone(),
                target: wish.target.clone(),
                expected_epoch: wish.expected_epoch,
            }),
        bootstrap: if shape.begun {
            Bootstrap::Refuse
        } else {
            Bootstrap::Allow
        },
        data_loss_policy: match spec.data_loss {
            DataLoss::Never => DataLossPolicy::Never,
            DataLoss::Bounded => DataLossPolicy::Bounded,
        },
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use crds::Validate;
    use proptest::prelude::*;

    use engine::Manifest;

    use super::*;
    use crate::spec::{Wish, tests::software};

    fn package() -> Package {
        Package {
            name: "redis-7.0.15-0123456789ab".into(),
            software: "software/redis-7.0.15".into(),
            digest: "0123456789ab".into(),
            type_: "redis".into(),
            edition: String::new(),
            version: "7.0.15".into(),
            config_template: String::new(),
            config_value: String::new(),
            pod_template: String::new(),
            manifest: Manifest::of(&software()).to_json().unwrap(),
            create_us: 0,
        }
    }

    fn spec(members: i32) -> RedisSpec {
        let wanted = upm_proto::redis::v1::RedisSpec {
            members,
            ..Default::default()
        };
        Wish::parse(Some(&wanted))
            .unwrap()
            .resolve("c", &software())
            .unwrap()
    }

    fn names() -> ServiceName {
        ServiceName::new("p", "redisServices", "demo")
    }

    proptest! {
        #[test]
        fn makes_objects_that_the_cluster_accepts(members in 1_u32..=9, units in 1_u32..=9, delete in any::<bool>()) {
            let shape = Shape {
                units,
                members,
                volumes: if delete { shape::Volumes::Delete } else { shape::Volumes::Retain },
                ..Shape::default()
            };
            let made = unit_set(&spec(3), &shape, &names(), &package()).unwrap();
            prop_assert_eq!(made.validate(), vec![]);
            let made = replication(&spec(3), &shape, &names());
            prop_assert_eq!(made.validate(), vec![]);
            prop_assert_eq!(made.replica.len() as u32 + 1, members);
        }

        #[test]
        fn the_same_wish_makes_the_same_intents(members in 1_u32..=9) {
            let shape = Shape { units: members, members, ..Shape::default() };
            let once = intents(&spec(3), &shape, &names(), &package()).unwrap();
            let again = intents(&spec(3), &shape, &names(), &package()).unwrap();
            prop_assert_eq!(once, again);
        }
    }

    #[test]
    fn follows_the_first_unit_and_keeps_the_password_out() {
        let shape = Shape {
            units: 3,
            members: 3,
            ..Shape::default()
        };
        let made = intents(&spec(3), &shape, &names(), &package()).unwrap();
        let json = &made[1].json["spec"];
        assert_eq!(json["source"]["name"], "demo-0");
        assert_eq!(json["source"]["host"], "demo-0.demo-headless-svc.p.svc");
        assert_eq!(json["replica"][1]["name"], "demo-2");
        assert_eq!(
            json["secret"],
            serde_json::json!({"name": "demo-credentials", "redis": "default"})
        );
        assert_eq!(
            made[0].json["spec"]["generatedSecret"]["keys"][0],
            "default"
        );
        assert_eq!(made[0].json["spec"]["retainedVolumes"], "Refuse");
        assert_eq!(made[0].depends_on[0].name, "p");
    }

    #[test]
    fn service_that_was_open_never_begins_empty_again() {
        let bootstrap = |begun| {
            let shape = Shape {
                begun,
                ..Shape::default()
            };
            let made = intents(&spec(3), &shape, &names(), &package()).unwrap();
            made[1].json["spec"]["bootstrap"].clone()
        };
        assert_eq!(
            (bootstrap(false), bootstrap(true)),
            ("Allow".into(), "Refuse".into())
        );
    }

    #[test]
    fn accepted_loss_is_a_failover_and_no_switchover() {
        let shape = Shape {
            switchover: Some(shape::SwitchoverWish {
                request_id: "r".into(),
                target: "demo-1".into(),
                expected_epoch: 4,
                accept_loss: Some("0123456789ab".into()),
            }),
            ..Shape::default()
        };
        let made = intents(&spec(3), &shape, &names(), &package()).unwrap();
        let json = &made[1].json["spec"];
        assert_eq!(
            json["failover"],
            serde_json::json!({"requestId": "r", "expectedEpoch": 4, "acceptLoss": "0123456789ab"})
        );
        assert!(json.get("switchover").is_none());
    }

    #[test]
    fn a_switchover_changes_nothing_but_the_switchover() {
        let before = Shape {
            units: 3,
            members: 3,
            ..Shape::default()
        };
        let after = Shape {
            switchover: Some(shape::SwitchoverWish {
                request_id: "r".into(),
                target: "demo-1".into(),
                expected_epoch: 4,
                accept_loss: None,
            }),
            ..before.clone()
        };
        let was = intents(&spec(3), &before, &names(), &package()).unwrap();
        let mut is = intents(&spec(3), &after, &names(), &package()).unwrap();
        assert_eq!(was[0], is[0]);
        assert_eq!(is[1].json["spec"]["switchover"]["expectedEpoch"], 4);
        is[1].json["spec"]
            .as_object_mut()
            .unwrap()
            .remove("switchover");
        assert_eq!(was[1], is[1]);
    }
}
