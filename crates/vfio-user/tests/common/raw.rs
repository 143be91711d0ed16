//! Raw messages: whatever bytes and descriptors a test wants to send, and what comes back.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use hdv_vfio_user::Errno;
use hdv_vfio_user::server::SessionOptions;
use hdv_vfio_user::wire::{Command, Header, Version};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{PATIENCE, Running, TestBackend, serve};

/// A hostile client's end of a connection.
pub struct Raw {
    pub stream: UnixStream,
    pub next_id: u16,
}

/// A command as bytes.
pub fn message(id: u16, command: Command, body: &[u8]) -> Vec<u8> {
    let header = Header::command(id, command, body.len());
    [header.as_bytes(), body].concat()
}

/// VERSION with this JSON text.
pub fn version(text: &str) -> Vec<u8> {
    let version = Version { major: 0, minor: 1 };
    let body = [version.as_bytes(), text.as_bytes(), &[0]].concat();
    message(0, Command::Version, &body)
}

/// Sends bytes with descriptors in one call.
pub fn send_with_fds(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(
            control.push(SendAncillaryMessage::ScmRights(fds)),
            "at most 32 descriptors"
        );
    }
    let sent = rustix::net::sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .expect("sent");
    assert_eq!(sent, bytes.len(), "sent whole");
}

impl Raw {
    /// A session, past VERSION.
    pub fn connected() -> (Self, Running) {
        Self::connected_to(TestBackend::new(), r#"{"capabilities":{"max_msg_fds":16}}"#)
    }

    pub fn connected_to(backend: TestBackend, capabilities: &str) -> (Self, Running) {
        let (stream, theirs) = UnixStream::pair().expect("a socket pair");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut raw = Self { stream, next_id: 1 };
        raw.send(&version(capabilities));
        let running = serve(theirs, SessionOptions::default(), backend);
        let (header, _) = raw.receive();
        assert_eq!(header.reported_error(), None, "VERSION");
        (raw, running)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// Sends a command with a structure and what follows it as the body; returns its id.
    pub fn command(
        &mut self,
        command: Command,
        fixed: &(impl IntoBytes + Immutable + ?Sized),
        rest: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> u16 {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let body = [fixed.as_bytes(), rest].concat();
        send_with_fds(&self.stream, &message(id, command, &body), fds);
        id
    }

    /// Receives one message.
    pub fn receive(&mut self) -> (Header, Vec<u8>) {
        let mut bytes = [0; 16];
        self.stream.read_exact(&mut bytes).expect("a header");
        let header = Header::read_from_bytes(&bytes).expect("16 bytes");
        let size = usize::try_from(header.message_size).expect("fits");
        let mut body = vec![0; size.checked_sub(16).expect("a sane size")];
        self.stream.read_exact(&mut body).expect("a body");
        (header, body)
    }

    /// Makes a request; its reply's body, or the error in it, which is checked to be a header
    /// alone.
    pub fn call(
        &mut self,
        command: Command,
        fixed: &(impl IntoBytes + Immutable + ?Sized),
        rest: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Vec<u8>, Errno> {
        let id = self.command(command, fixed, rest, fds);
        let (header, body) = self.receive();
        assert_eq!((header.message_id, header.command), (id, command.number()));
        assert_eq!(header.flags & 0xf, 1, "a reply");
        match header.reported_error() {
            Some(errno) => {
                assert!(body.is_empty(), "an error reply is the header alone");
                Err(errno)
            }
            None => Ok(body),
        }
    }

    /// Whether the server closes the connection, reading what it still says.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Whether nothing arrives for a moment. Used only after a reply has shown that everything
    /// before it was handled.
    pub fn is_silent(&mut self) -> bool {
        self.stream.set_nonblocking(true).expect("set");
        let silent = matches!(
            self.stream.read(&mut [0]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock
        );
        self.stream.set_nonblocking(false).expect("set");
        self.stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("set");
        silent
    }
}
