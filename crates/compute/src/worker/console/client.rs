//! One client of a serial port.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;

use super::history::History;

/// Who reads and writes a port, on a socket that does not block.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    /// What it gets next.
    next: u64,
    /// What it gets before that: that it has missed something.
    note: Vec<u8>,
    /// It writes no more.
    has_ended_input: bool,
    /// It was told that nothing more comes.
    has_been_ended: bool,
    /// It reads no more; what it wrote before may still be there.
    pub(super) is_gone: bool,
}

impl Client {
    /// One that gets all that is kept.
    pub(super) fn new(stream: UnixStream, history: &History) -> Self {
        Self {
            stream,
            next: history.start(),
            note: Vec::new(),
            has_ended_input: false,
            has_been_ended: false,
            is_gone: false,
        }
    }

    /// The socket.
    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Whether it may write something.
    pub(super) fn has_input(&self) -> bool {
        !self.has_ended_input
    }

    /// Whether there is something for it.
    pub(super) fn wants_output(&self, history: &History) -> bool {
        !self.is_gone && (!self.note.is_empty() || self.next < history.end())
    }

    /// Whether it can be forgotten.
    pub(super) fn is_done(&self) -> bool {
        self.has_ended_input && (self.is_gone || self.has_been_ended)
    }

    /// Whether it has closed its end, and all that it wrote has been taken.
    pub(super) fn has_left(&self) -> bool {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(&self.stream, PollFlags::empty())];
        let hung_up =
            poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP);
        hung_up && ioctl_fionread(&self.stream).is_ok_and(|unread| unread == 0)
    }

    /// Sends what it has not yet got, as far as it takes it; and, if that was the last, the end.
    pub(super) fn send(&mut self, history: &History, is_last: bool) {
        while self.wants_output(history) {
            if self.note.is_empty() && self.next < history.start() {
                let missed = history.start() - self.next;
                let note = format!("\r\n[{missed} bytes were not read in time and are lost]\r\n");
                self.note = note.into_bytes();
                self.next = history.start();
            }
            let written = if self.note.is_empty() {
                self.stream.write(history.after(self.next))
            } else {
                self.stream.write(&self.note)
            };
            match written {
                Ok(count) if self.note.is_empty() => self.next += count as u64,
                Ok(count) => {
                    self.note.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.is_gone = true,
            }
        }
        if is_last && !self.has_been_ended {
            // It is gone already, or is told now.
            let _ = self.stream.shutdown(Shutdown::Write);
            self.has_been_ended = true;
        }
    }

    /// What it wrote, at most as much as `buffer` takes; 0 if there is nothing now.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> usize {
        if self.has_ended_input || buffer.is_empty() {
            return 0;
        }
        loop {
            match self.stream.read(buffer) {
                Ok(0) => {
                    self.has_ended_input = true;
                    return 0;
                }
                Ok(count) => return count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return 0,
                Err(error) => {
                    self.fail(&error);
                    return 0;
                }
            }
        }
    }

    fn fail(&mut self, error: &io::Error) {
        tracing::debug!(%error, "a client of a serial port is gone");
        self.has_ended_input = true;
        self.is_gone = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_closed_has_left_when_what_it_wrote_has_been_taken() {
        let (stream, mut other) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut client = Client::new(stream, &History::new(16));
        assert!(!client.has_left());
        other.write_all(b"bye").unwrap();
        drop(other);
        assert!(!client.has_left());
        assert_eq!(client.receive(&mut [0; 16]), 3);
        assert!(client.has_left());
    }
}
