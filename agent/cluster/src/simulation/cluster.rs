//! A cluster that is a map, with the fence of the real applier.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use upm_proto::{
    hub::v1::{self as pb, Outcome},
    ledger::content_digest,
    mutation::Mutation,
};

use crate::{
    applier::decide::{self, Carried, Decision, Deletion, Live},
    session::{Done, Observation, Verdict, Work},
};

/// What was read longer ago than this is not acted on.
pub(crate) const STALE_MS: u64 = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) objects: BTreeMap<String, (pb::Key, Live)>,
    /// Keys whose watch event was not delivered.
    pub(crate) unseen: BTreeSet<String>,
    /// The highest generation that was ever written per intent.
    pub(crate) highest: HashMap<Vec<u8>, u64>,
    /// Whether the ledger was replaced by an older one: that may want an object which the newer one had deleted, as it was then.
    pub(crate) restored: bool,
    /// How often each generation was refused.
    pub(crate) refused: HashMap<(Vec<u8>, u64), u32>,
    /// Every (key, intent) that was deleted.
    pub(crate) deleted: Vec<(String, Vec<u8>)>,
    uids: u64,
}

/// Whether the API server refuses this generation for good.
pub(crate) fn is_refused(generation: u64) -> bool {
    generation % 5 == 3
}

impl Cluster {
    /// The live object.
    pub(crate) fn live(&self, text: &str) -> Option<Live> {
        self.objects.get(text).map(|(_, live)| live.clone())
    }

    /// Does a piece of work at once; `fails` makes the API server answer 500.
    pub(crate) fn work(&mut self, work: &Work, fails: bool) -> Done {
        let live = self.live(work.text());
        self.work_on(work, live, 0, fails)
    }

    /// Ends a piece of work whose object was looked at `age` milliseconds ago; for a time to live, that was asked for then. Like the real API server it refuses what was decided on
    /// another state of the object; like the real applier the work looks again then, and writes nothing after it stood still.
    pub(crate) fn work_on(
        &mut self,
        work: &Work,
        before: Option<Live>,
        age: u64,
        fails: bool,
    ) -> Done {
        let now = self.live(work.text());
        let fenced = !Mutation::ObjectUnfenced.is_on();
        let may_be_late = matches!(
            work,
            Work::Verify { .. } | Work::Delete { expired: false, .. }
        );
        let is_stale = age > STALE_MS && !may_be_late;
        let is_gone = before.is_some() && now.is_none();
        let fails = fails || fenced && (is_stale || is_gone && matches!(work, Work::Apply { .. }));
        let live = if fenced && before.is_some() {
            now
        } else {
            before
        };
        let (uid, generation) = work.intent();
        let done = |verdict| Done {
            text: work.text().to_owned(),
            intent_uid: uid.to_vec(),
            generation,
            verdict,
            throttled: false,
        };
        let outcome = |outcome: Outcome| {
            Verdict::Outcome(Box::new(pb::ApplyResult {
                outcome: outcome.into(),
                ..pb::ApplyResult::default()
            }))
        };
        if fails {
            return done(outcome(Outcome::Transient));
        }
        match work {
            Work::Verify { digest, .. } => {
                if decide::carries(live.as_ref(), uid, generation, digest) {
                    done(outcome(Outcome::Unchanged))
                } else {
                    done(Verdict::BodyNeeded)
                }
            }
            Work::Apply { text, apply, .. } => match decide::decide(live.as_ref(), apply) {
                Decision::Write if is_refused(apply.generation) => {
                    *self
                        .refused
                        .entry((uid.to_vec(), apply.generation))
                        .or_default() += 1;
                    done(outcome(Outcome::Rejected))
                }
                Decision::Write => {
                    let highest = self.highest.entry(uid.to_vec()).or_default();
                    let wanted_again = self.restored && live.is_none();
                    assert!(
                        *highest <= apply.generation || wanted_again,
                        "I2: {text} went back from {highest} to {}",
                        apply.generation
                    );
                    *highest = apply.generation;
                    let Some(pb::apply::Body::Json(body)) = &apply.body else {
                        panic!("I1: {text} is written without a body")
                    };
                    assert!(
                        content_digest(body)[..] == apply.digest[..],
                        "I1: {text} is written with a body that the ledger never had"
                    );
                    self.uids += 1;
                    let live = Live {
                        uid: live.map_or(format!("uid-{}", self.uids), |l| l.uid),
                        resource_version: self.uids.to_string(),
                        generation: apply.generation as i64,
                        deleting: false,
                        intent: Some(Carried {
                            uid: uid.to_vec(),
                            generation: apply.generation,
                            digest: apply.digest.to_vec(),
                        }),
                    };
                    let key = apply.key.clone().unwrap();
                    self.objects.insert(text.clone(), (key, live));
                    self.unseen.insert(text.clone());
                    done(outcome(Outcome::Applied))
                }
                Decision::Outcome(what, _) => done(outcome(what)),
            },
            Work::Delete {
                text,
                delete,
                attempt,
                ..
            } => match decide::decide_delete(live.as_ref(), delete, *attempt) {
                Deletion::Delete { uid: of } if self.live(text).is_none_or(|l| l.uid != of) => {
                    // The precondition of the deletion.
                    done(outcome(Outcome::Transient))
                }
                Deletion::Delete { .. } => {
                    self.deleted.push((text.clone(), uid.to_vec()));
                    // Every other object has a finalizer.
                    if self.uids.is_multiple_of(2) {
                        self.uids += 1;
                        let live = &mut self.objects.get_mut(text).unwrap().1;
                        live.deleting = true;
                        live.resource_version = self.uids.to_string();
                        done(outcome(Outcome::Deleting))
                    } else {
                        self.objects.remove(text);
                        self.unseen.insert(text.clone());
                        done(outcome(Outcome::Deleted))
                    }
                }
                Deletion::Forget => {
                    self.uids += 1;
                    self.objects.get_mut(text).unwrap().1.intent = None;
                    done(outcome(Outcome::Unchanged))
                }
                Deletion::Outcome(what, _) => done(outcome(what)),
            },
        }
    }

    /// Finalizers finish.
    pub(crate) fn finalize(&mut self) {
        let gone = self
            .objects
            .iter()
            .filter(|(_, (_, live))| live.deleting)
            .map(|(text, _)| text.clone())
            .collect::<Vec<_>>();
        for text in gone {
            self.objects.remove(&text);
            self.unseen.insert(text);
        }
    }

    /// What a watch says of a key now.
    pub(crate) fn observe(&self, text: &str) -> Observation {
        match self.objects.get(text).map(|(_, live)| live) {
            Some(Live {
                intent: Some(carried),
                generation,
                resource_version,
                ..
            }) => Observation {
                intent_uid: carried.uid.clone(),
                intent_generation: carried.generation,
                observed_generation: *generation,
                resource_version: resource_version.clone(),
                body: body(carried).into(),
                ..Observation::default()
            },
            _ => Observation {
                gone: true,
                ..Observation::default()
            },
        }
    }
}

/// The status that the cluster shows for a generation: large enough that only its changes are worth sending.
pub(crate) fn body(carried: &Carried) -> String {
    let note = "n".repeat(600);
    format!(
        "{{\"status\":{{\"note\":\"{note}\",\"seen\":{}}}}}",
        carried.generation
    )
}
