//! Why a connection ended, and why a DMA message failed.

use rustix::io::Errno;
use thiserror::Error;

use crate::capabilities::CapabilitiesError;
use crate::stream::FramingError;

/// Why a connection ended other than by the client's leaving.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The socket reports an error.
    #[error("the vfio-user socket failed: {0}")]
    Socket(#[from] Errno),
    /// A message of an impossible size.
    #[error("the client sent garbage: {0}")]
    Framing(#[from] FramingError),
    /// The client closed the connection before it sent VERSION.
    #[error("the client left before it proposed a version")]
    LeftEarly,
    /// The first message is not VERSION.
    #[error(
        "the client's first message has command {command} and flags {flags:#x}; VERSION (command \
         1, flags 0) must come first"
    )]
    NotVersion {
        /// The command.
        command: u16,
        /// The flags.
        flags: u32,
    },
    /// The VERSION message cannot be understood.
    #[error("the client's VERSION message is too short: {0} bytes after the header, not 4")]
    ShortVersion(usize),
    /// The client speaks another protocol.
    #[error("the client proposes protocol version {major}.{minor}; this server speaks 0.1")]
    Major {
        /// Proposed major version.
        major: u16,
        /// Proposed minor version.
        minor: u16,
    },
    /// The capabilities of VERSION cannot be understood.
    #[error(transparent)]
    Capabilities(#[from] CapabilitiesError),
    /// The session was asked for before VERSION arrived.
    #[error("VERSION has not arrived yet")]
    NoVersionYet,
    /// The backend describes more regions or interrupt indexes than there may be.
    #[error("the device has {count} {what}; at most {limit} are possible")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: u32,
        /// How many there may be.
        limit: u32,
    },
    /// [`Backend::first_use`](crate::Backend::first_use) failed.
    #[error("the device failed to start: {0}")]
    FirstUse(Errno),
}

/// Why guest memory was not reached by a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DmaError {
    /// The client waits for a reply of this session and cannot serve the request meanwhile.
    #[error(
        "guest memory without a descriptor cannot be reached while the client waits for a reply: \
         access it from another thread after the reply, or give the guest shared memory"
    )]
    ClientWaits,
    /// The connection has ended.
    #[error("the client has left")]
    Disconnected,
    /// The client refused, or its reply was malformed (`EPROTO`).
    #[error("the client refused the access to its memory: {0}")]
    Refused(Errno),
    /// No reply came in time.
    #[error("the client did not answer within {} s", crate::limits::DMA_REPLY_TIMEOUT.as_secs())]
    TimedOut,
    /// The range leaves the address space.
    #[error("{size} bytes from {address:#x} leave the address space")]
    OutOfRange {
        /// First DMA address.
        address: u64,
        /// Length in bytes.
        size: u64,
    },
}
