//! The gateway as a value: tables, upstreams, settings.

use std::{pin::Pin, sync::Arc};

use arc_swap::ArcSwap;
use http::{Request, Response, Uri};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use upm_mesh::{Drain, Peers};

use crate::{
    Config, Error,
    auth::{Auth, Platform},
    measure::Log,
    protect::Protection,
    refusal::Refusal,
    serve,
    upstream::Upstreams,
    view::View,
};

/// gRPC, gRPC-Web and REST in front of gRPC servers. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    upstreams: Upstreams,
    /// Work that outlives its request: WebSockets.
    tasks: TaskTracker,
    /// Ends it.
    ending: CancellationToken,
}

/// What all workers of a process have in common.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) view: ArcSwap<View>,
    pub(crate) auth: Auth,
    pub(crate) protection: Protection,
    pub(crate) log: Option<Log>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<tonic::body::Body>, Refusal>> + Send>>;

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("config", self.config())
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// Compiles the built-in descriptors. `peers` are the gateway's own channels to the modules, which verify tokens and decide.
    ///
    /// # Errors
    /// When the descriptors have conflicting or invalid routes, or the access log cannot be opened.
    pub fn new(config: Config, peers: Peers) -> Result<Self, Error> {
        let shared = Shared::new(
            config,
            View::platform()?,
            Auth::Platform(Platform::default()),
        )?;
        crate::measure::observe(&shared);
        Ok(Self::with(shared, Upstreams::Mesh(peers)))
    }

    pub(crate) fn with(shared: Arc<Shared>, upstreams: Upstreams) -> Self {
        Self {
            inner: Arc::new(Inner {
                shared,
                upstreams,
                tasks: TaskTracker::new(),
                ending: CancellationToken::new(),
            }),
        }
    }

    /// Serves until the drain, then lets running requests finish within the grace period.
    ///
    /// # Errors
    /// When the certificate cannot be read or the listener fails.
    pub async fn serve(self, listener: TcpListener, drain: Drain) -> Result<(), Error> {
        if let Upstreams::Mesh(peers) = self.upstreams() {
            let (shared, peers, drain) = (self.shared().clone(), peers.clone(), drain.clone());
            self.tasks().spawn(async move {
                if let Some(platform) = shared.auth.platform() {
                    platform.follow(&peers, &drain).await;
                }
            });
        }
        serve::run(self, listener, drain).await
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.shared.config
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    pub(crate) fn upstreams(&self) -> &Upstreams {
        &self.inner.upstreams
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    /// Cancelled when what outlives its request must end.
    pub(crate) fn ending(&self) -> &CancellationToken {
        &self.inner.ending
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.inner.shared.view.load_full()
    }
}

impl Shared {
    pub(crate) fn new(config: Config, view: View, auth: Auth) -> Result<Arc<Self>, Error> {
        let log = config.access_log.as_ref().map(Log::open).transpose()?;
        Ok(Arc::new(Self {
            protection: Protection::new(&config),
            view: ArcSwap::from_pointee(view),
            auth,
            log,
            config,
        }))
    }
}

impl View {
    /// How the gateway itself answers a path, if it does.
    pub(crate) fn answer(
        &self,
        uri: &Uri,
    ) -> Option<impl FnOnce(Request<tonic::body::Body>) -> Answer + use<>> {
        let own = ["/grpc.health.", "/grpc.reflection."]
            .iter()
            .any(|prefix| uri.path().starts_with(prefix));
        let routes = own.then(|| self.local.clone())?;
        Some(|request| -> Answer {
            Box::pin(async move {
                routes
                    .oneshot(request)
                    .await
                    .map_err(|never| match never {})
            })
        })
    }
}
