//! One request out, its reply in; the version.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use zerocopy::IntoBytes;

use super::dma::{Handler, answer_request};
use super::{ClientError, ClientOptions};
use crate::capabilities::{Capabilities, TwinSocket};
use crate::limits::{MAX_MESSAGE_SIZE, RESTING_BUFFER};
use crate::stream::{Assembler, Descriptors, Expect, Received, receive_polling, send};
use crate::wire::{self, Command, HEADER_SIZE, Header, Kind};
use crate::{VERSION_MAJOR, VERSION_MINOR};

/// The socket with its buffers.
pub(super) struct Connection {
    socket: UnixStream,
    assembler: Assembler,
    request: Vec<u8>,
    answer: Vec<u8>,
    next_id: u16,
    poll: Option<Duration>,
    reply_timeout: Option<Duration>,
}

/// What VERSION settled.
pub(super) struct Agreement {
    pub(super) version: (u16, u16),
    pub(super) server: Capabilities,
    pub(super) twin: Option<OwnedFd>,
}

/// A message that is there.
enum Arrived {
    Message(Header),
    Nothing,
    Closed,
}

impl Connection {
    pub(super) fn new(socket: UnixStream, options: &ClientOptions) -> Result<Self, ClientError> {
        rustix::io::ioctl_fionbio(&socket, false)?;
        // With the limit in the socket itself a reply costs one system call.
        set_socket_timeout(&socket, Timeout::Recv, options.reply_timeout)?;
        set_socket_timeout(&socket, Timeout::Send, options.reply_timeout)?;
        Ok(Self {
            socket,
            assembler: Assembler::new(MAX_MESSAGE_SIZE),
            request: Vec::with_capacity(RESTING_BUFFER),
            answer: Vec::new(),
            next_id: 0,
            poll: options.poll,
            reply_timeout: options.reply_timeout,
        })
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Proposes our version and takes the server's answer.
    pub(super) fn negotiate(&mut self, twin_socket: bool) -> Result<Agreement, ClientError> {
        let wrong = |problem| ClientError::Protocol {
            command: Command::Version,
            problem,
        };
        let mut ours = Capabilities::ours();
        ours.twin_socket = twin_socket.then_some(TwinSocket {
            supported: true,
            fd_index: None,
        });
        let version = wire::Version {
            major: VERSION_MAJOR,
            minor: VERSION_MINOR,
        };
        let text = ours.to_text();
        let parts = [version.as_bytes(), &text];
        let handler = Mutex::default();
        self.send_command(Command::Version, &parts, &[], 0)?;
        let mut fds = self
            .wait_reply(Command::Version, &handler)?
            .into_vec()
            .into_iter();
        let (version, text) = wire::parse_prefix::<wire::Version>(self.assembler.body())
            .ok_or_else(|| wrong("it is too short"))?;
        if version.major != VERSION_MAJOR || version.minor > VERSION_MINOR {
            return Err(wrong("its version is not one that was proposed"));
        }
        let server = Capabilities::parse(text)?;
        self.assembler.consume();
        let twin = match server.twin_socket {
            Some(TwinSocket {
                supported: true,
                fd_index,
            }) => {
                if !twin_socket {
                    return Err(wrong("it has a twin socket that was not asked for"));
                }
                let index = fd_index.and_then(|index| usize::try_from(index).ok());
                let socket = index.and_then(|index| fds.nth(index));
                Some(socket.ok_or_else(|| wrong("its twin socket is missing"))?)
            }
            _ => None,
        };
        Ok(Agreement {
            version: (version.major, version.minor),
            server,
            twin,
        })
    }

    /// Sends a command made of `parts`; returns when it has left.
    pub(super) fn send_command(
        &mut self,
        command: Command,
        parts: &[&[u8]],
        fds: &[BorrowedFd<'_>],
        flags: u32,
    ) -> Result<(), ClientError> {
        let body = parts.iter().map(|part| part.len()).sum();
        self.next_id = self.next_id.wrapping_add(1);
        let header = Header {
            flags,
            ..Header::command(self.next_id, command, body)
        };
        self.request.clear();
        self.request.shrink_to(RESTING_BUFFER);
        self.request.extend_from_slice(header.as_bytes());
        for part in parts {
            self.request.extend_from_slice(part);
        }
        send(self.socket.as_fd(), &self.request, fds).map_err(|errno| match errno {
            Errno::PIPE | Errno::CONNRESET => ClientError::Disconnected { command },
            Errno::AGAIN => ClientError::TimedOut { command },
            errno => ClientError::Socket(errno),
        })
    }

    /// Waits for the reply to the last command. It stays in the assembler until consumed;
    /// its descriptors are returned.
    pub(super) fn wait_reply(
        &mut self,
        command: Command,
        handler: &Mutex<Handler>,
    ) -> Result<Descriptors, ClientError> {
        // Neither these replies nor the server's own requests carry any.
        let expect = match command {
            Command::RegionRead | Command::RegionWrite => Expect::BytesOnly,
            _ => Expect::Descriptors,
        };
        loop {
            let header = match self.arrived(expect)? {
                Arrived::Message(header) => header,
                Arrived::Closed => return Err(ClientError::Disconnected { command }),
                Arrived::Nothing => return Err(ClientError::TimedOut { command }),
            };
            if header.kind() == Kind::Command {
                self.answer(&header, handler)?;
                continue;
            }
            // Another id is a reply that came after its time.
            if (header.message_id, header.command) != (self.next_id, command.number()) {
                self.assembler.consume();
                continue;
            }
            if let Some(errno) = header.reported_error() {
                self.assembler.consume();
                return Err(ClientError::Refused { command, errno });
            }
            let fds = self.assembler.take_descriptors();
            if fds.excess() {
                self.assembler.consume();
                return Err(ClientError::Protocol {
                    command,
                    problem: "it came with more descriptors than can be taken",
                });
            }
            return Ok(fds);
        }
    }

    /// The body of the reply that [`wait_reply`](Self::wait_reply) found.
    pub(super) fn reply_body(&self) -> &[u8] {
        self.assembler.body()
    }

    /// Forgets it.
    pub(super) fn consume_reply(&mut self) {
        self.assembler.consume();
    }

    /// Answers requests of the server until `timeout` is over; returns how many.
    pub(super) fn serve_requests(
        &mut self,
        timeout: Duration,
        handler: &Mutex<Handler>,
    ) -> Result<usize, ClientError> {
        let deadline = Instant::now() + timeout;
        let mut served = 0;
        loop {
            while let Some(header) = self.assembler.next()? {
                if header.kind() == Kind::Command {
                    self.answer(&header, handler)?;
                    served += 1;
                } else {
                    self.assembler.consume();
                }
            }
            if !crate::stream::wait_readable(self.socket.as_fd(), deadline)? {
                return Ok(served);
            }
            let command = Command::DmaRead;
            let (socket, expect) = (self.socket.as_fd(), Expect::Descriptors);
            match receive_polling(socket, &mut self.assembler, None, expect)? {
                Received::Bytes => {}
                Received::Nothing => return Ok(served),
                Received::Closed => return Err(ClientError::Disconnected { command }),
            }
        }
    }

    fn arrived(&mut self, expect: Expect) -> Result<Arrived, ClientError> {
        loop {
            if let Some(header) = self.assembler.next()? {
                return Ok(Arrived::Message(header));
            }
            let socket = self.socket.as_fd();
            match receive_polling(socket, &mut self.assembler, self.poll, expect)? {
                Received::Bytes => {}
                Received::Closed => return Ok(Arrived::Closed),
                // Without a limit the socket blocks, so there is always something.
                Received::Nothing if self.reply_timeout.is_none() => {}
                Received::Nothing => return Ok(Arrived::Nothing),
            }
        }
    }

    fn answer(&mut self, header: &Header, handler: &Mutex<Handler>) -> Result<(), ClientError> {
        answer_request(header, self.assembler.body(), handler, &mut self.answer);
        self.assembler.consume();
        if self.answer.len() >= HEADER_SIZE {
            send(self.socket.as_fd(), &self.answer, &[])?;
        }
        Ok(())
    }
}
