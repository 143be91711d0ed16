//! A serial port attached to this process's terminal, or to whatever standard input and output are.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::interrupts::{Interrupts, Signal, stop_here};
use super::terminal::RawTerminal;

/// Ctrl-].
const LEAVE: u8 = 0x1d;
/// How much is read at once.
const PIECE: usize = 16 << 10;
/// How much is written at once: a pipe that can be written to takes this without waiting (`PIPE_BUF`).
const AT_ONCE: usize = 4096;

/// Why a port is no longer attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The person has left: by Ctrl-], or the terminal or whoever read the output is gone.
    Gone,
    /// A signal asks this process to end.
    Signal(Signal),
    /// The port says nothing more: its VM has ended.
    Ended,
}

/// Attaches a port until one side has enough of it. Standard input that ends, and is no terminal, says nothing more.
pub(super) fn attach(console: &UnixStream, interrupts: &Interrupts) -> io::Result<Left> {
    console.set_nonblocking(true)?;
    // Dropped after the terminal, which is to be as it was when the process stops.
    let _stop = interrupts.catch_stop()?;
    let terminal = RawTerminal::enter()?;
    let mut session = Session {
        console,
        interrupts,
        terminal,
        has_input: true,
        typed: Vec::new(),
        said: Vec::new(),
    };
    session.run()
}

struct Session<'a> {
    console: &'a UnixStream,
    interrupts: &'a Interrupts,
    terminal: Option<RawTerminal>,
    /// Standard input has not ended.
    has_input: bool,
    /// What the port has not yet taken.
    typed: Vec<u8>,
    /// What standard output has not yet taken.
    said: Vec<u8>,
}

impl Session<'_> {
    fn run(&mut self) -> io::Result<Left> {
        let mut buffer = vec![0; PIECE];
        loop {
            if let Some(signal) = self.interrupts.ending() {
                return Ok(Left::Signal(signal));
            }
            if self.interrupts.take_stop() {
                match &mut self.terminal {
                    Some(terminal) => terminal.suspended(stop_here)?,
                    None => stop_here(),
                }
            }
            let [interrupts, console, input, output] = match self.wait() {
                Ok(found) => found,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if interrupts {
                self.interrupts.drain();
            }
            if console && let Some(left) = self.read_console(&mut buffer)? {
                return Ok(left);
            }
            if input && let Some(left) = self.read_input(&mut buffer)? {
                return Ok(left);
            }
            if output && let Some(left) = self.write_output()? {
                return Ok(left);
            }
            self.write_console();
        }
    }

    /// Whether there are interrupts, the port has something to say, the person has, standard output takes something.
    fn wait(&self) -> Result<[bool; 4], Errno> {
        let mut console = PollFlags::empty();
        // The guest waits while nobody reads.
        console.set(PollFlags::IN, self.said.is_empty());
        console.set(PollFlags::OUT, !self.typed.is_empty());
        let mut fds = vec![PollFd::from_borrowed_fd(
            self.interrupts.fd(),
            PollFlags::IN,
        )];
        // One that nothing is wanted of would say again and again that it has ended.
        let mut add = |is_wanted: bool, fd| {
            is_wanted.then(|| {
                fds.push(fd);
                fds.len() - 1
            })
        };
        let console = add(!console.is_empty(), PollFd::new(self.console, console));
        // Who types waits while the guest does not read.
        let input = add(
            self.has_input && self.typed.is_empty(),
            PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN),
        );
        let output = add(
            !self.said.is_empty(),
            PollFd::from_borrowed_fd(rustix::stdio::stdout(), PollFlags::OUT),
        );
        poll(&mut fds, None)?;
        let is_ready = |index: Option<usize>| {
            let fd = index.and_then(|index| fds.get(index));
            fd.is_some_and(|fd| !fd.revents().is_empty())
        };
        Ok([Some(0), console, input, output].map(is_ready))
    }

    fn read_console(&mut self, buffer: &mut [u8]) -> io::Result<Option<Left>> {
        if !self.said.is_empty() {
            return Ok(None);
        }
        match self.console.read(buffer) {
            Ok(0) => Ok(Some(Left::Ended)),
            Ok(count) => {
                self.said.extend(&buffer[..count]);
                Ok(None)
            }
            Err(error) if is_for_later(&error) => Ok(None),
            // A worker that dies with something unread.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Some(Left::Ended)),
            Err(error) => Err(error),
        }
    }

    /// Gives standard output, which takes something, what the port said.
    fn write_output(&mut self) -> io::Result<Option<Left>> {
        let piece = &self.said[..self.said.len().min(AT_ONCE)];
        // Not by way of std, which would wait until all is taken.
        match rustix::io::write(rustix::stdio::stdout(), piece) {
            Ok(count) => {
                self.said.drain(..count);
                Ok(None)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(None),
            Err(Errno::PIPE | Errno::IO) => Ok(Some(Left::Gone)),
            Err(errno) => Err(errno.into()),
        }
    }

    fn read_input(&mut self, buffer: &mut [u8]) -> io::Result<Option<Left>> {
        // Not by way of std, which has a buffer of its own.
        let count = match rustix::io::read(rustix::stdio::stdin(), &mut *buffer) {
            Ok(count) => count,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(None),
            // The terminal is gone.
            Err(Errno::IO) => 0,
            Err(errno) => return Err(errno.into()),
        };
        let read = &buffer[..count];
        if self.terminal.is_none() {
            self.has_input = count > 0;
            self.typed.extend(read);
            return Ok(None);
        }
        let leaves = read.iter().position(|byte| *byte == LEAVE);
        self.typed.extend(&read[..leaves.unwrap_or(count)]);
        if leaves.is_some() || count == 0 {
            self.write_console();
            return Ok(Some(Left::Gone));
        }
        Ok(None)
    }

    /// Gives the port what was typed, as far as it takes it. That it has ended is seen when it is read.
    fn write_console(&mut self) {
        while !self.typed.is_empty() {
            match self.console.write(&self.typed) {
                Ok(count) => {
                    self.typed.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.typed.clear(),
            }
        }
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
