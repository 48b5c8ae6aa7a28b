//! What several services share in a cluster: the software package and the project's namespace.

use std::collections::BTreeMap;

use diesel::prelude::*;
use k8s_openapi::{
    api::core::v1::{ConfigMap, PodTemplate},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use store::{Connection, time};
use upm_proto::resource::v1::Software;

use crate::{
    Error,
    intent::{IntentTemplate, Part},
    manifest::Manifest,
    schema::packages,
};

/// One content of one software version. Its name holds the digest, so what it names never changes.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = packages)]
pub struct Package {
    /// `redis-7.0.15-<first 12 hex digits of the digest>`: the base name of its objects.
    pub name: String,
    /// `software/redis-7.0.15`.
    pub software: String,
    /// SHA-256 of the content, hex.
    pub digest: String,
    /// For example `redis`.
    pub type_: String,
    /// May be empty.
    pub edition: String,
    /// For example `7.0.15`.
    pub version: String,
    /// Go template of the configuration file.
    pub config_template: String,
    /// Default values, YAML.
    pub config_value: String,
    /// `PodTemplate`, YAML.
    pub pod_template: String,
    /// [`Manifest`], JSON.
    pub manifest: String,
    /// When the module saw it first, microseconds UTC.
    pub create_us: i64,
}

impl Package {
    /// The package of a catalogue entry with its content.
    pub fn of(software: &Software) -> Result<Self, Error> {
        let content = software.content.as_ref().ok_or(Error::Broken(
            "the catalogue answered without the package's content",
        ))?;
        let short = software
            .digest
            .get(..12)
            .ok_or(Error::Broken("the catalogue answered without a digest"))?;
        let id = software
            .name
            .strip_prefix("software/")
            .unwrap_or(&software.name);
        Ok(Self {
            name: format!("{id}-{short}"),
            software: software.name.clone(),
            digest: software.digest.clone(),
            type_: software.r#type.clone(),
            edition: software.edition.clone(),
            version: software.version.clone(),
            config_template: content.config_template.clone(),
            config_value: content.config_value.clone(),
            pod_template: content.pod_template.clone(),
            manifest: Manifest::of(software).to_json()?,
            create_us: time::now_us(),
        })
    }

    /// What its servers need and offer.
    pub fn manifest(&self) -> Result<Manifest, Error> {
        serde_json::from_str(&self.manifest).map_err(|source| Error::Decode {
            what: "manifest",
            name: self.name.clone(),
            source,
        })
    }

    /// Its objects in a cluster.
    pub fn intents(&self) -> Result<Vec<IntentTemplate>, Error> {
        let owner = format!("packages/{}", self.name);
        let config = |name: String, text: &str| ConfigMap {
            metadata: metadata(name),
            data: Some(BTreeMap::from([(self.type_.clone(), text.to_owned())])),
            ..Default::default()
        };
        let mut template: PodTemplate = serde_yaml::from_str(&self.pod_template)
            .map_err(|_| Error::Broken("the package's pod template is no PodTemplate"))?;
        let annotations = template.metadata.annotations.take();
        template.metadata = ObjectMeta {
            annotations,
            ..metadata(self.name.clone())
        };
        let intents = [
            IntentTemplate::of(
                Part::Package,
                &config(
                    crds::names::package_template(&self.name),
                    &self.config_template,
                ),
            )?,
            IntentTemplate::of(
                Part::Package,
                &config(crds::names::package_value(&self.name), &self.config_value),
            )?,
            IntentTemplate::of(Part::Package, &template)?,
        ];
        Ok(intents
            .into_iter()
            .map(|intent| intent.shared(&owner))
            .collect())
    }
}

fn metadata(name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(crds::names::SYSTEM_NAMESPACE.to_owned()),
        labels: Some(BTreeMap::from([(
            crds::names::label::MANAGED_BY.to_owned(),
            "upm".to_owned(),
        )])),
        ..Default::default()
    }
}

/// The project's namespace in a cluster. It outlives the services: removing it would remove what they left.
pub(crate) fn project(project: &str) -> Result<IntentTemplate, Error> {
    let object = crds::Project::new(project, crds::ProjectSpec::default());
    Ok(IntentTemplate::of(Part::Project, &object)?.shared(format!("projects/{project}")))
}

/// Keeps a package, so that operations do not depend on what the catalogue says later.
pub(crate) fn keep(conn: &mut Connection, package: &Package) -> Result<(), Error> {
    store::lock::name(conn, &format!("package {}", package.name))?;
    if find(conn, &package.name)?.is_none() {
        diesel::insert_into(packages::table)
            .values(package)
            .execute(conn)?;
    }
    Ok(())
}

/// Finds a kept package.
pub(crate) fn find(conn: &mut Connection, name: &str) -> Result<Option<Package>, Error> {
    Ok(packages::table
        .find(name)
        .select(Package::as_select())
        .first(conn)
        .optional()?)
}
