//! What the functions of a running template see. Template functions are plain `fn` pointers, so the inputs of a rendering travel
//! through the thread; a rendering never awaits.

use std::cell::RefCell;

use super::Inputs;

thread_local! {
    static CURRENT: RefCell<Option<Inputs>> = const { RefCell::new(None) };
}

/// Runs the rendering with these inputs.
pub(super) fn enter<T>(inputs: Inputs, rendering: impl FnOnce() -> T) -> T {
    let before = CURRENT.with(|current| current.replace(Some(inputs)));
    let result = rendering();
    CURRENT.with(|current| current.replace(before));
    result
}

/// Looks into the inputs of the running rendering; `None` outside of one.
pub(super) fn look<T>(with: impl FnOnce(&Inputs) -> T) -> Option<T> {
    CURRENT.with(|current| current.borrow().as_ref().map(with))
}
