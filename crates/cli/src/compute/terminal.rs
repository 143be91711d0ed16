//! A terminal in raw mode: every key comes as it is typed, and nothing is made of it.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

/// What ends attributes such as colours that a guest left behind, and shows the cursor.
const RESET: &[u8] = b"\x1b[0m\x1b[?25h\r\n";

/// The terminal of standard input in raw mode, until this is dropped, as it also is when something panics.
#[derive(Debug)]
pub(super) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Sets raw mode; `None` if standard input is no terminal.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        let input = input();
        if !isatty(input.as_fd()) {
            return Ok(None);
        }
        let before = tcgetattr(input.as_fd())?;
        let terminal = Self { before };
        terminal.set_raw()?;
        Ok(Some(terminal))
    }

    /// As it was before, while this process is stopped (SIGTSTP).
    pub(super) fn suspended(&self, stop: impl FnOnce()) -> io::Result<()> {
        self.restore()?;
        stop();
        self.set_raw()
    }

    fn set_raw(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        Ok(tcsetattr(input(), OptionalActions::Now, &raw)?)
    }

    fn restore(&self) -> io::Result<()> {
        Ok(tcsetattr(input(), OptionalActions::Now, &self.before)?)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if isatty(io::stdout().as_fd()) {
            // A terminal that is gone, after SIGHUP, takes nothing any more.
            let _ = io::stdout().write_all(RESET);
            let _ = io::stdout().flush();
        }
        let _ = self.restore();
    }
}

fn input() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}
