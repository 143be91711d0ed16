//! One client of a control socket: requests in, answers out, never waiting for it. Who carries requests out is in
//! `service`.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use serde_json::Value;

use crate::registry::ControlError;
use crate::wire::{self, LENGTH_SIZE, Request, Response};

/// How long a connection may be silent, or take for [`PART`] of a message.
const IDLE_LIMIT: Duration = Duration::from_secs(5);
/// So many bytes of a message, and its client is not silent.
const PART: usize = 64 << 10;
/// Bytes asked of the kernel at a time.
const READ_SIZE: usize = 4096;

/// How far a connection has come.
pub(crate) enum Progress {
    /// It waits for its client.
    Waits,
    /// This is to be carried out and answered ([`Connection::answer`]).
    Asked(Request),
    /// It is over.
    Ended,
}

/// See the module's documentation. At most one request and one response are held.
pub(crate) struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of the output is sent.
    sent: usize,
    /// Ends once the output is sent.
    closing: bool,
    deadline: Instant,
    /// Bytes since the deadline was set.
    moved: usize,
}

impl Connection {
    /// # Errors
    /// What the system says.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            closing: false,
            deadline: Instant::now() + IDLE_LIMIT,
            moved: 0,
        })
    }

    /// What to wait for. A client that does not take its answer is not read from.
    pub(crate) fn interest(&self) -> PollFlags {
        if self.output.is_empty() {
            PollFlags::IN
        } else {
            PollFlags::OUT
        }
    }

    /// When its client has been silent for too long.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Nobody looked at it for this long.
    pub(crate) fn held_up(&mut self, time: Duration) {
        self.deadline += time;
    }

    /// Does what can be done without waiting, up to one request: who always has another one must not keep the
    /// others out.
    pub(crate) fn progress(&mut self) -> Progress {
        if !self.output.is_empty() {
            return self.send();
        }
        match self.receive() {
            Ok(true) => {}
            Ok(false) => return Progress::Waits,
            Err(error) => return ended(&error),
        }
        match wire::decode(&std::mem::take(&mut self.input)) {
            Ok(request) => Progress::Asked(request),
            Err(error) => {
                // After a length that is not believed, nothing that follows can be.
                self.closing = matches!(error, wire::WireError::TooLong { .. });
                self.answer(Err(ControlError::bad_arguments(error.to_string())))
            }
        }
    }

    /// Answers what was asked, as far as that can be without waiting.
    pub(crate) fn answer(&mut self, result: Result<Value, ControlError>) -> Progress {
        let response = match result {
            Ok(value) => Response::Ok(value),
            Err(error) => Response::Error(error),
        };
        let encoded = wire::encode(&response).or_else(|error| {
            let message = format!("the answer cannot be sent: {error}");
            wire::encode(&Response::Error(ControlError::internal(message)))
        });
        match encoded {
            Ok(frame) => self.output = frame,
            Err(error) => {
                tracing::error!(%error, "a control answer cannot be encoded");
                return Progress::Ended;
            }
        }
        self.renew();
        self.send()
    }

    fn send(&mut self) -> Progress {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return ended(&io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.sent += count;
                    self.moved(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Waits,
                Err(error) => return ended(&error),
            }
        }
        self.output = Vec::new();
        self.sent = 0;
        if self.closing {
            Progress::Ended
        } else {
            Progress::Waits
        }
    }

    /// Reads on; returns whether a whole request, or one that cannot be accepted, is there.
    fn receive(&mut self) -> io::Result<bool> {
        loop {
            let missing = match wire::frame_size::<Request>(&self.input) {
                Ok(Some(size)) if self.input.len() >= size => return Ok(true),
                Ok(Some(size)) => size - self.input.len(),
                Ok(None) => LENGTH_SIZE - self.input.len(),
                Err(_) => return Ok(true),
            };
            // Never past this request, and no memory for bytes that are only announced.
            let mut chunk = [0; READ_SIZE];
            let count = missing.min(READ_SIZE);
            match self.stream.read(&mut chunk[..count]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.input.extend_from_slice(&chunk[..count]);
                    self.moved(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    fn moved(&mut self, count: usize) {
        self.moved += count;
        if self.moved >= PART {
            self.renew();
        }
    }

    fn renew(&mut self) {
        self.moved = 0;
        self.deadline = Instant::now() + IDLE_LIMIT;
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn ended(error: &io::Error) -> Progress {
    tracing::trace!(%error, "a control connection ended");
    Progress::Ended
}
