//! Places where a test can make the process die, to see that another one goes on.
//!
//! `UPM_FAILPOINT=<name>` makes a module abort its process when it comes to that place. Names are
//! `operation.<engine>.<verb>.<step>.<place>`, for example `operation.redis.create.ApplyUnitSet.ran`, where the place is
//! `before` (the journal says that the step has begun), `ran` (its effect is there, the journal does not say so) or `after`
//! (the journal says so). Steps that are undone have `undo_before`, `undo_ran` and `undo_after`. `<name>@<n>` dies at the n-th time.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// Environment variable that arms a failpoint.
pub const VARIABLE: &str = "UPM_FAILPOINT";

/// What happens at named places.
#[derive(Clone, Debug, Default)]
pub struct Failpoints {
    armed: Option<Arc<Armed>>,
}

#[derive(Debug)]
struct Armed {
    name: String,
    at: u32,
    passed: AtomicU32,
    then: Then,
}

#[derive(Debug)]
enum Then {
    Abort,
    #[cfg(test)]
    Halt,
}

/// Says that the work at hand must stop as if the process had died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Halted;

impl Failpoints {
    /// Nothing happens anywhere.
    pub fn off() -> Self {
        Self::default()
    }

    /// Armed by the environment.
    pub fn from_env() -> Self {
        match std::env::var(VARIABLE) {
            Ok(text) if !text.is_empty() => Self::armed(&text, Then::Abort),
            Ok(_) | Err(_) => Self::off(),
        }
    }

    /// Stops the runner at this place as a crash would, without ending the process.
    #[cfg(test)]
    pub(crate) fn halt(text: &str) -> Self {
        Self::armed(text, Then::Halt)
    }

    /// Whether the runner has come to the place where it stops.
    #[cfg(test)]
    pub(crate) fn halted(&self) -> bool {
        self.armed
            .as_ref()
            .is_some_and(|armed| armed.at <= armed.passed.load(Ordering::SeqCst))
    }

    fn armed(text: &str, then: Then) -> Self {
        let (name, at) = match text.rsplit_once('@') {
            Some((name, at)) => (name, at.parse().unwrap_or(1)),
            None => (text, 1),
        };
        Self {
            armed: Some(Arc::new(Armed {
                name: name.to_owned(),
                at,
                passed: AtomicU32::new(0),
                then,
            })),
        }
    }

    /// Called at every place.
    pub(crate) fn pass(&self, kind: &str, step: &str, place: &str) -> Result<(), Halted> {
        let Some(armed) = &self.armed else {
            return Ok(());
        };
        if armed.name != format!("operation.{kind}.{step}.{place}")
            || armed.passed.fetch_add(1, Ordering::SeqCst) + 1 != armed.at
        {
            return Ok(());
        }
        match armed.then {
            Then::Abort => {
                tracing::error!(failpoint = %armed.name, "Aborting at a failpoint");
                std::process::abort()
            }
            #[cfg(test)]
            Then::Halt => Err(Halted),
        }
    }
}
