//! The contenders of what goes over a socket: a near end connected to a peer.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::vfio;

use super::cpus::Placement;
use super::error::{BenchError, During};
use super::peer::{Peer, Role};
use super::stream::Stream;
use crate::c::Served;

/// How long an end that polls looks for the next message before it blocks: longer than any
/// round trip, and over soon when it is another contender's turn.
pub(super) const POLL: Duration = Duration::from_micros(200);

/// Which ends poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Polling {
    Neither,
    Server,
    Both,
}

impl Polling {
    fn near(self) -> Option<Duration> {
        (self == Self::Both).then_some(POLL)
    }

    fn far(self) -> Option<Duration> {
        (self != Self::Neither).then_some(POLL)
    }
}

/// Bytes of the header of every message.
const HEADER: usize = 16;
/// Bytes that say where an access is.
const ACCESS: usize = 16;
/// Bytes that are accessed.
pub(super) const DATA: usize = 4;

/// Bytes of the two messages of a region read.
pub(super) const READ_MESSAGES: (usize, usize) = (HEADER + ACCESS, HEADER + ACCESS + DATA);
/// Bytes of the two messages of a region write.
pub(super) const WRITE_MESSAGES: (usize, usize) = (HEADER + ACCESS + DATA, HEADER + ACCESS);

/// Bytes there and back, no protocol.
#[derive(Debug)]
pub(super) struct Floor {
    stream: Stream,
    request: Vec<u8>,
    reply: usize,
    _peer: Peer,
}

impl Floor {
    /// A peer that answers every `expected` bytes with `reply` bytes.
    pub(super) fn connect(
        placement: Placement,
        polling: Polling,
        (expected, reply): (usize, usize),
    ) -> Result<Self, BenchError> {
        let role = Role::Floor {
            request: expected,
            reply,
        };
        let peer = Peer::start(role, Some(placement.far), polling.far())?;
        let socket = UnixStream::connect(peer.path()).during("connecting to the floor")?;
        Ok(Self {
            stream: Stream::new(socket, polling.near()),
            request: vec![0; expected],
            reply,
            _peer: peer,
        })
    }

    /// Sends what the peer expects and receives its reply.
    pub(super) fn round_trip(&mut self) -> Result<(), BenchError> {
        self.stream.send(&self.request).during("sending")?;
        self.await_reply()
    }

    /// Sends some of what the peer expects.
    pub(super) fn send(&mut self, bytes: usize) -> Result<(), BenchError> {
        self.stream.send(&self.request[..bytes]).during("sending")
    }

    /// Receives the reply to all of it.
    pub(super) fn await_reply(&mut self) -> Result<(), BenchError> {
        if self.stream.receive(self.reply).during("receiving")? {
            Ok(())
        } else {
            Err(BenchError::new("receiving", "the other end left"))
        }
    }
}

/// Our client and a vfio-user server.
#[derive(Debug)]
pub(super) struct OurClient {
    client: Client,
    _far: Far,
}

/// Whose process serves.
#[derive(Debug)]
enum Far {
    Peer(#[expect(dead_code, reason = "kept until the client goes")] Peer),
    Program(#[expect(dead_code, reason = "kept until the client goes")] Served),
}

impl OurClient {
    /// With the device host or the `vfio_user` crate's server, as `role` says.
    pub(super) fn connect(
        placement: Placement,
        polling: Polling,
        role: Role,
    ) -> Result<Self, BenchError> {
        let peer = Peer::start(role, Some(placement.far), polling.far())?;
        let options = ClientOptions::default().with_poll(polling.near());
        let client = Client::connect(peer.path(), options).during("connecting to the server")?;
        Self::checked(client, Far::Peer(peer))
    }

    /// With the device of another program.
    pub(super) fn of_program(program: Served) -> Result<Self, BenchError> {
        let device = program.devices().first();
        let device = device.ok_or_else(|| BenchError::new("connecting", "it serves nothing"))?;
        let client = Client::connect(&device.socket, ClientOptions::default())
            .during("connecting to the server")?;
        Self::checked(client, Far::Program(program))
    }

    fn checked(client: Client, far: Far) -> Result<Self, BenchError> {
        let mut ours = Self { client, _far: far };
        // What is measured is an access that works.
        let written = [0x12, 0x34, 0x56, 0x78];
        ours.client
            .region_write(vfio::region::BAR0, 0, &written)
            .during("writing a register")?;
        let mut read = [0; DATA];
        ours.client
            .region_read(vfio::region::BAR0, 0, &mut read)
            .during("reading a register")?;
        check(written, read)?;
        Ok(ours)
    }

    pub(super) fn read(&mut self) -> Result<(), BenchError> {
        self.client
            .region_read(vfio::region::BAR0, 0, &mut [0; DATA])
            .during("reading a register")
    }

    pub(super) fn write(&mut self) -> Result<(), BenchError> {
        self.client
            .region_write(vfio::region::BAR0, 0, &[1; DATA])
            .during("writing a register")
    }

    pub(super) fn post(&mut self) -> Result<(), BenchError> {
        self.client
            .region_write_posted(vfio::region::BAR0, 0, &[1; DATA])
            .during("posting a write")
    }
}

/// The `vfio_user` crate's client and a vfio-user server.
pub(super) struct TheirClient {
    client: vfio_user::Client,
    _peer: Peer,
}

impl TheirClient {
    /// With the device host or the `vfio_user` crate's server, as `role` says.
    pub(super) fn connect(placement: Placement, role: Role) -> Result<Self, BenchError> {
        let peer = Peer::start(role, Some(placement.far), None)?;
        let client = vfio_user::Client::new(peer.path())
            .during("connecting the vfio_user crate's client")?;
        let mut theirs = Self {
            client,
            _peer: peer,
        };
        let written = [0x12, 0x34, 0x56, 0x78];
        let mut read = [0; DATA];
        theirs
            .client
            .region_write(vfio::region::BAR0, 0, &written)
            .during("writing a register")?;
        theirs
            .client
            .region_read(vfio::region::BAR0, 0, &mut read)
            .during("reading a register")?;
        check(written, read)?;
        Ok(theirs)
    }

    pub(super) fn read(&mut self) -> Result<(), BenchError> {
        self.client
            .region_read(vfio::region::BAR0, 0, &mut [0; DATA])
            .during("reading a register")
    }

    pub(super) fn write(&mut self) -> Result<(), BenchError> {
        self.client
            .region_write(vfio::region::BAR0, 0, &[1; DATA])
            .during("writing a register")
    }
}

fn check(written: [u8; DATA], read: [u8; DATA]) -> Result<(), BenchError> {
    if read == written {
        Ok(())
    } else {
        Err(BenchError::new(
            "reading back what was written",
            format!("{read:02x?} came back for {written:02x?}"),
        ))
    }
}
