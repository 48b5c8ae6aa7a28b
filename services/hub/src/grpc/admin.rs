//! `AgentAdminService`.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture, stream::BoxStream};
use tonic::{Code, Request, Response, Status, Streaming};
use upm_mesh as mesh;
use upm_proto::{
    hub::v1::{
        self as pb, agent_admin_service_client::AgentAdminServiceClient,
        agent_admin_service_server::AgentAdminService, drain::Reason,
    },
    ledger::key_text,
};
use upm_store::{
    self as store,
    page::{PageRequest, Query},
    time,
};

use super::{
    inventory,
    route::{self, Routed},
    unit,
};
use crate::{
    Error, Hub,
    hub::{Control, Shared},
    ledger,
    ledger::write::check_keys,
};

/// Time for a session to take what it is told.
const CONTROL: Duration = Duration::from_secs(2);

pub(super) struct Admin(pub(super) Hub);

/// `agents/{agent}`.
pub(super) fn id_of(name: &str) -> Result<String, Error> {
    name.strip_prefix("agents/")
        .filter(|id| !id.is_empty() && !id.contains('/'))
        .map(str::to_owned)
        .ok_or_else(|| Error::field("name", "must be agents/{agent}"))
}

fn check_id(id: &str) -> Result<(), Error> {
    store::ids::resource_id(id).map_err(|violation| Error::field("agent_id", violation.description))
}

fn held(shared: &Shared) -> Vec<pb::Key> {
    shared
        .held
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// An object without its bodies.
fn key_of(object: pb::Object) -> pb::AgentKey {
    pb::AgentKey {
        key: object.key,
        state: object.state,
        owner: object.owner,
        generation: object.generation,
        rev: object.rev,
        tombstone: object.tombstone,
        result: object.result,
        held: false,
    }
}

/// The same call at another replica.
pub(super) fn passed<T: Clone + Send + 'static, A>(
    ctx: &mesh::Context,
    request: &T,
    call: impl Fn(AgentAdminServiceClient<mesh::Channel>, Request<T>) -> BoxFuture<'static, A>,
) -> impl Fn(mesh::Channel) -> BoxFuture<'static, A> {
    let (ctx, request) = (ctx.clone(), request.clone());
    move |channel| {
        call(
            AgentAdminServiceClient::new(channel),
            route::hop(&ctx, request.clone()),
        )
    }
}

impl Admin {
    fn shown(&self, row: &ledger::AgentRow, (pending, rejected): (u32, u32)) -> pb::Agent {
        let link = self.0.link(row);
        let session = self.0.session(&row.id);
        let state = match row {
            row if row.revoked => pb::AgentState::Revoked,
            row if !row.enrolled => pb::AgentState::Invited,
            row if !row.approved => pb::AgentState::AwaitingApproval,
            _ if link.connected => pb::AgentState::Connected,
            _ => pb::AgentState::Disconnected,
        };
        let said = session
            .as_ref()
            .filter(|s| s.shared.unhealthy.load(Ordering::Relaxed));
        let message = match said {
            Some(session) => session
                .shared
                .message
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            None => row.message.clone(),
        };
        let when = |us: i64| (us > 0).then(|| time::timestamp(us));
        pb::Agent {
            name: format!("agents/{}", row.id),
            state: state.into(),
            build: row.build.clone(),
            cluster_uid: row.cluster_uid.clone(),
            k8s_version: row.k8s_version.clone(),
            session_epoch: row.epoch as u64,
            replica: row.replica.clone(),
            connect_time: when(row.connected_us),
            // A live session is heard every few seconds; only its commits are written down.
            last_seen_time: when(if session.is_some() {
                time::now_us()
            } else {
                row.seen_us
            }),
            head_rev: row.head_rev as u64,
            received_rev: link.received_rev.max(row.received_rev as u64),
            pending_keys: pending,
            rejected_keys: rejected,
            certificate_expire_time: when(row.certificate_us),
            message,
            durable_rev: row.durable_rev as u64,
            held_keys: session.as_ref().map_or(0, |s| held(&s.shared).len() as u32),
            apply_queue: session
                .as_ref()
                .map_or(0, |s| s.shared.apply_queue.load(Ordering::Relaxed)),
            oldest_unapplied_ms: session
                .as_ref()
                .map_or(0, |s| s.shared.oldest_unapplied_ms.load(Ordering::Relaxed)),
            certificate_serial: session
                .as_ref()
                .map(|s| s.certificate.serial.clone())
                .unwrap_or_default(),
        }
    }

    async fn read(&self, id: &str) -> Result<(ledger::AgentRow, (u32, u32)), Error> {
        let id = id.to_owned();
        self.0
            .inner
            .store
            .read("get agent", move |conn| {
                let row = ledger::AgentRow::read(conn, &id)?
                    .ok_or_else(|| Error::AgentNotFound(id.clone()))?;
                let pending = ledger::agents::pending(conn, &id)?;
                Ok((row, pending))
            })
            .await
    }
}

#[tonic::async_trait]
impl AgentAdminService for Admin {
    type WatchInventoryStream = BoxStream<'static, Result<pb::InventoryEvent, Status>>;
    type TailAgentLogStream = unit::Answer<pb::TailAgentLogResponse>;
    type ExecInUnitStream = unit::Answer<pb::ExecInUnitResponse>;
    type ReadUnitFileStream = unit::Answer<pb::ReadUnitFileResponse>;
    type WriteUnitFileStream = unit::Answer<pb::WriteUnitFileResponse>;

    async fn list_agents(
        &self,
        request: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<pb::ListAgentsResponse>, Status> {
        let request = request.into_inner();
        let page = PageRequest::<String>::parse(
            &self.0.inner.store,
            Query {
                method: "upm.hub.v1.AgentAdminService.ListAgents",
                ..Query::default()
            },
            request.page_size,
            &request.page_token,
        )
        .map_err(Error::from)?;
        let (after, limit) = (page.after().cloned(), page.limit());
        let rows = self
            .0
            .inner
            .store
            .read("list agents", move |conn| {
                ledger::agents::list(conn, after.as_deref(), limit)?
                    .into_iter()
                    .map(|row| {
                        let pending = ledger::agents::pending(conn, &row.id)?;
                        Ok((row, pending))
                    })
                    .collect::<Result<Vec<_>, Error>>()
            })
            .await?;
        let (rows, next_page_token) = page
            .finish(rows, |(row, _)| row.id.clone())
            .map_err(Error::from)?;
        Ok(Response::new(pb::ListAgentsResponse {
            agents: rows
                .iter()
                .map(|(row, pending)| self.shown(row, *pending))
                .collect(),
            next_page_token,
        }))
    }

    async fn get_agent(
        &self,
        request: Request<pb::GetAgentRequest>,
    ) -> Result<Response<pb::Agent>, Status> {
        let (ctx, hopped) = (mesh::Context::of(&request)?, route::is_hop(&request));
        let request = request.into_inner();
        let id = id_of(&request.name)?;
        let there = passed(&ctx, &request, |mut client, request| {
            async move { client.get_agent(request).await }.boxed()
        });
        // without the replica of the session, what the store knows is told
        if let Ok(Routed::Answer(answer)) = route::route(&self.0, &id, hopped, there).await {
            return Ok(answer);
        }
        let (row, pending) = self.read(&id).await?;
        Ok(Response::new(self.shown(&row, pending)))
    }

    async fn disconnect_agent(
        &self,
        request: Request<pb::DisconnectAgentRequest>,
    ) -> Result<Response<()>, Status> {
        let (ctx, hopped) = (mesh::Context::of(&request)?, route::is_hop(&request));
        let request = request.into_inner();
        let id = id_of(&request.name)?;
        let there = passed(&ctx, &request, |mut client, request| {
            async move { client.disconnect_agent(request).await }.boxed()
        });
        match route::route(&self.0, &id, hopped, there).await {
            Ok(Routed::Answer(answer)) => return Ok(answer),
            // what is not connected needs no more
            Err(status) if status.code() != Code::Unavailable => return Err(status),
            Err(_) | Ok(Routed::Here(_)) => {}
        }
        self.audit(ctx, &id, |conn, id| {
            ledger::AgentRow::lock(conn, id)?
                .map(drop)
                .ok_or_else(|| Error::AgentNotFound(id.to_owned()))
        })
        .await?;
        self.0.cut(&id, Reason::Rebalance).await;
        Ok(Response::new(()))
    }

    async fn revoke_agent(
        &self,
        request: Request<pb::RevokeAgentRequest>,
    ) -> Result<Response<()>, Status> {
        let ctx = mesh::Context::of(&request)?;
        let request = request.into_inner();
        let id = id_of(&request.name)?;
        let serial = request.certificate_serial;
        if serial.is_empty() {
            self.audit(ctx, &id, ledger::agents::revoke).await?;
            self.0.cut(&id, Reason::Revoked).await;
        } else {
            let of = serial.clone();
            self.audit(ctx, &id, move |conn, id| {
                ledger::agents::revoke_certificate(conn, id, &of)
            })
            .await?;
            if let Some(session) = self.0.session(&id)
                && session.certificate.serial == serial
            {
                self.0.cut(&id, Reason::Revoked).await;
            }
        }
        self.0.changed(&id);
        Ok(Response::new(()))
    }

    async fn list_agent_keys(
        &self,
        request: Request<pb::ListAgentKeysRequest>,
    ) -> Result<Response<pb::ListAgentKeysResponse>, Status> {
        let (ctx, hopped) = (mesh::Context::of(&request)?, route::is_hop(&request));
        let request = request.into_inner();
        let id = id_of(&request.name)?;
        let there = passed(&ctx, &request, |mut client, request| {
            async move { client.list_agent_keys(request).await }.boxed()
        });
        // what a guard holds is known where the session is; the rest is in the store
        if let Ok(Routed::Answer(answer)) = route::route(&self.0, &id, hopped, there).await {
            return Ok(answer);
        }
        let page = PageRequest::<String>::parse(
            &self.0.inner.store,
            Query {
                method: "upm.hub.v1.AgentAdminService.ListAgentKeys",
                parent: &id,
                filter: if request.settled { "settled" } else { "" },
                order_by: "",
            },
            request.page_size,
            &request.page_token,
        )
        .map_err(Error::from)?;
        let filter = ledger::read::Filter {
            unsettled: !request.settled,
            ..ledger::read::Filter::default()
        };
        let rows = self
            .0
            .list_objects(&id, filter, page.after().cloned(), page.limit())
            .await?;
        let (rows, next_page_token) = page
            .finish(rows, |(text, _)| text.clone())
            .map_err(Error::from)?;
        let mut keys = rows
            .into_iter()
            .map(|(_, object)| key_of(object))
            .collect::<Vec<_>>();
        if request.page_token.is_empty()
            && let Some(session) = self.0.session(&id)
        {
            keys.extend(held(&session.shared).into_iter().map(|key| pb::AgentKey {
                key: Some(key),
                held: true,
                ..pb::AgentKey::default()
            }));
        }
        Ok(Response::new(pb::ListAgentKeysResponse {
            keys,
            next_page_token,
        }))
    }

    async fn confirm_prune_keys(
        &self,
        request: Request<pb::ConfirmPruneKeysRequest>,
    ) -> Result<Response<()>, Status> {
        let (ctx, hopped) = (mesh::Context::of(&request)?, route::is_hop(&request));
        let request = request.into_inner();
        let id = id_of(&request.name)?;
        let there = passed(&ctx, &request, |mut client, request| {
            async move { client.confirm_prune_keys(request).await }.boxed()
        });
        let session = match route::route(&self.0, &id, hopped, there).await? {
            Routed::Here(session) => session,
            Routed::Answer(answer) => return Ok(answer),
        };
        let keys = check_keys(request.keys)?;
        let held = held(&session.shared);
        if let Some(other) = keys.iter().find(|key| !held.contains(key)) {
            return Err(Error::ObjectNotFound(key_text(other)).into());
        }
        self.audit(ctx, &id, |conn, id| {
            ledger::AgentRow::lock(conn, id)?
                .map(drop)
                .ok_or_else(|| Error::AgentNotFound(id.to_owned()))
        })
        .await?;
        let confirm = pb::ConfirmPrune { at_rev: 0, keys };
        session
            .control
            .send_timeout(Control::ConfirmPrune(Box::new(confirm)), CONTROL)
            .await
            .map_err(|_| Error::NotConnected(id))?;
        Ok(Response::new(()))
    }

    async fn tail_agent_log(
        &self,
        request: Request<pb::TailAgentLogRequest>,
    ) -> Result<Response<Self::TailAgentLogStream>, Status> {
        unit::tail_log(self, request).await
    }

    async fn exec_in_unit(
        &self,
        request: Request<Streaming<pb::ExecInUnitRequest>>,
    ) -> Result<Response<Self::ExecInUnitStream>, Status> {
        unit::exec(self, request).await
    }

    async fn read_unit_file(
        &self,
        request: Request<pb::ReadUnitFileRequest>,
    ) -> Result<Response<Self::ReadUnitFileStream>, Status> {
        unit::read_file(self, request).await
    }

    async fn write_unit_file(
        &self,
        request: Request<Streaming<pb::WriteUnitFileRequest>>,
    ) -> Result<Response<Self::WriteUnitFileStream>, Status> {
        unit::write_file(self, request).await
    }

    async fn create_join_token(
        &self,
        request: Request<pb::CreateJoinTokenRequest>,
    ) -> Result<Response<pb::CreateJoinTokenResponse>, Status> {
        let ctx = mesh::Context::of(&request)?;
        let request = request.into_inner();
        check_id(&request.agent_id)?;
        if !(60..=3600).contains(&request.ttl_seconds) {
            return Err(Error::field("ttl_seconds", "must be 60 to 3600").into());
        }
        let token = ledger::random_token();
        let ttl = i64::from(request.ttl_seconds) * time::SECOND_US;
        let stored = token.clone();
        let expire = self
            .0
            .inner
            .store
            .transact("create a join token", move |conn| {
                store::audited(
                    conn,
                    &ctx,
                    &format!("agents/{}", request.agent_id),
                    serde_json::json!({"joinToken": "created", "autoApprove": request.auto_approve}),
                )?;
                ledger::agents::invite(
                    conn,
                    &request.agent_id,
                    &stored,
                    request.auto_approve,
                    ttl,
                )
            })
            .await?;
        Ok(Response::new(pb::CreateJoinTokenResponse {
            token,
            ca_pin: self.0.pin(),
            endpoints: self.0.inner.config.endpoints.clone(),
            expire_time: Some(time::timestamp(expire)),
        }))
    }

    async fn approve_agent(
        &self,
        request: Request<pb::ApproveAgentRequest>,
    ) -> Result<Response<()>, Status> {
        let ctx = mesh::Context::of(&request)?;
        let id = request.into_inner().agent_id;
        self.audit(ctx, &id, |conn, id| {
            ledger::agents::require_enrolled(conn, id)?;
            ledger::agents::approve(conn, id)
        })
        .await?;
        self.0.changed(&id);
        Ok(Response::new(()))
    }

    async fn delete_agent(
        &self,
        request: Request<pb::DeleteAgentRequest>,
    ) -> Result<Response<()>, Status> {
        let ctx = mesh::Context::of(&request)?;
        let request = request.into_inner();
        let force = request.force;
        self.audit(ctx, &request.agent_id, move |conn, id| {
            ledger::agents::delete(conn, id, force)
        })
        .await?;
        self.0.cut(&request.agent_id, Reason::Revoked).await;
        self.0.changed(&request.agent_id);
        Ok(Response::new(()))
    }

    async fn watch_inventory(
        &self,
        request: Request<pb::WatchInventoryRequest>,
    ) -> Result<Response<Self::WatchInventoryStream>, Status> {
        let agent = request.into_inner().agent_id;
        Ok(Response::new(inventory::events(self.0.clone(), agent)))
    }
}

impl Admin {
    /// Does a change of an agent with its audit record in one transaction.
    async fn audit(
        &self,
        ctx: mesh::Context,
        id: &str,
        work: impl Fn(&mut store::Connection, &str) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let id = id.to_owned();
        self.0
            .inner
            .store
            .transact("administer an agent", move |conn| {
                work(conn, &id)?;
                store::audited(conn, &ctx, &format!("agents/{id}"), serde_json::Value::Null)?;
                Ok(())
            })
            .await
    }
}
