//! The server: one [`Handshake`] and then one [`Session`] per connection, each on a thread of
//! its owner's. Listening, and what a device is, are the owner's business. A [`StandIn`] goes on with a connection whose
//! session is no more, with what that has written into its [`Ledger`].

mod channel;
mod device;
mod dispatch;
mod dma;
mod error;
mod handshake;
mod irqs;
mod ledger;
mod peer;
mod regions;
mod reply;
mod session;
mod stand_in;
mod statistics;

use std::os::unix::net::UnixStream;
use std::time::Duration;

pub use dispatch::{Dispatcher, Flow};
pub use error::{DmaError, Error};
pub use handshake::Handshake;
pub use ledger::{Ledger, Left};
pub use peer::Peer;
pub use session::{Closer, Session};
pub use stand_in::StandIn;
pub use statistics::Statistics;

use crate::Backend;

/// How a session behaves.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Before it blocks, the session looks for a message without blocking for up to this long.
    /// `None`: it blocks at once.
    pub poll: Option<Duration>,
    /// Whether a separate socket for DMA messages is set up if the client offers to use one.
    pub twin_socket: bool,
}

impl SessionOptions {
    /// Sets [`poll`](Self::poll).
    #[must_use]
    pub fn with_poll(mut self, poll: Option<Duration>) -> Self {
        self.poll = poll;
        self
    }

    /// Sets [`twin_socket`](Self::twin_socket).
    #[must_use]
    pub fn with_twin_socket(mut self, twin_socket: bool) -> Self {
        self.twin_socket = twin_socket;
        self
    }
}

/// Serves one connection from VERSION until the client leaves. Blocks.
///
/// # Errors
/// As [`Handshake::advance`], [`Handshake::accept`] and [`Session::run`].
pub fn serve_connection(
    stream: UnixStream,
    options: SessionOptions,
    backend: &mut dyn Backend,
) -> Result<(), Error> {
    let mut handshake = Handshake::new(stream, options)?;
    handshake.wait()?;
    handshake.accept()?.run(backend)
}
