//! The way to the hub: enrolment, dialling, renewal of the certificate. Never gives up, never ends the process, always says why.

pub mod accounts;
pub mod credential;
mod enrol;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use upm_mesh::{self as mesh, Channel, SpiffeId};
use upm_proto::hub::v1::{self as pb, agent_service_client::AgentServiceClient};

use accounts::Accounts;
use credential::{Credential, Kept, Pending, Vault};

/// Time to get a connection with a stream on it.
const DIAL: Duration = Duration::from_secs(20);
/// Frames between the session and the socket.
const OUTBOUND: usize = 16;
/// Largest message: a frame with everything around it.
const MESSAGE: usize = 256 * 1024;
/// A request for a certificate that was not answered is made again after this.
const RENEWAL_RETRY: Duration = Duration::from_mins(10);

/// Where the hub is and how the agent joins.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// `host:port`, tried in turn.
    pub endpoints: Vec<String>,
    /// SHA-256 of the hub CA's public key, hex; for enrolment.
    pub ca_pin: String,
    /// The file with the join token; it need not exist once the agent has enrolled.
    pub join_token_file: Option<PathBuf>,
    /// UID of `kube-system`.
    pub cluster_uid: String,
    /// The agent's version.
    pub build: String,
    /// The agent's service account; without it only a join token lets the agent in again after a long absence.
    pub accounts: Option<Accounts>,
}

/// A stream to the hub.
#[derive(Debug)]
pub struct Connection {
    /// Where it goes.
    pub endpoint: String,
    /// To the hub.
    pub outbound: mpsc::Sender<pb::AgentFrame>,
    /// From the hub.
    pub inbound: Streaming<pb::HubFrame>,
    /// For tunnels, on the same connection.
    pub client: AgentServiceClient<Channel>,
}

/// Why there is no connection, and how long to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// UPPER_SNAKE.
    pub reason: String,
    /// In words.
    pub message: String,
    /// How long.
    pub pause: Pause,
    /// What the hub asked for at least.
    pub retry_after: Option<Duration>,
}

/// How long to wait before the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// A connection broke: come back at once, spread as the hub has said.
    First,
    /// As the backoff says.
    Backoff,
    /// Not before, and spread over so much more.
    At(Duration, Duration),
    /// Another process has this identity: the two must not take turns quickly.
    Rival,
    /// Somebody must approve: about every ten seconds.
    Approval,
    /// Nothing changes by itself: about every five minutes.
    Long,
}

/// What a status of the hub means. Pure.
pub fn refused(status: &tonic::Status) -> Refused {
    let reason = mesh::status::reason(status)
        .unwrap_or_else(|| format!("{:?}", status.code()).to_uppercase());
    let pause = match (reason.as_str(), status.code()) {
        ("CLUSTER_NOT_APPROVED", _) => Pause::Approval,
        (
            "JOIN_TOKEN_INVALID"
            | "VERSION_INCOMPATIBLE"
            | "AGENT_REVOKED"
            | "AGENT_NOT_FOUND"
            | "CERTIFICATE_REVOKED"
            | "CLUSTER_UID_MISMATCH",
            _,
        )
        | (_, Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented) => Pause::Long,
        ("FENCED", _) => Pause::Rival,
        _ => Pause::Backoff,
    };
    Refused {
        message: status.message().to_owned(),
        reason,
        pause,
        retry_after: mesh::status::details(status).retry_after,
    }
}

impl Refused {
    /// Without a word of the hub.
    pub fn new(reason: &str, message: impl Into<String>, pause: Pause) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
            pause,
            retry_after: None,
        }
    }
}

/// The way to the hub.
pub struct Hub {
    place: Place,
    vault: Arc<dyn Vault>,
    kept: Option<Kept>,
    /// Whether the last dial used the candidate.
    on_candidate: bool,
    turn: usize,
    /// The credential of the last dial with its TLS configuration, whose tickets make the next dial cheap for both sides.
    dialled: Option<(Credential, Arc<rustls::ClientConfig>)>,
    renewal: Option<Renewal>,
    /// Dials in a row that the candidate did not survive, while there is another one.
    failures: u32,
    /// The leaf that the hub does not accept any more.
    refused: Option<Vec<u8>>,
    /// Whether the hub is known by the pin in the next enrolment, instead of by the kept roots.
    by_pin: bool,
    /// Between 50 and 70 % of the certificate's life.
    renew_at: f64,
}

/// A certificate that was asked for in a session.
struct Renewal {
    pending: Pending,
    asked: std::time::Instant,
    /// What was shown of the cluster's service accounts.
    shown: Option<Vec<u8>>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("place", &self.place)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// A way that was not walked yet.
    pub fn new(place: Place, vault: Arc<dyn Vault>) -> Self {
        Self {
            place,
            vault,
            kept: None,
            on_candidate: false,
            turn: 0,
            dialled: None,
            renewal: None,
            failures: 0,
            refused: None,
            by_pin: false,
            renew_at: rand::random_range(0.5..0.7),
        }
    }

    /// The agent's id, once it is known.
    pub fn agent_id(&self) -> Option<String> {
        let kept = self.kept.as_ref()?;
        kept.proven.as_ref().or(kept.candidate.as_ref())?.agent_id()
    }

    /// Opens a session's stream, enrolling first where that is needed.
    ///
    /// # Errors
    /// Why not, and how long to wait.
    pub async fn dial(&mut self) -> Result<Connection, Refused> {
        self.kept().await?;
        let mut rejected = None;
        // The candidate, the proven one, a new one.
        for _ in 0..3 {
            let Some((credential, between)) = self.choose() else {
                return self.dial_anew(rejected).await;
            };
            let refused = match self.open(&credential).await {
                Ok(connection) => return Ok(connection),
                Err(refused) => refused,
            };
            self.failures = if between { self.failures + 1 } else { 0 };
            if !self.distrust(&refused) {
                return Err(refused);
            }
            rejected = Some(refused);
        }
        Err(rejected.unwrap_or_else(|| Refused::new("NO_IDENTITY", "", Pause::Backoff)))
    }

    /// The credential to dial with, and whether there is another one.
    fn choose(&mut self) -> Option<(Credential, bool)> {
        let kept = self.kept.as_ref()?;
        let now = SystemTime::now();
        let usable = |c: &Option<Credential>| {
            let refused = self.refused.as_ref();
            c.clone().filter(|c| {
                let refused = refused.is_some() && c.chain.first() == refused;
                !refused && !c.has_ended(now) && c.leads_to_roots()
            })
        };
        let (mut candidate, proven) = (usable(&kept.candidate), usable(&kept.proven));
        let between = candidate.is_some() && proven.is_some();
        if between && self.failures % 2 == 1 {
            // The candidate may be why there was no connection: the proven one is tried in between.
            candidate = None;
        }
        self.on_candidate = candidate.is_some();
        Some((candidate.or(proven)?, between))
    }

    /// Gets a certificate and dials with it.
    async fn dial_anew(&mut self, rejected: Option<Refused>) -> Result<Connection, Refused> {
        match self.enrol().await {
            Ok(credential) => {
                self.on_candidate = true;
                self.open(&credential).await
            }
            Err(refused) => {
                // What the hub did not accept once it may accept again: its store may have been restored.
                self.refused = None;
                match rejected {
                    Some(rejected) if refused.reason.starts_with("JOIN_TOKEN_") => Err(rejected),
                    _ => Err(refused),
                }
            }
        }
    }

    /// The hub did not welcome this credential: go back to the proven one, or ask to be let in again where that is possible. Answers whether
    /// there is another way to try at once.
    pub fn distrust(&mut self, refused: &Refused) -> bool {
        let rejected = matches!(
            refused.reason.as_str(),
            "AGENT_REVOKED"
                | "AGENT_NOT_FOUND"
                | "AGENT_CERTIFICATE_NEEDED"
                | "CERTIFICATE_REVOKED"
                | "UNAUTHENTICATED"
        );
        let Some(kept) = self.kept.as_mut().filter(|_| rejected) else {
            return false;
        };
        if self.on_candidate && kept.candidate.is_some() && kept.proven.is_some() {
            tracing::warn!(
                reason = refused.reason,
                "The new certificate was not accepted; the old one is used again"
            );
            kept.candidate = None;
            return true;
        }
        // A join token may be the old one; then the hub says so and nothing is lost: this credential is refused anyway.
        let token = self.place.join_token_file.as_ref();
        let another = self.place.accounts.is_some() || token.is_some_and(|f| f.exists());
        if another {
            let dialled = self.dialled.as_ref();
            self.refused = dialled.and_then(|(last, _)| last.chain.first().cloned());
        }
        another
    }

    /// The hub welcomed the session: what was a candidate has proven itself.
    pub async fn proven(&mut self) {
        self.refused = None;
        if !std::mem::take(&mut self.on_candidate) {
            return;
        }
        self.failures = 0;
        let Some(kept) = self.kept.as_mut() else {
            return;
        };
        if let Some(candidate) = kept.candidate.take() {
            kept.proven = Some(candidate);
            kept.pending = None;
            let kept = kept.clone();
            self.keep(&kept).await;
        }
    }

    /// A request for a new certificate, when it is time for one, or when the cluster's service accounts have another issuer or other keys
    /// than the hub was shown: what is shown in a session is pinned, and nowhere else.
    pub fn renewal(&mut self) -> Option<pb::CertRequest> {
        let kept = self.kept.as_ref()?;
        let (begin, end) = kept.proven.as_ref()?.life()?;
        if kept.candidate.is_some() {
            return None;
        }
        let evidence = self.place.accounts.as_ref().and_then(Accounts::evidence);
        let shown = evidence.as_ref().map(accounts::Evidence::digest);
        let life = end.duration_since(begin).ok()?;
        let due = SystemTime::now() >= begin + life.mul_f64(self.renew_at);
        if !due && (shown.is_none() || shown == kept.pinned) {
            return None;
        }
        if let Some(renewal) = &self.renewal
            && renewal.asked.elapsed() < RENEWAL_RETRY
        {
            return None;
        }
        match credential::fresh() {
            Ok(pending) => {
                let mut evidence = evidence.unwrap_or_default();
                if kept.pinned.is_some()
                    && shown != kept.pinned
                    && let Some(former) = evidence.former.take()
                {
                    // Other keys are pinned only if one that is pinned vouches for them.
                    evidence.token = former;
                }
                let request = pb::CertRequest {
                    csr: pending.csr.clone().into(),
                    service_account_issuer: evidence.issuer,
                    service_account_jwks: evidence.jwks,
                    service_account_token: evidence.token,
                };
                self.renewal = Some(Renewal {
                    pending,
                    asked: std::time::Instant::now(),
                    shown,
                });
                Some(request)
            }
            Err(error) => {
                tracing::error!(%error, "No key for a new certificate can be made");
                None
            }
        }
    }

    /// The hub issued what [`Hub::renewal`] asked for: the next dial uses it. Without a certificate it only says what to trust.
    pub async fn issued(&mut self, issued: pb::CertIssued) {
        let roots = issued
            .ca_certificates
            .iter()
            .map(|c| c.to_vec())
            .collect::<Vec<_>>();
        if issued.certificate_chain.is_empty() {
            self.trust(&roots).await;
            return;
        }
        let Some(renewal) = self.renewal.take() else {
            return;
        };
        let Some(kept) = self.kept.as_mut() else {
            return;
        };
        let candidate = Credential {
            key: renewal.pending.key,
            chain: issued
                .certificate_chain
                .iter()
                .map(|c| c.to_vec())
                .collect(),
            roots,
            endpoints: kept
                .proven
                .as_ref()
                .map(|p| p.endpoints.clone())
                .unwrap_or_default(),
        };
        if let Err(error) = candidate.identity() {
            tracing::error!(%error, "The new certificate cannot be used");
            return;
        }
        kept.candidate = Some(candidate);
        if renewal.shown.is_some() {
            kept.pinned = renewal.shown;
        }
        self.renew_at = rand::random_range(0.5..0.7);
        let kept = kept.clone();
        self.keep(&kept).await;
        tracing::info!("A new certificate waits for the next connection");
    }

    /// The hub says which CA certificates to trust from now on.
    async fn trust(&mut self, roots: &[Vec<u8>]) {
        let Some(kept) = self.kept.as_mut() else {
            return;
        };
        let mut changed = false;
        for credential in kept.proven.iter_mut().chain(kept.candidate.iter_mut()) {
            let with = Credential {
                roots: roots.to_vec(),
                ..credential.clone()
            };
            if with.roots == credential.roots {
                continue;
            }
            if let Err(error) = with.identity() {
                tracing::error!(%error, "The hub's CA certificates cannot be used");
                return;
            }
            *credential = with;
            changed = true;
        }
        if changed {
            let kept = kept.clone();
            self.keep(&kept).await;
            tracing::info!(
                roots = roots.len(),
                "The hub's CA certificates have changed"
            );
        }
    }

    async fn kept(&mut self) -> Result<Kept, Refused> {
        if self.kept.is_none() {
            let kept = self.vault.load().await.map_err(|error| {
                Refused::new("IDENTITY_UNREADABLE", error.to_string(), Pause::Backoff)
            })?;
            self.kept = Some(kept);
        }
        Ok(self.kept.clone().unwrap_or_default())
    }

    async fn keep(&self, kept: &Kept) {
        if let Err(error) = self.vault.save(kept).await {
            tracing::error!(%error, "The agent's identity cannot be kept; after a restart the agent may have to enrol again");
        }
    }

    fn endpoint(&mut self, credential: Option<&Credential>) -> Result<String, Refused> {
        let mut endpoints = self.place.endpoints.clone();
        for more in credential.into_iter().flat_map(|c| &c.endpoints) {
            if !endpoints.contains(more) {
                endpoints.push(more.clone());
            }
        }
        if endpoints.is_empty() {
            return Err(Refused::new(
                "NO_ENDPOINT",
                "no address of the hub is known",
                Pause::Long,
            ));
        }
        self.turn += 1;
        Ok(endpoints.swap_remove((self.turn - 1) % endpoints.len()))
    }

    async fn open(&mut self, credential: &Credential) -> Result<Connection, Refused> {
        let endpoint = self.endpoint(Some(credential))?;
        let config = self.tls(credential)?;
        let channel = mesh::client::connect_with(vec![uri(&endpoint)?], config);
        let mut client = AgentServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE)
            .max_encoding_message_size(MESSAGE);
        let (outbound, frames) = mpsc::channel(OUTBOUND);
        let opened = answered(&endpoint, client.session(ReceiverStream::new(frames))).await?;
        Ok(Connection {
            endpoint,
            outbound,
            inbound: opened,
            client,
        })
    }

    fn tls(&mut self, credential: &Credential) -> Result<Arc<rustls::ClientConfig>, Refused> {
        if let Some((last, config)) = &self.dialled
            && last == credential
        {
            return Ok(config.clone());
        }
        let identity = credential
            .identity()
            .map_err(|e| Refused::new("IDENTITY_UNUSABLE", e.to_string(), Pause::Long))?;
        let config = identity.resuming_client_config_for(hub_id()?);
        self.dialled = Some((credential.clone(), config.clone()));
        Ok(config)
    }
}

/// What the hub answers, if it does in time.
async fn answered<T>(
    endpoint: &str,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Refused> {
    match tokio::time::timeout(DIAL, call).await {
        Ok(answer) => answer
            .map(tonic::Response::into_inner)
            .map_err(|status| refused(&status)),
        Err(_) => Err(Refused::new(
            "DIAL_TIMEOUT",
            format!("{endpoint} does not answer"),
            Pause::Backoff,
        )),
    }
}

fn hub_id() -> Result<SpiffeId, Refused> {
    SpiffeId::module("hub")
        .map_err(|e| Refused::new("IDENTITY_UNUSABLE", e.to_string(), Pause::Long))
}

fn uri(endpoint: &str) -> Result<http::Uri, Refused> {
    format!("https://{endpoint}").parse().map_err(|_| {
        Refused::new(
            "NO_ENDPOINT",
            format!("{endpoint} is no host:port"),
            Pause::Long,
        )
    })
}
