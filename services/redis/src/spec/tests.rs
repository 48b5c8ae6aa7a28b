use proptest::prelude::*;
use upm_proto::resource::v1::{PackageManifest, PackagePort, PackageStorage};

use super::*;

fn wanted() -> pb::RedisSpec {
    pb::RedisSpec {
        members: 3,
        ..Default::default()
    }
}

/// A package as the catalogue has it.
pub(crate) fn software() -> Software {
    Software {
        name: "software/redis-7.0.15".into(),
        r#type: "redis".into(),
        version: "7.0.15".into(),
        manifest: Some(PackageManifest {
            main_container: "redis".into(),
            ports: vec![PackagePort {
                name: "redis".into(),
                port: 6379,
            }],
            storage: vec![PackageStorage {
                name: "data".into(),
                mount_path: "/data".into(),
                minimum: "300Mi".into(),
            }],
            users: vec!["default".into(), "upm-replica".into()],
            ..PackageManifest::default()
        }),
        ..Default::default()
    }
}

fn fields(spec: &pb::RedisSpec) -> Vec<String> {
    Wish::parse(Some(spec))
        .err()
        .unwrap_or_default()
        .into_iter()
        .map(|violation| violation.field)
        .collect()
}

#[test]
fn fills_in_what_is_not_said() {
    let spec = Wish::parse(Some(&wanted()))
        .unwrap()
        .resolve("c", &software())
        .unwrap();
    assert_eq!(
        (
            spec.cpu.as_str(),
            spec.memory.as_str(),
            spec.volume_size.as_str()
        ),
        ("500m", "256Mi", "1Gi")
    );
    assert_eq!(
        (spec.data_loss, spec.placement),
        (DataLoss::Never, Placement::SpreadPreferred)
    );
    assert_eq!(spec.version, "7.0.15");
}

#[test]
fn names_every_wrong_field_at_once() {
    let spec = pb::RedisSpec {
        members: 0,
        memory: "abc".into(),
        cluster: "prod".into(),
        storage: Some(pb::Storage {
            size: "1Mi".into(),
            storage_class: "Fast!".into(),
        }),
        data_loss_policy: 9,
        ..Default::default()
    };
    assert_eq!(
        fields(&spec),
        [
            "redis_service.spec.cluster",
            "redis_service.spec.members",
            "redis_service.spec.memory",
            "redis_service.spec.storage.size",
            "redis_service.spec.storage.storage_class",
            "redis_service.spec.data_loss_policy",
        ]
    );
    assert!(Wish::parse(None).is_err());
}

#[test]
fn says_what_is_wrong_with_a_quantity() {
    let spec = pb::RedisSpec {
        memory: "abc".into(),
        ..wanted()
    };
    let wrong = Wish::parse(Some(&spec)).unwrap_err();
    assert!(
        wrong[0].description.contains("abc") && wrong[0].description.contains("512Mi"),
        "{wrong:?}"
    );
    let spec = pb::RedisSpec {
        memory: "1Mi".into(),
        ..wanted()
    };
    assert!(
        Wish::parse(Some(&spec)).unwrap_err()[0]
            .description
            .contains("64Mi")
    );
}

proptest! {
    #[test]
    fn accepts_one_to_nine_members_and_nothing_else(members in -3_i32..20) {
        let spec = pb::RedisSpec { members, ..wanted() };
        prop_assert_eq!(Wish::parse(Some(&spec)).is_ok(), (1..=9).contains(&members));
    }

    #[test]
    fn what_is_shown_is_read_back_as_the_same(
        members in 1_i32..=9,
        mebibytes in 64_u32..10_000,
        bounded in any::<bool>(),
        required in any::<bool>(),
        class in proptest::option::of("[a-z]{1,10}"),
    ) {
        let spec = pb::RedisSpec {
            members,
            memory: format!("{mebibytes}Mi"),
            data_loss_policy: if bounded { 2 } else { 1 },
            placement: if required { 2 } else { 1 },
            storage: Some(pb::Storage { size: "2Gi".into(), storage_class: class.unwrap_or_default() }),
            ..Default::default()
        };
        let parsed = Wish::parse(Some(&spec)).unwrap().resolve("c", &software()).unwrap();
        let shown = pb::RedisSpec::from(&parsed);
        let again = Wish::parse(Some(&shown)).unwrap().resolve("c", &software()).unwrap();
        prop_assert_eq!(parsed, again);
    }

    #[test]
    fn never_panics(cpu in ".{0,12}", memory in ".{0,12}", size in ".{0,12}", cluster in ".{0,12}", class in ".{0,12}", members: i32, policy: i32) {
        let spec = pb::RedisSpec {
            cluster, members, cpu, memory,
            storage: Some(pb::Storage { size, storage_class: class }),
            data_loss_policy: policy,
            placement: policy,
            ..Default::default()
        };
        let _ = Wish::parse(Some(&spec));
    }
}
