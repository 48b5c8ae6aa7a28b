//! What may be a path.

use std::path::Path;

use super::Refusal;

/// Bytes of a path, as Linux has it.
const LONGEST: usize = 4096;

/// An absolute path of a file, that says where it leads.
pub(super) fn checked(path: &str) -> Result<&Path, Refusal> {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    let fine = path.len() <= LONGEST
        && !path.contains('\0')
        && path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(plain));
    if fine {
        Ok(Path::new(path))
    } else {
        Err(Refusal::new(
            "FILE_PATH_INVALID",
            "a path is absolute, names a file, and is without `.` and `..`",
        ))
    }
}

/// The refusal of what is no regular file.
pub(super) fn not_regular(path: &Path) -> Refusal {
    Refusal::new(
        "FILE_NOT_REGULAR",
        format!("{} is not a regular file", path.display()),
    )
}
