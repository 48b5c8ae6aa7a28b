//! What a member may use of its memory limit: the same figures as in the package's template. Pure.

use std::collections::BTreeMap;

use crds::quantity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use mesh::FieldViolation;

use crate::spec::{field, violation};

const MIB: i64 = 1024 * 1024;
/// The unit agent and the server's own needs beside the data.
const BASE: i64 = 12 * MIB;
/// The server's own needs that it counts as data.
const OWN: i64 = 2 * MIB;
const MAXMEMORY: &str = "maxmemory";
const SUBSCRIBERS: &str = "client-output-buffer-limit-pubsub";
const CLIENTS: &str = "client-output-buffer-limit-normal";

/// How a memory limit is shared out; all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Keys and values.
    pub(crate) data: i64,
    /// `maxmemory`: the server counts the backlog and its own needs, too.
    pub(crate) maxmemory: i64,
    /// The largest `maxmemory` that can be set: it leaves at least a third of the data's size for what a fork copies.
    pub(crate) most: i64,
    /// Writes kept for replicas that come back.
    pub(crate) backlog: i64,
    /// The output buffer of one replica.
    pub(crate) buffers: i64,
}

impl Shares {
    /// The shares of a limit in bytes.
    pub(crate) fn of(limit: i64) -> Self {
        let backlog = (limit / 16).clamp(MIB, 64 * MIB);
        let buffers = (limit / 8).clamp(8 * MIB, 256 * MIB);
        let data = ((limit - backlog - buffers - BASE) / 2).max(MIB);
        let counted = backlog + OWN;
        Self {
            data,
            maxmemory: data + counted,
            most: data * 3 / 2 + counted,
            backlog,
            buffers,
        }
    }

    /// The shares of a limit as a Kubernetes quantity; `None` when it is none.
    pub(crate) fn of_quantity(limit: &str) -> Option<Self> {
        quantity::units(&Quantity(limit.to_owned()))
            .ok()
            .map(Self::of)
    }
}

/// Parameters that do not fit into the memory of a member.
pub(crate) fn check(parameters: &BTreeMap<String, String>, limit: &str) -> Vec<FieldViolation> {
    let Some(shares) = Shares::of_quantity(limit) else {
        return Vec::new();
    };
    let mut wrong = Vec::new();
    let mut refuse = |key: &str, why: String| {
        wrong.push(violation(format!("{}[{key}]", field("parameters")), why));
    };
    let set = |key: &str| parameters.get(key).filter(|value| !value.is_empty());
    if let Some(value) = set(MAXMEMORY).and_then(|value| value.parse::<i64>().ok()) {
        if shares.most < value {
            let why = format!(
                "{value} does not fit into {limit}: at most {}, of which the replication backlog takes {}",
                shares.most, shares.backlog
            );
            refuse(MAXMEMORY, why);
        } else if value <= shares.backlog + OWN {
            let why = format!(
                "{value} leaves no room for data: the replication backlog and the server take {}",
                shares.backlog + OWN
            );
            refuse(MAXMEMORY, why);
        }
    }
    for key in [SUBSCRIBERS, CLIENTS] {
        for amount in set(key)
            .into_iter()
            .flat_map(|value| value.split(' ').take(2))
        {
            if amount
                .parse::<i64>()
                .is_ok_and(|bytes| shares.buffers < bytes)
            {
                let why = format!(
                    "a buffer of {amount} does not fit into {limit}: at most {}",
                    shares.buffers
                );
                refuse(key, why);
                break;
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIGURES: &str = include_str!("../../../helm/packages/redis-7.0.15/memory.yaml");

    /// The package's figures: lines of `name: number`.
    fn figures() -> Vec<BTreeMap<String, i64>> {
        let lines = FIGURES.lines().filter_map(|line| line.strip_prefix("- {"));
        lines
            .map(|line| {
                let pairs = line.trim_end_matches('}').split(',');
                pairs
                    .map(|pair| {
                        let (name, number) = pair.split_once(':').unwrap();
                        (name.trim().to_owned(), number.trim().parse().unwrap())
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn shares_are_those_of_the_package() {
        let figures = figures();
        assert!(figures.len() > 5);
        for line in figures {
            let shares = Shares::of(line["limit"]);
            for (name, share) in [
                ("data", shares.data),
                ("maxmemory", shares.maxmemory),
                ("most", shares.most),
                ("backlog", shares.backlog),
                ("buffers", shares.buffers),
            ] {
                assert_eq!(share, line[name], "{name} of {}", line["limit"]);
            }
        }
    }

    #[test]
    fn everything_together_fits_into_the_limit() {
        for limit in (64..10_000).step_by(7).map(|mib| mib * MIB) {
            let shares = Shares::of(limit);
            let worst = shares.most - OWN + shares.buffers + BASE + shares.data / 2;
            assert!(worst <= limit, "{limit}: {shares:?}");
            assert!(
                limit / 4 < shares.data + OWN + 4 * MIB,
                "{limit}: {shares:?}"
            );
        }
        assert_eq!(Shares::of_quantity("64Mi"), Some(Shares::of(64 * MIB)));
        assert_eq!(Shares::of_quantity("lots"), None);
    }

    fn refused(key: &str, value: &str, limit: &str) -> Option<String> {
        let parameters = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        check(&parameters, limit).pop().map(|it| it.description)
    }

    #[test]
    fn maxmemory_is_bounded_by_the_memory_of_a_member() {
        let most = Shares::of(256 * MIB).most;
        assert_eq!(refused(MAXMEMORY, &most.to_string(), "256Mi"), None);
        assert_eq!(refused(MAXMEMORY, "", "256Mi"), None);
        let above = refused(MAXMEMORY, &(most + 1).to_string(), "256Mi").unwrap();
        assert!(above.contains(&format!("at most {most}")), "{above}");
        assert_eq!(refused(MAXMEMORY, &(most + 1).to_string(), "512Mi"), None);
        let backlog = refused(MAXMEMORY, "10000000", "256Mi").unwrap();
        assert!(backlog.contains("no room for data"), "{backlog}");
    }

    #[test]
    fn buffers_are_bounded_by_the_memory_of_a_member() {
        assert_eq!(refused(SUBSCRIBERS, "33554432 8388608 60", "256Mi"), None);
        let above = refused(SUBSCRIBERS, "33554432 8388608 60", "64Mi").unwrap();
        assert!(above.contains("at most 8388608"), "{above}");
        assert_eq!(refused(CLIENTS, "0 0 0", "64Mi"), None, "no limit");
    }
}
