//! A terminal in raw mode: every key comes as it is typed, and nothing is made of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
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

    /// As it was before, while this process is stopped (SIGTSTP); afterwards what it has become meanwhile counts as before.
    pub(super) fn suspended(&mut self, stop: impl FnOnce()) -> io::Result<()> {
        self.restore()?;
        stop();
        self.before = tcgetattr(input())?;
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
        let _ = self.restore();
        let output = rustix::stdio::stdout();
        // One that takes nothing, held by Ctrl-S or gone after SIGHUP, is not waited for.
        let mut fds = [PollFd::from_borrowed_fd(output, PollFlags::OUT)];
        if isatty(output)
            && poll(&mut fds, Some(&Timespec::default())).is_ok()
            && fds[0].revents().contains(PollFlags::OUT)
        {
            let _ = rustix::io::write(output, RESET);
        }
    }
}

fn input() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}
