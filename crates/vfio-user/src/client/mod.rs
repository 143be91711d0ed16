//! The client: for tests, probes and benchmarks of any vfio-user server.

mod connection;
mod device;
mod dma;
mod error;
mod irqs;
mod regions;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

pub use dma::DmaHandler;
pub use error::ClientError;
pub use regions::{ClientIoEventFd, ClientRegion, RegionWrite};

use crate::capabilities::Capabilities;
use crate::stream::{Credentials, peer_credentials, shutdown};
use connection::Connection;
use dma::Handler;

/// How a client behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientOptions {
    /// While it waits for a reply, the client looks for it without blocking for up to this
    /// long before it blocks. `None`: it blocks at once.
    pub poll: Option<Duration>,
    /// Whether the client offers to serve DMA messages on a separate socket.
    pub twin_socket: bool,
    /// How long the client waits to be accepted, and for a reply. `None`: for ever.
    pub reply_timeout: Option<Duration>,
}

impl Default for ClientOptions {
    /// No polling, no twin socket, five seconds.
    fn default() -> Self {
        Self {
            poll: None,
            twin_socket: false,
            reply_timeout: Some(Duration::from_secs(5)),
        }
    }
}

impl ClientOptions {
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

    /// Sets [`reply_timeout`](Self::reply_timeout).
    #[must_use]
    pub fn with_reply_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.reply_timeout = timeout;
        self
    }
}

/// A connection to a vfio-user server whose version has been agreed.
///
/// One request is under way at a time. Requests of the server (DMA messages) are answered by
/// the handler that [`set_dma_handler`](Self::set_dma_handler) sets: on a twin socket, by a
/// thread of its own; otherwise while the client waits for a reply, and in
/// [`serve_requests`](Self::serve_requests).
pub struct Client {
    connection: Connection,
    version: (u16, u16),
    server: Capabilities,
    handler: Arc<Mutex<Handler>>,
    twin: Option<Twin>,
}

/// The socket for the server's requests and the thread that serves it.
struct Twin {
    socket: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("version", &self.version)
            .field("server", &self.server)
            .field("twin", &self.twin.is_some())
            .finish_non_exhaustive()
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.socket()
    }
}

impl Client {
    /// Connects to a server and agrees on the version.
    ///
    /// # Errors
    /// [`ClientError::Connect`] when nobody listens at `path`;
    /// [`ClientError::Refused`] when the server does not take this client (`EBUSY`: it has
    /// another one); otherwise see [`ClientError`].
    pub fn connect(path: &Path, options: ClientOptions) -> Result<Self, ClientError> {
        let stream = open(path, options.reply_timeout).map_err(|source| ClientError::Connect {
            path: path.to_owned(),
            source,
        })?;
        Self::from_stream(stream, options)
    }

    /// Agrees on the version over a connected socket.
    ///
    /// # Errors
    /// See [`ClientError`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the same signature as `connect`"
    )]
    pub fn from_stream(stream: UnixStream, options: ClientOptions) -> Result<Self, ClientError> {
        let mut connection = Connection::new(stream, &options)?;
        let agreed = connection.negotiate(options.twin_socket)?;
        let handler = Arc::new(Mutex::new(Handler::default()));
        let twin = agreed.twin.map(|socket| {
            let socket = Arc::new(socket);
            let thread = dma::serve_twin(Arc::clone(&socket), Arc::clone(&handler));
            Twin {
                socket,
                thread: Some(thread),
            }
        });
        Ok(Self {
            connection,
            version: agreed.version,
            server: agreed.server,
            handler,
            twin,
        })
    }

    /// The version that was agreed on, major and minor.
    #[must_use]
    pub fn server_version(&self) -> (u16, u16) {
        self.version
    }

    /// What the server announced.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.server
    }

    /// Whether DMA messages use a socket of their own.
    #[must_use]
    pub fn has_twin_socket(&self) -> bool {
        self.twin.is_some()
    }

    /// Who serves.
    #[must_use]
    pub fn peer_credentials(&self) -> Option<Credentials> {
        peer_credentials(self)
    }

    /// Process id of who serves, if it is visible here.
    #[must_use]
    pub fn peer_pid(&self) -> Option<i32> {
        self.peer_credentials()?.pid
    }
}

/// Connects as `UnixStream::connect` does, but waits for a server whose backlog is full no longer
/// than for a reply.
fn open(path: &Path, limit: Option<Duration>) -> io::Result<UnixStream> {
    let stream = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    set_socket_timeout(&stream, Timeout::Send, limit)?;
    rustix::net::connect(&stream, &SocketAddrUnix::new(path)?)?;
    Ok(stream.into())
}

impl Drop for Client {
    fn drop(&mut self) {
        shutdown(self.connection.socket());
        if let Some(twin) = &mut self.twin {
            shutdown(twin.socket.as_fd());
            if let Some(thread) = twin.thread.take() {
                // A handler that panicked has said so on standard error.
                let _ = thread.join();
            }
        }
    }
}
