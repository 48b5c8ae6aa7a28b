//! What operations wait for, read from the status of a RedisReplication.

use crds::{
    Condition, RedisReplicationStatus, conditions, names,
    redis_replication::{LastSwitchover, Member, Phase, Role, SwitchoverResult},
};
use engine::{
    Check, Observed, Predicate, Service, Switchover,
    desired::{self, MAIN, SwitchoverRequest},
    intent::{Mark, Part},
};

use super::{REPLICATION_KIND, linked, replication};

/// What holds of what an operation waits for.
pub(crate) fn check(check: &Check, service: &Service, observed: &Observed) -> Vec<Predicate> {
    match check {
        Check::TopologyReady => replication_ready(service, observed),
        Check::Writable => writable(service, observed),
        Check::UnitsReady { .. }
        | Check::UnitsRemoved { .. }
        | Check::PoolApplied { .. }
        | Check::SwitchedOver
        | Check::Engine { .. } => {
            let text = format!("replication knows no check {check:?}");
            vec![Predicate::unmet("CHECK_KNOWN", text)]
        }
    }
}

/// Whether there is a primary, exactly the wanted members take part, and every replica follows.
pub(crate) fn replication_ready(service: &Service, observed: &Observed) -> Vec<Predicate> {
    match current(service, observed) {
        Ok(status) => vec![
            elected(&status),
            taking_part(service, &status),
            replicas_linked(service, &status),
        ],
        Err(predicate) => vec![predicate],
    }
}

/// Whether the primary takes writes and every replica follows.
pub(crate) fn writable(service: &Service, observed: &Observed) -> Vec<Predicate> {
    match current(service, observed) {
        Ok(status) => {
            let why = if status.writable {
                format!(
                    "{} takes writes",
                    status.primary.as_deref().unwrap_or("the primary")
                )
            } else {
                why_not_writable(&status)
            };
            vec![
                Predicate::new("WRITES_ACCEPTED", status.writable, why),
                replicas_linked(service, &status),
            ]
        }
        Err(predicate) => vec![predicate],
    }
}

/// How far a switchover is.
pub(crate) fn switchover(
    service: &Service,
    asked: &SwitchoverRequest,
    observed: &Observed,
) -> Switchover {
    let Some(status) = replication(service, Some(observed)) else {
        return Switchover::Waiting(vec![not_reported()]);
    };
    let to = &asked.switchover;
    if let Some(accepted) = &to.accept_loss {
        return failover(to, accepted, &status);
    }
    match status
        .last_switchover
        .as_ref()
        .filter(|last| last.request_id == asked.request_id)
    {
        Some(LastSwitchover {
            result: SwitchoverResult::Succeeded,
            ..
        }) => Switchover::Done,
        Some(LastSwitchover {
            reason, message, ..
        }) => Switchover::Failed {
            reason: upper_snake(reason),
            message: message.clone(),
        },
        None => {
            let words = format!(
                "{} is asked to become the primary in place of {}; the cluster is {:?}",
                to.target,
                status.primary.as_deref().unwrap_or("nobody"),
                status.phase
            );
            Switchover::Waiting(vec![Predicate::unmet("SWITCHOVER_DONE", words)])
        }
    }
}

/// How far a failover with an accepted loss is.
fn failover(
    to: &desired::Switchover,
    accepted: &str,
    status: &RedisReplicationStatus,
) -> Switchover {
    if status.epoch > to.expected_epoch {
        if matches!(status.phase, Phase::Healthy | Phase::Degraded) {
            return Switchover::Done;
        }
        let words = format!(
            "{} was elected in epoch {} and does not lead yet",
            status.primary.as_deref().unwrap_or("nobody"),
            status.epoch
        );
        return Switchover::Waiting(vec![Predicate::unmet("SWITCHOVER_DONE", words)]);
    }
    match &status.refusal {
        // members came or went since: another loss, which nobody accepted
        Some(refusal) if refusal.loss_id != accepted => Switchover::Failed {
            reason: "LOSS_NOT_ACCEPTED".to_owned(),
            message: format!("the loss is another one now: {}", refusal.loss),
        },
        Some(_) | None if status.writable => Switchover::Failed {
            reason: "NOTHING_REFUSED".to_owned(),
            message: "the primary came back and leads; nothing was lost".to_owned(),
        },
        Some(_) | None => Switchover::Waiting(vec![Predicate::unmet(
            "SWITCHOVER_DONE",
            format!("{} is about to be elected", to.target),
        )]),
    }
}

/// Whether a member could become the primary now without losing anything.
pub(crate) fn target_ready(service: &Service, observed: &Observed, target: &str) -> Vec<Predicate> {
    let Some(status) = replication(service, Some(observed)) else {
        return vec![not_reported()];
    };
    let linked = status.topology.get(target).is_some_and(linked);
    let why = if linked {
        format!(
            "{target} follows {}",
            status.primary.as_deref().unwrap_or("the primary")
        )
    } else {
        let message = status
            .topology
            .get(target)
            .and_then(|member| member.message.clone())
            .unwrap_or_default();
        format!(
            "{target} does not follow the primary; only a replica whose link is up can become the primary. {message}"
        )
    };
    let copying: Vec<&str> = status
        .topology
        .iter()
        .filter(|(name, member)| {
            name.as_str() != target && member.master_sync_in_progress == Some(true)
        })
        .map(|(name, _)| name.as_str())
        .collect();
    let copies = if copying.is_empty() {
        "no member copies the data of the primary".to_owned()
    } else {
        format!(
            "{} copies the data of the primary, which would begin anew; wait until it follows",
            copying.join(", ")
        )
    };
    vec![
        Predicate::new("TARGET_LINKED", linked, why),
        Predicate::new("NO_COPY_UNDER_WAY", copying.is_empty(), copies),
    ]
}

/// The linked replica that is least behind, among the ordinals below `below`; the lowest ordinal of equals.
pub(crate) fn best_replica(service: &Service, observed: &Observed, below: u32) -> Option<String> {
    let status = replication(service, Some(observed))?;
    status
        .topology
        .iter()
        .filter(|(name, member)| {
            linked(member) && member.ready && status.primary.as_ref() != Some(name)
        })
        .filter_map(|(name, member)| {
            let ordinal = u32::try_from(names::ordinal(&service.name.service, name)?).ok()?;
            let lag = member.lag_bytes.unwrap_or(i64::MAX);
            (ordinal < below).then(|| (lag, ordinal, name.clone()))
        })
        .min()
        .map(|(.., name)| name)
}

/// Why no writes are taken.
pub(super) fn why_not_writable(status: &RedisReplicationStatus) -> String {
    let condition = [
        conditions::kind::PRIMARY_ELECTED,
        conditions::kind::TOPOLOGY_READY,
    ]
    .into_iter()
    .find_map(|kind| {
        conditions::find(&status.conditions, kind).filter(|condition| condition.status != "True")
    });
    match (condition, status.phase) {
        (Some(condition), _) => words(condition),
        (None, Phase::Electing) => "a primary is being elected".to_owned(),
        (None, Phase::SwitchingOver) => "the primary is being changed".to_owned(),
        (None, Phase::SettingUp) => "the replication is being set up".to_owned(),
        (None, Phase::Healthy | Phase::Degraded | Phase::Refused) => {
            "the primary does not take writes".to_owned()
        }
    }
}

/// A condition in words.
pub(super) fn words(condition: &Condition) -> String {
    if condition.message.is_empty() {
        condition.reason.clone()
    } else {
        format!("{}: {}", condition.reason, condition.message)
    }
}

fn current(service: &Service, observed: &Observed) -> Result<RedisReplicationStatus, Predicate> {
    let mark: &Mark = service
        .wanted(&Part::Topology)
        .next()
        .ok_or_else(not_reported)?;
    observed.current_status(mark).ok_or_else(not_reported)
}

fn not_reported() -> Predicate {
    Predicate::unmet(
        "REPLICATION_OBSERVED",
        format!("the cluster has not looked at the newest {REPLICATION_KIND} yet"),
    )
}

fn elected(status: &RedisReplicationStatus) -> Predicate {
    let primary = status.primary.as_ref().filter(|name| {
        status
            .topology
            .get(*name)
            .is_some_and(|member| member.role == Role::Source)
    });
    match primary {
        Some(name) => Predicate::met(
            "PRIMARY_ELECTED",
            format!("{name} is the primary, epoch {}", status.epoch),
        ),
        None => Predicate::unmet("PRIMARY_ELECTED", why_not_writable(status)),
    }
}

fn taking_part(service: &Service, status: &RedisReplicationStatus) -> Predicate {
    let wanted = wanted(service);
    let missing: Vec<&String> = wanted
        .iter()
        .filter(|name| !status.topology.contains_key(*name))
        .collect();
    let extra: Vec<&String> = status
        .topology
        .keys()
        .filter(|name| !wanted.contains(name))
        .collect();
    let words = match (missing.is_empty(), extra.is_empty()) {
        (true, true) => format!("{} members take part", wanted.len()),
        (false, _) => format!("not known yet: {}", list(&missing)),
        (true, false) => format!("still take part: {}", list(&extra)),
    };
    Predicate::new(
        "MEMBERS_TAKE_PART",
        missing.is_empty() && extra.is_empty(),
        words,
    )
}

fn replicas_linked(service: &Service, status: &RedisReplicationStatus) -> Predicate {
    let replicas: Vec<String> = wanted(service)
        .into_iter()
        .filter(|name| status.primary.as_ref() != Some(name))
        .collect();
    let missing: Vec<String> = replicas
        .iter()
        .filter(|name| !status.topology.get(*name).is_some_and(linked))
        .map(|name| match status.topology.get(name) {
            Some(member) => format!("{name}: {}", link_in_words(member)),
            None => format!("{name}: not known yet"),
        })
        .collect();
    let up = replicas.len() - missing.len();
    let mut words = format!("{up} of {} replicas linked", replicas.len());
    for why in &missing {
        words.push_str("; ");
        words.push_str(why);
    }
    Predicate::new("REPLICAS_LINKED", missing.is_empty(), words)
}

fn link_in_words(member: &Member) -> String {
    let message = member.message.clone().filter(|message| !message.is_empty());
    if let Some(message) = message {
        return message;
    }
    if member.master_sync_in_progress == Some(true) {
        return "copies the data set".to_owned();
    }
    match member.role {
        Role::Replica => format!(
            "link {}",
            member.master_link_status.as_deref().unwrap_or("unknown")
        ),
        Role::Source => "does not follow yet".to_owned(),
        Role::None => "not reachable, or parked".to_owned(),
    }
}

/// Names of the members that shall take part.
fn wanted(service: &Service) -> Vec<String> {
    let members = i32::try_from(service.desired.members_of(MAIN)).unwrap_or_default();
    (0..members)
        .map(|ordinal| names::unit_name(&service.name.service, ordinal))
        .collect()
}

fn list(names: &[&String]) -> String {
    names
        .iter()
        .map(|name| name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

/// `StaleEpoch` as `STALE_EPOCH`.
pub(super) fn upper_snake(camel: &str) -> String {
    let mut snake = String::with_capacity(camel.len() + 4);
    for (at, c) in camel.chars().enumerate() {
        if c.is_ascii_uppercase() && 0 < at && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.push(if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        });
    }
    if snake.is_empty() {
        "SWITCHOVER_FAILED".to_owned()
    } else {
        snake
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_reasons_as_the_api_does() {
        for (camel, snake) in [
            ("StaleEpoch", "STALE_EPOCH"),
            ("Timeout", "TIMEOUT"),
            ("", "SWITCHOVER_FAILED"),
        ] {
            assert_eq!(upper_snake(camel), snake);
        }
    }
}
