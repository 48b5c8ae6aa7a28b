//! Deliberate faults of the ledger stream, one at a time: the simulation shows which oracle catches each. Without the feature `mutations`
//! none can be switched on, and the checks vanish at compile time.

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mutation {
    /// The hub sends a bookmark before what it covers.
    BookmarkEarly = 1,
    /// The hub writes what a session reports without a look at its epoch.
    EpochUnchecked,
    /// The hub does not send tombstones.
    TombstoneDropped,
    /// The hub acknowledges a result before it is committed.
    AckBeforeCommit,
    /// The hub begins a delta at the head instead of where the agent is.
    DeltaFromHead,
    /// The hub sends more than the agent granted.
    CreditIgnored,
    /// The hub does not see that its store is older than what the agent has seen.
    RestoreUnnoticed,
    /// The agent tries a refused generation again and again.
    RejectedRetried,
    /// The agent says that it holds durably what it holds in memory.
    DurableEarly,
    /// The agent deletes what a list lacks, without a guard.
    PruneUnguarded,
    /// The agent writes an older generation over a newer one.
    GenerationUnfenced,
    /// The agent writes although the object has changed since it looked.
    ObjectUnfenced,
    /// The agent forgets results that were on their way when the connection broke.
    ResultForgotten,
    /// The agent forgets status that was on its way when the connection broke.
    StatusForgotten,
    /// The agent counts silence on over a session.
    ContactForgotten,
    /// The agent does not bring back what had expired.
    ExpiredForGood,
    /// The agent applies a patch to whatever body it holds.
    PatchUnchecked,
    /// The hub applies a patch of status to whatever it holds.
    StatusPatchUnchecked,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::BookmarkEarly,
        Self::EpochUnchecked,
        Self::TombstoneDropped,
        Self::AckBeforeCommit,
        Self::DeltaFromHead,
        Self::CreditIgnored,
        Self::RestoreUnnoticed,
        Self::RejectedRetried,
        Self::DurableEarly,
        Self::PruneUnguarded,
        Self::GenerationUnfenced,
        Self::ObjectUnfenced,
        Self::ResultForgotten,
        Self::StatusForgotten,
        Self::ContactForgotten,
        Self::ExpiredForGood,
        Self::PatchUnchecked,
        Self::StatusPatchUnchecked,
    ];

    /// Whether this fault is switched on.
    #[cfg(not(feature = "mutations"))]
    #[inline]
    pub const fn is_on(self) -> bool {
        false
    }

    /// Whether this fault is switched on.
    #[cfg(feature = "mutations")]
    pub fn is_on(self) -> bool {
        ON.load(std::sync::atomic::Ordering::SeqCst) == self as u8
    }
}

#[cfg(feature = "mutations")]
static ON: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Switches one fault on for the whole process, or the one that is on off.
#[cfg(feature = "mutations")]
pub fn switch(mutation: Option<Mutation>) {
    ON.store(
        mutation.map_or(0, |m| m as u8),
        std::sync::atomic::Ordering::SeqCst,
    );
}
