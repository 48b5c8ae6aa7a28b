//! What can be wrong with a RedisReplication.

use super::{FieldError, Findings, Validate, duplicates};
use crate::redis_replication::RedisReplicationSpec;

impl Validate for RedisReplicationSpec {
    fn validate(&self) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let source = std::iter::once((
            "source".to_owned(),
            &self.source.name,
            &self.source.host,
            self.source.port,
        ));
        let replicas = self.replica.iter().enumerate();
        let replicas = replicas.map(|(i, r)| (format!("replica[{i}]"), &r.name, &r.host, r.port));
        let members: Vec<_> = source.chain(replicas).collect();
        for (path, name, host, port) in &members {
            findings.check(!name.is_empty(), format!("{path}.name"), "is empty");
            let fits = !host.is_empty()
                && host.len() <= 253
                && host
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || b"-._:".contains(&c));
            findings.check(
                fits,
                format!("{path}.host"),
                "is not a host name or address",
            );
            findings.check(
                (1..=65_535).contains(port),
                format!("{path}.port"),
                "must be between 1 and 65535",
            );
        }
        for (i, name) in duplicates(members.iter().map(|member| member.1.as_str())) {
            findings.add(
                format!("{}.name", members[i].0),
                format!("two members have the name {name}"),
            );
        }
        let addresses: Vec<_> = members
            .iter()
            .map(|(_, _, host, port)| format!("{host}:{port}"))
            .collect();
        for (i, address) in duplicates(addresses.iter().map(String::as_str)) {
            findings.add(
                format!("{}.host", members[i].0),
                format!("two members have the address {address}"),
            );
        }
        findings.check(!self.secret.name.is_empty(), "secret.name", "is empty");
        findings.check(!self.secret.redis.is_empty(), "secret.redis", "is empty");
        if let Some(switchover) = &self.switchover {
            findings.check(
                !switchover.request_id.is_empty(),
                "switchover.requestId",
                "is empty",
            );
            findings.check(
                switchover.expected_epoch >= 0,
                "switchover.expectedEpoch",
                "is negative",
            );
            let known = switchover.target.is_empty()
                || members.iter().any(|member| *member.1 == switchover.target);
            findings.check(
                known,
                "switchover.target",
                format!("{} is not a member", switchover.target),
            );
            let isolated = self
                .replica
                .iter()
                .any(|r| r.isolated && r.name == switchover.target);
            findings.check(
                !isolated,
                "switchover.target",
                format!("{} is isolated", switchover.target),
            );
        }
        findings.0
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut findings = Findings(self.validate());
        findings.check(
            self.secret.name == old.secret.name,
            "secret.name",
            "is immutable",
        );
        findings.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis_replication::{Node, RedisSecret, ReplicaNode, Switchover};

    fn replication() -> RedisReplicationSpec {
        let replica = |name: &str| ReplicaNode {
            name: name.to_owned(),
            host: format!("{name}.demo-headless-svc.p1.svc"),
            port: 6379,
            ..ReplicaNode::default()
        };
        RedisReplicationSpec {
            source: Node {
                name: "demo-0".to_owned(),
                host: "demo-0.demo-headless-svc.p1.svc".to_owned(),
                port: 6379,
                ..Node::default()
            },
            replica: vec![replica("demo-1"), replica("demo-2")],
            secret: RedisSecret {
                name: "demo-credentials".to_owned(),
                redis: "default".to_owned(),
            },
            ..RedisReplicationSpec::default()
        }
    }

    #[test]
    fn accepts_three_members() {
        assert_eq!(replication().validate(), []);
    }

    #[test]
    fn refuses_a_member_that_is_there_twice() {
        let mut wrong = replication();
        wrong.replica[1] = wrong.replica[0].clone();
        let paths: Vec<_> = wrong
            .validate()
            .into_iter()
            .map(|error| error.path)
            .collect();
        assert_eq!(paths, ["replica[1].name", "replica[1].host"]);
    }

    #[test]
    fn refuses_a_switchover_to_a_stranger_or_an_isolated_member() {
        let mut wrong = replication();
        wrong.switchover = Some(Switchover {
            request_id: "r1".to_owned(),
            target: "other-0".to_owned(),
            expected_epoch: 1,
        });
        assert_eq!(wrong.validate()[0].path, "switchover.target");
        wrong.switchover.as_mut().unwrap().target = "demo-1".to_owned();
        wrong.replica[0].isolated = true;
        assert_eq!(wrong.validate()[0].message, "demo-1 is isolated");
    }
}
