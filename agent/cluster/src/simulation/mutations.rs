//! Which oracle catches which fault: each mutation must make some seed fail, and the oracle that is named here must be the one that says so.
//! Run by `make mutations`. One at a time, because a mutation holds for the whole process.

use std::panic::AssertUnwindSafe;

use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::Mutex;
use upm_proto::mutation::{Mutation, switch};
use upm_store::Store;

use super::{converges, empties, number, restores, silences, store};

/// Seeds until a mutation must have been caught; `SEEDS` asks for more.
const SEEDS: u64 = 4_000;

static ALONE: Mutex<()> = Mutex::const_new(());

#[derive(Debug, Clone, Copy)]
enum Scene {
    Converges,
    Restores,
    Empties,
    Silences,
}

impl Scene {
    fn play(self, store: &Store, seed: u64) -> BoxFuture<'_, ()> {
        match self {
            Self::Converges => converges(store, seed).map(drop).boxed(),
            Self::Restores => restores(store, seed).boxed(),
            Self::Empties => empties(store, seed).boxed(),
            Self::Silences => silences(store, seed).boxed(),
        }
    }
}

async fn caught(mutation: Mutation, scene: Scene, by: &str) {
    let _alone = ALONE.lock().await;
    let (store, _folder) = store().await;
    switch(Some(mutation));
    let mut verdict = None;
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    for seed in 0..seeds {
        let played = AssertUnwindSafe(scene.play(&store, seed))
            .catch_unwind()
            .await;
        if let Err(panic) = played {
            let said = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_default();
            verdict = Some((seed, said));
            break;
        }
    }
    switch(None);
    let (seed, said) = verdict.unwrap_or_else(|| panic!("{mutation:?} survived {seeds} seeds"));
    println!("{mutation:?}: seed {seed}: {said}");
    assert!(
        said.contains(by),
        "{mutation:?} was caught by another oracle than {by}: {said}"
    );
}

macro_rules! mutations {
    ($($name:ident: $mutation:ident in $scene:ident by $oracle:literal;)*) => {$(
        #[tokio::test]
        async fn $name() {
            caught(Mutation::$mutation, Scene::$scene, $oracle).await;
        }
    )*};
}

mutations! {
    a_bookmark_that_is_sent_early: BookmarkEarly in Converges by "I23";
    an_epoch_that_is_not_checked: EpochUnchecked in Converges by "I6";
    a_tombstone_that_is_not_sent: TombstoneDropped in Converges by "I";
    a_result_that_is_acknowledged_before_it_is_committed: AckBeforeCommit in Converges by "I14";
    a_delta_that_begins_at_the_head: DeltaFromHead in Converges by "I";
    credit_that_is_ignored: CreditIgnored in Converges by "I10";
    a_refused_generation_that_is_tried_again: RejectedRetried in Converges by "I";
    memory_that_is_called_durable: DurableEarly in Converges by "I14";
    an_older_generation_over_a_newer_one: GenerationUnfenced in Restores by "I2";
    a_write_on_an_object_that_has_changed: ObjectUnfenced in Converges by "I";
    results_that_are_forgotten_with_the_connection: ResultForgotten in Converges by "I";
    status_that_is_forgotten_with_the_connection: StatusForgotten in Converges by "I3";
    a_list_that_is_believed_without_a_guard: PruneUnguarded in Empties by "I4";
    a_contact_that_does_not_end_a_silence: ContactForgotten in Silences by "G10";
    what_expired_and_is_not_brought_back: ExpiredForGood in Silences by "I";
    a_patch_on_another_base: PatchUnchecked in Converges by "I1";
    a_patch_of_status_on_another_base: StatusPatchUnchecked in Converges by "I3";
    a_restored_store_that_is_not_noticed: RestoreUnnoticed in Restores by "I";
}
