//! Redis' words for the plans that all engines share: how long things take, and what they risk. Pure.

use std::time::Duration;

use engine::{
    Engine as _, Plan,
    desired::{RetainedVolumes, Switchover, Units, Volumes},
    names::ServiceName,
    workflows::{self, Pace, Scaling},
};

use crate::{redis::Redis, spec::RedisSpec};

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
    let units = engine::units(&Redis::pools(spec));
    workflows::create(&PACE, name, &spec.cluster, &units, retained)
        .risk(format!("{risk}{durability}"))
}

pub(crate) fn delete(name: &ServiceName, units: &Units, volumes: Volumes) -> Plan {
    let data = match volumes {
        Volumes::Retain => {
            "the data stay on their volumes and can be adopted by a service of the same name"
        }
        Volumes::Delete => "all data are removed and cannot be brought back",
    };
    workflows::delete(&PACE, name, units, volumes).risk(format!("clients lose the service; {data}"))
}

pub(crate) fn restart(units: &Units, at: &str) -> Plan {
    workflows::restart(&PACE, units, at).risk(match units.values().sum() {
        1 => "the only member is restarted: reads and writes fail for some seconds",
        2 => "writes pause for less than one second at the switchover; while a member restarts, only the other one has the data",
        _ => "writes pause for less than one second at the switchover; one member at a time serves no reads",
    })
}

pub(crate) fn switchover(from: &str, to: Switchover) -> Plan {
    workflows::switchover(&PACE, from, to)
        .risk("writes pause for less than one second; no confirmed write is lost; clients of the old primary reconnect")
}

pub(crate) fn failover(to: Switchover, loss: &str) -> Plan {
    workflows::failover(&PACE, to, loss).risk(format!("confirmed writes are lost for good: {loss}"))
}

pub(crate) fn scale(from: u32, scaling: &Scaling) -> Plan {
    let to = scaling.to;
    workflows::scale(&PACE, scaling).risk(if from < to {
        "none for clients; the primary sends a full copy to each new member"
    } else if to < 3 {
        "writes pause for less than one second if the primary has to move; with fewer than three members confirmed writes can be lost with one"
    } else {
        "writes pause for less than one second if the primary has to move"
    })
}

#[cfg(test)]
mod tests {
    use engine::desired::MAIN;
    use proptest::prelude::*;

    use super::*;

    fn main(units: u32) -> Units {
        [(MAIN.to_owned(), units)].into()
    }

    fn to_one() -> Switchover {
        Switchover {
            target: "demo-1".into(),
            expected_epoch: 1,
            accept_loss: None,
        }
    }

    fn scaling(from: u32, to: u32) -> Scaling {
        Scaling {
            units: main(from),
            members: main(from),
            pool: MAIN.to_owned(),
            to,
            takes_part: true,
            spec: serde_json::Value::Null,
        }
    }

    proptest! {
        #[test]
        fn every_plan_says_how_long_it_takes_and_what_it_risks(from in 1_u32..=9, to in 1_u32..=9) {
            prop_assume!(from != to);
            let name = ServiceName::new("p", "redisServices", "demo");
            let plans = [
                delete(&name, &main(from), Volumes::Retain),
                restart(&main(from), "2026-01-01T00:00:00Z"),
                switchover("demo-0", to_one()),
                failover(to_one(), "demo-1 would lead without 10 bytes"),
                scale(from, &scaling(from, to)),
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
            delete(&name, &main(3), Volumes::Delete)
                .risk
                .contains("cannot be brought back")
        );
        assert!(
            delete(&name, &main(3), Volumes::Retain)
                .steps
                .iter()
                .any(|step| step.step.name == "ForgetService")
        );
    }
}
