//! A private Redis on a unix socket.

use std::sync::OnceLock;

use super::supervised::{Supervised, folder, program};

#[derive(Debug)]
pub(super) struct RedisServer {
    server: Supervised,
}

pub(super) fn server() -> &'static RedisServer {
    static SERVER: OnceLock<RedisServer> = OnceLock::new();
    SERVER.get_or_init(RedisServer::start)
}

impl RedisServer {
    pub(super) fn url(&self) -> String {
        format!("redis+unix://{}/socket", self.server.folder.display())
    }

    fn start() -> Self {
        let program = program("redis-server", "redis-server");
        let folder = folder("upm-redis-");
        let path = folder.display();
        let command = [
            program.display().to_string(),
            "--port".to_owned(),
            "0".to_owned(),
            "--unixsocket".to_owned(),
            format!("{path}/socket"),
            "--dir".to_owned(),
            path.to_string(),
            "--save".to_owned(),
            String::new(),
            "--appendonly".to_owned(),
            "no".to_owned(),
        ];
        let server = Self {
            server: Supervised::start(folder, &command),
        };
        let url = server.url();
        server.server.wait_until(|| {
            let client = redis::Client::open(url.as_str()).map_err(|error| error.to_string())?;
            let mut connection = client.get_connection().map_err(|error| error.to_string())?;
            redis::cmd("PING")
                .query::<String>(&mut connection)
                .map(drop)
                .map_err(|error| error.to_string())
        });
        server
    }
}
