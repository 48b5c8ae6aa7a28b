//! A software package as it lies in the system namespace: template, values, pod template.

use k8s_openapi::api::core::v1::{ConfigMap, Container, PodTemplate};
use kube::ResourceExt as _;
use upm_crds::UnitSetSpec;
use upm_crds::names::{self, annotation};

/// What a package brings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Package {
    /// Base name of its objects.
    pub(crate) name: String,
    /// Go template of the configuration.
    pub(crate) template: String,
    /// Default values, YAML.
    pub(crate) value: String,
    /// The pod.
    pub(crate) pod: PodTemplate,
}

/// Why a package cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Missing(String);

impl Package {
    /// Puts the package of a set together.
    pub(crate) fn read(
        set: &UnitSetSpec,
        template: Option<&ConfigMap>,
        value: Option<&ConfigMap>,
        pod: Option<&PodTemplate>,
    ) -> Result<Self, Missing> {
        let name = set.package_name();
        let text = |map: Option<&ConfigMap>, map_name: String| {
            let map = map.ok_or_else(|| Missing(format!("ConfigMap {map_name} does not exist")))?;
            let text = map
                .data
                .as_ref()
                .and_then(|data| data.get(&set.type_))
                .cloned();
            text.ok_or_else(|| Missing(format!("ConfigMap {map_name} has no key {}", set.type_)))
        };
        let template = text(template, names::package_template(&name))?;
        let value = text(value, names::package_value(&name))?;
        let pod = pod
            .cloned()
            .ok_or_else(|| Missing(format!("PodTemplate {name} does not exist")))?;
        let package = Self {
            name,
            template,
            value,
            pod,
        };
        if package.main(&set.type_).is_none() {
            return Err(Missing(format!(
                "PodTemplate {} has no container {}",
                package.name, set.type_
            )));
        }
        Ok(package)
    }

    /// The container of the server.
    pub(crate) fn main(&self, type_: &str) -> Option<&Container> {
        let spec = self.pod.template.as_ref()?.spec.as_ref()?;
        spec.containers
            .iter()
            .find(|container| container.name == type_)
    }

    /// How the unit agent runs the server; without it the pod starts the server itself.
    pub(crate) fn unit_yaml(&self) -> Option<&str> {
        self.pod
            .annotations()
            .get(annotation::UNIT_YAML)
            .map(String::as_str)
    }
}
