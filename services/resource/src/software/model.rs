//! Rows and queries of the software catalogue.

use diesel::prelude::*;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use upm_proto::resource::v1::{PackageContent, PackageManifest, Software};
use upm_store::{Connection, etag, lock};

use crate::{Error, schema::software};

/// A stored package.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = software)]
pub(crate) struct SoftwareRow {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) edition: String,
    pub(crate) release_version: String,
    pub(crate) digest: String,
    pub(crate) enabled: bool,
    pub(crate) version: i64,
    pub(crate) parameters: String,
    pub(crate) content: String,
}

/// How much of a package an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// What travels to the clusters, too.
    Full,
    /// What a list shows.
    Basic,
}

/// `redis-7.0.15`, `mysql-community-8.0.41`.
pub(crate) fn id(kind: &str, edition: &str, version: &str) -> String {
    [kind, edition, version]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

/// SHA-256 over what travels, hex.
fn digest(content: &PackageContent, manifest: Option<&PackageManifest>) -> String {
    let mut hash = Sha256::new();
    hash.update(content.encode_to_vec());
    if let Some(manifest) = manifest {
        hash.update(manifest.encode_to_vec());
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl SoftwareRow {
    /// The row of a package that is new, or newer than `version`.
    pub(crate) fn of(package: &Software, version: i64) -> Self {
        let content = package.content.clone().unwrap_or_default();
        Self {
            id: id(&package.r#type, &package.edition, &package.version),
            kind: package.r#type.clone(),
            edition: package.edition.clone(),
            release_version: package.version.clone(),
            digest: digest(&content, package.manifest.as_ref()),
            enabled: package.enabled,
            version,
            parameters: stored::parameters(&package.parameters),
            content: stored::content(&content, package.manifest.as_ref()),
        }
    }

    pub(crate) fn etag(&self) -> String {
        etag::of(&self.id, self.version)
    }

    pub(crate) fn into_proto(self, view: View) -> Software {
        let (content, manifest) = stored::parse_content(&self.content);
        Software {
            etag: self.etag(),
            name: format!("software/{}", self.id),
            r#type: self.kind,
            edition: self.edition,
            version: self.release_version,
            digest: self.digest,
            enabled: self.enabled,
            parameters: stored::parse_parameters(&self.parameters),
            content: (view == View::Full).then_some(content),
            manifest,
        }
    }
}

pub(crate) fn find(conn: &mut Connection, id: &str) -> Result<Option<SoftwareRow>, Error> {
    Ok(software::table
        .find(id)
        .select(SoftwareRow::as_select())
        .first(conn)
        .optional()?)
}

/// Packages behind an id, by id.
pub(crate) fn page(
    conn: &mut Connection,
    after: &str,
    limit: i64,
) -> Result<Vec<SoftwareRow>, Error> {
    Ok(software::table
        .filter(software::id.gt(after))
        .order(software::id.asc())
        .limit(limit)
        .select(SoftwareRow::as_select())
        .load(conn)?)
}

/// Adds a package or replaces its content; an equal one changes nothing. Whether it is enabled stays as an administrator left it.
pub(crate) fn import(conn: &mut Connection, package: &Software) -> Result<SoftwareRow, Error> {
    let fresh = SoftwareRow::of(package, 1);
    // Replicas that start together bring the same packages.
    lock::name(conn, "software")?;
    let Some(stored) = find(conn, &fresh.id)? else {
        diesel::insert_into(software::table)
            .values(&fresh)
            .execute(conn)?;
        return Ok(fresh);
    };
    if stored.digest == fresh.digest && stored.parameters == fresh.parameters {
        return Ok(stored);
    }
    let newer = SoftwareRow {
        enabled: stored.enabled,
        version: stored.version + 1,
        ..fresh
    };
    replace(conn, stored.version, &newer)?;
    Ok(newer)
}

/// Writes a row over the version that was read.
pub(crate) fn replace(conn: &mut Connection, seen: i64, row: &SoftwareRow) -> Result<(), Error> {
    let written = diesel::update(
        software::table
            .find(&row.id)
            .filter(software::version.eq(seen)),
    )
    .set(row)
    .execute(conn)?;
    if written == 0 {
        return Err(upm_store::Error::StaleEtag.into());
    }
    Ok(())
}

/// How parameters and content lie in the store: JSON of our own, so that no change of the API rewrites old rows.
mod stored {
    use serde::{Deserialize, Serialize};
    use upm_proto::resource::v1 as pb;

    #[derive(Serialize, Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Parameter {
        key: String,
        r#type: String,
        dynamic: bool,
        minimum: String,
        maximum: String,
        values: Vec<String>,
        default_value: String,
        description: String,
    }

    #[derive(Serialize, Deserialize, Default)]
    #[serde(default)]
    struct Content {
        config_template: String,
        config_value: String,
        pod_template: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        manifest: Option<Manifest>,
    }

    #[derive(Serialize, Deserialize, Default)]
    #[serde(default)]
    struct Manifest {
        main_container: String,
        ports: Vec<(String, i32)>,
        /// Name, path, least size.
        storage: Vec<(String, String, String)>,
        users: Vec<String>,
        upgrades_to: Vec<String>,
    }

    impl From<&pb::PackageManifest> for Manifest {
        fn from(manifest: &pb::PackageManifest) -> Self {
            let manifest = manifest.clone();
            Self {
                main_container: manifest.main_container,
                ports: manifest
                    .ports
                    .into_iter()
                    .map(|port| (port.name, port.port))
                    .collect(),
                storage: manifest
                    .storage
                    .into_iter()
                    .map(|storage| (storage.name, storage.mount_path, storage.minimum))
                    .collect(),
                users: manifest.users,
                upgrades_to: manifest.upgrades_to,
            }
        }
    }

    impl From<Manifest> for pb::PackageManifest {
        fn from(stored: Manifest) -> Self {
            Self {
                main_container: stored.main_container,
                ports: stored
                    .ports
                    .into_iter()
                    .map(|(name, port)| pb::PackagePort { name, port })
                    .collect(),
                storage: stored
                    .storage
                    .into_iter()
                    .map(|(name, mount_path, minimum)| pb::PackageStorage {
                        name,
                        mount_path,
                        minimum,
                    })
                    .collect(),
                users: stored.users,
                upgrades_to: stored.upgrades_to,
            }
        }
    }

    pub(super) fn parameters(parameters: &[pb::Parameter]) -> String {
        let stored: Vec<Parameter> = parameters
            .iter()
            .cloned()
            .map(|p| Parameter {
                key: p.key,
                r#type: p.r#type,
                dynamic: p.dynamic,
                minimum: p.minimum,
                maximum: p.maximum,
                values: p.values,
                default_value: p.default_value,
                description: p.description,
            })
            .collect();
        serde_json::to_string(&stored).expect("texts are JSON")
    }

    pub(super) fn parse_parameters(text: &str) -> Vec<pb::Parameter> {
        let stored: Vec<Parameter> = serde_json::from_str(text).unwrap_or_default();
        stored
            .into_iter()
            .map(|p| pb::Parameter {
                key: p.key,
                r#type: p.r#type,
                dynamic: p.dynamic,
                minimum: p.minimum,
                maximum: p.maximum,
                values: p.values,
                default_value: p.default_value,
                description: p.description,
            })
            .collect()
    }

    pub(super) fn content(
        content: &pb::PackageContent,
        manifest: Option<&pb::PackageManifest>,
    ) -> String {
        serde_json::to_string(&Content {
            config_template: content.config_template.clone(),
            config_value: content.config_value.clone(),
            pod_template: content.pod_template.clone(),
            manifest: manifest.map(Manifest::from),
        })
        .expect("texts are JSON")
    }

    pub(super) fn parse_content(text: &str) -> (pb::PackageContent, Option<pb::PackageManifest>) {
        let stored: Content = serde_json::from_str(text).unwrap_or_default();
        let content = pb::PackageContent {
            config_template: stored.config_template,
            config_value: stored.config_value,
            pod_template: stored.pod_template,
        };
        (content, stored.manifest.map(Into::into))
    }
}
