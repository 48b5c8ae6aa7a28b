//! A hub that says what a test tells it, and remembers what it was asked.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _, wrappers::WatchStream};
use tonic::{Request, Response, Status, Streaming};
use upm_mesh::audit::LogSink;
use upm_mesh::{Channel, Server, SpiffeId, Verifier};
use upm_proto::hub::v1::{
    self as pb,
    agent_admin_service_server::{AgentAdminService, AgentAdminServiceServer},
    ledger_service_server::{LedgerService, LedgerServiceServer},
};

/// Objects of a cluster: kind, name, JSON.
pub(super) type Inventory = Vec<(&'static str, &'static str, &'static str)>;

#[derive(Clone)]
pub(super) struct Hub {
    pub(super) agents: Arc<Mutex<Vec<pb::Agent>>>,
    /// What was asked: method and agent.
    pub(super) asked: Arc<Mutex<Vec<(&'static str, String)>>>,
    /// What is in the ledger of every agent: owners and kinds. Its agent settles a tombstone at the next look.
    pub(super) objects: Arc<Mutex<Vec<pb::Object>>>,
    /// What every cluster has; a change breaks the watches, as a reconnect would.
    pub(super) inventory: Arc<watch::Sender<Inventory>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            agents: Arc::default(),
            asked: Arc::default(),
            objects: Arc::default(),
            inventory: Arc::new(watch::Sender::new(Inventory::new())),
        }
    }
}

impl Hub {
    pub(super) fn channel(self) -> Channel {
        Server::builder("hub", Verifier::new(), Arc::new(LogSink))
            .routes(
                tonic::service::Routes::new(AgentAdminServiceServer::new(self.clone()))
                    .add_service(LedgerServiceServer::new(self)),
            )
            .build()
            .in_memory(SpiffeId::module("resource").expect("a module"))
    }

    pub(super) fn hold(&self, owner: &str, kind: &str) {
        self.objects.lock().unwrap().push(pb::Object {
            key: Some(pb::Key {
                kind: kind.to_owned(),
                ..pb::Key::default()
            }),
            owner: owner.to_owned(),
            agent_connected: true,
            ..pb::Object::default()
        });
    }

    fn note(&self, method: &'static str, agent: &str) {
        self.asked.lock().unwrap().push((method, agent.to_owned()));
    }

    pub(super) fn set_agent(&self, id: &str, state: pb::AgentState) {
        let mut agents = self.agents.lock().unwrap();
        let name = format!("agents/{id}");
        agents.retain(|agent| agent.name != name);
        agents.push(pb::Agent {
            name,
            state: state.into(),
            k8s_version: "v1.34.4".to_owned(),
            ..pb::Agent::default()
        });
    }
}

fn unused<T>() -> Result<T, Status> {
    Err(Status::unimplemented("not needed here"))
}

fn events(inventory: &Inventory) -> Vec<Result<pb::InventoryEvent, Status>> {
    let object = |&(kind, name, json): &(&str, &str, &str)| pb::InventoryEvent {
        key: Some(pb::Key {
            kind: kind.to_owned(),
            name: name.to_owned(),
            ..pb::Key::default()
        }),
        object: json.as_bytes().to_vec().into(),
        ..pb::InventoryEvent::default()
    };
    let bookmark = pb::InventoryEvent {
        bookmark: true,
        ..pb::InventoryEvent::default()
    };
    inventory
        .iter()
        .map(object)
        .chain([bookmark])
        .map(Ok)
        .collect()
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AgentAdminService for Hub {
    async fn list_agents(
        &self,
        _: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<pb::ListAgentsResponse>, Status> {
        Ok(Response::new(pb::ListAgentsResponse {
            agents: self.agents.lock().unwrap().clone(),
            ..pb::ListAgentsResponse::default()
        }))
    }

    async fn create_join_token(
        &self,
        request: Request<pb::CreateJoinTokenRequest>,
    ) -> Result<Response<pb::CreateJoinTokenResponse>, Status> {
        let request = request.into_inner();
        self.note("CreateJoinToken", &request.agent_id);
        self.set_agent(&request.agent_id, pb::AgentState::Invited);
        Ok(Response::new(pb::CreateJoinTokenResponse {
            token: "a-join-token".to_owned(),
            ca_pin: "0123abcd".to_owned(),
            endpoints: vec!["hub.example.org:7443".to_owned()],
            ..pb::CreateJoinTokenResponse::default()
        }))
    }

    async fn approve_agent(
        &self,
        request: Request<pb::ApproveAgentRequest>,
    ) -> Result<Response<()>, Status> {
        let id = request.into_inner().agent_id;
        self.note("ApproveAgent", &id);
        self.set_agent(&id, pb::AgentState::Connected);
        Ok(Response::new(()))
    }

    async fn delete_agent(
        &self,
        request: Request<pb::DeleteAgentRequest>,
    ) -> Result<Response<()>, Status> {
        let objects = self.objects.lock().unwrap().clone();
        if objects.iter().any(|object| !object.tombstone) {
            return Err(Status::failed_precondition("the ledger is not empty"));
        }
        self.note("DeleteAgent", &request.into_inner().agent_id);
        Ok(Response::new(()))
    }

    type WatchInventoryStream = BoxStream<pb::InventoryEvent>;

    async fn watch_inventory(
        &self,
        _: Request<pb::WatchInventoryRequest>,
    ) -> Result<Response<Self::WatchInventoryStream>, Status> {
        let mut told = WatchStream::new(self.inventory.subscribe());
        let first = told.next().await.unwrap_or_default();
        // all there is, silence, and an end at the first change
        let broken = told.take(1).map(|_| Err(Status::unavailable("broken")));
        let stream = tokio_stream::iter(events(&first)).chain(broken);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_agent(
        &self,
        _: Request<pb::GetAgentRequest>,
    ) -> Result<Response<pb::Agent>, Status> {
        unused()
    }

    async fn disconnect_agent(
        &self,
        _: Request<pb::DisconnectAgentRequest>,
    ) -> Result<Response<()>, Status> {
        unused()
    }

    async fn revoke_agent(
        &self,
        _: Request<pb::RevokeAgentRequest>,
    ) -> Result<Response<()>, Status> {
        unused()
    }

    async fn list_agent_keys(
        &self,
        _: Request<pb::ListAgentKeysRequest>,
    ) -> Result<Response<pb::ListAgentKeysResponse>, Status> {
        unused()
    }

    async fn confirm_prune_keys(
        &self,
        _: Request<pb::ConfirmPruneKeysRequest>,
    ) -> Result<Response<()>, Status> {
        unused()
    }

    type TailAgentLogStream = BoxStream<pb::TailAgentLogResponse>;

    async fn tail_agent_log(
        &self,
        _: Request<pb::TailAgentLogRequest>,
    ) -> Result<Response<Self::TailAgentLogStream>, Status> {
        unused()
    }

    type ExecInUnitStream = BoxStream<pb::ExecInUnitResponse>;

    async fn exec_in_unit(
        &self,
        _: Request<Streaming<pb::ExecInUnitRequest>>,
    ) -> Result<Response<Self::ExecInUnitStream>, Status> {
        unused()
    }

    type ReadUnitFileStream = BoxStream<pb::ReadUnitFileResponse>;

    async fn read_unit_file(
        &self,
        _: Request<pb::ReadUnitFileRequest>,
    ) -> Result<Response<Self::ReadUnitFileStream>, Status> {
        unused()
    }

    type WriteUnitFileStream = BoxStream<pb::WriteUnitFileResponse>;

    async fn write_unit_file(
        &self,
        _: Request<Streaming<pb::WriteUnitFileRequest>>,
    ) -> Result<Response<Self::WriteUnitFileStream>, Status> {
        unused()
    }
}

#[tonic::async_trait]
impl LedgerService for Hub {
    async fn list_objects(
        &self,
        _: Request<pb::ListObjectsRequest>,
    ) -> Result<Response<pb::ListObjectsResponse>, Status> {
        let mut held = self.objects.lock().unwrap();
        let objects = held.clone();
        held.retain(|object| !object.tombstone);
        Ok(Response::new(pb::ListObjectsResponse {
            objects,
            ..pb::ListObjectsResponse::default()
        }))
    }

    async fn delete_objects(
        &self,
        request: Request<pb::DeleteObjectsRequest>,
    ) -> Result<Response<pb::DeleteObjectsResponse>, Status> {
        let request = request.into_inner();
        let owner = request.writer.unwrap_or_default().owner;
        self.note(if request.orphan { "Orphan" } else { "Delete" }, &owner);
        for object in self.objects.lock().unwrap().iter_mut() {
            object.tombstone |= object.owner == owner
                && request
                    .keys
                    .iter()
                    .any(|key| Some(key) == object.key.as_ref());
        }
        Ok(Response::new(pb::DeleteObjectsResponse::default()))
    }

    async fn apply_objects(
        &self,
        _: Request<pb::ApplyObjectsRequest>,
    ) -> Result<Response<pb::ApplyObjectsResponse>, Status> {
        unused()
    }

    async fn get_object(
        &self,
        _: Request<pb::GetObjectRequest>,
    ) -> Result<Response<pb::Object>, Status> {
        unused()
    }

    type WatchObjectsStream = BoxStream<pb::WatchObjectsResponse>;

    async fn watch_objects(
        &self,
        _: Request<pb::WatchObjectsRequest>,
    ) -> Result<Response<Self::WatchObjectsStream>, Status> {
        unused()
    }

    async fn read_secret(
        &self,
        _: Request<pb::ReadSecretRequest>,
    ) -> Result<Response<pb::ReadSecretResponse>, Status> {
        unused()
    }
}
