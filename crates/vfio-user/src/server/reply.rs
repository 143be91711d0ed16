//! The reply under construction: one buffer, sent with one system call.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use zerocopy::{Immutable, IntoBytes};

use crate::limits::RESTING_BUFFER;
use crate::wire::{HEADER_SIZE, Header};

/// A reply: header, body, descriptors. Its buffer is kept from one to the next.
#[derive(Debug)]
pub(super) struct Reply {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are the reply; 0 for none.
    len: usize,
    fds: Vec<OwnedFd>,
}

impl Reply {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; RESTING_BUFFER],
            len: 0,
            fds: Vec::new(),
        }
    }

    /// Forgets the last reply, and the memory of a large one.
    pub(super) fn reset(&mut self) {
        self.len = 0;
        self.fds.clear();
        if self.buffer.len() > RESTING_BUFFER {
            self.buffer = vec![0; RESTING_BUFFER];
        }
    }

    /// Makes room for a body and returns it, with unspecified bytes.
    pub(super) fn body(&mut self, len: usize) -> &mut [u8] {
        let whole = HEADER_SIZE + len;
        if whole > self.buffer.len() {
            self.buffer.resize(whole, 0);
        }
        self.len = whole;
        &mut self.buffer[HEADER_SIZE..whole]
    }

    /// Makes the structure the body.
    pub(super) fn set_body<T: IntoBytes + Immutable>(&mut self, payload: &T) {
        let bytes = payload.as_bytes();
        self.body(bytes.len()).copy_from_slice(bytes);
    }

    /// Sends this descriptor along.
    pub(super) fn attach(&mut self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        self.fds.push(rustix::io::fcntl_dupfd_cloexec(fd, 0)?);
        Ok(())
    }

    /// Completes the reply to `command`.
    pub(super) fn finish(&mut self, command: &Header) {
        let body = self.len.max(HEADER_SIZE) - HEADER_SIZE;
        self.body(body);
        self.buffer[..HEADER_SIZE].copy_from_slice(command.reply(body).as_bytes());
    }

    /// Makes it the error reply to `command`.
    pub(super) fn fail(&mut self, command: &Header, errno: Errno) {
        self.fds.clear();
        self.body(0);
        self.buffer[..HEADER_SIZE].copy_from_slice(command.error_reply(errno).as_bytes());
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    pub(super) fn fds(&self) -> &[OwnedFd] {
        &self.fds
    }

    /// The descriptors in the form a send wants.
    pub(super) fn borrowed_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.fds.iter().map(AsFd::as_fd).collect()
    }
}
