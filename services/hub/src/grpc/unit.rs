//! Logs, commands and files of units: what of `AgentAdminService` goes through a tunnel.

mod check;
mod frames;
mod relay;

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, stream, stream::BoxStream};
use serde_json::{Value, json};
use tonic::{Request, Response, Status, Streaming};
use upm_mesh as mesh;
use upm_proto::hub::v1::{
    self as pb, agent_admin_service_client::AgentAdminServiceClient, bytes::Frame,
    exec_in_unit_request::Part as ExecPart, open_tunnel::Purpose,
    write_unit_file_request::Part as WritePart,
};
use upm_store as store;

use self::relay::Relay;
use super::{
    admin::{Admin, id_of, passed},
    route::{self, Routed},
};
use crate::{
    Error,
    tunnel::{self, Bounds, Frames},
};

/// What a method answers in a stream.
pub(super) type Answer<T> = BoxStream<'static, Result<T, Status>>;

/// Life of what a user waits for, of one that is followed, and of one that is not.
const LIFE: Duration = Duration::from_hours(1);
const TAIL: Duration = Duration::from_mins(1);
/// A person may think; a file moves, unless the unit's disk takes long to sync it or nobody reads it.
const COMMAND: Bounds = Bounds {
    life: LIFE,
    idle: Duration::from_mins(15),
};
const FILE: Bounds = Bounds {
    life: LIFE,
    idle: Duration::from_mins(5),
};

/// See `AgentAdminService.TailAgentLog`.
pub(super) async fn tail_log(
    admin: &Admin,
    request: Request<pb::TailAgentLogRequest>,
) -> Result<Response<Answer<pb::TailAgentLogResponse>>, Status> {
    let (ctx, hopped) = (mesh::Context::of(&request)?, route::is_hop(&request));
    let request = request.into_inner();
    let id = id_of(&request.name)?;
    check::pod(&request.namespace, &request.pod)?;
    let there = passed(&ctx, &request, |mut client, request| {
        async move { client.tail_agent_log(request).await }.boxed()
    });
    if let Routed::Answer(answer) = route::route(&admin.0, &id, hopped, there).await? {
        return Ok(Response::new(answer.into_inner().boxed()));
    }
    let life = if request.follow { LIFE } else { TAIL };
    let purpose = Purpose::TailLog(pb::TailLog {
        namespace: request.namespace,
        pod: request.pod,
        container: request.container,
        tail_lines: request.tail_lines.max(0),
        follow: request.follow,
    });
    let bounds = Bounds { life, idle: life };
    let parts = tunnel::pipe(&admin.0, id, purpose, bounds, nothing()).await?;
    Ok(Response::new(answers(parts, frames::of_log)))
}

/// See `AgentAdminService.ExecInUnit`.
pub(super) async fn exec(
    admin: &Admin,
    request: Request<Streaming<pb::ExecInUnitRequest>>,
) -> Result<Response<Answer<pb::ExecInUnitResponse>>, Status> {
    let (ctx, hopped) = (mesh::Context::of(&request)?, route::is_hop(&request));
    let relay = Relay::begin(request.into_inner()).await?;
    let Some(ExecPart::Start(start)) = relay.first().part.clone() else {
        return Err(Error::field("start", "must be the first").into());
    };
    let id = id_of(&start.name)?;
    check::pod(&start.namespace, &start.pod)?;
    let program = check::command(&start.command)?.to_owned();
    let there = |channel| {
        let (request, taken) = relay.repeat();
        let request = route::hop(&ctx, request);
        async move {
            let mut client = AgentAdminServiceClient::new(channel);
            let answer = client.exec_in_unit(request).await?;
            taken.cancel();
            Ok::<_, Status>(answer)
        }
        .boxed()
    };
    if let Routed::Answer(answer) = route::route(&admin.0, &id, hopped, there).await? {
        return Ok(Response::new(answer.into_inner().boxed()));
    }
    // Never the arguments: they may hold what nobody else shall see.
    let what = json!({"exec": {
        "namespace": start.namespace, "pod": start.pod, "container": start.container, "program": program,
    }});
    recorded(admin, ctx, &id, what).await?;
    let input = relay
        .into_rest()
        .filter_map(async |part| frames::of_command(part).transpose())
        .boxed();
    let purpose = Purpose::Exec(pb::Exec {
        namespace: start.namespace,
        pod: start.pod,
        container: start.container,
        command: start.command,
        stdin: start.stdin,
        tty: start.tty,
        size: start.size,
    });
    let frames = tunnel::pipe(&admin.0, id.clone(), purpose, COMMAND, input).await?;
    taken(&id, frames, frames::to_command).await
}

/// See `AgentAdminService.ReadUnitFile`.
pub(super) async fn read_file(
    admin: &Admin,
    request: Request<pb::ReadUnitFileRequest>,
) -> Result<Response<Answer<pb::ReadUnitFileResponse>>, Status> {
    let (ctx, hopped) = (mesh::Context::of(&request)?, route::is_hop(&request));
    let request = request.into_inner();
    let id = id_of(&request.name)?;
    check::pod(&request.namespace, &request.pod)?;
    check::path(&request.path)?;
    let there = passed(&ctx, &request, |mut client, request| {
        async move { client.read_unit_file(request).await }.boxed()
    });
    if let Routed::Answer(answer) = route::route(&admin.0, &id, hopped, there).await? {
        return Ok(Response::new(answer.into_inner().boxed()));
    }
    let purpose = Purpose::ReadFile(pb::ReadFile {
        namespace: request.namespace,
        pod: request.pod,
        container: request.container,
        path: request.path,
    });
    let frames = tunnel::pipe(&admin.0, id.clone(), purpose, FILE, nothing()).await?;
    taken(&id, frames, frames::of_file).await
}

/// See `AgentAdminService.WriteUnitFile`.
pub(super) async fn write_file(
    admin: &Admin,
    request: Request<Streaming<pb::WriteUnitFileRequest>>,
) -> Result<Response<Answer<pb::WriteUnitFileResponse>>, Status> {
    let (ctx, hopped) = (mesh::Context::of(&request)?, route::is_hop(&request));
    let relay = Relay::begin(request.into_inner()).await?;
    let Some(WritePart::Start(start)) = relay.first().part.clone() else {
        return Err(Error::field("start", "must be the first").into());
    };
    let id = id_of(&start.name)?;
    check::pod(&start.namespace, &start.pod)?;
    check::path(&start.path)?;
    let there = |channel| {
        let (request, taken) = relay.repeat();
        let request = route::hop(&ctx, request);
        async move {
            let mut client = AgentAdminServiceClient::new(channel);
            let answer = client.write_unit_file(request).await?;
            taken.cancel();
            Ok::<_, Status>(answer)
        }
        .boxed()
    };
    if let Routed::Answer(answer) = route::route(&admin.0, &id, hopped, there).await? {
        return Ok(Response::new(answer.into_inner().boxed()));
    }
    let what = json!({"writeFile": {
        "namespace": start.namespace, "pod": start.pod, "container": start.container, "path": start.path,
    }});
    recorded(admin, ctx, &id, what).await?;
    let input = relay.into_rest().map(frames::to_file).boxed();
    let purpose = Purpose::WriteFile(pb::WriteFile {
        namespace: start.namespace,
        pod: start.pod,
        container: start.container,
        path: start.path,
        facts: start.facts,
    });
    let frames = tunnel::pipe(&admin.0, id.clone(), purpose, FILE, input).await?;
    taken(&id, frames, frames::of_write).await
}

/// A caller that says nothing, and whose silence is no end.
fn nothing() -> Frames {
    stream::pending().boxed()
}

/// Writes the record of what is about to begin: nothing happens in a unit of which there is none.
async fn recorded(admin: &Admin, ctx: mesh::Context, id: &str, what: Value) -> Result<(), Error> {
    let name = format!("agents/{id}");
    let write = move |conn: &mut store::Connection| {
        store::audited(conn, &ctx, &name, what.clone()).map_err(Error::from)
    };
    let store = &admin.0.inner.store;
    store.transact("record what begins in a unit", write).await
}

/// The answer begins when the cluster has taken what was asked; a refusal before that is the call's.
async fn taken<T: Send + 'static>(
    agent: &str,
    frames: Frames,
    answer: fn(Frame) -> Option<T>,
) -> Result<Response<Answer<T>>, Status> {
    let (first, rest) = tunnel::taken(agent, frames).await?;
    let all = stream::once(async { Ok(first) }).chain(rest).boxed();
    Ok(Response::new(answers(all, answer)))
}

/// Frames as a method answers them; what it has no word for is passed over.
fn answers<T: Send + 'static>(frames: Frames, answer: fn(Frame) -> Option<T>) -> Answer<T> {
    frames
        .filter_map(move |frame| {
            let answer = frame.map(answer).map_err(Status::from).transpose();
            async move { answer }
        })
        .boxed()
}
