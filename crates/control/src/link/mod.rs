//! A connection over which both ends call commands, send notices, and hand descriptors over. What the commands are
//! is its users' business; which bytes they are is in `message`, how they travel in `stream`, who waits for what in `calls`,
//! a socket on which many are accepted in `server`.

mod calls;
mod message;
mod reader;
mod server;
mod stream;

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use serde_json::Value;

use crate::client::{CallError, ConnectError, connect_trusted};
use crate::peer::PeerCredentials;
use crate::registry::ControlError;
use crate::wire::{self, Response};

use calls::{Calls, End};
pub use message::{
    LINK_DESCRIPTOR_LIMIT, LINK_MESSAGE_LIMIT, LinkAnswer, LinkCall, LinkMessage, LinkNotice,
};
use reader::Reader;
pub use server::LinkServer;
use stream::MESSAGE_PATIENCE;

/// What the other end calls and tells.
///
/// A link keeps its handler until it has ended; a handler that keeps the link in turn must let go of it, or close it.
pub trait LinkHandler: Send + Sync {
    /// A command of the other end, with the descriptors that came with it. Each call has a thread of its own, up to 32 at a
    /// time; further ones fail with [`ErrorKind::Busy`](crate::ErrorKind::Busy). A panic is an error of kind
    /// [`ErrorKind::Internal`](crate::ErrorKind::Internal). It may call the other end back and close the link.
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

    /// A notice of the other end; in order, on the link's own thread: it must not wait for the link. Calls of the link made
    /// from inside it fail.
    fn notice(&self, link: &Link, name: &str, args: Value);

    /// The connection has ended; exactly once, last, after every notice. Calls of ours that were under way have failed;
    /// calls of the other end may still be.
    fn closed(&self, link: &Link);

    /// Whether the other end has said who it is, where it has to. A [`LinkServer`] asks, and ends connections of which this
    /// is not so within 10 seconds; it must not wait. Once it is so, it stays so.
    fn is_greeted(&self) -> bool {
        true
    }
}

/// One end of such a connection. Clones are the same end; it is closed by [`Link::close`], by the other end, or when
/// the last clone is dropped. What a handler is given while it runs is a clone.
#[derive(Clone)]
pub struct Link {
    user: Arc<User>,
}

/// What users have in common: the last one that goes closes the link. The link's own threads do not count.
struct User {
    shared: Arc<Shared>,
}

impl Drop for User {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// What users and the link's threads share.
struct Shared {
    stream: UnixStream,
    /// Held while a message is sent, so that messages are whole.
    sending: Mutex<()>,
    name: PathBuf,
    peer: PeerCredentials,
    calls: Calls,
    /// The thread that notices are handled on.
    reader: OnceLock<ThreadId>,
}

impl Shared {
    /// Sends a frame; an error ends the link. `before` runs when it is this frame's turn.
    fn send(
        &self,
        frame: &[u8],
        descriptors: &[BorrowedFd<'_>],
        before: impl FnOnce(),
    ) -> Result<(), End> {
        let turn = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        before();
        if let Some(end) = self.calls.ended() {
            return Err(end);
        }
        let sent = stream::send(&self.stream, frame, descriptors, MESSAGE_PATIENCE);
        drop(turn);
        sent.map_err(|error| {
            let end = End::from(error);
            self.end(&end);
            end
        })
    }

    fn end(&self, end: &End) {
        self.calls.end(end);
        // What was received before is still there to be read.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn close(&self) {
        self.end(&End::new(
            io::ErrorKind::ConnectionAborted,
            "it was closed by this process",
        ));
    }

    fn broke(&self, end: &End) -> CallError {
        CallError::Io {
            path: self.name.clone(),
            source: end.error(),
        }
    }
}

impl Link {
    /// Connects to a socket of this user, or root's.
    ///
    /// # Errors
    /// Nobody listens there, or the server is another user's.
    pub fn connect(path: &Path, handler: Arc<dyn LinkHandler>) -> Result<Self, ConnectError> {
        let (stream, peer) = connect_trusted(path)?;
        Self::start(stream, path.to_owned(), peer, handler).map_err(|source| ConnectError::Io {
            path: path.to_owned(),
            source,
        })
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
        let peer = PeerCredentials::of(&stream)?;
        Self::start(stream, name.into(), peer, handler)
    }

    fn start(
        stream: UnixStream,
        name: PathBuf,
        peer: PeerCredentials,
        handler: Arc<dyn LinkHandler>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            stream,
            sending: Mutex::new(()),
            name,
            peer,
            calls: Calls::default(),
            reader: OnceLock::new(),
        });
        let link = Self {
            user: Arc::new(User { shared }),
        };
        Reader::start(&link, handler)?;
        Ok(link)
    }

    fn shared(&self) -> &Shared {
        &self.user.shared
    }

    /// The process that has the other end.
    #[must_use]
    pub fn peer(&self) -> PeerCredentials {
        self.shared().peer
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
        let shared = self.shared();
        let refused = |kind, reason: &str| CallError::Io {
            path: shared.name.clone(),
            source: io::Error::new(kind, reason),
        };
        if shared.reader.get() == Some(&std::thread::current().id()) {
            return Err(refused(
                io::ErrorKind::Deadlock,
                "a call from inside a notice would wait for itself",
            ));
        }
        let count = u8::try_from(descriptors.len())
            .ok()
            .filter(|count| usize::from(*count) <= LINK_DESCRIPTOR_LIMIT)
            .ok_or_else(|| {
                refused(
                    io::ErrorKind::InvalidInput,
                    "at most 16 descriptors go with a call",
                )
            })?;
        let (id, answered) = shared.calls.begin().map_err(|end| shared.broke(&end))?;
        let sent = wire::encode(&LinkMessage::Call(LinkCall {
            id,
            command: command.to_owned(),
            args: args.clone(),
            descriptors: count,
        }))
        .map_err(CallError::from)
        .and_then(|frame| {
            let sent = shared.send(&frame, descriptors, || ());
            sent.map_err(|end| shared.broke(&end))
        });
        if let Err(error) = sent {
            shared.calls.forget(id);
            return Err(error);
        }
        let answer = answered.recv_timeout(patience).or_else(|error| {
            shared.calls.forget(id);
            // It may have come between the two.
            answered.try_recv().map_err(|_| error)
        });
        match answer {
            Ok(Ok(Response::Ok(value))) => Ok(value),
            Ok(Ok(Response::Error(error))) => Err(error.into()),
            Ok(Err(end)) => Err(shared.broke(&end)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(CallError::TimedOut {
                    path: shared.name.clone(),
                    patience,
                })
            }
        }
    }

    /// Tells the other end something that has no answer.
    ///
    /// # Errors
    /// The connection has ended, or the other end takes nothing in.
    pub fn notify(&self, name: &str, args: &Value) -> Result<(), CallError> {
        let frame = wire::encode(&LinkMessage::Notice(LinkNotice {
            notice: name.to_owned(),
            args: args.clone(),
        }))?;
        let shared = self.shared();
        let sent = shared.send(&frame, &[], || ());
        sent.map_err(|end| shared.broke(&end))
    }

    /// Ends the connection. What the other end sent before is still handled, calls of ours fail.
    pub fn close(&self) {
        self.shared().close();
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared().calls.ended().is_some()
    }

    /// Whether both are of the same end of the same connection.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.user.shared, &other.user.shared)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("name", &self.shared().name)
            .field("peer", &self.shared().peer)
            .finish_non_exhaustive()
    }
}
