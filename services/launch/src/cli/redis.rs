//! `upm redis …`.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::Table;
use upm_proto::redis::v1::{
    CreateRedisServiceRequest, DeleteRedisServiceRequest, DeletionPolicy,
    FailoverRedisServiceRequest, GetConnectionRequest, GetPasswordRequest, GetRedisServiceRequest,
    HorizontalScaleRedisServiceRequest, ListRedisServicesRequest, ListRedisServicesResponse,
    RedisService, RedisSpec, RestartRedisServiceRequest, RetainedData, Storage,
    SwitchoverRedisServiceRequest, redis_services_client::RedisServicesClient,
};
use upm_proto::resource::v1::{GetProjectRequest, project_service_client::ProjectServiceClient};
use uuid::Uuid;

use super::{Globals, operation, output};

/// Redis replication services.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a service.
    Create(Create),
    /// Show a service with the roles, addresses and versions of its members.
    Get(Named),
    /// List services.
    List {
        /// Project; all that you may see when left out.
        #[arg(long, short, env = "UPM_PROJECT", default_value = "-")]
        project: String,
        /// Filter, for example `state=READY`.
        #[arg(long, default_value = "")]
        filter: String,
    },
    /// Show how to connect.
    Connect {
        #[command(flatten)]
        service: Named,
        /// Also read the password from the cluster; this is audited.
        #[arg(long)]
        show_password: bool,
    },
    /// Make another member the primary.
    Switchover {
        #[command(flatten)]
        service: Named,
        /// The new primary; the best replica when left out.
        #[arg(long, default_value = "")]
        target: String,
        /// Refuse when the service is at another epoch.
        #[arg(long, default_value_t = 0)]
        expected_epoch: i64,
        #[command(flatten)]
        run: Run,
    },
    /// Make a member the primary although confirmed writes are lost: the way out of a refused election.
    Failover {
        #[command(flatten)]
        service: Named,
        /// The id of the loss, as `--plan` or `get` shows it; without one nothing is done and the loss is stated.
        #[arg(long, default_value = "")]
        accept_loss: String,
        /// Refuse when the service is at another epoch.
        #[arg(long, default_value_t = 0)]
        expected_epoch: i64,
        #[command(flatten)]
        run: Run,
    },
    /// Change the number of members.
    Scale {
        #[command(flatten)]
        service: Named,
        /// 1 to 9.
        #[arg(long)]
        members: i32,
        #[command(flatten)]
        run: Run,
    },
    /// Restart the members one by one, the primary last.
    Restart {
        #[command(flatten)]
        service: Named,
        #[command(flatten)]
        run: Run,
    },
    /// Delete a service.
    Delete {
        #[command(flatten)]
        service: Named,
        /// What happens to the volumes; the service's own policy when left out.
        #[arg(long, value_enum)]
        policy: Option<Policy>,
        /// A missing service is no error.
        #[arg(long)]
        allow_missing: bool,
        #[command(flatten)]
        run: Run,
    },
}

/// Names a service.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Id of the service, or its full name.
    #[arg(value_name = "SERVICE")]
    id: String,
    /// Its project.
    #[arg(long, short, env = "UPM_PROJECT")]
    project: Option<String>,
}

impl Named {
    fn name(&self) -> anyhow::Result<String> {
        if self.id.contains('/') {
            return Ok(self.id.clone());
        }
        let project = self.project.as_deref().with_context(|| {
            let id = &self.id;
            format!("say --project PROJECT, or the full name projects/PROJECT/redisServices/{id}")
        })?;
        Ok(format!("projects/{project}/redisServices/{}", self.id))
    }
}

/// How an operation is run.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Only show the plan.
    #[arg(long = "dry-run", visible_alias = "plan")]
    plan_only: bool,
    /// Return when the operation is accepted.
    #[arg(long)]
    no_wait: bool,
    /// A UUID: the same one within 24 h does it once.
    #[arg(long = "request-id")]
    request: Option<Uuid>,
}

impl Run {
    fn request_id(&self) -> String {
        self.request.unwrap_or_else(Uuid::new_v4).to_string()
    }
}

/// Creates a service.
#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    service: Named,
    /// Members, the primary among them.
    #[arg(long, default_value_t = 3)]
    members: i32,
    /// Version; the newest of the catalogue when left out.
    #[arg(long, default_value = "")]
    version: String,
    /// Cluster; the only one when left out.
    #[arg(long, default_value = "")]
    cluster: String,
    /// CPU of each member.
    #[arg(long, default_value = "")]
    cpu: String,
    /// Memory of each member.
    #[arg(long, default_value = "")]
    memory: String,
    /// Volume of each member.
    #[arg(long, default_value = "")]
    storage: String,
    /// Storage class; the cluster's default when left out.
    #[arg(long, default_value = "")]
    storage_class: String,
    /// A Redis parameter, `key=value`; may be repeated.
    #[arg(long = "set", value_parser = key_value)]
    parameters: Vec<(String, String)>,
    /// What to do with volumes of an earlier service of this name.
    #[arg(long, value_enum)]
    retained_data: Option<Retained>,
    #[command(flatten)]
    run: Run,
}

/// What happens to the volumes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Policy {
    /// They stay.
    KeepData,
    /// They are removed.
    DeleteData,
}

/// What to do with volumes of an earlier service.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Retained {
    /// Use them.
    Adopt,
    /// Remove them first.
    Discard,
}

const SERVICE: &str = "upm.redis.v1.RedisService";

pub(crate) async fn run(globals: &Globals, command: Command) -> anyhow::Result<()> {
    let channel = globals.open().await?;
    let mut client = RedisServicesClient::new(channel.clone());
    match command {
        Command::Create(create) => {
            let wait = !create.run.no_wait;
            let answer = client.create_redis_service(create.request()?).await?;
            operation::settle(globals, channel, answer.into_inner(), wait).await
        }
        Command::Get(service) => {
            let name = service.name()?;
            let service = client.get_redis_service(GetRedisServiceRequest { name });
            output::print(
                globals.output,
                SERVICE,
                &service.await?.into_inner(),
                members,
            )
        }
        Command::List { project, filter } => list(globals, &channel, &project, &filter).await,
        Command::Connect {
            service,
            show_password,
        } => connect(globals, client, service.name()?, show_password).await,
        Command::Switchover {
            service,
            target,
            expected_epoch,
            run,
        } => {
            let answer = client
                .switchover_redis_service(SwitchoverRedisServiceRequest {
                    name: service.name()?,
                    target,
                    expected_epoch,
                    validate_only: run.plan_only,
                    request_id: run.request_id(),
                })
                .await?;
            operation::settle(globals, channel, answer.into_inner(), !run.no_wait).await
        }
        Command::Failover {
            service,
            accept_loss,
            expected_epoch,
            run,
        } => {
            let answer = client
                .failover_redis_service(FailoverRedisServiceRequest {
                    name: service.name()?,
                    accept_loss,
                    expected_epoch,
                    validate_only: run.plan_only,
                    request_id: run.request_id(),
                })
                .await?;
            operation::settle(globals, channel, answer.into_inner(), !run.no_wait).await
        }
        Command::Scale {
            service,
            members,
            run,
        } => {
            let answer = client
                .horizontal_scale_redis_service(HorizontalScaleRedisServiceRequest {
                    name: service.name()?,
                    members,
                    validate_only: run.plan_only,
                    request_id: run.request_id(),
                })
                .await?;
            operation::settle(globals, channel, answer.into_inner(), !run.no_wait).await
        }
        Command::Restart { service, run } => {
            let answer = client
                .restart_redis_service(RestartRedisServiceRequest {
                    name: service.name()?,
                    validate_only: run.plan_only,
                    request_id: run.request_id(),
                })
                .await?;
            operation::settle(globals, channel, answer.into_inner(), !run.no_wait).await
        }
        Command::Delete {
            service,
            policy,
            allow_missing,
            run,
        } => {
            let policy = match policy {
                None => DeletionPolicy::Unspecified,
                Some(Policy::KeepData) => DeletionPolicy::KeepData,
                Some(Policy::DeleteData) => DeletionPolicy::DeleteData,
            };
            let request = DeleteRedisServiceRequest {
                name: service.name()?,
                policy: policy.into(),
                etag: String::new(),
                allow_missing,
                validate_only: run.plan_only,
                request_id: run.request_id(),
            };
            let refused = match client.delete_redis_service(request).await {
                Ok(answer) => {
                    let wait = !run.no_wait;
                    return operation::settle(globals, channel, answer.into_inner(), wait).await;
                }
                Err(refused) => refused,
            };
            // A service that is being made is done away with by cancelling that.
            match super::exit::in_progress(&refused) {
                Some(operation) if std::io::stdin().is_terminal() && agrees(&operation)? => {
                    operation::cancel(globals, channel, operation, !run.no_wait).await
                }
                _ => Err(refused.into()),
            }
        }
    }
}

/// Whether the user wants the operation cancelled that is in the way.
fn agrees(operation: &str) -> anyhow::Result<bool> {
    eprint!("{operation} works on the service. Cancel it and undo what it did? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

impl Create {
    fn request(self) -> anyhow::Result<CreateRedisServiceRequest> {
        let name = self.service.name()?;
        let (parent, id) = name
            .split_once("/redisServices/")
            .with_context(|| format!("{name} is not projects/PROJECT/redisServices/SERVICE"))?;
        let storage =
            (!self.storage.is_empty() || !self.storage_class.is_empty()).then(|| Storage {
                size: self.storage.clone(),
                storage_class: self.storage_class.clone(),
            });
        let retained = match self.retained_data {
            None => RetainedData::Unspecified,
            Some(Retained::Adopt) => RetainedData::Adopt,
            Some(Retained::Discard) => RetainedData::Discard,
        };
        let cluster = if self.cluster.is_empty() || self.cluster.contains('/') {
            self.cluster
        } else {
            format!("clusters/{}", self.cluster)
        };
        Ok(CreateRedisServiceRequest {
            parent: parent.to_owned(),
            redis_service_id: id.to_owned(),
            redis_service: Some(RedisService {
                spec: Some(RedisSpec {
                    cluster,
                    version: self.version,
                    members: self.members,
                    cpu: self.cpu,
                    memory: self.memory,
                    storage,
                    parameters: self.parameters.into_iter().collect(),
                    ..RedisSpec::default()
                }),
                ..RedisService::default()
            }),
            retained_data: retained.into(),
            validate_only: self.run.plan_only,
            request_id: self.run.request_id(),
        })
    }
}

async fn list(
    globals: &Globals,
    channel: &super::session::Authorized,
    project: &str,
    filter: &str,
) -> anyhow::Result<()> {
    let mut client = RedisServicesClient::new(channel.clone());
    let mut all = ListRedisServicesResponse::default();
    loop {
        let page = client
            .list_redis_services(ListRedisServicesRequest {
                parent: format!("projects/{project}"),
                page_size: 500,
                page_token: all.next_page_token.clone(),
                filter: filter.to_owned(),
                order_by: String::new(),
            })
            .await?
            .into_inner();
        all.redis_services.extend(page.redis_services);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    if all.redis_services.is_empty() && project != "-" {
        // Nothing in a project, and no project, are not the same.
        let name = format!("projects/{project}");
        ProjectServiceClient::new(channel.clone())
            .get_project(GetProjectRequest { name })
            .await?;
    }
    let full_name = "upm.redis.v1.ListRedisServicesResponse";
    output::print(globals.output, full_name, &all, services)
}

fn services(all: &ListRedisServicesResponse) -> Table {
    let mut table = output::table([
        "PROJECT", "SERVICE", "STATE", "MEMBERS", "PRIMARY", "VERSION", "AGE",
    ]);
    for service in &all.redis_services {
        let spec = service.spec.clone().unwrap_or_default();
        let status = service.status.clone().unwrap_or_default();
        let ready = status.members.iter().filter(|m| m.ready).count();
        table.add_row([
            service
                .name
                .split('/')
                .nth(1)
                .unwrap_or_default()
                .to_owned(),
            output::id(&service.name).to_owned(),
            output::word(status.state().as_str_name()).to_owned(),
            format!("{ready}/{}", spec.members),
            status.primary.clone(),
            spec.version,
            output::age(service.create_time.as_ref()),
        ]);
    }
    table
}

fn members(service: &RedisService) -> Table {
    let status = service.status.clone().unwrap_or_default();
    let mut table = output::table([
        "MEMBER", "ROLE", "READY", "ADDRESS", "VERSION", "LAG", "NODE", "MESSAGE",
    ]);
    for member in &status.members {
        table.add_row([
            member.name.clone(),
            output::word(member.role().as_str_name()).to_owned(),
            member.ready.to_string(),
            member.address.clone(),
            member.version.clone(),
            if member.lag_bytes < 0 {
                "-".to_owned()
            } else {
                member.lag_bytes.to_string()
            },
            member.node.clone(),
            member.message.clone(),
        ]);
    }
    let summary = format!(
        "{} epoch {} {}",
        output::word(status.state().as_str_name()),
        status.epoch,
        status.message
    );
    table.add_row([output::id(&service.name), summary.trim_end()]);
    table
}

async fn connect(
    globals: &Globals,
    mut client: RedisServicesClient<super::session::Authorized>,
    name: String,
    show_password: bool,
) -> anyhow::Result<()> {
    let connection = client
        .get_connection(GetConnectionRequest { name: name.clone() })
        .await?
        .into_inner();
    output::print(
        globals.output,
        "upm.redis.v1.Connection",
        &connection,
        |connection| {
            let mut table = output::table(["WRITES", "READS", "USER", "PASSWORD IN SECRET"]);
            table.add_row([
                &connection.readwrite_address,
                &connection.readonly_address,
                &connection.user,
                &connection.password_secret,
            ]);
            table.add_row([&connection.command]);
            table
        },
    )?;
    if show_password {
        let password = client
            .get_password(GetPasswordRequest { name })
            .await?
            .into_inner();
        output::line(&password.password)?;
    }
    Ok(())
}

fn key_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected key=value".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(id: &str, project: Option<&str>) -> anyhow::Result<String> {
        Named {
            id: id.to_owned(),
            project: project.map(str::to_owned),
        }
        .name()
    }

    #[test]
    fn a_full_name_needs_no_project() {
        let full = "projects/demo/redisServices/cache";
        assert_eq!(named(full, None).unwrap(), full);
        assert_eq!(named("cache", Some("demo")).unwrap(), full);
        let error = named("cache", None).unwrap_err().to_string();
        assert!(error.contains("--project"), "{error}");
    }
}
