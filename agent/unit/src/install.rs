//! `install DIR`: the init container's part.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Name of the program in the pod.
pub const PROGRAM: &str = "upm-unit-agent";

/// Copies this program into the directory, as `upm-unit-agent`, mode 0755; a copy that is already there is replaced as a whole.
pub fn install(directory: &Path) -> std::io::Result<()> {
    let beside = directory.join(format!(".{PROGRAM}.new"));
    std::fs::copy(std::env::current_exe()?, &beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(&beside, directory.join(PROGRAM))
}
