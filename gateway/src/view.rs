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
        let local = local_services(descriptors, &|path| catalog.contains(path))?;
        Ok(Self {
            tables,
            catalog,
            openapi: Bytes::from(document.to_string()),
            local,
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

/// Reflection shows the methods that can be called here, and no others.
fn local_services(
    descriptors: &[u8],
    shows: &dyn Fn(&str) -> bool,
) -> Result<tonic::service::Routes, Error> {
    let (_, health) = tonic_health::server::health_reporter();
    let shown = upm_mesh::descriptors::only(descriptors, shows)
        .map_err(|error| Error::Reflection(error.to_string()))?;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_file_descriptor_set(shown)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| Error::Reflection(error.to_string()))?;
    Ok(tonic::service::Routes::new(health).add_service(reflection))
}

#[cfg(test)]
mod tests {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };

    use super::*;

    #[tokio::test]
    async fn reflection_shows_only_what_can_be_called() {
        let view = View::platform().unwrap();
        let mut client = ServerReflectionClient::new(view.local.clone().prepare());
        let mut is_shown = async |method: &policy::Method| {
            let symbol = method.path.trim_start_matches('/').replace('/', ".");
            let ask = ServerReflectionRequest {
                message_request: Some(MessageRequest::FileContainingSymbol(symbol)),
                ..Default::default()
            };
            let asked = client.server_reflection_info(futures::stream::iter([ask]));
            let mut answers = asked.await.unwrap().into_inner();
            match answers.message().await {
                Ok(Some(answer)) => matches!(
                    answer.message_response,
                    Some(MessageResponse::FileDescriptorResponse(_))
                ),
                Ok(None) | Err(_) => false,
            }
        };
        for method in policy::METHODS {
            let callable = view.catalog.contains(method.path);
            assert_eq!(is_shown(method).await, callable, "{}", method.path);
        }
    }
}
