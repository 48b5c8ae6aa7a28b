//! `upm agent …`: the link of hub and agents as an operator sees it.

mod copy;
mod exec;
mod place;
mod terminal;

use std::process::ExitCode;

use clap::Subcommand;
use comfy_table::Table;
use upm_proto::hub::v1::{
    Agent, AgentKey, ConfirmPruneKeysRequest, DisconnectAgentRequest, GetAgentRequest, Key,
    ListAgentKeysRequest, ListAgentKeysResponse, ListAgentsRequest, ListAgentsResponse, Outcome,
    RevokeAgentRequest, TailAgentLogRequest, agent_admin_service_client::AgentAdminServiceClient,
};

use super::{
    Globals,
    output::{self, Format},
    session::Authorized,
};

/// The link of each cluster's agent.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List agents.
    List,
    /// Show an agent with the keys that are not settled, and why.
    Describe {
        /// Id of the agent: the id of its cluster.
        agent: String,
    },
    /// List keys of an agent's ledger.
    Keys {
        /// Id of the agent.
        agent: String,
        /// Also those that are settled.
        #[arg(long)]
        all: bool,
    },
    /// Cut the session; the agent comes back.
    Disconnect {
        /// Id of the agent.
        agent: String,
    },
    /// Revoke the agent and cut its session; only a new join token lets the cluster in again.
    Revoke {
        /// Id of the agent.
        agent: String,
        /// Revoke only the certificate with this serial number, as `describe --output json` shows it; the agent may come with another one.
        #[arg(long, default_value = "")]
        serial: String,
    },
    /// Let the agent delete an object that its guard keeps because the ledger does not have it.
    ConfirmPrune {
        /// Id of the agent.
        agent: String,
        /// `group/version/kind/namespace/name`, as `keys` shows it.
        key: String,
    },
    /// Print the log of a managed pod.
    Logs {
        /// Id of the agent.
        agent: String,
        /// Namespace of the pod.
        namespace: String,
        /// The pod.
        pod: String,
        /// Container; the main one when not given.
        #[arg(long, default_value = "")]
        container: String,
        /// How many past lines; 0 for all.
        #[arg(long, default_value_t = 100)]
        tail: i64,
        /// Go on, for at most an hour.
        #[arg(long, short)]
        follow: bool,
    },
    /// Run a command in a unit; its exit code becomes this one's. The cluster must allow it (`tunnels.exec` of the agent's chart).
    Exec(exec::Exec),
    /// Copy a file out of a unit or into it, whole or not at all. The cluster must allow it (`tunnels.files` of the agent's chart).
    Cp(copy::Copy),
}

const AGENT: &str = "upm.hub.v1.Agent";

type Client = AgentAdminServiceClient<Authorized>;

fn name(agent: &str) -> String {
    format!("agents/{agent}")
}

pub(crate) async fn run(globals: &Globals, command: Command) -> anyhow::Result<ExitCode> {
    let channel = match &command {
        // What may take long ends with the token.
        Command::Exec(_) | Command::Cp(_) => globals.open_fresh().await?,
        _ => globals.open().await?,
    };
    let mut client = AgentAdminServiceClient::new(channel);
    let done = match command {
        Command::Exec(exec) => return exec::run(client, exec).await,
        Command::Cp(copy) => copy::run(client, copy).await,
        Command::List => {
            let mut all = ListAgentsResponse::default();
            loop {
                let page = client
                    .list_agents(ListAgentsRequest {
                        page_size: 500,
                        page_token: all.next_page_token.clone(),
                    })
                    .await?
                    .into_inner();
                all.agents.extend(page.agents);
                all.next_page_token = page.next_page_token;
                if all.next_page_token.is_empty() {
                    break;
                }
            }
            let full_name = "upm.hub.v1.ListAgentsResponse";
            output::print(globals.output, full_name, &all, |all| rows(&all.agents))
        }
        Command::Describe { agent } => shown(globals, &mut client, &agent).await,
        Command::Keys { agent, all } => {
            let keys = keys(&mut client, &agent, all).await?;
            let full_name = "upm.hub.v1.ListAgentKeysResponse";
            output::print(globals.output, full_name, &keys, |keys| {
                key_rows(&keys.keys)
            })
        }
        Command::Disconnect { agent } => {
            let name = name(&agent);
            client
                .disconnect_agent(DisconnectAgentRequest { name })
                .await?;
            Ok(())
        }
        Command::Revoke { agent, serial } => {
            let request = RevokeAgentRequest {
                name: name(&agent),
                certificate_serial: serial,
            };
            client.revoke_agent(request).await?;
            Ok(())
        }
        Command::ConfirmPrune { agent, key } => {
            let keys = vec![parse(&key)?];
            let name = name(&agent);
            client
                .confirm_prune_keys(ConfirmPruneKeysRequest { name, keys })
                .await?;
            Ok(())
        }
        Command::Logs {
            agent,
            namespace,
            pod,
            container,
            tail,
            follow,
        } => {
            let mut log = client
                .tail_agent_log(TailAgentLogRequest {
                    name: name(&agent),
                    namespace,
                    pod,
                    container,
                    tail_lines: tail,
                    follow,
                })
                .await?
                .into_inner();
            while let Some(part) = log.message().await? {
                output::bytes(&part.data)?;
            }
            Ok(())
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// `upm cluster describe`, which is the same for the agent of a cluster.
pub(crate) async fn describe(globals: &Globals, cluster: &str) -> anyhow::Result<()> {
    let mut client = AgentAdminServiceClient::new(globals.open().await?);
    shown(globals, &mut client, cluster).await
}

async fn shown(globals: &Globals, client: &mut Client, agent: &str) -> anyhow::Result<()> {
    let name = name(agent);
    let found = client.get_agent(GetAgentRequest { name }).await?;
    let found = found.into_inner();
    output::print(globals.output, AGENT, &found, facts)?;
    if globals.output != Format::Table {
        return Ok(());
    }
    let keys = keys(client, agent, false).await?;
    if !keys.keys.is_empty() {
        output::line("")?;
        output::line(&key_rows(&keys.keys).to_string())?;
    }
    Ok(())
}

async fn keys(
    client: &mut Client,
    agent: &str,
    settled: bool,
) -> anyhow::Result<ListAgentKeysResponse> {
    let mut all = ListAgentKeysResponse::default();
    loop {
        let page = client
            .list_agent_keys(ListAgentKeysRequest {
                name: name(agent),
                settled,
                page_size: 500,
                page_token: all.next_page_token.clone(),
            })
            .await?
            .into_inner();
        all.keys.extend(page.keys);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            return Ok(all);
        }
    }
}

fn text(key: &Key) -> String {
    let Key {
        group,
        version,
        kind,
        namespace,
        name,
    } = key;
    format!("{group}/{version}/{kind}/{namespace}/{name}")
}

fn parse(key: &str) -> anyhow::Result<Key> {
    let parts = key.split('/').collect::<Vec<_>>();
    let [group, version, kind, namespace, name] = parts[..] else {
        anyhow::bail!("a key is group/version/kind/namespace/name");
    };
    Ok(Key {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.into(),
    })
}

/// What the newest revision is ahead of what the agent has received.
fn lag(agent: &Agent) -> String {
    agent
        .head_rev
        .saturating_sub(agent.received_rev)
        .to_string()
}

fn rows(agents: &[Agent]) -> Table {
    let mut table = output::table([
        "AGENT", "STATE", "SINCE", "EPOCH", "REPLICA", "VERSION", "LAG", "PENDING", "REJECTED",
        "SEEN",
    ]);
    for agent in agents {
        table.add_row([
            output::id(&agent.name).to_owned(),
            output::word(agent.state().as_str_name()).to_owned(),
            output::age(agent.connect_time.as_ref()),
            agent.session_epoch.to_string(),
            agent.replica.clone(),
            agent.build.clone(),
            lag(agent),
            agent.pending_keys.to_string(),
            agent.rejected_keys.to_string(),
            output::age(agent.last_seen_time.as_ref()),
        ]);
    }
    table
}

fn facts(agent: &Agent) -> Table {
    let mut table = output::table(["AGENT", output::id(&agent.name)]);
    let certificate = agent
        .certificate_expire_time
        .as_ref()
        .map_or_else(String::new, ToString::to_string);
    for (what, value) in [
        (
            "State",
            output::word(agent.state().as_str_name()).to_owned(),
        ),
        ("Message", agent.message.clone()),
        ("Connected", output::age(agent.connect_time.as_ref())),
        ("Seen", output::age(agent.last_seen_time.as_ref())),
        ("Replica", agent.replica.clone()),
        ("Session epoch", agent.session_epoch.to_string()),
        ("Version", agent.build.clone()),
        ("Kubernetes", agent.k8s_version.clone()),
        ("Cluster", agent.cluster_uid.clone()),
        ("Newest revision", agent.head_rev.to_string()),
        ("Received", agent.received_rev.to_string()),
        ("Durable", agent.durable_rev.to_string()),
        ("Lag", lag(agent)),
        ("Pending keys", agent.pending_keys.to_string()),
        ("Rejected keys", agent.rejected_keys.to_string()),
        ("Held keys", agent.held_keys.to_string()),
        ("Apply queue", agent.apply_queue.to_string()),
        (
            "Oldest unapplied",
            format!("{} ms", agent.oldest_unapplied_ms),
        ),
        ("Certificate ends", certificate),
    ] {
        table.add_row([what.to_owned(), value]);
    }
    table
}

fn key_rows(keys: &[AgentKey]) -> Table {
    let mut table = output::table([
        "KEY",
        "STATE",
        "GENERATION",
        "OUTCOME",
        "REASON",
        "MESSAGE",
        "OWNER",
    ]);
    for key in keys {
        let result = key.result.clone().unwrap_or_default();
        let error = result.error.clone().unwrap_or_default();
        let state = match (key.held, key.tombstone) {
            (true, _) => "HELD".to_owned(),
            (false, true) => format!("{} (delete)", output::word(key.state().as_str_name())),
            (false, false) => output::word(key.state().as_str_name()).to_owned(),
        };
        let outcome = match result.outcome() {
            Outcome::Unspecified => "-",
            outcome => outcome.as_str_name(),
        };
        table.add_row([
            key.key.as_ref().map(text).unwrap_or_default(),
            state,
            key.generation.to_string(),
            outcome.to_owned(),
            error.reason,
            error.message,
            key.owner.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_shown() {
        let key = Key {
            group: "upm.syntropycloud.io".into(),
            version: "v1alpha2".into(),
            kind: "UnitSet".into(),
            namespace: "p".into(),
            name: "demo".into(),
        };
        assert_eq!(parse(&text(&key)).unwrap(), key);
        assert!(parse("demo").is_err());
    }

    #[test]
    fn a_rejected_key_says_why() {
        let key = AgentKey {
            key: Some(Key {
                name: "demo".into(),
                ..Key::default()
            }),
            result: Some(upm_proto::hub::v1::ObjectResult {
                outcome: Outcome::Rejected.into(),
                error: Some(upm_proto::hub::v1::Error {
                    reason: "INVALID".into(),
                    message: "spec.units must be at least 1".into(),
                    ..upm_proto::hub::v1::Error::default()
                }),
                ..upm_proto::hub::v1::ObjectResult::default()
            }),
            ..AgentKey::default()
        };
        let shown = key_rows(&[key]).to_string();
        assert!(shown.contains("REJECTED") && shown.contains("INVALID"));
        assert!(shown.contains("spec.units must be at least 1"));
    }

    #[test]
    fn the_lag_is_what_the_agent_has_not_received() {
        let agent = Agent {
            head_rev: 9,
            received_rev: 4,
            ..Agent::default()
        };
        assert_eq!(lag(&agent), "5");
        assert_eq!(lag(&Agent::default()), "0");
    }
}
