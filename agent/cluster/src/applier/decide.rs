//! What to do with an object, given what is live. Pure: the fence of generations lies here.

use upm_proto::{
    hub::v1::{self as pb, Outcome},
    mutation::Mutation,
};

/// What matters of a live object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// Whether its deletion has begun.
    pub deleting: bool,
    /// The intent that it carries; `None` when it carries none.
    pub intent: Option<Carried>,
}

/// The annotations of an intent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carried {
    /// Identity.
    pub uid: Vec<u8>,
    /// Generation.
    pub generation: u64,
    /// SHA-256 of the body.
    pub digest: Vec<u8>,
}

/// What to do with an intent.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Write it.
    Write,
    /// Nothing: this is the outcome.
    Outcome(Outcome, pb::Error),
}

/// What to do with a tombstone.
#[derive(Debug, Clone, PartialEq)]
pub enum Deletion {
    /// Delete exactly this object.
    Delete {
        /// Its UID.
        uid: String,
    },
    /// Leave the object and take the intent's annotations off it.
    Forget,
    /// Nothing: this is the outcome.
    Outcome(Outcome, pb::Error),
}

fn error(reason: &str, message: impl Into<String>) -> pb::Error {
    pb::Error {
        reason: reason.into(),
        message: message.into(),
        http_status: 0,
    }
}

/// What to do with an intent.
pub fn decide(live: Option<&Live>, apply: &pb::Apply) -> Decision {
    let wanted = apply.preconditions.clone().unwrap_or_default();
    let Some(live) = live else {
        return if wanted.uid.is_empty() && wanted.resource_version.is_empty() {
            Decision::Write
        } else {
            Decision::Outcome(
                Outcome::UidMismatch,
                error(
                    "ABSENT",
                    "the object that the precondition names does not exist",
                ),
            )
        };
    };
    let ours = live
        .intent
        .as_ref()
        .filter(|carried| carried.uid == apply.intent_uid);
    if live.deleting {
        return Decision::Outcome(
            Outcome::Transient,
            error("BEING_DELETED", "an object of this name is being deleted"),
        );
    }
    if !wanted.uid.is_empty() && wanted.uid != live.uid {
        return Decision::Outcome(
            Outcome::UidMismatch,
            error("UID", format!("the live object has uid {}", live.uid)),
        );
    }
    if !wanted.resource_version.is_empty() && wanted.resource_version != live.resource_version {
        return Decision::Outcome(
            Outcome::UidMismatch,
            error("RESOURCE_VERSION", "the live object has changed"),
        );
    }
    match (ours, &live.intent) {
        (Some(carried), _)
            if carried.generation > apply.generation && !Mutation::GenerationUnfenced.is_on() =>
        {
            Decision::Outcome(
                Outcome::Rejected,
                error(
                    "STALE_GENERATION",
                    format!("the live object carries generation {}", carried.generation),
                ),
            )
        }
        (Some(carried), _)
            if carried.generation == apply.generation && carried.digest == apply.digest =>
        {
            Decision::Outcome(Outcome::Unchanged, pb::Error::default())
        }
        (Some(_), _) => Decision::Write,
        (None, _) if wanted.must_not_exist => Decision::Outcome(
            Outcome::UidMismatch,
            error("EXISTS", "an object of this name exists"),
        ),
        _ if apply.force => Decision::Write,
        (None, Some(_)) => Decision::Outcome(
            Outcome::UidMismatch,
            error("OTHER_INTENT", "the object belongs to another intent"),
        ),
        (None, None) => Decision::Outcome(
            Outcome::Conflict,
            error(
                "NOT_OURS",
                "an object of this name exists that the platform did not make",
            ),
        ),
    }
}

/// Whether the live object carries this intent.
pub fn carries(live: Option<&Live>, uid: &[u8], generation: u64, digest: &[u8]) -> bool {
    live.filter(|live| !live.deleting)
        .and_then(|live| live.intent.as_ref())
        .is_some_and(|c| c.uid == uid && c.generation == generation && c.digest == digest)
}

/// What to do with a tombstone; `attempt` is how often it was tried before.
pub fn decide_delete(live: Option<&Live>, delete: &pb::Delete, attempt: u32) -> Deletion {
    let gone = if attempt > 0 {
        Outcome::Deleted
    } else {
        Outcome::Absent
    };
    let Some(live) = live else {
        return Deletion::Outcome(gone, pb::Error::default());
    };
    let ours = live
        .intent
        .as_ref()
        .is_some_and(|carried| carried.uid == delete.intent_uid);
    if !ours {
        // The object of this intent is gone; another one has its name.
        return Deletion::Outcome(
            gone,
            error("OTHER_OBJECT", "an object of another origin has the name"),
        );
    }
    if !delete.uid_precondition.is_empty() && delete.uid_precondition != live.uid {
        return Deletion::Outcome(gone, error("OTHER_OBJECT", "the object was made anew"));
    }
    if delete.orphan {
        return Deletion::Forget;
    }
    if live.deleting {
        return Deletion::Outcome(
            Outcome::Deleting,
            error("FINALIZERS", "finalizers have not finished"),
        );
    }
    Deletion::Delete {
        uid: live.uid.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(uid: &[u8], generation: u64) -> Live {
        Live {
            uid: "live".into(),
            intent: Some(Carried {
                uid: uid.to_vec(),
                generation,
                digest: vec![1],
            }),
            ..Live::default()
        }
    }

    fn intent(uid: &[u8], generation: u64) -> pb::Apply {
        pb::Apply {
            intent_uid: uid.to_vec().into(),
            generation,
            digest: vec![1].into(),
            ..pb::Apply::default()
        }
    }

    #[test]
    fn never_writes_an_older_generation() {
        let decision = decide(Some(&live(b"u", 5)), &intent(b"u", 4));
        assert!(
            matches!(decision, Decision::Outcome(Outcome::Rejected, e) if e.reason == "STALE_GENERATION")
        );
        assert_eq!(
            decide(Some(&live(b"u", 5)), &intent(b"u", 6)),
            Decision::Write
        );
        let same = decide(Some(&live(b"u", 5)), &intent(b"u", 5));
        assert!(matches!(same, Decision::Outcome(Outcome::Unchanged, _)));
    }

    #[test]
    fn does_not_adopt_what_somebody_else_made_unless_forced() {
        let foreign = Live::default();
        let decision = decide(Some(&foreign), &intent(b"u", 1));
        assert!(
            matches!(decision, Decision::Outcome(Outcome::Conflict, e) if e.reason == "NOT_OURS")
        );
        let forced = pb::Apply {
            force: true,
            ..intent(b"u", 1)
        };
        assert_eq!(decide(Some(&foreign), &forced), Decision::Write);
        let other = decide(Some(&live(b"other", 1)), &intent(b"u", 1));
        assert!(matches!(other, Decision::Outcome(Outcome::UidMismatch, _)));
    }

    #[test]
    fn waits_for_an_object_that_is_being_deleted() {
        let deleting = Live {
            deleting: true,
            ..live(b"u", 1)
        };
        let decision = decide(Some(&deleting), &intent(b"v", 1));
        assert!(matches!(decision, Decision::Outcome(Outcome::Transient, _)));
    }

    #[test]
    fn deletes_only_the_object_of_the_tombstones_own_intent() {
        let tombstone = pb::Delete {
            intent_uid: b"u".to_vec().into(),
            ..pb::Delete::default()
        };
        assert_eq!(
            decide_delete(Some(&live(b"u", 9)), &tombstone, 0),
            Deletion::Delete { uid: "live".into() }
        );
        for other in [live(b"v", 1), Live::default()] {
            assert!(matches!(
                decide_delete(Some(&other), &tombstone, 0),
                Deletion::Outcome(Outcome::Absent, _)
            ));
        }
        assert!(matches!(
            decide_delete(None, &tombstone, 1),
            Deletion::Outcome(Outcome::Deleted, _)
        ));
    }

    #[test]
    fn forgets_instead_of_deleting_when_the_tombstone_orphans() {
        let tombstone = pb::Delete {
            intent_uid: b"u".to_vec().into(),
            orphan: true,
            ..pb::Delete::default()
        };
        assert_eq!(
            decide_delete(Some(&live(b"u", 9)), &tombstone, 0),
            Deletion::Forget
        );
    }
}
