//! VERSION: a connection before its version has been agreed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use zerocopy::IntoBytes;

use super::channel::Channel;
use super::{Error, Session, SessionOptions};
use crate::capabilities::{Capabilities, TwinSocket};
use crate::limits::{MAX_MESSAGE_SIZE, MAX_VERSION_SIZE};
use crate::stream::{Assembler, Credentials, Received, peer_credentials, receive, send};
use crate::wire::{self, Command, Header, Kind};
use crate::{VERSION_MAJOR, VERSION_MINOR};

/// An accepted connection whose VERSION has not been answered.
///
/// Its owner waits until the descriptor is readable, calls [`advance`](Self::advance), and
/// decides once that says so: [`accept`](Self::accept) or [`refuse`](Self::refuse). Nothing
/// blocks, so one thread can look after many. Dropping it closes the connection.
#[derive(Debug)]
pub struct Handshake {
    socket: UnixStream,
    options: SessionOptions,
    assembler: Assembler,
    proposal: Option<Proposal>,
}

#[derive(Debug)]
struct Proposal {
    header: Header,
    minor: u16,
    capabilities: Capabilities,
}

impl AsFd for Handshake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Handshake {
    /// Takes over an accepted connection.
    ///
    /// # Errors
    /// [`Error::Socket`] when the socket cannot be made blocking.
    pub fn new(stream: UnixStream, options: SessionOptions) -> Result<Self, Error> {
        rustix::io::ioctl_fionbio(&stream, false)?;
        Ok(Self {
            socket: stream,
            options,
            assembler: Assembler::new(MAX_VERSION_SIZE),
            proposal: None,
        })
    }

    /// Receives what has arrived, without blocking: `true` once VERSION is there and can be
    /// accepted.
    ///
    /// # Errors
    /// When it cannot: the connection is to be dropped. Where the specification has an error
    /// reply for the case, it has been sent.
    pub fn advance(&mut self) -> Result<bool, Error> {
        self.receive(RecvFlags::DONTWAIT)
    }

    /// Blocks until VERSION is there and can be accepted.
    ///
    /// # Errors
    /// As [`advance`](Self::advance).
    pub fn wait(&mut self) -> Result<(), Error> {
        while !self.receive(RecvFlags::empty())? {}
        Ok(())
    }

    fn receive(&mut self, flags: RecvFlags) -> Result<bool, Error> {
        if self.proposal.is_some() {
            return Ok(true);
        }
        loop {
            if let Some(header) = self.assembler.next()? {
                let proposal = self.examine(&header);
                self.assembler.consume();
                return match proposal {
                    Ok(proposal) => {
                        self.assembler.set_limit(MAX_MESSAGE_SIZE);
                        self.proposal = Some(proposal);
                        Ok(true)
                    }
                    Err(error) => {
                        if header.kind() == Kind::Command && !header.no_reply() {
                            self.send_error(&header, Errno::INVAL);
                        }
                        Err(error)
                    }
                };
            }
            match receive(self.socket.as_fd(), &mut self.assembler, flags)? {
                Received::Bytes => {}
                Received::Nothing => return Ok(false),
                Received::Closed => return Err(Error::LeftEarly),
            }
        }
    }

    fn examine(&self, header: &Header) -> Result<Proposal, Error> {
        if header.command != Command::Version.number()
            || header.kind() != Kind::Command
            || header.no_reply()
        {
            return Err(Error::NotVersion {
                command: header.command,
                flags: header.flags,
            });
        }
        let body = self.assembler.body();
        let (version, text) =
            wire::parse_prefix::<wire::Version>(body).ok_or(Error::ShortVersion(body.len()))?;
        if version.major != VERSION_MAJOR {
            return Err(Error::Major {
                major: version.major,
                minor: version.minor,
            });
        }
        Ok(Proposal {
            header: *header,
            minor: version.minor,
            capabilities: Capabilities::parse(text)?,
        })
    }

    /// Answers VERSION: the session can run.
    ///
    /// # Errors
    /// [`Error::NoVersionYet`] before [`advance`](Self::advance) has returned `true`;
    /// [`Error::Socket`] when the reply cannot be sent or the twin socket not be made.
    pub fn accept(self) -> Result<Session, Error> {
        let proposal = self.proposal.ok_or(Error::NoVersionYet)?;
        let offered = &proposal.capabilities;
        let mut ours = Capabilities::ours();
        ours.write_multiple = offered.write_multiple;
        let twin = if self.options.twin_socket
            && offered.twin_socket_supported()
            && offered.message_fds() > 0
        {
            ours.twin_socket = Some(TwinSocket {
                supported: true,
                fd_index: Some(0),
            });
            Some(socket_pair()?)
        } else {
            None
        };
        let version = wire::Version {
            major: VERSION_MAJOR,
            minor: proposal.minor.min(VERSION_MINOR),
        };
        let text = ours.to_text();
        let header = proposal
            .header
            .reply(size_of::<wire::Version>() + text.len());
        let message = [header.as_bytes(), version.as_bytes(), &text].concat();
        let (twin, theirs) = twin.map_or((None, None), |(ours, theirs)| (Some(ours), Some(theirs)));
        let fds: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
        // The first bytes on a fresh connection always fit the socket's buffer.
        send(self.socket.as_fd(), &message, &fds)?;
        let channel = Channel::new(self.socket, twin, offered.data_transfer());
        Ok(Session::new(
            channel,
            self.assembler,
            proposal.capabilities,
            &self.options,
        ))
    }

    /// Refuses the client: VERSION gets the error, and the connection is closed. Without
    /// VERSION it is closed only.
    pub fn refuse(self, errno: Errno) {
        if let Some(proposal) = &self.proposal {
            self.send_error(&proposal.header, errno);
        }
    }

    fn send_error(&self, command: &Header, errno: Errno) {
        // The connection is closed next; a client that is gone already needs no answer.
        let _ = send(
            self.socket.as_fd(),
            command.error_reply(errno).as_bytes(),
            &[],
        );
    }

    /// What the client announced, once VERSION is there.
    #[must_use]
    pub fn client_capabilities(&self) -> Option<&Capabilities> {
        self.proposal
            .as_ref()
            .map(|proposal| &proposal.capabilities)
    }

    /// Who connected.
    #[must_use]
    pub fn peer_credentials(&self) -> Option<Credentials> {
        peer_credentials(&self.socket)
    }

    /// Process id of who connected, if it is visible here.
    #[must_use]
    pub fn peer_pid(&self) -> Option<i32> {
        self.peer_credentials()?.pid
    }

    /// User id of who connected.
    #[must_use]
    pub fn peer_uid(&self) -> Option<u32> {
        self.peer_credentials().map(|credentials| credentials.uid)
    }
}

fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
}
