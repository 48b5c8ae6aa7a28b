//! How a session begins: version, claim, the choice of resume, and repair after a mismatch of roots.

use upm_proto::{
    hub::v1::{self as pb, hub_frame, welcome::Resume},
    ledger::{Entry, PROTOCOL, Root, Window, bucket, limits},
    mutation::Mutation,
};

use super::{
    Phase, Session,
    desired::Snapshot,
    interest,
    message::{Claim, Class, Close, Command, IndexEntry},
};

/// Repairs by buckets before the whole list is sent.
const BUCKET_REPAIRS: u32 = 2;
/// Repairs of one session.
const REPAIRS: u32 = 4;

/// What a list is asked for.
#[derive(Debug, Clone)]
pub(super) enum IndexFor {
    /// A resume by snapshot.
    Snapshot,
    /// A repair: the agent's bucket digests.
    Repair(Vec<u8>),
}

/// How the agent's copy is brought up to date.
pub(crate) fn decide(hello: &pb::Hello, claim: &Claim) -> Resume {
    let known = !hello.hub_incarnation.is_empty()
        && hello.hub_incarnation == claim.incarnation
        && hello.received_rev >= claim.compacted_rev
        && hello.received_rev <= claim.head_rev;
    if !known {
        return Resume::Snapshot;
    }
    let equal = Root::from_bytes(&hello.desired_root) == Some(claim.root);
    if equal && hello.received_rev == claim.head_rev {
        Resume::Nothing
    } else {
        Resume::Delta
    }
}

impl Session {
    pub(super) fn hello(&mut self, hello: pb::Hello) {
        if hello.proto_min > PROTOCOL || hello.proto_max < PROTOCOL {
            self.end(Close::VersionIncompatible);
            return;
        }
        self.phase = Phase::Claiming;
        let hello = Box::new(hello);
        self.commands.push_back(Command::Claim(hello.clone()));
        self.hello = Some(hello);
    }

    pub(super) fn claimed(&mut self, claim: Claim) {
        let Some(hello) = self.hello.take() else {
            return;
        };
        self.phase = Phase::Live;
        self.epoch = claim.epoch;
        self.incarnation.clone_from(&claim.incarnation);
        let ours = [
            pb::Capability::Zstd,
            pb::Capability::Patch,
            pb::Capability::Tunnel,
        ];
        let both = ours
            .into_iter()
            .filter(|c| hello.capabilities.contains(&(*c as i32)))
            .map(Into::into)
            .collect::<Vec<i32>>();
        self.zstd = both.contains(&(pb::Capability::Zstd as i32));
        self.patches = both.contains(&(pb::Capability::Patch as i32));
        let wanted = hello.windows.unwrap_or_default();
        let (cap_messages, cap_bytes) = limits::DESIRED_CAP;
        self.desired.window = Window::new(
            match wanted.desired_messages {
                0 => limits::DESIRED_MESSAGES,
                n => n.min(cap_messages),
            },
            match wanted.desired_bytes {
                0 => limits::DESIRED_BYTES,
                n => n.min(cap_bytes),
            },
        );
        self.upstream.start();
        let resume = decide(&hello, &claim);
        self.control(hub_frame::Message::Welcome(welcome(
            &claim,
            resume,
            both,
            &self.settings,
        )));
        self.control(hub_frame::Message::Interest(interest::interest(
            &claim.inventory,
        )));
        self.desired.entropy_at = self.now
            + limits::ANTI_ENTROPY_MS * 8 / 10
            + claim.epoch.wrapping_mul(7_919) % (limits::ANTI_ENTROPY_MS * 4 / 10);
        if resume != Resume::Snapshot {
            for (text, rev) in claim.tombstones {
                self.desired.dirty.mark(text, rev, Class::Delete);
            }
        }
        match resume {
            Resume::Nothing => {
                self.desired
                    .start(hello.received_rev, hello.durable_rev, Some(claim.root));
            }
            Resume::Delta => {
                let from = if Mutation::DeltaFromHead.is_on() {
                    claim.head_rev
                } else {
                    hello.received_rev
                };
                self.desired.start(from, hello.durable_rev, None);
                if hello.received_rev == claim.head_rev {
                    // The same revision with another root: ask where they differ.
                    self.control(hub_frame::Message::BucketQuery(pb::BucketQuery {
                        buckets: limits::BUCKETS as u32,
                    }));
                }
            }
            Resume::Snapshot | Resume::Unspecified => {
                self.index_for = Some(IndexFor::Snapshot);
                self.commands.push_back(Command::Index);
            }
        }
    }

    /// The agent's bucket digests: only the buckets that differ are listed.
    pub(super) fn bucket_report(&mut self, report: &pb::BucketReport) {
        if report.digests.len() != limits::BUCKETS * 16 {
            self.end(Close::Protocol("a bucket report of the wrong size"));
            return;
        }
        if self.index_for.is_some() || self.desired.snapshot.is_some() || self.repairs >= REPAIRS {
            return;
        }
        self.repairs += 1;
        self.index_for = Some(if self.repairs > BUCKET_REPAIRS {
            IndexFor::Snapshot
        } else {
            IndexFor::Repair(report.digests.to_vec())
        });
        self.desired.want_index();
    }

    pub(super) fn indexed(
        &mut self,
        at_rev: u64,
        root: Root,
        entries: Vec<IndexEntry>,
        mut tombstones: Vec<pb::Delete>,
    ) {
        if self.index_for.is_some() && !self.desired.is_current(at_rev) {
            // Something newer was read beside it and is with the agent: the list would take it back, or take it for absent.
            self.desired.want_index();
            return;
        }
        match self.index_for.take() {
            None => {}
            Some(IndexFor::Snapshot) => self.begin_snapshot(
                Snapshot {
                    at_rev,
                    root,
                    entries: entries.into(),
                    tombstones: tombstones.into(),
                },
                Vec::new(),
            ),
            Some(IndexFor::Repair(theirs)) => {
                let ours = bucket_roots(&entries);
                let differ = (0..limits::BUCKETS)
                    .filter(|b| theirs[b * 16..b * 16 + 16] != ours[*b].to_bytes())
                    .map(|b| b as u8)
                    .collect::<Vec<_>>();
                if differ.is_empty() {
                    // They agree by now; the next bookmark says so.
                    self.desired.want_scan();
                    return;
                }
                let entries = entries
                    .into_iter()
                    .filter(|e| differ.contains(&bucket(&e.key)))
                    .collect();
                tombstones.retain(|t| t.key.as_ref().is_some_and(|k| differ.contains(&bucket(k))));
                self.begin_snapshot(
                    Snapshot {
                        at_rev,
                        root,
                        entries,
                        tombstones: tombstones.into(),
                    },
                    differ,
                );
            }
        }
    }
}

/// The root of each bucket.
fn bucket_roots(entries: &[IndexEntry]) -> Vec<Root> {
    let mut roots = vec![Root::default(); limits::BUCKETS];
    for entry in entries {
        roots[usize::from(bucket(&entry.key))].add(Entry {
            key: &entry.key,
            intent_uid: &entry.intent_uid,
            generation: entry.generation,
            digest: &entry.digest,
        });
    }
    roots
}

fn welcome(
    claim: &Claim,
    resume: Resume,
    capabilities: Vec<i32>,
    settings: &super::Settings,
) -> pb::Welcome {
    pb::Welcome {
        proto: PROTOCOL,
        capabilities,
        session_epoch: claim.epoch,
        hub_incarnation: claim.incarnation.clone().into(),
        resume: resume.into(),
        head_rev: claim.head_rev,
        compacted_rev: claim.compacted_rev,
        status_root: claim.status_root.to_bytes().to_vec().into(),
        windows: Some(pb::Windows {
            desired_messages: limits::DESIRED_MESSAGES,
            desired_bytes: limits::DESIRED_BYTES,
            status_messages: limits::STATUS_MESSAGES,
            status_bytes: limits::STATUS_BYTES,
            bulk_messages: limits::BULK_MESSAGES,
            bulk_bytes: limits::BULK_BYTES,
        }),
        limits: Some(pb::Limits {
            frame_bytes: limits::FRAME_BYTES as u32,
            body_bytes: limits::BODY_BYTES as u32,
            keys: limits::KEYS,
            apply_workers: limits::APPLY_WORKERS,
            result_messages: limits::RESULT_MESSAGES as u32,
        }),
        timers: Some(settings.timers()),
        hub_time: Some(prost_types::Timestamp {
            seconds: settings.wall_us.div_euclid(1_000_000),
            nanos: (settings.wall_us.rem_euclid(1_000_000) * 1_000) as i32,
        }),
        replica: settings.replica.clone(),
    }
}
