//! The floor: bytes over a Unix stream socket, one system call to send and one to receive, no
//! protocol. Both ends use it.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Bytes of a receive buffer, as many as vfio-user sessions have at rest.
pub(super) const BUFFER_BYTES: usize = hdv_vfio_user::limits::RESTING_BUFFER;

/// While polling, the clock is looked at after this many tries, as our two ends do.
const TRIES_BEFORE_CLOCK: u32 = 8;

/// While polling, the processor is offered to others after this many tries, as our two ends do.
const TRIES_BEFORE_YIELD: u32 = 64;

/// One end.
#[derive(Debug)]
pub(super) struct Stream {
    socket: UnixStream,
    poll: Option<Duration>,
    buffer: Vec<u8>,
}

impl Stream {
    /// An end that looks for bytes for as long as `poll` before it blocks.
    pub(super) fn new(socket: UnixStream, poll: Option<Duration>) -> Self {
        Self {
            socket,
            poll,
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// Receives until there are `bytes`; `false` when the other end is gone first.
    pub(super) fn receive(&mut self, bytes: usize) -> Result<bool, Errno> {
        let mut received = 0;
        while received < bytes {
            match self.receive_some()? {
                0 => return Ok(false),
                count => received += count,
            }
        }
        Ok(true)
    }

    fn receive_some(&mut self) -> Result<usize, Errno> {
        let Some(poll) = self.poll else {
            return self.receive_once(RecvFlags::empty());
        };
        let begun = Instant::now();
        let mut tries = 0_u32;
        loop {
            match self.receive_once(RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
            tries += 1;
            if tries.is_multiple_of(TRIES_BEFORE_CLOCK) && begun.elapsed() >= poll {
                break;
            }
            if tries.is_multiple_of(TRIES_BEFORE_YIELD) {
                std::thread::yield_now();
            }
        }
        self.receive_once(RecvFlags::empty())
    }

    fn receive_once(&mut self, flags: RecvFlags) -> Result<usize, Errno> {
        recv(&self.socket, self.buffer.as_mut_slice(), flags).map(|(count, _)| count)
    }

    /// Sends all of `bytes`.
    pub(super) fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        let mut sent = 0;
        while sent < bytes.len() {
            sent += send(&self.socket, &bytes[sent..], SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }
}
