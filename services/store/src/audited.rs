//! The audit record of a change.

use upm_mesh as mesh;

use crate::Connection;
use crate::{Error, outbox};

/// Writes the request's audit record into the outbox: call it inside `Store::transact`, with the change.
///
/// `resource` is the full name of what was changed; `diff` is JSON without secrets, `null` for none. A context without a draft (its
/// method is not audited, or the work is the module's own) writes nothing.
pub fn audited(
    conn: &mut Connection,
    ctx: &mesh::Context,
    resource: &str,
    diff: serde_json::Value,
) -> Result<(), Error> {
    let draft = ctx.audit.clone().map(|draft| {
        let draft = draft.resource(resource);
        if diff.is_null() {
            draft
        } else {
            draft.diff(diff)
        }
    });
    outbox::write(conn, &draft)
}
