//! The hub's ledger as the engine uses it: every call has a deadline, and errors are sorted by what they mean for a step.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use upm_proto::hub::v1::{self as hub, ledger_service_client::LedgerServiceClient};

use crate::observed::Observed;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(10);
/// How long reading a secret may take: it goes through the agent.
const SECRET: Duration = Duration::from_secs(20);

/// A client of the hub's ledger. Cheap to clone.
#[derive(Clone)]
#[allow(missing_debug_implementations)]
pub struct Ledger {
    client: LedgerServiceClient<mesh::Channel>,
}

/// Why a call to another module failed, as far as a step has to know.
#[derive(Debug)]
pub enum Trouble {
    /// It can be tried again as it is.
    Transient(Status),
    /// Somebody newer writes for this service.
    Fenced,
    /// It will fail again.
    Permanent(Status),
}

impl Trouble {
    /// Sorts a status.
    pub fn of(status: Status) -> Self {
        let reason = mesh::status::reason(&status).unwrap_or_default();
        if reason == "STALE_WRITER" {
            return Self::Fenced;
        }
        // The tombstone of the object's earlier life is still on its way, or the ledger is full for now.
        if matches!(reason.as_str(), "DELETE_PENDING" | "LEDGER_FULL") {
            return Self::Transient(status);
        }
        match status.code() {
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Cancelled
            | Code::Internal
            | Code::Unknown
            | Code::Unauthenticated => Self::Transient(status),
            Code::ResourceExhausted if reason != "QUOTA_EXCEEDED" => Self::Transient(status),
            _ => Self::Permanent(status),
        }
    }
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        Self::of(status)
    }
}

impl Ledger {
    /// A client over the peers of a module.
    pub fn new(peers: &mesh::Peers) -> Self {
        Self {
            client: LedgerServiceClient::new(peers.channel("hub")),
        }
    }

    /// Writes intents.
    pub async fn apply(
        &self,
        ctx: &mesh::Context,
        agent: &str,
        writer: hub::Writer,
        intents: Vec<hub::Intent>,
    ) -> Result<(), Trouble> {
        let request = hub::ApplyObjectsRequest {
            agent_id: agent.to_owned(),
            writer: Some(writer),
            intents,
        };
        bounded(
            CALL,
            self.client.clone().apply_objects(ctx.forward(request)),
        )
        .await?;
        Ok(())
    }

    /// Writes tombstones.
    pub async fn delete(
        &self,
        ctx: &mesh::Context,
        agent: &str,
        writer: hub::Writer,
        keys: Vec<hub::Key>,
    ) -> Result<(), Trouble> {
        let request = hub::DeleteObjectsRequest {
            agent_id: agent.to_owned(),
            writer: Some(writer),
            keys,
            propagation: hub::Propagation::Foreground.into(),
            orphan: false,
        };
        bounded(
            CALL,
            self.client.clone().delete_objects(ctx.forward(request)),
        )
        .await?;
        Ok(())
    }

    /// One object; `None` when the ledger does not have it.
    pub async fn get(
        &self,
        ctx: &mesh::Context,
        agent: &str,
        key: &hub::Key,
    ) -> Result<Option<hub::Object>, Trouble> {
        let request = hub::GetObjectRequest {
            agent_id: agent.to_owned(),
            key: Some(key.clone()),
        };
        match bounded(CALL, self.client.clone().get_object(ctx.forward(request))).await {
            Ok(object) => Ok(Some(object)),
            Err(status) if mesh::status::reason(&status).as_deref() == Some("OBJECT_NOT_FOUND") => {
                Ok(None)
            }
            Err(status) => Err(status.into()),
        }
    }

    /// Every object of an owner.
    pub async fn observe(
        &self,
        ctx: &mesh::Context,
        agent: &str,
        owner: &str,
    ) -> Result<Observed, Status> {
        let mut objects = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = hub::ListObjectsRequest {
                agent_id: agent.to_owned(),
                owner: owner.to_owned(),
                page_size: 1000,
                page_token,
                ..Default::default()
            };
            let page =
                bounded(CALL, self.client.clone().list_objects(ctx.forward(request))).await?;
            objects.extend(page.objects);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(Observed { objects });
            }
        }
    }

    /// Changes of an owner's objects; of all owners when it is empty.
    pub async fn watch(
        &self,
        ctx: &mesh::Context,
        agent: &str,
        owner: &str,
    ) -> Result<Streaming<hub::WatchObjectsResponse>, Status> {
        let request = hub::WatchObjectsRequest {
            agent_id: agent.to_owned(),
            owner: owner.to_owned(),
            resume_token: String::new(),
        };
        bounded(
            CALL,
            self.client.clone().watch_objects(ctx.forward(request)),
        )
        .await
    }

    /// Keys of a Secret, through the agent.
    pub async fn secret(
        &self,
        ctx: &mesh::Context,
        agent: &str,
        namespace: &str,
        name: &str,
        key: &str,
    ) -> Result<prost::bytes::Bytes, Status> {
        let request = hub::ReadSecretRequest {
            agent_id: agent.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            keys: vec![key.to_owned()],
        };
        let mut answer = bounded(
            SECRET,
            self.client.clone().read_secret(ctx.forward(request)),
        )
        .await?;
        answer
            .data
            .remove(key)
            .ok_or_else(|| Status::not_found(format!("the secret has no key {key}")))
    }
}

/// Bounds a call and unwraps its answer.
pub(crate) async fn bounded<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match timeout(limit, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "no answer within {} s",
            limit.as_secs()
        ))),
    }
}
