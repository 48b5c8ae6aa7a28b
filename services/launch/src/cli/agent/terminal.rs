//! The terminal of this process, as raw as a remote command needs it.

use std::{
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use upm_proto::hub::v1::TerminalSize;

/// Raw until it is dropped: keys go to the command, which echoes them.
pub(super) struct Raw(Termios);

impl Raw {
    /// Makes standard input raw.
    ///
    /// # Errors
    /// When it is no terminal.
    pub(super) fn begin() -> anyhow::Result<Self> {
        let input = io::stdin();
        anyhow::ensure!(input.is_terminal(), "-t needs a terminal as standard input");
        let before = tcgetattr(input.as_fd())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(input.as_fd(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nobody could be told: the terminal is what this would be shown on.
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}

/// The terminal's size; `None` without one.
pub(super) fn size() -> Option<TerminalSize> {
    let size = tcgetwinsize(io::stdout().as_fd()).ok()?;
    Some(TerminalSize {
        width: size.ws_col.into(),
        height: size.ws_row.into(),
    })
}
