//! How the agent gets a certificate without a session: with the join token the first time, with a token of its service account when it was
//! here before.

use std::{sync::Arc, time::Duration};

use upm_mesh as mesh;
use upm_proto::hub::v1::{self as pb, agent_service_client::AgentServiceClient};

use super::{
    Hub, Pause, Refused,
    accounts::{Accounts, Evidence},
    answered,
    credential::{self, Credential, Kept},
    hub_id, uri,
};

/// How long the first enrolment waits for the API server to say who issues its tokens.
const EVIDENCE: Duration = Duration::from_secs(5);

/// Whether another way in may succeed where this one did not.
fn is_final(refused: &Refused) -> bool {
    matches!(refused.pause, Pause::Long | Pause::Approval)
}

impl Hub {
    /// Asks for a certificate, as the agent that was here before or as a new one.
    pub(super) async fn enrol(&mut self) -> Result<Credential, Refused> {
        let refused = match self.reclaim().await {
            Some(Ok(credential)) => return Ok(credential),
            Some(Err(refused)) if !is_final(&refused) => return Err(refused),
            Some(Err(refused)) => Some(refused),
            None => None,
        };
        match (self.join().await, refused) {
            // There is no good join token: why the account does not let in says more.
            (Err(joined), Some(refused))
                if joined.reason.starts_with("JOIN_TOKEN_")
                    || joined.reason == "CA_PIN_MISSING" =>
            {
                Err(refused)
            }
            (joined, _) => joined,
        }
    }

    /// Trades a token of the agent's service account for a certificate; `None` when there is none, or the agent was never here.
    async fn reclaim(&mut self) -> Option<Result<Credential, Refused>> {
        let accounts = self.place.accounts.clone()?;
        let mut kept = self.kept.clone()?;
        let former = kept.proven.clone().or_else(|| kept.candidate.clone())?;
        let agent_id = former.agent_id()?;
        let token = accounts.token().ok()?;
        Some(
            async {
                let pending = credential::fresh()
                    .map_err(|e| Refused::new("NO_KEY", e.to_string(), Pause::Long))?;
                let config = self.verifying(&former)?;
                let request = pb::EnrollRequest {
                    agent_id: agent_id.clone(),
                    service_account_token: token,
                    csr: pending.csr.clone().into(),
                    cluster_uid: self.place.cluster_uid.clone(),
                    build: self.place.build.clone(),
                    ..pb::EnrollRequest::default()
                };
                let answer = match self.ask(Some(&former), config, request).await {
                    Ok(answer) => answer,
                    Err(refused) => {
                        let is_new = kept.joined.as_ref() != Some(&self.place.ca_pin);
                        if !is_final(&refused) && is_new {
                            // The kept roots may be too old for a new join command, or its pin. The pin by which the agent has joined is
                            // older than the roots: its key may have been replaced because it fell into wrong hands.
                            self.by_pin = !self.by_pin;
                        }
                        return Err(refused);
                    }
                };
                if answer.agent_id != agent_id {
                    let why = "the hub gave another identity than the one asked for";
                    return Err(Refused::new("IDENTITY_UNUSABLE", why, Pause::Long));
                }
                tracing::info!(agent = agent_id, "Let in again by the service account");
                self.adopt(&mut kept, pending.key, answer).await
            }
            .await,
        )
    }

    /// Trades the join token for a certificate.
    async fn join(&mut self) -> Result<Credential, Refused> {
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
        let evidence = match self.place.accounts.as_mut() {
            Some(accounts) => shown(accounts).await,
            None => None,
        };
        let pinned = evidence.as_ref().map(Evidence::digest);
        let evidence = evidence.unwrap_or_default();
        let config = mesh::identity::pinned_client_config(&self.place.ca_pin, hub_id()?);
        let request = pb::EnrollRequest {
            join_token: token.trim().to_owned(),
            csr: pending.csr.clone().into(),
            cluster_uid: self.place.cluster_uid.clone(),
            build: self.place.build.clone(),
            service_account_issuer: evidence.issuer,
            service_account_jwks: evidence.jwks,
            service_account_token: evidence.token,
            ..pb::EnrollRequest::default()
        };
        match self.ask(None, config, request).await {
            Ok(answer) => {
                tracing::info!(agent = answer.agent_id, "Enrolled");
                kept.pinned = pinned;
                kept.joined = Some(self.place.ca_pin.clone());
                self.adopt(&mut kept, pending.key, answer).await
            }
            Err(refused) => {
                if refused.reason == "JOIN_TOKEN_INVALID" {
                    // The next token needs a request of its own.
                    kept.pending = None;
                    self.kept = Some(kept);
                }
                Err(refused)
            }
        }
    }

    /// Knows the hub by what was kept, or by the pin of the join command.
    fn verifying(&self, former: &Credential) -> Result<Arc<rustls::ClientConfig>, Refused> {
        if self.by_pin && !self.place.ca_pin.is_empty() {
            return Ok(mesh::identity::pinned_client_config(
                &self.place.ca_pin,
                hub_id()?,
            ));
        }
        former
            .trusting()
            .and_then(|roots| {
                Ok(mesh::identity::trusting_client_config(
                    &roots,
                    hub_id().map_err(|refused| anyhow::anyhow!(refused.message))?,
                )?)
            })
            .map_err(|e| Refused::new("IDENTITY_UNUSABLE", e.to_string(), Pause::Long))
    }

    async fn ask(
        &mut self,
        former: Option<&Credential>,
        config: Arc<rustls::ClientConfig>,
        request: pb::EnrollRequest,
    ) -> Result<pb::EnrollResponse, Refused> {
        let endpoint = self.endpoint(former)?;
        let channel = mesh::client::connect_with(vec![uri(&endpoint)?], config);
        answered(&endpoint, AgentServiceClient::new(channel).enroll(request)).await
    }

    /// Keeps what the hub gave; it has yet to prove itself.
    async fn adopt(
        &mut self,
        kept: &mut Kept,
        key: Vec<u8>,
        answer: pb::EnrollResponse,
    ) -> Result<Credential, Refused> {
        let credential = Credential {
            key,
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
        self.keep(kept).await;
        self.kept = Some(kept.clone());
        self.refused = None;
        Ok(credential)
    }
}

/// What can be shown, after a moment for the API server to say it.
async fn shown(accounts: &mut Accounts) -> Option<Evidence> {
    let known = accounts.issuer.wait_for(Option::is_some);
    // Without it the agent enrols as well; the hub is shown it in the session.
    let _ = tokio::time::timeout(EVIDENCE, known).await;
    accounts.evidence()
}
