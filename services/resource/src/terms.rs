//! Filters over fields of their own.

use upm_store::filter::Term;

use crate::Error;

/// Whether a text meets a term of its own, which compares with `=` or `!=`.
pub(crate) fn equals(term: &Term, value: &str) -> Result<bool, Error> {
    Ok(term.equality()? == (term.value == value))
}
