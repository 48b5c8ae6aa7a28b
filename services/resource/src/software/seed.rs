//! The packages that come with the platform.

use std::collections::BTreeMap;

use serde::Deserialize;
use upm_proto::resource::v1::{
    PackageContent, PackageManifest, PackagePort, PackageStorage, Parameter, Software,
};
use upm_store::Store;

use super::model;
use crate::Error;

/// The files of a package as they lie under `helm/packages`.
struct Files {
    manifest: &'static str,
    template: &'static str,
    values: &'static str,
    pod: &'static str,
    parameters: &'static str,
}

macro_rules! packages {
    ($($name:literal),+ $(,)?) => {
        &[$(Files {
            manifest: include_str!(concat!("../../../../helm/packages/", $name, "/package.yaml")),
            template: include_str!(concat!("../../../../helm/packages/", $name, "/config.tmpl")),
            values: include_str!(concat!("../../../../helm/packages/", $name, "/values.yaml")),
            pod: include_str!(concat!("../../../../helm/packages/", $name, "/pod-template.yaml")),
            parameters: include_str!(concat!("../../../../helm/packages/", $name, "/parameters.yaml")),
        }),+]
    };
}

const PACKAGES: &[Files] = packages!["redis-7.0.15"];

/// `package.yaml`, all of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Manifest {
    r#type: String,
    #[serde(default)]
    edition: String,
    version: String,
    #[serde(default)]
    upgrades_to: Vec<String>,
    main_container: String,
    ports: BTreeMap<String, u16>,
    storage: Vec<Storage>,
    users: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Storage {
    name: String,
    mount_path: String,
    #[serde(default)]
    minimum: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    parameters: Vec<Declared>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    name: String,
    r#type: String,
    #[serde(default)]
    dynamic: bool,
    #[serde(default)]
    minimum: String,
    #[serde(default)]
    maximum: String,
    #[serde(default)]
    values: Vec<String>,
    #[serde(default)]
    default: String,
    #[serde(default)]
    description: String,
}

/// Every built-in package with its content.
///
/// # Errors
/// When a file of a package cannot be read.
pub fn built_in() -> Result<Vec<Software>, Error> {
    PACKAGES.iter().map(package).collect()
}

/// Adds the built-in packages to the catalogue, or their newer content.
pub(crate) async fn run(store: &Store) -> Result<(), Error> {
    let packages = built_in()?;
    store
        .transact("resource.software.seed", move |conn| {
            for package in &packages {
                model::import(conn, package)?;
            }
            Ok(())
        })
        .await
}

fn package(files: &Files) -> Result<Software, Error> {
    let manifest: Manifest = read("package.yaml", files.manifest)?;
    let name = model::id(&manifest.r#type, &manifest.edition, &manifest.version);
    let declared: Parameters = read(&name, files.parameters)?;
    Ok(Software {
        name: format!("software/{name}"),
        r#type: manifest.r#type,
        edition: manifest.edition,
        version: manifest.version,
        enabled: true,
        parameters: declared
            .parameters
            .into_iter()
            .map(|p| Parameter {
                key: p.name,
                r#type: p.r#type,
                dynamic: p.dynamic,
                minimum: p.minimum,
                maximum: p.maximum,
                values: p.values,
                default_value: p.default,
                description: p.description,
            })
            .collect(),
        content: Some(PackageContent {
            config_template: files.template.to_owned(),
            config_value: files.values.to_owned(),
            pod_template: files.pod.to_owned(),
        }),
        manifest: Some(PackageManifest {
            main_container: manifest.main_container,
            ports: manifest
                .ports
                .into_iter()
                .map(|(name, port)| PackagePort {
                    name,
                    port: port.into(),
                })
                .collect(),
            storage: manifest
                .storage
                .into_iter()
                .map(|storage| PackageStorage {
                    name: storage.name,
                    mount_path: storage.mount_path,
                    minimum: storage.minimum,
                })
                .collect(),
            users: manifest.users,
            upgrades_to: manifest.upgrades_to,
        }),
        ..Software::default()
    })
}

fn read<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<T, Error> {
    serde_yaml::from_str(text).map_err(|error| Error::Package {
        name: name.to_owned(),
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_package_passes_the_checks_of_an_import() {
        let packages = built_in().unwrap();
        assert!(!packages.is_empty());
        for package in packages {
            super::super::check(&package).unwrap();
            let manifest = package.manifest.as_ref().unwrap();
            assert!(!manifest.ports.is_empty() && !manifest.users.is_empty());
            assert!(!manifest.storage.is_empty(), "{}", package.name);
            assert!(!package.parameters.is_empty(), "{}", package.name);
        }
    }
}
