//! Calls to unit agents, with mutual TLS from the cluster's own CA.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use upm_proto::unit::v1 as pb;
use upm_proto::unit::v1::redis_member_service_client::RedisMemberServiceClient;

use super::model::View;
use super::plan::Action;

/// How long an observation may take.
const OBSERVE: Duration = Duration::from_millis(1200);
/// The same for a member that did not answer the last time, while others wait.
const OBSERVE_AGAIN: Duration = Duration::from_millis(250);
/// How long a change may take.
const CHANGE: Duration = Duration::from_secs(5);
/// A server that is ended and loads its data again takes longer.
const PROMISE: Duration = Duration::from_secs(10);
/// What a promise that others do not depend on may cost.
const BESIDES: Duration = Duration::from_millis(250);
/// How long a paused primary refuses writes if nobody goes on.
const PAUSE: i64 = 10;
/// How long a target is waited for at once.
const AWAIT: Duration = Duration::from_secs(1);
/// Slices that a deadline is counted in.
const SLICES: u32 = 10;
/// A way to a unit agent that was not used for so long is forgotten.
const IDLE: Duration = Duration::from_mins(5);

/// Who calls: a certificate with a controller's SPIFFE id, PEM.
#[derive(Clone)]
pub struct Credentials {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The CA.
    pub authority: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// Where a unit agent is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The name in its certificate.
    pub host: String,
    /// Address and port.
    pub address: String,
}

struct Way {
    channel: Channel,
    used: Instant,
}

/// The ways to the unit agents.
pub struct Agents {
    credentials: Mutex<Credentials>,
    ways: Mutex<HashMap<Target, Way>>,
}

impl std::fmt::Debug for Agents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Agents")
    }
}

impl Agents {
    /// Calls with these credentials.
    pub fn new(credentials: Credentials) -> Self {
        Self {
            credentials: Mutex::new(credentials),
            ways: Mutex::default(),
        }
    }

    /// Calls with other credentials from now on.
    pub fn renew(&self, credentials: Credentials) {
        *self
            .credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = credentials;
        self.ways
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn client(&self, target: &Target) -> Result<RedisMemberServiceClient<Channel>, Status> {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = ways.get_mut(target) {
            way.used = Instant::now();
            return Ok(RedisMemberServiceClient::new(way.channel.clone()));
        }
        ways.retain(|_, way| way.used.elapsed() < IDLE);
        let credentials = self
            .credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&credentials.authority))
            .identity(Identity::from_pem(
                &credentials.certificate,
                &credentials.key,
            ))
            .domain_name(&target.host);
        let channel = Endpoint::from_shared(format!("https://{}", target.address))
            .and_then(|endpoint| endpoint.tls_config(tls))
            .map_err(|error| Status::internal(error.to_string()))?
            .connect_timeout(Duration::from_millis(500))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(3))
            .keep_alive_while_idle(true)
            .connect_lazy();
        ways.insert(
            target.clone(),
            Way {
                channel: channel.clone(),
                used: Instant::now(),
            },
        );
        Ok(RedisMemberServiceClient::new(channel))
    }

    /// Observes all members at once. `quick`: who did not answer the last time is not waited for as long.
    pub async fn observe(
        &self,
        targets: &BTreeMap<String, Target>,
        quick: &[String],
    ) -> BTreeMap<String, Result<View, Status>> {
        let asked = targets.iter().map(|(name, target)| async move {
            let limit = if quick.contains(name) {
                OBSERVE_AGAIN
            } else {
                OBSERVE
            };
            let seen = within(limit, async {
                self.client(target)?
                    .observe_member(pb::ObserveMemberRequest {})
                    .await
            });
            (name.clone(), seen.await.map(View::from))
        });
        join_all(asked).await.into_iter().collect()
    }

    /// Does one step; returns what was refused or not done.
    #[allow(clippy::too_many_lines)] // one arm for each action
    pub async fn act(
        &self,
        targets: &BTreeMap<String, Target>,
        action: &Action,
    ) -> Vec<(String, Status)> {
        let target = |member: &str| {
            targets
                .get(member)
                .ok_or_else(|| Status::new(Code::NotFound, format!("{member} is not a member")))
        };
        let one = |member: &str, result: Result<pb::RedisMember, Status>| match result {
            Ok(_) => Vec::new(),
            Err(status) => vec![(member.to_owned(), status)],
        };
        match action {
            Action::Record(_) => Vec::new(),
            Action::Promise {
                members,
                besides,
                epoch,
            } => self.promise(targets, members, besides, *epoch).await,
            Action::Grant {
                member,
                epoch,
                min_replicas,
                at,
                member_id,
                admitted,
                group,
                record_version,
            } => {
                let request = pb::GrantPrimaryRequest {
                    epoch: *epoch,
                    min_replicas_to_write: *min_replicas,
                    replid: at.replid.clone(),
                    offset: at.offset,
                    admitted_member_ids: admitted.iter().cloned().collect(),
                    record_version: *record_version,
                    member_id: member_id.clone(),
                    group_member_ids: group.iter().cloned().collect(),
                };
                one(
                    member,
                    within(CHANGE, async {
                        self.client(target(member)?)?.grant_primary(request).await
                    })
                    .await,
                )
            }
            Action::Follow {
                member,
                epoch,
                host,
                port,
                replid,
                offset,
            } => {
                let request = pb::FollowPrimaryRequest {
                    epoch: *epoch,
                    host: host.clone(),
                    port: *port,
                    replid: replid.clone(),
                    offset: *offset,
                };
                one(
                    member,
                    within(CHANGE, async {
                        self.client(target(member)?)?.follow_primary(request).await
                    })
                    .await,
                )
            }
            Action::Pause { member, epoch } => {
                let pause = Some(prost_types::Duration {
                    seconds: PAUSE,
                    nanos: 0,
                });
                let request = pb::PauseWritesRequest {
                    epoch: *epoch,
                    pause,
                };
                one(
                    member,
                    within(CHANGE, async {
                        self.client(target(member)?)?.pause_writes(request).await
                    })
                    .await,
                )
            }
            Action::Resume { member, epoch } => {
                let request = pb::ResumeWritesRequest { epoch: *epoch };
                one(
                    member,
                    within(CHANGE, async {
                        self.client(target(member)?)?.resume_writes(request).await
                    })
                    .await,
                )
            }
            Action::Await {
                member,
                replid,
                offset,
            } => {
                let timeout = prost_types::Duration::try_from(AWAIT).ok();
                let request = pb::AwaitOffsetRequest {
                    replid: replid.clone(),
                    offset: *offset,
                    timeout,
                };
                one(
                    member,
                    within(AWAIT * 2, async {
                        self.client(target(member)?)?.await_offset(request).await
                    })
                    .await,
                )
            }
        }
    }

    async fn promise(
        &self,
        targets: &BTreeMap<String, Target>,
        members: &[String],
        besides: &[String],
        epoch: i64,
    ) -> Vec<(String, Status)> {
        let ask = |member: String| async move {
            let result = within(PROMISE, async {
                let target = targets
                    .get(&member)
                    .ok_or_else(|| Status::new(Code::NotFound, "not a member"))?;
                self.client(target)?
                    .promise_epoch(pb::PromiseEpochRequest { epoch })
                    .await
            });
            result.await.err().map(|status| (member.clone(), status))
        };
        let needed = join_all(members.iter().cloned().map(ask));
        // both are asked at once; the unit agent finishes what it was asked, whether or not the answer is waited for
        let others = async {
            let limit = if members.is_empty() { PROMISE } else { BESIDES };
            tokio::time::timeout(limit, join_all(besides.iter().cloned().map(ask)))
                .await
                .unwrap_or_default()
        };
        let (needed, others) = tokio::join!(needed, others);
        needed.into_iter().chain(others).flatten().collect()
    }
}

/// What is wrong with the certificates, when that is why a call failed. Other causes change from one look to the next.
pub fn distrust(status: &Status) -> Option<String> {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let words = error.to_string();
        if words.starts_with("invalid peer certificate")
            || words.starts_with("received fatal alert")
        {
            return Some(words);
        }
        cause = error.source();
    }
    None
}

/// The answer, if it comes in time. Only the time in which this process itself runs counts, in slices: an answer that came while it got
/// no CPU must not make a member look silent.
async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    let mut call = pin!(call);
    for _ in 0..SLICES {
        if let Ok(answer) = tokio::time::timeout(limit / SLICES, call.as_mut()).await {
            return answer.map(tonic::Response::into_inner);
        }
    }
    Err(Status::deadline_exceeded(format!(
        "no answer within {limit:?}"
    )))
}
