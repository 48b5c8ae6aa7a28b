//! From template, values and secrets to the server's configuration file. Pure but for reading the secret files.

pub mod functions;
mod scope;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gtmpl_ng::{Context, Template};
use sha2::{Digest, Sha256};

/// What a template sees.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Values by path: `/redis/maxmemory-policy`.
    pub values: BTreeMap<String, String>,
    /// Environment by name.
    pub env: BTreeMap<String, String>,
    /// Directory with one file per user.
    pub secrets: PathBuf,
    /// The password of the unit agent's own user.
    pub agent_secret: AgentSecret,
    /// Whether secrets are replaced by asterisks.
    pub masked: bool,
}

/// The password of the unit agent's own user of the server: made at each start of the agent, kept in memory only, so that nobody
/// who knows another password can lift the fence. `Debug` does not show it.
#[derive(Clone)]
pub struct AgentSecret(std::sync::Arc<str>);

impl AgentSecret {
    /// The password, 64 hex digits.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Default for AgentSecret {
    fn default() -> Self {
        Self(crate::random_hex::<32>().into())
    }
}

impl std::fmt::Debug for AgentSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AgentSecret")
    }
}

/// Why nothing was rendered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The values are not YAML.
    #[error("{path}: {source}")]
    Values {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: serde_yaml::Error,
    },
    /// The template is wrong, or asks for something that is not there.
    #[error("template: {0}")]
    Template(String),
}

/// Renders a Go template.
pub fn render(template: &str, inputs: &Inputs) -> Result<String, Error> {
    let mut parsed = Template::default();
    parsed.add_funcs(functions::ALL);
    parsed
        .parse(template)
        .map_err(|error| Error::Template(error.to_string()))?;
    scope::enter(inputs.clone(), || parsed.render(&Context::empty()))
        .map_err(|error| Error::Template(error.to_string()))
}

/// Reads the template and the values, and renders.
pub fn render_files(template: &Path, values: &Path, inputs: Inputs) -> Result<String, Error> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.into(),
            source,
        })
    };
    let text = read(values)?;
    let tree = serde_yaml::from_str(&text).map_err(|source| Error::Values {
        path: values.into(),
        source,
    })?;
    render(
        &read(template)?,
        &Inputs {
            values: flatten(&tree),
            ..inputs
        },
    )
}

/// SHA-256 of a rendered file, hex.
pub fn hash(rendered: &str) -> String {
    hex::encode(Sha256::digest(rendered.as_bytes()))
}

/// Flattens a YAML tree to paths: `{redis: {hz: 10, l: [a]}}` becomes `/redis/hz = 10`, `/redis/l/0 = a`.
pub fn flatten(tree: &serde_yaml::Value) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    walk(String::new(), tree, &mut flat);
    flat
}

fn walk(path: String, node: &serde_yaml::Value, into: &mut BTreeMap<String, String>) {
    match node {
        serde_yaml::Value::Mapping(mapping) => {
            for (key, value) in mapping {
                walk(format!("{path}/{}", scalar(key)), value, into);
            }
        }
        serde_yaml::Value::Sequence(items) => {
            for (index, value) in items.iter().enumerate() {
                walk(format!("{path}/{index}"), value, into);
            }
        }
        serde_yaml::Value::Tagged(tagged) => walk(path, &tagged.value, into),
        leaf => {
            into.insert(path, scalar(leaf));
        }
    }
}

fn scalar(value: &serde_yaml::Value) -> String {
    match value {
        serde_yaml::Value::String(text) => text.clone(),
        serde_yaml::Value::Bool(flag) => flag.to_string(),
        serde_yaml::Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
