//! The unit agent's connection to its own server, over the unix socket, as the user `upm-agent`.

use std::path::PathBuf;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisError, Value,
};

use crate::info::Info;
use crate::patience;
use crate::render::AgentSecret;

/// The user that the rendered configuration makes for the unit agent.
pub const USER: &str = "upm-agent";

/// How the server is reached. `Debug` shows no password.
#[derive(Clone)]
pub struct Endpoint {
    socket: PathBuf,
    secret: AgentSecret,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// Why a command brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// Nobody listens, or the connection broke.
    #[error("{0}")]
    Down(String),
    /// The server answered with an error.
    #[error("{code}: {message}")]
    Refused {
        /// Its first word: `LOADING`, `BUSY`, …
        code: String,
        /// The rest.
        message: String,
    },
}

impl Error {
    /// Whether the server says that it loads its data.
    pub fn is_loading(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "LOADING")
    }
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        match error.code() {
            Some(code) => Self::Refused {
                code: code.to_owned(),
                message: error.detail().unwrap_or_default().to_owned(),
            },
            None => Self::Down(error.to_string()),
        }
    }
}

impl Endpoint {
    /// The server behind a socket.
    pub fn new(socket: PathBuf, secret: AgentSecret) -> Self {
        Self { socket, secret }
    }

    /// Connects.
    pub async fn open(&self, within: Duration) -> Result<Link, Error> {
        let settings = RedisConnectionInfo::default()
            .set_username(USER)
            .set_password(self.secret.reveal())
            .set_skip_set_lib_name();
        let address = ConnectionAddr::Unix(self.socket.clone())
            .into_connection_info()?
            .set_redis_settings(settings);
        let client = redis::Client::open(address)?;
        let config = redis::AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None);
        let opening = client.get_multiplexed_async_connection_with_config(&config);
        match patience::within(within, opening).await {
            Some(opened) => Ok(Link {
                connection: opened?,
            }),
            None => Err(Error::Silent(within)),
        }
    }
}

/// A connection to one run of the server: it never reconnects by itself, so commands cannot reach another run unnoticed.
#[derive(Clone)]
pub struct Link {
    connection: MultiplexedConnection,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Link {
    /// One command.
    pub async fn call(&mut self, command: &Cmd, within: Duration) -> Result<Value, Error> {
        let asking = command.query_async::<Value>(&mut self.connection);
        match patience::within(within, asking).await {
            Some(answer) => Ok(answer?),
            None => Err(Error::Silent(within)),
        }
    }

    /// Several commands at once: the server takes them one after the other, and nobody else's in between. The first error is told.
    pub async fn together(&mut self, commands: &Pipeline, within: Duration) -> Result<(), Error> {
        let asking = commands.query_async::<Value>(&mut self.connection);
        match patience::within(within, asking).await {
            Some(answer) => Ok(answer.map(drop)?),
            None => Err(Error::Silent(within)),
        }
    }

    /// `INFO`.
    pub async fn info(&mut self, within: Duration) -> Result<Info, Error> {
        self.read(&redis::cmd("INFO"), within).await
    }

    /// `INFO replication`, for fast polling.
    pub async fn replication(&mut self, within: Duration) -> Result<Info, Error> {
        self.read(redis::cmd("INFO").arg("replication"), within)
            .await
    }

    async fn read(&mut self, command: &Cmd, within: Duration) -> Result<Info, Error> {
        let asking = command.query_async::<String>(&mut self.connection);
        match patience::within(within, asking).await {
            Some(answer) => Ok(Info::parse(&answer?)),
            None => Err(Error::Silent(within)),
        }
    }

    /// `CONFIG SET name value`.
    pub async fn set(&mut self, name: &str, value: &str, within: Duration) -> Result<(), Error> {
        self.call(redis::cmd("CONFIG").arg("SET").arg(name).arg(value), within)
            .await
            .map(drop)
    }
}
