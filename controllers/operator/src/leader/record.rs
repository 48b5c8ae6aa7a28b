//! Who holds a Lease and who may take it. Pure: clocks of other machines are never compared, only whether the record moved.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

/// What to do about the Lease now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// There is none: make it.
    Create,
    /// It is ours, free or run out: write it.
    Write,
    /// Somebody else holds it.
    Wait,
}

/// The last record that was seen, and since when it did not change.
#[derive(Debug, Default)]
pub(super) struct Seen {
    record: Option<(LeaseSpec, Instant)>,
}

impl Seen {
    /// Notes what the Lease says now.
    pub(super) fn look(&mut self, lease: Option<&LeaseObject>, now: Instant) {
        let spec = lease.and_then(|lease| lease.spec.clone());
        match (spec, &self.record) {
            (Some(spec), Some((known, _))) if *known == spec => {}
            (Some(spec), _) => self.record = Some((spec, now)),
            (None, _) => self.record = None,
        }
    }
}

pub(super) fn holder(lease: &LeaseObject) -> Option<&str> {
    lease
        .spec
        .as_ref()?
        .holder_identity
        .as_deref()
        .filter(|holder| !holder.is_empty())
}

pub(super) fn decide(lease: Option<&LeaseObject>, seen: &Seen, me: &str, now: Instant) -> Decision {
    let Some(lease) = lease else {
        return Decision::Create;
    };
    match holder(lease) {
        None => Decision::Write,
        Some(holder) if holder == me => Decision::Write,
        Some(_) => {
            let seconds = lease
                .spec
                .as_ref()
                .and_then(|spec| spec.lease_duration_seconds)
                .unwrap_or(15);
            let holds = Duration::from_secs(u64::try_from(seconds).unwrap_or(15));
            match &seen.record {
                Some((_, since)) if now.duration_since(*since) > holds => Decision::Write,
                _ => Decision::Wait,
            }
        }
    }
}

/// The Lease held by `me`, based on what was found.
pub(super) fn held(
    found: Option<&LeaseObject>,
    namespace: &str,
    name: &str,
    me: &str,
    duration: Duration,
    now: Timestamp,
) -> LeaseObject {
    let mut lease = found.cloned().unwrap_or_else(|| LeaseObject {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let before = lease.spec.take().unwrap_or_default();
    let mine = before.holder_identity.as_deref() == Some(me);
    lease.spec = Some(LeaseSpec {
        acquire_time: if mine {
            before.acquire_time
        } else {
            Some(MicroTime(now))
        },
        lease_transitions: Some(
            before.lease_transitions.unwrap_or(0) + i32::from(!mine && found.is_some()),
        ),
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(duration.as_secs()).ok(),
        renew_time: Some(MicroTime(now)),
        ..LeaseSpec::default()
    });
    lease
}

/// The Lease held by nobody.
pub(super) fn released(found: &LeaseObject) -> LeaseObject {
    let mut lease = found.clone();
    if let Some(spec) = lease.spec.as_mut() {
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
    }
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str) -> LeaseObject {
        held(
            None,
            "upm-system",
            "agent",
            holder,
            Duration::from_secs(15),
            Timestamp::from_second(1000).unwrap(),
        )
    }

    fn seen(lease: &LeaseObject, at: Instant) -> Seen {
        let mut seen = Seen::default();
        seen.look(Some(lease), at);
        seen
    }

    #[test]
    fn takes_what_is_missing_free_or_its_own() {
        let now = Instant::now();
        assert_eq!(decide(None, &Seen::default(), "a", now), Decision::Create);
        assert_eq!(
            decide(Some(&lease("a")), &Seen::default(), "a", now),
            Decision::Write
        );
        assert_eq!(
            decide(Some(&released(&lease("b"))), &Seen::default(), "a", now),
            Decision::Write
        );
    }

    #[test]
    fn waits_for_the_whole_duration_since_it_saw_the_record_move() {
        let start = Instant::now();
        let held = lease("b");
        let mut seen = seen(&held, start);
        let later = start + Duration::from_secs(14);
        seen.look(Some(&held), later);
        assert_eq!(decide(Some(&held), &seen, "a", later), Decision::Wait);
        assert_eq!(
            decide(Some(&held), &seen, "a", start + Duration::from_secs(16)),
            Decision::Write
        );
    }

    #[test]
    fn waits_again_when_the_holder_renewed_whatever_its_clock_says() {
        let start = Instant::now();
        let mut seen = seen(&lease("b"), start);
        let mut renewed = lease("b");
        renewed.spec.as_mut().unwrap().renew_time =
            Some(MicroTime(Timestamp::from_second(5).unwrap()));
        let later = start + Duration::from_secs(16);
        seen.look(Some(&renewed), later);
        assert_eq!(decide(Some(&renewed), &seen, "a", later), Decision::Wait);
    }

    #[test]
    fn counts_transitions_and_keeps_the_time_of_acquisition() {
        let now = Timestamp::from_second(2000).unwrap();
        let taken = held(
            Some(&lease("b")),
            "upm-system",
            "agent",
            "a",
            Duration::from_secs(15),
            now,
        );
        let spec = taken.spec.clone().unwrap();
        assert_eq!(
            (spec.lease_transitions, spec.acquire_time),
            (Some(1), Some(MicroTime(now)))
        );
        let later = Timestamp::from_second(2004).unwrap();
        let renewed = held(
            Some(&taken),
            "upm-system",
            "agent",
            "a",
            Duration::from_secs(15),
            later,
        );
        let spec = renewed.spec.unwrap();
        assert_eq!(
            (spec.lease_transitions, spec.acquire_time, spec.renew_time),
            (Some(1), Some(MicroTime(now)), Some(MicroTime(later)))
        );
    }
}
