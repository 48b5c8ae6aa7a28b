//! What follows from one descriptor set. Replaced as a whole; a request keeps the one that it began with.

use std::sync::Arc;

use bytes::Bytes;
use upm_proto::policy;
use upm_transcode::{LoadOptions, Options, Tables, openapi};

use crate::{Config, Error, catalog::Catalog};

/// Tables, methods and documents of one descriptor set.
pub(crate) struct View {
    pub(crate) tables: Tables,
    pub(crate) catalog: Catalog,
    pub(crate) openapi: Bytes,
    /// Health and reflection, which the gateway answers itself.
    pub(crate) local: tonic::service::Routes,
}

impl View {
    /// The platform's own methods.
    pub(crate) fn platform() -> Result<Self, Error> {
        let tables = load(upm_proto::DESCRIPTOR_SET)?;
        let catalog = Catalog::platform(&tables);
        let info = openapi::Info {
            title: "UPM".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: "Databases on many Kubernetes clusters, from one place.".to_owned(),
            license: Some("Apache-2.0".to_owned()),
            ..openapi::Info::default()
        };
        let public = |path: &str| {
            policy::find(path).is_some_and(|method| method.access == policy::Access::Public)
        };
        Self::new(tables, catalog, info, &public, upm_proto::DESCRIPTOR_SET)
    }

    /// The methods of the services that have an upstream.
    pub(crate) fn open(
        descriptors: &[u8],
        services: &[Arc<str>],
        config: &Config,
        anonymous: bool,
    ) -> Result<Self, Error> {
        let tables = load(descriptors)?;
        let catalog = Catalog::open(&tables, services, config);
        if let Some(missing) = services.iter().find(|service| {
            !tables
                .methods()
                .iter()
                .any(|method| method.service() == &***service)
        }) {
            return Err(Error::UnknownService(missing.to_string()));
        }
        let info = openapi::Info {
            title: "API".to_owned(),
            version: "1".to_owned(),
            ..openapi::Info::default()
        };
        Self::new(tables, catalog, info, &|_| anonymous, descriptors)
    }

    fn new(
        tables: Tables,
        catalog: Catalog,
        info: openapi::Info,
        public: &dyn Fn(&str) -> bool,
        descriptors: &[u8],
    ) -> Result<Self, Error> {
        for lint in tables.lints() {
            tracing::debug!(%lint, "The API is unusual");
        }
        let document = openapi::document_with(
            &tables,
            &info,
            openapi::Policy {
                include: &|table| catalog.contains(table.path()),
                public: &|table| public(table.path()),
            },
        );
        Ok(Self {
            tables,
            catalog,
            openapi: Bytes::from(document.to_string()),
            local: local_services(descriptors)?,
        })
    }
}

fn load(descriptors: &[u8]) -> Result<Tables, Error> {
    // `alt` is what tools of the field add to any URL.
    let bind = Options {
        ignored_query: vec!["$alt".to_owned(), "alt".to_owned()],
        ..Options::default()
    };
    let options = LoadOptions {
        bind,
        ..LoadOptions::default()
    };
    Ok(Tables::load(descriptors, options)?)
}

fn local_services(descriptors: &[u8]) -> Result<tonic::service::Routes, Error> {
    let (_, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(descriptors)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| Error::Reflection(error.to_string()))?;
    Ok(tonic::service::Routes::new(health).add_service(reflection))
}
