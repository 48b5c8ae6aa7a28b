//! One leader among the replicas of a process, by a Lease.

mod record;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{Error, call};
use record::{Decision, Seen, decide, held, released};

/// How long a lease holds without being renewed.
pub const DURATION: Duration = Duration::from_secs(15);
/// How often the leader renews it.
const RENEW: Duration = Duration::from_secs(4);
/// Without a renewal for so long the leader gives up: before anybody else may take the lease.
const GIVE_UP: Duration = Duration::from_secs(11);
/// How often the others look.
const LOOK: Duration = Duration::from_secs(3);

/// A lease that one of several processes holds.
#[derive(Clone)]
pub struct Lease {
    /// Client of the cluster.
    pub client: Client,
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Unique name of this process.
    pub identity: String,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// Waits to become the leader and then runs `work`, again and again until `cancel`. The token that `work` gets is
/// cancelled when the lease is lost or the process stops; `work` must end then. The lease is released afterwards.
///
/// # Errors
/// Those that `work` returns while it leads.
pub async fn lead<F, W>(lease: Lease, cancel: CancellationToken, mut work: W) -> Result<(), Error>
where
    W: FnMut(CancellationToken) -> F,
    F: Future<Output = Result<(), Error>>,
{
    while let Some(since) = lease.acquire(&cancel).await {
        info!(lease = lease.name, identity = lease.identity, "Leads");
        let lost = cancel.child_token();
        let done = {
            let renewing = lease.renew_until_lost(since, &lost);
            let working = work(lost.clone());
            tokio::pin!(renewing, working);
            tokio::select! {
                done = &mut working => done,
                () = &mut renewing => {
                    lost.cancel();
                    working.await
                }
            }
        };
        lost.cancel();
        lease.release().await;
        done?;
        if cancel.is_cancelled() {
            break;
        }
        info!(
            lease = lease.name,
            identity = lease.identity,
            "No longer leads"
        );
    }
    Ok(())
}

impl Lease {
    fn api(&self) -> Api<LeaseObject> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until the lease is ours; `None` when cancelled first. Returns the moment before the successful write.
    async fn acquire(&self, cancel: &CancellationToken) -> Option<Instant> {
        let mut seen = Seen::default();
        loop {
            let started = Instant::now();
            match self.attempt(&mut seen).await {
                Ok(true) => return Some(started),
                Ok(false) => {}
                Err(error) => warn!(lease = self.name, %error, "Could not look at the lease"),
            }
            tokio::select! {
                () = cancel.cancelled() => return None,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Takes or renews the lease when that is allowed now.
    async fn attempt(&self, seen: &mut Seen) -> Result<bool, Error> {
        let api = self.api();
        let found = call::get_opt(&api, &self.name).await?;
        seen.look(found.as_ref(), Instant::now());
        match decide(found.as_ref(), seen, &self.identity, Instant::now()) {
            Decision::Wait => Ok(false),
            Decision::Create => {
                let wanted = held(
                    None,
                    &self.namespace,
                    &self.name,
                    &self.identity,
                    DURATION,
                    Timestamp::now(),
                );
                Ok(call::create(&api, &wanted).await?.is_some())
            }
            Decision::Write => {
                let wanted = held(
                    found.as_ref(),
                    &self.namespace,
                    &self.name,
                    &self.identity,
                    DURATION,
                    Timestamp::now(),
                );
                self.replace(&wanted).await
            }
        }
    }

    /// Writes as a compare-and-swap; `false` when another was faster.
    async fn replace(&self, wanted: &LeaseObject) -> Result<bool, Error> {
        let params = kube::api::PostParams::default();
        let api = self.api();
        match call::within("renew the lease", api.replace(&self.name, &params, wanted)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns when the lease is lost, or may be lost because it could not be renewed. Ends at once with `lost`.
    async fn renew_until_lost(&self, since: Instant, lost: &CancellationToken) {
        let mut renewed = since;
        loop {
            tokio::select! {
                () = lost.cancelled() => return,
                () = tokio::time::sleep(RENEW) => {}
            }
            let started = Instant::now();
            let last = renewed + GIVE_UP;
            let outcome = tokio::time::timeout_at(last, self.renew()).await;
            match outcome {
                Ok(Ok(true)) => {
                    renewed = started;
                    // The answer may have waited for a process that stood still: the lease may be another's by now.
                    if renewed.elapsed() >= GIVE_UP {
                        warn!(lease = self.name, "Stood still while renewing the lease");
                        return;
                    }
                }
                Ok(Ok(false)) => {
                    warn!(lease = self.name, "Another process took the lease");
                    return;
                }
                Ok(Err(error)) => {
                    warn!(lease = self.name, %error, "Could not renew the lease");
                    if Instant::now() >= last {
                        return;
                    }
                }
                Err(_) => {
                    warn!(lease = self.name, "Could not renew the lease in time");
                    return;
                }
            }
        }
    }

    /// `false` when the lease is no longer ours.
    async fn renew(&self) -> Result<bool, Error> {
        let found = call::get_opt(&self.api(), &self.name).await?;
        let Some(found) =
            found.filter(|found| record::holder(found) == Some(self.identity.as_str()))
        else {
            return Ok(false);
        };
        let wanted = held(
            Some(&found),
            &self.namespace,
            &self.name,
            &self.identity,
            DURATION,
            Timestamp::now(),
        );
        self.replace(&wanted).await
    }

    /// Lets another process lead at once.
    async fn release(&self) {
        let outcome = async {
            let found = call::get_opt(&self.api(), &self.name).await?;
            match found.filter(|found| record::holder(found) == Some(self.identity.as_str())) {
                Some(found) => self.replace(&released(&found)).await.map(drop),
                None => Ok(()),
            }
        };
        if let Err(error) = outcome.await {
            warn!(lease = self.name, %error, "Could not release the lease; it runs out by itself");
        }
    }
}
