//! A real gRPC server with calls of every kind, gateways before it, and clients of HTTP and gRPC. The server reads and writes JSON with
//! prost-reflect, so that nothing of it shares code with what is tested.

mod api;
mod client;
mod server;

use std::{net::SocketAddr, time::Duration};

use tokio::task::JoinHandle;
use upm_mesh::Drain;

pub(crate) use self::{
    api::{descriptor_set, pool},
    client::{Answer, Http, framed, frames, grpc, parts},
    server::Server,
};
use crate::{Authentication, Config, Descriptors, Error, Standalone};

/// A gateway that runs.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    /// Where operators ask.
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) folder: tempfile::TempDir,
    drain: Drain,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// A gateway in front of these servers.
    pub(crate) async fn before(servers: &[&Server]) -> Self {
        Self::with(servers, |_| {}).await
    }

    /// The same with other settings.
    pub(crate) async fn with(servers: &[&Server], change: impl FnOnce(&mut Standalone)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let descriptors = folder.path().join("api.pb");
        std::fs::write(&descriptors, descriptor_set()).unwrap();
        let mut settings = Standalone {
            listen: "127.0.0.1:0".parse().unwrap(),
            upstreams: servers
                .iter()
                .map(|server| {
                    format!("demo.echo.Echo=http://{}", server.address)
                        .parse()
                        .unwrap()
                })
                .collect(),
            descriptors: Descriptors::File(descriptors),
            authentication: Authentication::Anonymous,
            workers: 1,
            admin: None,
            config: Config {
                spans: false,
                // A machine that is busy with other tests is no server that is gone.
                patience: Duration::from_secs(50),
                ..Config::default()
            },
        };
        change(&mut settings);
        let drain = Drain::new();
        let (sender, bound) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(settings.run_told(drain.clone(), move |address, admin| {
            sender.send((address, admin)).unwrap();
        }));
        let (address, admin) = bound.await.expect("the gateway starts");
        Self {
            address,
            admin,
            folder,
            drain,
            task,
        }
    }

    /// A connection to it.
    pub(crate) async fn http(&self) -> Http {
        Http::h1(self.address).await
    }

    /// Drains it.
    pub(crate) async fn end(self) {
        self.drain.begin();
        self.task.await.unwrap().unwrap();
    }
}
