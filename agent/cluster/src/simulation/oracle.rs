//! What must hold.

use std::collections::{BTreeMap, BTreeSet};

use upm_hub::ledger;
use upm_proto::{
    hub::v1::{self as pb, Outcome},
    ledger::content_digest,
};

use super::{
    cluster::{STALE_MS, body, is_refused},
    world::{WINDOW, World},
};
use crate::{applier::decide::Live, session::Work};

/// A process that has just begun removes nothing before it could dial, in milliseconds.
const GRACE_MS: u64 = 30_000;
/// Beyond its time to live an object stays for no longer than this, for the steps of the simulation …
const SLACK_MS: u64 = 20_000;
/// … and this for each restart of the agent: the old process's lease, what it had not noted, what a wrong clock hides, the first dial.
const RESTART_MS: u64 = 15_000 + 10_000 + 10_000 + GRACE_MS;

/// The objects of a cluster.
pub(super) type Objects = BTreeMap<String, (pb::Key, Live)>;

/// Times that one generation may be refused in one seed: restarts are few.
const REFUSALS: u32 = 12;

/// I23: every change up to the bookmark was handed over.
pub(super) fn bookmark_is_not_early(world: &World, rev: u64) {
    if world.restored {
        return;
    }
    let held = world.agent.revisions();
    for (text, history) in &world.history {
        if world.damaged.contains(text) {
            continue;
        }
        let Some((latest, tombstone)) = history.iter().rev().find(|(r, _)| *r <= rev) else {
            continue;
        };
        // A change that a later one has replaced is not sent any more: whoever resumes at the bookmark gets the later one.
        let changed_later = history.iter().any(|(r, _)| r > latest);
        match held.get(text) {
            Some(has) => assert!(
                has >= latest || changed_later,
                "I23: bookmark {rev}, but {text} is at {has} instead of {latest}"
            ),
            None => assert!(
                *tombstone || changed_later,
                "I23: bookmark {rev}, but {text} at {latest} is missing"
            ),
        }
    }
}

/// I14: what the agent says to hold durably it holds durably.
pub(super) fn durable_is_durable(world: &World, rev: u64) {
    if world.restored {
        return;
    }
    for (text, history) in &world.history {
        let Some((latest, tombstone)) = history.iter().rev().find(|(r, _)| *r <= rev) else {
            continue;
        };
        if world.damaged.contains(text) {
            continue;
        }
        let changed_later = history.iter().any(|(r, _)| r > latest);
        match world.durable().find(|(t, ..)| *t == text) {
            Some((_, has, _)) => assert!(
                has >= *latest || changed_later,
                "I14: {rev} is said to be durable, but {text} is at {has} instead of {latest}"
            ),
            None => assert!(
                *tombstone || changed_later,
                "I14: {rev} is said to be durable, but {text} at {latest} is missing"
            ),
        }
    }
}

/// I14: what the hub acknowledges is in its store.
pub(super) fn acknowledged_is_committed(ack: &pb::StatusAck, (results, statuses): (u64, u64)) {
    assert!(
        ack.upto_result_seq <= results && ack.upto_seq <= statuses,
        "I14: {ack:?} before {results} results and {statuses} statuses were committed"
    );
}

/// I10: no more is on its way than the agent can take. The head of a list and a bookmark may go beyond it.
pub(super) fn credit_is_kept(outstanding: u64) {
    assert!(
        outstanding <= u64::from(WINDOW) + 2,
        "I10: {outstanding} frames are on their way, {WINDOW} were granted"
    );
}

/// I7: a refused generation is tried once per life of the agent's process and not in a loop. A failing call before it, a restart, and a
/// copy that was damaged may each cost one more.
pub(super) fn refusals_are_latched(world: &World) {
    for ((_, generation), times) in &world.cluster.refused {
        assert!(
            *times <= REFUSALS,
            "I7: generation {generation} was refused {times} times"
        );
    }
}

/// I4: nothing was deleted without a tombstone, unless its time to live had run out just before.
pub(super) fn deletes_have_tombstones(world: &mut World) {
    for deleted in &world.cluster.deleted[world.silence.judged..] {
        if world.tombstones.contains(deleted) {
            continue;
        }
        let asked = world.silence.expired.get(deleted);
        let asked = asked.unwrap_or_else(|| panic!("I4: {deleted:?} had no tombstone"));
        assert!(
            world.now - asked <= STALE_MS,
            "G10: {deleted:?} went long after its time had run out, when a session may have wanted it again"
        );
    }
    world.silence.judged = world.cluster.deleted.len();
}

/// G10: what goes because its time to live has run out has one, and it has run out.
pub(super) fn expires_in_time(world: &mut World, work: &Work) {
    let Work::Delete {
        text,
        delete,
        expired: true,
        ..
    } = work
    else {
        return;
    };
    let intent = (delete.intent_uid.to_vec(), delete.generation);
    let ttl = world.silence.lives.get(&intent).copied().unwrap_or(0);
    assert!(ttl > 0, "G10: {text} goes and has no time to live");
    let silence = world.now - world.silence.contact;
    assert!(
        silence >= u64::from(ttl) * 1_000,
        "G10: {text} goes {silence} ms after the last contact, it may live for {ttl} s"
    );
    world
        .silence
        .expired
        .insert((text.clone(), intent.0), world.now);
}

/// G10: without a session nothing is wanted for longer than its time to live. A process that has just begun dials first.
pub(super) fn time_to_live_is_kept(world: &World) {
    if world.agent.has_session() || world.agent_now() < GRACE_MS {
        return;
    }
    let silence = world.now - world.silence.counted;
    let expired = world.agent.expired().collect::<BTreeSet<_>>();
    for (text, uid, generation, _) in world.agent.desired() {
        let intent = (uid.to_vec(), generation);
        let ttl = world.silence.lives.get(&intent).copied().unwrap_or(0);
        assert!(
            ttl == 0 || silence < u64::from(ttl) * 1_000 || expired.contains(text),
            "G10: {text} is still wanted {silence} ms after the last contact, it may live for {ttl} s"
        );
    }
}

/// G10: after a silence the cluster is as it was, but for what had lived for too long.
pub(super) fn only_time_to_live_has_passed(world: &World, before: &Objects, silence: u64) {
    for (text, (_, was)) in before {
        let carried = was.intent.as_ref().unwrap();
        // What the copy holds counts, also when the API server has refused it.
        let intent = (carried.uid.clone(), world.newest(text));
        let ttl = u64::from(world.silence.lives[&intent]) * 1_000;
        let deleted = (text.clone(), carried.uid.clone());
        let expired = world.silence.expired.contains_key(&deleted);
        match world.cluster.objects.get(text) {
            Some((_, is)) if ttl == 0 => assert_eq!(is, was, "G10: {text} has changed"),
            Some(_) => assert!(
                silence < ttl + SLACK_MS + world.silence.restarts * RESTART_MS,
                "G10: {text} is still there after {silence} ms, it may live for {ttl} ms"
            ),
            None => assert!(ttl > 0 && expired, "G10: {text} went and may live for ever"),
        }
    }
}

/// I1: the agent's copy is what the ledger wants, which is returned: identity and generation of each key.
fn copy_is_wanted(world: &World, sentence: &str) -> BTreeMap<String, (Vec<u8>, u64)> {
    let wanted = world
        .wanted
        .iter()
        .filter(|(_, w)| !w.tombstone)
        .map(|(text, w)| (text.clone(), (w.uid.clone(), w.generation)))
        .collect::<BTreeMap<_, _>>();
    let copy = world
        .agent
        .desired()
        .map(|(text, uid, generation, _)| (text.clone(), (uid.to_vec(), generation)))
        .collect::<BTreeMap<_, _>>();
    assert_eq!(copy, wanted, "{sentence}");
    wanted
}

/// I1 and I5: the agent's copy, the cluster, the results and the status are what the ledger wants.
pub(super) async fn converged(world: &mut World) {
    let wanted = copy_is_wanted(world, "I1: the agent's copy");
    let id = world.id.clone();
    let (agent, rows) = world
        .store
        .read("list", move |conn| {
            ledger::read::list(conn, &id, &ledger::read::Filter::default(), None, 1000)
        })
        .await
        .unwrap();
    for (text, (uid, generation)) in &wanted {
        let live = world.cluster.objects.get(text).map(|(_, live)| live);
        let (row, status) = rows.iter().find(|(r, _)| r.key_text == *text).unwrap();
        assert_eq!(
            row.result_generation as u64, *generation,
            "I1: {text} has a result"
        );
        let outcome = Outcome::try_from(row.outcome).unwrap();
        if is_refused(*generation) {
            // A lost result is made good by looking again: then nothing is left to refuse.
            assert_eq!(outcome, Outcome::Rejected, "I7: {text}");
        } else {
            let carried = live
                .and_then(|l| l.intent.clone())
                .unwrap_or_else(|| panic!("I1: {text} is not in the cluster"));
            assert_eq!(
                (&carried.uid, carried.generation),
                (uid, *generation),
                "I1: {text} in the cluster"
            );
            assert!(
                matches!(outcome, Outcome::Applied | Outcome::Unchanged),
                "I1: {text}: {outcome:?}"
            );
        }
        if let Some(carried) = live.and_then(|l| l.intent.clone())
            && carried.uid == *uid
        {
            let status = status
                .as_ref()
                .unwrap_or_else(|| panic!("I3: {text} has no status"));
            assert_eq!(status.body, body(&carried), "I3: the last status of {text}");
            assert_eq!(
                status.digest,
                hex(&content_digest(body(&carried).as_bytes()))
            );
        }
    }
    for text in world.cluster.objects.keys() {
        assert!(
            wanted.contains_key(text),
            "I5: {text} was deleted and is still there"
        );
    }
    let unpurged = rows.iter().find(|(row, _)| row.tombstone);
    if let Some((row, _)) = unpurged {
        panic!("I5: the tombstone of {} was not purged", row.key_text);
    }
    assert_eq!(
        agent.received_rev, agent.head_rev,
        "I1: everything is received"
    );
    assert_eq!(world.agent.pending().0, 0, "I1: something is pending");
    refusals_are_latched(world);
}

/// After an older backup: the agent's copy is what the ledger wants, and no object went that no tombstone names. Objects may be newer than
/// the ledger: then the outcome says so.
pub(super) fn kept_what_the_backup_does_not_know(
    world: &mut World,
    before: &BTreeMap<String, Vec<u8>>,
) {
    deletes_have_tombstones(world);
    copy_is_wanted(world, "I1: the agent's copy of a restored ledger");
    for (text, uid) in before {
        let deleted = world.tombstones.contains(&(text.clone(), uid.clone()));
        let expired = world
            .silence
            .expired
            .contains_key(&(text.clone(), uid.clone()));
        assert!(
            deleted || expired || world.cluster.objects.contains_key(text),
            "I4: {text} went with the ledger"
        );
    }
}

/// I13: a connection that finds nothing changed costs at most three frames each way.
pub(super) async fn unchanged_resume_is_short(world: &mut World) {
    world.cut();
    world.now += 1_000;
    world.frames = (0, 0);
    world.settle_connection().await;
    let (up, down) = world.frames;
    assert!(up <= 3 && down <= 3, "I13: {up} frames up, {down} down");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
