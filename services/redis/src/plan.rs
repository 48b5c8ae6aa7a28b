//! Redis' words for the plans that all engines share: how long things take, and what they risk. Pure.

use std::time::Duration;

use engine::{
    Plan,
    names::ServiceName,
    shape::{RetainedVolumes, Volumes},
    workflows::{self, Pace},
};

use crate::spec::RedisSpec;

const PACE: Pace = Pace {
    title: "Redis",
    unit_ready: Duration::from_secs(25),
    unit_restart: Duration::from_secs(20),
    link: Duration::from_secs(6),
    switchover: Duration::from_secs(2),
    removal: Duration::from_secs(20),
};

pub(crate) fn create(name: &ServiceName, spec: &RedisSpec, retained: RetainedVolumes) -> Plan {
    let risk = match retained {
        RetainedVolumes::Discard => {
            "none for other services; the volumes that an earlier service left are removed"
        }
        RetainedVolumes::Refuse | RetainedVolumes::Adopt => "none: nothing runs yet",
    };
    let durability = if spec.members < 3 {
        "; with fewer than three members confirmed writes can be lost with one member"
    } else {
        ""
    };
    workflows::create(&PACE, name, &spec.cluster, spec.members, retained)
        .risk(format!("{risk}{durability}"))
}

pub(crate) fn delete(name: &ServiceName, members: u32, volumes: Volumes) -> Plan {
    let data = match volumes {
        Volumes::Retain => {
            "the data stay on their volumes and can be adopted by a service of the same name"
        }
        Volumes::Delete => "all data are removed and cannot be brought back",
    };
    workflows::delete(&PACE, name, members, volumes)
        .risk(format!("clients lose the service; {data}"))
}

pub(crate) fn restart(members: u32) -> Plan {
    workflows::restart(&PACE, members).risk(match members {
        1 => "the only member is restarted: reads and writes fail for some seconds",
        2 => "writes pause for less than one second at the switchover; while a member restarts, only the other one has the data",
        _ => "writes pause for less than one second at the switchover; one member at a time serves no reads",
    })
}

pub(crate) fn switchover(from: &str, target: &str) -> Plan {
    workflows::switchover(&PACE, from, target)
        .risk("writes pause for less than one second; no confirmed write is lost; clients of the old primary reconnect")
}

pub(crate) fn failover(target: &str, loss: &str) -> Plan {
    workflows::failover(&PACE, target, loss)
        .risk(format!("confirmed writes are lost for good: {loss}"))
}

pub(crate) fn scale(from: u32, to: u32) -> Plan {
    workflows::scale(&PACE, from, to).risk(if from < to {
        "none for clients; the primary sends a full copy to each new member"
    } else if to < 3 {
        "writes pause for less than one second if the primary has to move; with fewer than three members confirmed writes can be lost with one"
    } else {
        "writes pause for less than one second if the primary has to move"
    })
}

#[cfg(test)]
mod tests {
    use engine::Step;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_plan_says_how_long_it_takes_and_what_it_risks(from in 1_u32..=9, to in 1_u32..=9) {
            prop_assume!(from != to);
            let name = ServiceName::new("p", "redisServices", "demo");
            let plans = [
                delete(&name, from, Volumes::Retain),
                restart(from),
                switchover("demo-0", "demo-1"),
                failover("demo-1", "demo-1 would lead without 10 bytes"),
                scale(from, to),
            ];
            for plan in plans {
                prop_assert!(!plan.risk.is_empty());
                prop_assert!(plan.expected() < plan.deadline);
                prop_assert!(plan.steps.iter().any(|step| step.point_of_no_return));
            }
        }
    }

    #[test]
    fn deleting_data_says_so() {
        let name = ServiceName::new("p", "redisServices", "demo");
        assert!(
            delete(&name, 3, Volumes::Delete)
                .risk
                .contains("cannot be brought back")
        );
        assert!(
            delete(&name, 3, Volumes::Retain)
                .steps
                .iter()
                .any(|step| step.step == Step::ForgetService)
        );
    }
}
