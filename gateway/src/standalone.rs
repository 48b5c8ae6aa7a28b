//! The gateway in front of any gRPC servers, without the platform: descriptors from a file or from a server's reflection, calls over pools of
//! its own, one thread for each worker.

mod admin;
mod descriptors;
mod reflection;

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use upm_mesh::Drain;

use self::descriptors::Source;
use crate::{
    Config, Error, Gateway, Target,
    auth::{Auth, Verifier},
    gateway::Shared,
    measure,
    upstream::{Pool, Upstreams},
};

/// Connections that wait to be accepted, for each worker.
const BACKLOG: u32 = 1024;

/// A gateway that stands alone.
#[derive(Debug, Clone)]
pub struct Standalone {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Services with the servers that have them; several for one service share its calls.
    pub upstreams: Vec<Target>,
    /// Where the descriptors of the services come from.
    pub descriptors: Descriptors,
    /// Who may call.
    pub authentication: Authentication,
    /// Threads, at least 1; each has connections of its own to the upstreams.
    pub workers: usize,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub admin: Option<SocketAddr>,
    /// Limits and the rest.
    pub config: Config,
}

/// Where descriptors come from. Both are looked at again and again; what is wrong is reported, and the last good ones stay.
#[derive(Debug, Clone)]
pub enum Descriptors {
    /// A `FileDescriptorSet` with imports and options, as `protoc --include_imports -o` writes it.
    File(PathBuf),
    /// The servers' own `grpc.reflection.v1` (or `v1alpha`) service.
    Reflection,
}

/// Who may call.
#[derive(Debug, Clone)]
pub enum Authentication {
    /// Everybody.
    Anonymous,
    /// Who has a token that one of the keys has signed.
    Tokens {
        /// A JWK set (RFC 7517).
        keys: PathBuf,
        /// What `iss` must be.
        issuer: Option<String>,
        /// What `aud` must hold.
        audience: Option<String>,
    },
}

impl Standalone {
    /// Serves until the drain. `bound` is called with the address when the listener is there; with port 0 it is the only way to know it.
    ///
    /// # Errors
    /// When the first descriptors cannot be had or used, a file cannot be read, or a listener fails.
    pub async fn run(self, drain: Drain, bound: impl FnOnce(SocketAddr)) -> Result<(), Error> {
        self.run_told(drain, |address, _| bound(address)).await
    }

    /// The same; `bound` also gets the address of the operators' port.
    pub(crate) async fn run_told(
        self,
        drain: Drain,
        bound: impl FnOnce(SocketAddr, Option<SocketAddr>),
    ) -> Result<(), Error> {
        let (auth, anonymous) = self.auth()?;
        let services = self.services();
        // Reflection needs connections before there is a worker.
        let source = Source::new(&self.descriptors, self.pools(&services));
        let config = self.config.clone();
        let descriptors = source.wait(&drain).await?;
        let view = crate::view::View::open(&descriptors, &services, &config, anonymous)?;
        let shared = Shared::new(config, view, auth)?;
        measure::observe(&shared);
        let (first, address) = listen(self.listen)?;
        let operators = admin::bind(self.admin).await?;
        let told = operators
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()?;
        bound(address, told);
        let mut workers = Workers::default();
        for index in 0..self.workers.max(1) {
            let listener = match index {
                0 => first.try_clone()?,
                _ => listen(address)?.0,
            };
            workers.start(
                index,
                self.clone(),
                services.clone(),
                shared.clone(),
                listener,
                &drain,
            )?;
        }
        drop(first);
        let reload = source.follow(&shared, &services, anonymous, descriptors);
        let admin = admin::serve(operators, &shared, workers.ready(), drain.clone());
        tokio::select! {
            biased;
            () = drain.signalled() => {}
            () = reload => {}
            failed = admin => failed?,
            // At the end of a drain workers end, and that is no failure.
            failed = workers.failed(), if !drain.is_draining() => {
                if !drain.is_draining() {
                    drain.begin();
                    return Err(failed);
                }
            }
        }
        workers.ended().await
    }

    fn services(&self) -> Vec<Arc<str>> {
        let mut services: Vec<Arc<str>> =
            self.upstreams.iter().map(|t| t.service.clone()).collect();
        services.sort();
        services.dedup();
        services
    }

    /// A pool for each service; services with the same servers share one.
    fn pools(&self, services: &[Arc<str>]) -> HashMap<Arc<str>, Pool> {
        let mut made: Vec<(Vec<String>, Pool)> = Vec::new();
        services
            .iter()
            .map(|service| {
                let targets: Vec<_> = self
                    .upstreams
                    .iter()
                    .filter(|target| target.service == *service)
                    .cloned()
                    .collect();
                let mut places: Vec<_> = targets.iter().map(Target::place).collect();
                places.sort();
                let pool = match made.iter().find(|(known, _)| *known == places) {
                    Some((_, pool)) => pool.clone(),
                    None => Pool::new(targets, self.config.patience),
                };
                made.push((places, pool.clone()));
                (service.clone(), pool)
            })
            .collect()
    }

    fn auth(&self) -> Result<(Auth, bool), Error> {
        Ok(match &self.authentication {
            Authentication::Anonymous => (Auth::Anonymous, true),
            Authentication::Tokens {
                keys,
                issuer,
                audience,
            } => {
                let verifier = Verifier::open(keys, issuer.clone(), audience.clone())?;
                (Auth::Verified(Box::new(verifier)), false)
            }
        })
    }
}

/// A listener that others may share the address with, so that the kernel spreads connections over the workers.
fn listen(address: SocketAddr) -> Result<(std::net::TcpListener, SocketAddr), Error> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// How a worker ended.
type Ended = Result<(), Error>;

/// The threads.
#[derive(Default)]
struct Workers {
    threads: Vec<std::thread::JoinHandle<()>>,
    results: Option<(UnboundedSender<Ended>, UnboundedReceiver<Ended>)>,
    pools: Arc<std::sync::Mutex<Vec<Pool>>>,
}

impl Workers {
    fn start(
        &mut self,
        index: usize,
        settings: Standalone,
        services: Vec<Arc<str>>,
        shared: Arc<Shared>,
        listener: std::net::TcpListener,
        drain: &Drain,
    ) -> Result<(), Error> {
        let (sender, _) = self.results.get_or_insert_with(unbounded_channel);
        let (sender, drain, known) = (sender.clone(), drain.clone(), self.pools.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let work = async move {
            let pools = settings.pools(&services);
            known
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .extend(pools.values().cloned());
            let listener = TcpListener::from_std(listener)?;
            let gateway = Gateway::with(shared, Upstreams::Pools(pools));
            gateway.serve(listener, drain).await
        };
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let result = runtime.block_on(work);
                // What is left of a connection's work ends with the runtime.
                runtime.shutdown_timeout(Duration::from_secs(1));
                sender.send(result).ok();
            })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Whether every pool has a server.
    fn ready(&self) -> impl Fn() -> bool + Send + Sync + 'static + use<> {
        let pools = self.pools.clone();
        move || {
            let pools = pools
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            !pools.is_empty() && pools.iter().all(Pool::is_ready)
        }
    }

    /// Waits for a worker that ends before its time.
    async fn failed(&mut self) -> Error {
        match &mut self.results {
            Some((_, results)) => match results.recv().await {
                Some(Err(error)) => error,
                _ => Error::Worker("it ended".to_owned()),
            },
            None => std::future::pending().await,
        }
    }

    /// Waits for all workers; they drain by themselves.
    async fn ended(self) -> Result<(), Error> {
        let Some((sender, mut results)) = self.results else {
            return Ok(());
        };
        drop(sender);
        let mut ended = Ok(());
        while let Some(result) = results.recv().await {
            ended = ended.and(result);
        }
        for thread in self.threads {
            if thread.join().is_err() {
                ended = Err(Error::Worker("it panicked".to_owned()));
            }
        }
        ended
    }
}
