//! What a module is given at its start.

use upm_mesh as mesh;

use crate::{Cache, Store};

/// The surroundings of a module. Cheap to clone.
#[derive(Clone)]
#[allow(missing_debug_implementations)]
pub struct ModuleContext {
    /// The module's name, as in `spiffe://upm/module/<name>`.
    pub name: &'static str,
    /// Its database.
    pub store: Store,
    /// The cache, shared by all modules: use [`Cache::scoped`].
    pub cache: Cache,
    /// The other modules.
    pub peers: mesh::Peers,
    /// Ends background work.
    pub drain: mesh::Drain,
}
