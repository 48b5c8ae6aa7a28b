//! What makes a replication out of running units. Pure.

use crds::{
    names,
    redis_replication::{
        Bootstrap, DataLossPolicy, Failover, Node, RedisReplication, RedisReplicationSpec,
        RedisSecret, ReplicaNode, Switchover,
    },
};
use engine::{
    Error,
    desired::{DesiredState, MAIN},
    intent::{IntentTemplate, Part},
    names::ServiceName,
    pool::metadata,
};

use crate::spec::{DataLoss, RedisSpec};

/// The RedisReplication of a service.
pub(crate) fn topology(
    spec: &RedisSpec,
    desired: &DesiredState,
    names: &ServiceName,
) -> Result<Vec<IntentTemplate>, Error> {
    let replication = RedisReplication {
        metadata: metadata(names, names.service.clone()),
        spec: replication(spec, desired, names),
        status: None,
    };
    Ok(vec![IntentTemplate::of(Part::Topology, &replication)?])
}

/// The first unit is the source until an election or a switchover names another; the spec is not changed then.
fn replication(
    spec: &RedisSpec,
    desired: &DesiredState,
    names: &ServiceName,
) -> RedisReplicationSpec {
    let host = |ordinal| names::unit_host(&names.service, ordinal, &names.project);
    let port = i32::from(spec.access.port);
    let members = i32::try_from(desired.members_of(MAIN)).unwrap_or(i32::MAX);
    let asked = desired.topology.switchover.as_ref();
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
        failover: asked.and_then(|asked| {
            Some(Failover {
                request_id: asked.request_id.clone(),
                expected_epoch: asked.switchover.expected_epoch,
                accept_loss: asked.switchover.accept_loss.clone()?,
            })
        }),
        switchover: asked
            .filter(|asked| asked.switchover.accept_loss.is_none())
            .map(|asked| Switchover {
                request_id: asked.request_id.clone(),
                target: asked.switchover.target.clone(),
                expected_epoch: asked.switchover.expected_epoch,
            }),
        bootstrap: if desired.topology.begun {
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
    use engine::{
        Engine as _, Manifest, Package,
        desired::{self, RetainedVolumes, Volumes},
        pool,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{
        redis::Redis,
        spec::{Wish, tests::software},
    };

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

    fn desired(units: u32) -> DesiredState {
        DesiredState::of(&[(MAIN.to_owned(), units)].into(), RetainedVolumes::Refuse)
    }

    /// With a change of the primary that was asked for.
    fn switched(units: u32, accept_loss: Option<&str>) -> DesiredState {
        let mut desired = desired(units);
        let to = desired::Switchover {
            target: "demo-1".into(),
            expected_epoch: 4,
            accept_loss: accept_loss.map(str::to_owned),
        };
        desired.topology.switchover = Some(to.requested("r"));
        desired
    }

    fn made(desired: &DesiredState) -> IntentTemplate {
        topology(&spec(3), desired, &names())
            .unwrap()
            .swap_remove(0)
    }

    proptest! {
        #[test]
        fn makes_objects_that_the_cluster_accepts(units in 1_u32..=9, members in 1_u32..=9, delete in any::<bool>()) {
            let mut desired = desired(units);
            desired.topology.members.insert(MAIN.to_owned(), members);
            desired.pools.get_mut(MAIN).unwrap().volumes = if delete { Volumes::Delete } else { Volumes::Retain };
            let pools = Redis::pools(&spec(3));
            let set = pool::unit_set(&pools[0], &desired.pools[MAIN], &names(), &package()).unwrap();
            prop_assert_eq!(set.spec.validate(), vec![]);
            let made = replication(&spec(3), &desired, &names());
            prop_assert_eq!(made.validate(), vec![]);
            prop_assert_eq!(made.replica.len() as u32 + 1, members);
        }

        #[test]
        fn the_same_desired_state_makes_the_same_intents(members in 1_u32..=9) {
            prop_assert_eq!(made(&desired(members)), made(&desired(members)));
        }
    }

    #[test]
    fn follows_the_first_unit_and_keeps_the_password_out() {
        let made = made(&desired(3));
        let json = &made.json["spec"];
        assert_eq!(json["source"]["name"], "demo-0");
        assert_eq!(json["source"]["host"], "demo-0.demo-headless-svc.p.svc");
        assert_eq!(json["source"]["port"], 6379);
        assert_eq!(json["replica"][1]["name"], "demo-2");
        assert_eq!(
            json["secret"],
            serde_json::json!({"name": "demo-credentials", "redis": "default"})
        );
    }

    #[test]
    fn units_are_as_the_package_says() {
        let (pools, desired) = (Redis::pools(&spec(3)), desired(3));
        let set = pool::unit_set(&pools[0], &desired.pools[MAIN], &names(), &package()).unwrap();
        let json = serde_json::to_value(&set.spec).unwrap();
        assert_eq!(
            json["generatedSecret"]["keys"],
            serde_json::json!(["default", "upm-replica"])
        );
        assert_eq!(json["storage"][0]["name"], "data");
        assert_eq!(json["storage"][0]["mountPath"], "/data");
        assert_eq!(json["storage"][0]["size"], "1Gi");
        assert_eq!(json["resources"]["limits"]["memory"], "256Mi");
        assert_eq!(json["retainedVolumes"], "Refuse");
        assert_eq!(json["package"], "redis-7.0.15-0123456789ab");
    }

    #[test]
    fn service_that_was_open_never_begins_empty_again() {
        let bootstrap = |begun| {
            let mut desired = desired(3);
            desired.topology.begun = begun;
            made(&desired).json["spec"]["bootstrap"].clone()
        };
        assert_eq!(
            (bootstrap(false), bootstrap(true)),
            ("Allow".into(), "Refuse".into())
        );
    }

    #[test]
    fn accepted_loss_is_a_failover_and_no_switchover() {
        let made = made(&switched(3, Some("0123456789ab")));
        let json = &made.json["spec"];
        assert_eq!(
            json["failover"],
            serde_json::json!({"requestId": "r", "expectedEpoch": 4, "acceptLoss": "0123456789ab"})
        );
        assert!(json.get("switchover").is_none());
    }

    #[test]
    fn a_switchover_changes_nothing_but_the_switchover() {
        let (was, mut is) = (made(&desired(3)), made(&switched(3, None)));
        assert_eq!(is.json["spec"]["switchover"]["expectedEpoch"], 4);
        is.json["spec"]
            .as_object_mut()
            .unwrap()
            .remove("switchover");
        assert_eq!(was, is);
    }
}
