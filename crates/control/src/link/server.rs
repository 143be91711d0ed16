//! A listening socket on which links are accepted.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use serde_json::Value;

use super::{Link, LinkHandler};
use crate::peer::PeerCredentials;
use crate::registry::ControlError;

/// How long the listener is left alone after an error such as too many open files.
const ACCEPT_PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

type MakeHandler = dyn Fn(PeerCredentials) -> Arc<dyn LinkHandler> + Send + Sync;

/// Accepts links of this user and of root on a listening socket, until it is dropped, which closes them all.
pub struct LinkServer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    name: String,
    stop: OwnedFd,
    limit: usize,
    handler: Box<MakeHandler>,
    links: Mutex<Links>,
}

/// Those that are open. Each stays until it has ended.
#[derive(Default)]
struct Links {
    last: u64,
    /// `None` while a link is being made.
    open: HashMap<u64, Option<Link>>,
    closed: bool,
}

impl LinkServer {
    /// Accepts on `listener`, up to `limit` connections at a time; a further one is closed at once. Every connection gets a
    /// handler of its own from `handler`, whose [`LinkHandler::closed`] is called also when the server is dropped. `name` is
    /// what errors call the connections.
    ///
    /// # Errors
    /// A thread or a descriptor cannot be had.
    pub fn start(
        listener: UnixListener,
        name: &str,
        limit: usize,
        handler: impl Fn(PeerCredentials) -> Arc<dyn LinkHandler> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            stop: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            limit,
            handler: Box::new(handler),
            links: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("hdv-accept".to_owned())
            .spawn(move || accepting.run(&listener))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.links().open.len()
    }
}

impl Drop for LinkServer {
    fn drop(&mut self) {
        // Full means that it is readable already.
        let _ = rustix::io::write(&self.shared.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take()
            // A handler may drop the server; not on this thread, but a handler's maker is called on it.
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the accepting thread panicked");
        }
        let open = {
            let mut links = self.shared.links();
            links.closed = true;
            std::mem::take(&mut links.open)
        };
        for link in open.into_values().flatten() {
            link.close();
        }
    }
}

impl fmt::Debug for LinkServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkServer")
            .field("name", &self.shared.name)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(self: &Arc<Self>, listener: &UnixListener) {
        loop {
            let mut ready = [
                PollFd::new(&self.stop, PollFlags::IN),
                PollFd::new(listener, PollFlags::IN),
            ];
            match poll(&mut ready, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => {
                    tracing::error!(%errno, socket = self.name, "no connection is accepted any more");
                    return;
                }
            }
            if !ready[0].revents().is_empty() {
                return;
            }
            match listener.accept() {
                Ok((stream, _)) => self.accepted(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::debug!(%error, socket = self.name, "cannot accept a connection");
                    let _ = poll(
                        &mut [PollFd::new(&self.stop, PollFlags::IN)],
                        Some(&ACCEPT_PAUSE),
                    );
                }
            }
        }
    }

    fn accepted(self: &Arc<Self>, stream: UnixStream) {
        match PeerCredentials::of(&stream) {
            Ok(peer) if peer.is_trusted() => {
                if let Err(error) = self.open(stream, peer) {
                    tracing::warn!(%error, socket = self.name, "refused a connection");
                }
            }
            Ok(peer) => tracing::warn!(
                uid = peer.uid,
                pid = peer.pid,
                socket = self.name,
                "refused a connection of another user"
            ),
            Err(error) => tracing::warn!(%error, "refused a connection of an unknown peer"),
        }
    }

    fn open(self: &Arc<Self>, stream: UnixStream, peer: PeerCredentials) -> io::Result<()> {
        let number = {
            let mut links = self.links();
            if links.closed {
                return Err(io::Error::other("the server has ended"));
            }
            if links.open.len() >= self.limit {
                let limit = self.limit;
                return Err(io::Error::other(format!(
                    "there are {limit} connections already"
                )));
            }
            links.last += 1;
            let number = links.last;
            links.open.insert(number, None);
            number
        };
        let handler = Counted {
            inner: (self.handler)(peer),
            server: Arc::clone(self),
            number,
        };
        let link = match Link::over(stream, &self.name, Arc::new(handler)) {
            Ok(link) => link,
            Err(error) => {
                self.links().open.remove(&number);
                return Err(error);
            }
        };
        // It may have ended, or the server, meanwhile; then nobody keeps it.
        if let Some(kept) = self.links().open.get_mut(&number) {
            *kept = Some(link);
        }
        Ok(())
    }
}

/// A handler of which the server hears when its link has ended.
struct Counted {
    inner: Arc<dyn LinkHandler>,
    server: Arc<Shared>,
    number: u64,
}

impl LinkHandler for Counted {
    fn call(
        &self,
        link: &Link,
        command: &str,
        args: Value,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Value, ControlError> {
        self.inner.call(link, command, args, descriptors)
    }

    fn notice(&self, link: &Link, name: &str, args: Value) {
        self.inner.notice(link, name, args);
    }

    fn closed(&self, link: &Link) {
        let kept = self.server.links().open.remove(&self.number);
        // Outside the lock: it may be the last clone.
        drop(kept);
        self.inner.closed(link);
    }
}
