//! A connection over which both ends call commands, send notices, and hand descriptors over. What the commands are
//! is its users' business; which bytes they are is in `wire`.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::client::{CallError, ConnectError};
use crate::peer::PeerCredentials;
use crate::registry::ControlError;

/// What the other end calls and tells.
pub trait LinkHandler: Send + Sync {
    /// A command of the other end, with the descriptors that came with it. Each call has a thread of its own, up to 32 at a
    /// time; further ones fail with [`ErrorKind::Busy`](crate::ErrorKind::Busy). A panic is an error of kind
    /// [`ErrorKind::Internal`](crate::ErrorKind::Internal).
    ///
    /// # Errors
    /// The other end gets them as they are.
    fn call(
        &self,
        link: &Link,
        command: &str,
        args: Value,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Value, ControlError>;

    /// A notice of the other end; in order, on the link's own thread: it must not wait for the link.
    fn notice(&self, link: &Link, name: &str, args: Value);

    /// The connection has ended; exactly once, last, after every notice. Calls of ours that are under way fail.
    fn closed(&self, link: &Link);
}

/// One end of such a connection. Clones are the same end; it is closed by [`Link::close`], by the other end, or when
/// the last clone is dropped.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    peer: PeerCredentials,
}

impl Link {
    /// Connects to a socket of this user, or root's.
    ///
    /// # Errors
    /// Nobody listens there, or the server is another user's.
    pub fn connect(path: &Path, handler: Arc<dyn LinkHandler>) -> Result<Self, ConnectError> {
        let _ = (path, handler);
        todo!()
    }

    /// Takes a connected socket, whoever has its other end. `name` is what errors call it.
    ///
    /// # Errors
    /// A thread or a descriptor cannot be had.
    pub fn over(
        stream: UnixStream,
        name: &str,
        handler: Arc<dyn LinkHandler>,
    ) -> std::io::Result<Self> {
        let _ = (stream, name, handler);
        todo!()
    }

    /// The process that has the other end.
    #[must_use]
    pub fn peer(&self) -> PeerCredentials {
        self.shared.peer
    }

    /// Calls a command of the other end and waits for its answer, as long as `patience`.
    ///
    /// # Errors
    /// The command failed, no answer came in time (a later one is dropped, the link goes on), or the connection ended.
    pub fn call(
        &self,
        command: &str,
        args: &Value,
        patience: Duration,
    ) -> Result<Value, CallError> {
        self.call_with(command, args, &[], patience)
    }

    /// [`Link::call`] with descriptors, which the other end gets duplicates of; 16 at most.
    ///
    /// # Errors
    /// As there.
    pub fn call_with(
        &self,
        command: &str,
        args: &Value,
        descriptors: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> Result<Value, CallError> {
        let _ = (command, args, descriptors, patience);
        todo!()
    }

    /// Tells the other end something that has no answer.
    ///
    /// # Errors
    /// The connection has ended, or the other end takes nothing in.
    pub fn notify(&self, name: &str, args: &Value) -> Result<(), CallError> {
        let _ = (name, args);
        todo!()
    }

    /// Ends the connection. What the other end sent before is still handled, calls of ours fail.
    pub fn close(&self) {
        todo!()
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        todo!()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("peer", &self.shared.peer)
            .finish_non_exhaustive()
    }
}
