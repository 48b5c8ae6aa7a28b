//! The software catalogue.

use super::*;

fn package(version: &str) -> pb::Software {
    pb::Software {
        r#type: "redis".to_owned(),
        version: version.to_owned(),
        enabled: true,
        content: Some(pb::PackageContent {
            config_template: "port 6379".to_owned(),
            config_value: "{}".to_owned(),
            pod_template: "template: {spec: {containers: [{name: redis}]}}".to_owned(),
        }),
        ..pb::Software::default()
    }
}

async fn import(world: &World, package: pb::Software) -> Result<pb::Software, Status> {
    let request = pb::ImportSoftwareRequest {
        software: Some(package),
    };
    let answer = world.software().import_software(world.admin(request)).await;
    answer.map(tonic::Response::into_inner)
}

async fn enable(
    world: &World,
    name: &str,
    etag: &str,
    enabled: bool,
) -> Result<pb::Software, Status> {
    let request = pb::UpdateSoftwareRequest {
        software: Some(pb::Software {
            name: name.to_owned(),
            etag: etag.to_owned(),
            enabled,
            ..pb::Software::default()
        }),
        update_mask: Some(mask(&["enabled"])),
    };
    let answer = world.software().update_software(world.admin(request)).await;
    answer.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn the_built_in_packages_are_there_at_the_first_start() {
    for world in worlds().await {
        let list = pb::ListSoftwareRequest {
            filter: "type=redis".to_owned(),
            ..pb::ListSoftwareRequest::default()
        };
        let list = world.software().list_software(world.admin(list)).await;
        let list = list.unwrap().into_inner().software;
        let built_in = crate::built_in().expect("they can be read");
        for package in built_in {
            let name = format!("software/{}-{}", package.r#type, package.version);
            let shown = list.iter().find(|shown| shown.name == name);
            let shown = shown.unwrap_or_else(|| panic!("{}: {name}", world.database));
            assert!(shown.content.is_none(), "a list shows no content");
            let get = pb::GetSoftwareRequest { name };
            let full = world.software().get_software(world.admin(get)).await;
            assert_eq!(full.unwrap().into_inner().content, package.content);
        }
    }
}

#[tokio::test]
async fn an_import_is_idempotent_and_keeps_what_an_administrator_disabled() {
    for world in worlds().await {
        let first = import(&world, package("9.9.1")).await.unwrap();
        assert_eq!(first.name, "software/redis-9.9.1");
        assert_eq!(first, import(&world, package("9.9.1")).await.unwrap());
        let disabled = enable(&world, &first.name, &first.etag, false)
            .await
            .unwrap();
        assert!(!disabled.enabled);
        let stale = enable(&world, &first.name, &first.etag, true).await;
        assert_eq!(
            reason(&stale.unwrap_err()),
            "STALE_ETAG",
            "{}",
            world.database
        );
        let mut newer = package("9.9.1");
        newer.content.as_mut().unwrap().config_template = "port 6380".to_owned();
        let newer = import(&world, newer).await.unwrap();
        assert_ne!(newer.digest, first.digest);
        assert!(!newer.enabled, "{}", world.database);
        let missing = enable(&world, "software/redis-0", "", true).await;
        assert_eq!(reason(&missing.unwrap_err()), "SOFTWARE_NOT_FOUND");
    }
}

#[tokio::test]
async fn a_malformed_package_is_refused_and_its_field_named() {
    for world in worlds().await {
        let mut no_container = package("9.9.1");
        no_container.content.as_mut().unwrap().pod_template = "template: {}".to_owned();
        let refused = import(&world, no_container).await.unwrap_err();
        assert_eq!(field(&refused), "software.content.pod_template");
        let mut no_yaml = package("9.9.1");
        no_yaml.content.as_mut().unwrap().config_value = "a: [".to_owned();
        let refused = import(&world, no_yaml).await.unwrap_err();
        assert_eq!(field(&refused), "software.content.config_value");
        let empty = pb::Software {
            content: None,
            ..package("9.9.1")
        };
        assert_eq!(
            field(&import(&world, empty).await.unwrap_err()),
            "software.content"
        );
        let upper = package("Nine");
        assert_eq!(field(&import(&world, upper).await.unwrap_err()), "software");
    }
}

#[tokio::test]
async fn a_manifest_that_contradicts_the_pod_is_refused() {
    let Some(world) = worlds().await.into_iter().next() else {
        panic!("there is a database");
    };
    let manifest = |port| pb::PackageManifest {
        main_container: "redis".to_owned(),
        ports: vec![pb::PackagePort {
            name: "redis".to_owned(),
            port,
        }],
        ..pb::PackageManifest::default()
    };
    let with = |port| {
        pb::Software {
        content: Some(pb::PackageContent {
            pod_template: "template: {spec: {containers: [{name: redis, ports: [{name: redis, containerPort: 6379}]}]}}".to_owned(),
            ..package("7.9.9").content.unwrap_or_default()
        }),
        manifest: Some(manifest(port)),
        ..package("7.9.9")
    }
    };
    let refused = import(&world, with(6380)).await.unwrap_err();
    assert_eq!(field(&refused), "software.manifest.ports");
    let kept = import(&world, with(6379)).await.unwrap();
    assert_eq!(kept.manifest, Some(manifest(6379)));
    let older = import(&world, package("7.9.9")).await.unwrap();
    assert_ne!(older.digest, kept.digest, "the digest covers the manifest");
}
