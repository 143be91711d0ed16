//! The other end of a measurement: this program again, in a process of its own.
//!
//! A peer makes its socket in a directory of its own, prints the socket's path, and serves until
//! its standard input ends, which it does also when whoever started it dies. Then it removes what
//! it made. It is in a process group of its own, so that Ctrl-C does not keep it from that.

mod serve;
mod start;

use std::time::Duration;

pub(super) use serve::serve;
pub(super) use start::Peer;

/// The hidden command: what a peer is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PeerArguments {
    /// The processor to stay on.
    #[arg(long)]
    cpu: Option<usize>,
    /// How long to look for the next message before blocking.
    #[arg(long, value_name = "MICROSECONDS")]
    poll: Option<u64>,
    #[command(subcommand)]
    role: Role,
}

impl PeerArguments {
    fn poll(&self) -> Option<Duration> {
        self.poll.map(Duration::from_micros)
    }
}

/// What a peer serves.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub(super) enum Role {
    /// Sends `reply` bytes for every `request` bytes that it received.
    Floor {
        /// Bytes of a request.
        request: usize,
        /// Bytes of a reply.
        reply: usize,
    },
    /// A `hdv::DeviceHost` with the scratch device.
    OpenHdv,
    /// A `hdv::DeviceHost` with a domain of this many scratch devices.
    Domain {
        /// How many, at most 256.
        count: u16,
    },
    /// The `vfio_user` crate's server with plain memory.
    VfioUser,
    /// A `hdv::DeviceHost` with this many idle sensors; the path printed is their directory.
    Sensors {
        /// How many.
        count: usize,
    },
    /// A `hdv::DeviceHost` with a PF that has this many VFs enabled.
    VirtualFunctions {
        /// How many.
        count: u16,
    },
}
