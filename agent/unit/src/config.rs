//! `unit.yaml`: how a package's server is run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// How a package's server is run; the package brings it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitConfig {
    /// Type of the service: `redis`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Port of the server.
    pub port: u16,
    /// Where the unit agent's gRPC listens.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// The server process.
    pub server: ServerConfig,
    /// The rendered file.
    pub config: TemplateConfig,
    /// Directory with one file per user: its password.
    pub secrets: PathBuf,
    /// Directory with `tls.crt`, `tls.key`, `ca.crt`.
    pub identity: PathBuf,
    /// Directory in memory, for the rendered file and sockets.
    pub run: PathBuf,
    /// The data volume.
    pub data: PathBuf,
}

/// The server process.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Program and arguments; `{config}` stands for the rendered file.
    pub command: Vec<String>,
    /// Additional environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// The rendered file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateConfig {
    /// The Go template.
    pub template: PathBuf,
    /// The values, YAML.
    pub value: PathBuf,
    /// Where the result goes; mode 0600.
    pub output: PathBuf,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 2214))
}

/// Why `unit.yaml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not what is expected.
    #[error("{path}: {source}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: serde_yaml::Error,
    },
    /// No program is named.
    #[error("{0}: server.command is empty")]
    NoCommand(PathBuf),
}

impl UnitConfig {
    /// Reads `unit.yaml`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.into(),
            source,
        })?;
        let config: Self = serde_yaml::from_str(&text).map_err(|source| Error::Parse {
            path: path.into(),
            source,
        })?;
        if config.server.command.is_empty() {
            return Err(Error::NoCommand(path.into()));
        }
        Ok(config)
    }

    /// The server's unix socket.
    pub fn server_socket(&self) -> PathBuf {
        self.run.join("redis.sock")
    }

    /// The unit agent's own directory on the data volume.
    pub fn state_dir(&self) -> PathBuf {
        self.data.join(".upm")
    }
}
