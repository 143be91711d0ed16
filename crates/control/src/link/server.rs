//! A listening socket on which links are accepted.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

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

/// How long the other end of a connection may take until [`LinkHandler::is_greeted`].
const GREETING_PATIENCE: Duration = Duration::from_secs(10);
/// Who looks so much later than it was to was held up, as the other ends may have been: they have their time again.
const HELD_UP: Duration = Duration::from_secs(1);

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
    patience: Duration,
    handler: Box<MakeHandler>,
    links: Mutex<Links>,
}

/// Those that are open. Each stays until it has ended.
#[derive(Default)]
struct Links {
    last: u64,
    /// In the order in which they came.
    open: BTreeMap<u64, Open>,
    closed: bool,
}

/// One of them.
struct Open {
    handler: Arc<dyn LinkHandler>,
    /// Until when its other end is to be greeted.
    deadline: Instant,
    /// `None` while it is being made.
    link: Option<Link>,
}

impl Links {
    /// Takes the first one out whose other end was not greeted, if that is so for one that `is_meant`.
    fn take_silent(&mut self, is_meant: impl Fn(&Open) -> bool) -> Option<Link> {
        let silent = |(number, open): (&u64, &Open)| {
            (is_meant(open) && !open.handler.is_greeted()).then_some(*number)
        };
        let number = self.open.iter().find_map(silent)?;
        self.open.remove(&number)?.link
    }

    /// When the next one has to be greeted.
    fn next_deadline(&self) -> Option<Instant> {
        let silent = self.open.values().filter(|open| !open.handler.is_greeted());
        silent.map(|open| open.deadline).min()
    }
}

impl LinkServer {
    /// Accepts on `listener`, up to `limit` connections at a time; a further one takes the place of the oldest one whose other
    /// end was not greeted ([`LinkHandler::is_greeted`]), or is closed at once. Every connection gets a handler of its own
    /// from `handler`, whose [`LinkHandler::closed`] is called also when the server is dropped. `name` is what errors call
    /// the connections.
    ///
    /// # Errors
    /// A thread or a descriptor cannot be had.
    pub fn start(
        listener: UnixListener,
        name: &str,
        limit: usize,
        handler: impl Fn(PeerCredentials) -> Arc<dyn LinkHandler> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::start_with(listener, name, limit, GREETING_PATIENCE, handler)
    }

    fn start_with(
        listener: UnixListener,
        name: &str,
        limit: usize,
        patience: Duration,
        handler: impl Fn(PeerCredentials) -> Arc<dyn LinkHandler> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            stop: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            limit,
            patience,
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
        for link in open.into_values().filter_map(|open| open.link) {
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
            let deadline = self.links().next_deadline();
            let left = deadline.map(|deadline| {
                let left = deadline.saturating_duration_since(Instant::now());
                // A length that no clock can say is never waited for.
                Timespec::try_from(left).unwrap_or(ACCEPT_PAUSE)
            });
            match poll(&mut ready, left.as_ref()) {
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
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.end_silent();
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

    /// Ends connections whose other ends have not been greeted in time.
    fn end_silent(&self) {
        let now = Instant::now();
        let mut ended = Vec::new();
        {
            let mut links = self.links();
            for open in links.open.values_mut() {
                if now.saturating_duration_since(open.deadline) >= HELD_UP {
                    open.deadline = now + self.patience;
                }
            }
            ended.extend(std::iter::from_fn(|| {
                links.take_silent(|open| open.deadline <= now)
            }));
        }
        for link in ended {
            self.end(&link, "says nothing");
        }
    }

    fn end(&self, link: &Link, why: &str) {
        tracing::warn!(
            pid = link.peer().pid,
            socket = self.name,
            "closed a connection: its other end {why}"
        );
        link.close();
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

    /// Only the accepting thread opens connections.
    fn make_room(&self) -> io::Result<()> {
        let silent = {
            let mut links = self.links();
            if links.open.len() < self.limit {
                return Ok(());
            }
            links.take_silent(|_| true)
        };
        let limit = self.limit;
        let silent = silent
            .ok_or_else(|| io::Error::other(format!("there are {limit} connections already")))?;
        self.end(&silent, "says nothing, and others wait");
        Ok(())
    }

    fn open(self: &Arc<Self>, stream: UnixStream, peer: PeerCredentials) -> io::Result<()> {
        self.make_room()?;
        let handler = (self.handler)(peer);
        let number = {
            let mut links = self.links();
            if links.closed {
                return Err(io::Error::other("the server has ended"));
            }
            links.last += 1;
            let number = links.last;
            let open = Open {
                handler: Arc::clone(&handler),
                deadline: Instant::now() + self.patience,
                link: None,
            };
            links.open.insert(number, open);
            number
        };
        let handler = Counted {
            inner: handler,
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
        if let Some(open) = self.links().open.get_mut(&number) {
            open.link = Some(link);
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

#[cfg(test)]
mod tests;
