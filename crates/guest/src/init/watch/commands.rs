//! Lines on the console.

use std::os::fd::BorrowedFd;

use rustix::io::{Errno, read};

use crate::platform::{Error, Result};

/// The longest line that is kept.
const LINE_BYTES: usize = 256;

/// What a line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Go on.
    Go,
    /// Power off.
    Off,
    /// Boot once more.
    Reboot,
    /// Tell the time.
    Clock,
    /// Check the sensors that are there.
    Check,
    /// Read registers of theirs until one of them answers no more.
    Poll,
}

impl Command {
    fn of(line: &str) -> Option<Self> {
        match line {
            "go" => Some(Self::Go),
            "off" => Some(Self::Off),
            "reboot" => Some(Self::Reboot),
            "clock" => Some(Self::Clock),
            "check" => Some(Self::Check),
            "poll" => Some(Self::Poll),
            _ => None,
        }
    }
}

/// The console's lines, read as they come.
#[derive(Debug, Default)]
pub(super) struct Commands {
    begun: Vec<u8>,
}

impl Commands {
    /// Reads what is there; what was asked for. Other lines are nobody's.
    ///
    /// # Errors
    /// When the console cannot be read or has ended.
    pub(super) fn read(&mut self, console: BorrowedFd<'_>) -> Result<Vec<Command>> {
        let mut bytes = [0; LINE_BYTES];
        match read(console, &mut bytes) {
            Ok(0) => Err(Error::call("read of the console", Errno::PIPE)),
            Ok(count) => Ok(self.take(&bytes[..count])),
            Err(Errno::INTR | Errno::AGAIN) => Ok(Vec::new()),
            Err(errno) => Err(Error::call("read of the console", errno)),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Vec<Command> {
        let mut commands = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' | b'\r' => {
                    let line = String::from_utf8_lossy(&self.begun).trim().to_owned();
                    commands.extend(Command::of(&line));
                    self.begun.clear();
                }
                _ if self.begun.len() < LINE_BYTES => self.begun.push(byte),
                _ => {}
            }
        }
        commands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_pieces() {
        let mut commands = Commands::default();
        assert_eq!(commands.take(b"go"), []);
        assert_eq!(
            commands.take(b"\noff\r\nnothing\nreb"),
            [Command::Go, Command::Off]
        );
        assert_eq!(commands.take(b"oot\n\n"), [Command::Reboot]);
        assert_eq!(commands.take(&[b'x'; 2 * LINE_BYTES]), []);
        assert_eq!(commands.begun.len(), LINE_BYTES);
        assert_eq!(
            commands.take(b"\nclock\ncheck\npoll\n"),
            [Command::Clock, Command::Check, Command::Poll]
        );
    }
}
