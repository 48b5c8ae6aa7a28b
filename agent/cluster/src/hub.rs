//! The way to the hub: enrolment, dialling, renewal of the certificate. Never gives up, never ends the process, always says why.

pub mod credential;

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
    renewal: Option<(Pending, std::time::Instant)>,
    /// Between 50 and 70 % of the certificate's life.
    renew_at: f64,
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
        let kept = self.kept().await?;
        let now = SystemTime::now();
        let usable = |c: &Option<Credential>| c.clone().filter(|c| !c.has_ended(now));
        let candidate = usable(&kept.candidate);
        let credential = match candidate.clone().or_else(|| usable(&kept.proven)) {
            Some(credential) => credential,
            None => self.enrol().await?,
        };
        self.on_candidate = candidate.is_some() || kept.proven.is_none();
        match self.open(&credential).await {
            Ok(connection) => Ok(connection),
            Err(refused) => {
                self.distrust(&refused);
                Err(refused)
            }
        }
    }

    /// The hub did not welcome this credential: go back to the proven one, or enrol again where a token allows it.
    pub fn distrust(&mut self, refused: &Refused) {
        let rejected = matches!(
            refused.reason.as_str(),
            "AGENT_REVOKED" | "AGENT_NOT_FOUND" | "AGENT_CERTIFICATE_NEEDED" | "UNAUTHENTICATED"
        );
        let Some(kept) = self.kept.as_mut().filter(|_| rejected) else {
            return;
        };
        if kept.candidate.is_some() && kept.proven.is_some() {
            tracing::warn!(
                reason = refused.reason,
                "The new certificate was not accepted; the old one is used again"
            );
            kept.candidate = None;
        } else if self
            .place
            .join_token_file
            .as_ref()
            .is_some_and(|f| f.exists())
        {
            // The token may be the old one; then the hub says so and nothing is lost: this credential is refused anyway.
            kept.candidate = None;
            kept.proven = None;
        }
    }

    /// The hub welcomed the session: what was a candidate has proven itself.
    pub async fn proven(&mut self) {
        if !std::mem::take(&mut self.on_candidate) {
            return;
        }
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

    /// A request for a new certificate, when it is time for one.
    pub fn renewal(&mut self) -> Option<Vec<u8>> {
        let (begin, end) = self.kept.as_ref()?.proven.as_ref()?.life()?;
        if self.kept.as_ref()?.candidate.is_some() {
            return None;
        }
        let life = end.duration_since(begin).ok()?;
        if SystemTime::now() < begin + life.mul_f64(self.renew_at) {
            return None;
        }
        if let Some((_, asked)) = &self.renewal
            && asked.elapsed() < RENEWAL_RETRY
        {
            return None;
        }
        match credential::fresh() {
            Ok(pending) => {
                let csr = pending.csr.clone();
                self.renewal = Some((pending, std::time::Instant::now()));
                Some(csr)
            }
            Err(error) => {
                tracing::error!(%error, "No key for a new certificate can be made");
                None
            }
        }
    }

    /// The hub issued what [`Hub::renewal`] asked for: the next dial uses it.
    pub async fn issued(&mut self, issued: pb::CertIssued) {
        let Some((pending, _)) = self.renewal.take() else {
            return;
        };
        let Some(kept) = self.kept.as_mut() else {
            return;
        };
        let candidate = Credential {
            key: pending.key,
            chain: issued
                .certificate_chain
                .iter()
                .map(|c| c.to_vec())
                .collect(),
            roots: issued.ca_certificates.iter().map(|c| c.to_vec()).collect(),
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
        self.renew_at = rand::random_range(0.5..0.7);
        let kept = kept.clone();
        self.keep(&kept).await;
        tracing::info!("A new certificate waits for the next connection");
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
        let opened = tokio::time::timeout(DIAL, client.session(ReceiverStream::new(frames)))
            .await
            .map_err(|_| {
                Refused::new(
                    "DIAL_TIMEOUT",
                    format!("{endpoint} does not answer"),
                    Pause::Backoff,
                )
            })?
            .map_err(|status| refused(&status))?;
        Ok(Connection {
            endpoint,
            outbound,
            inbound: opened.into_inner(),
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

    /// Trades the join token for a certificate.
    async fn enrol(&mut self) -> Result<Credential, Refused> {
        let no_token = |why: String| Refused::new("JOIN_TOKEN_MISSING", why, Pause::Approval);
        let path = self
            .place
            .join_token_file
            .clone()
            .ok_or_else(|| no_token("the agent has no certificate and no join token".into()))?;
        let token = tokio::fs::read_to_string(&path)
            .await
            .map_err(|e| no_token(format!("the join token cannot be read: {e}")))?;
        if self.place.ca_pin.is_empty() {
            return Err(Refused::new(
                "CA_PIN_MISSING",
                "without the pin of the hub's CA the agent does not send its join token",
                Pause::Long,
            ));
        }
        let mut kept = self.kept().await?;
        let pending = match kept.pending.clone() {
            Some(pending) => pending,
            None => credential::fresh()
                .map_err(|e| Refused::new("NO_KEY", e.to_string(), Pause::Long))?,
        };
        kept.pending = Some(pending.clone());
        // Kept before it is sent: when the answer is lost, the same request is made again.
        self.vault.save(&kept).await.map_err(|error| {
            Refused::new("IDENTITY_NOT_KEPT", error.to_string(), Pause::Backoff)
        })?;
        self.kept = Some(kept.clone());
        let endpoint = self.endpoint(None)?;
        let config = mesh::identity::pinned_client_config(&self.place.ca_pin, hub_id()?);
        let channel = mesh::client::connect_with(vec![uri(&endpoint)?], config);
        let request = pb::EnrollRequest {
            join_token: token.trim().to_owned(),
            csr: pending.csr.clone().into(),
            cluster_uid: self.place.cluster_uid.clone(),
            build: self.place.build.clone(),
            ..pb::EnrollRequest::default()
        };
        let answer = tokio::time::timeout(DIAL, AgentServiceClient::new(channel).enroll(request))
            .await
            .map_err(|_| {
                Refused::new(
                    "DIAL_TIMEOUT",
                    format!("{endpoint} does not answer"),
                    Pause::Backoff,
                )
            })?;
        let answer = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                let refused = refused(&status);
                if refused.reason == "JOIN_TOKEN_INVALID" {
                    // The next token needs a request of its own.
                    kept.pending = None;
                    self.kept = Some(kept);
                }
                return Err(refused);
            }
        };
        let credential = Credential {
            key: pending.key,
            chain: answer
                .certificate_chain
                .iter()
                .map(|c| c.to_vec())
                .collect(),
            roots: answer.ca_certificates.iter().map(|c| c.to_vec()).collect(),
            endpoints: answer.endpoints,
        };
        credential
            .identity()
            .map_err(|e| Refused::new("IDENTITY_UNUSABLE", e.to_string(), Pause::Long))?;
        kept.candidate = Some(credential.clone());
        kept.proven = None;
        self.keep(&kept).await;
        self.kept = Some(kept);
        tracing::info!(agent = answer.agent_id, "Enrolled");
        Ok(credential)
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
