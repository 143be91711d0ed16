//! The thread that accepts connections of all of a host's devices and reads their VERSION.
//!
//! A device is given away at VERSION, not when a connection is accepted, so that connections
//! that say nothing keep nobody out; they are few at a time, and those of the device that has most make room.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hdv_vfio_user::server::{Handshake, SessionOptions};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use super::Shared;
use super::endpoint::{Answer, Endpoint};
use super::handed::{Client, Kept};
use super::session;

/// Connections of one host that are accepted and have not agreed on a version, unless it serves more devices: one
/// for each then. One more, and another is closed.
const MAX_HANDSHAKES: usize = 64;

/// Connections accepted of one device before the others, and the end of the host, get their turn.
const MAX_ACCEPTS: usize = MAX_HANDSHAKES;

/// What is waited for before the pending connections: the wake event, the listening sockets.
const BEFORE_PENDING: usize = 2;

/// How long to leave everything alone when the system has no resources for us.
const PAUSE: Duration = Duration::from_millis(10);

/// Makes the accepting thread look again.
pub(super) struct Wake {
    event: OwnedFd,
    stop: AtomicBool,
}

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            stop: AtomicBool::new(false),
        })
    }

    pub(super) fn wake(&self) {
        // Full means that it is readable already.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn clear(&self) {
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
    }
}

/// A connection before its session.
struct Pending {
    endpoint: Arc<Endpoint>,
    handshake: Handshake,
    /// A duplicate of the connection, which a session needs: who got this far must not fail for
    /// want of a descriptor.
    socket: OwnedFd,
    kept: Kept,
    /// VERSION has arrived and waits for the last client to be gone.
    asked: bool,
}

pub(super) fn start(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("hdv-accept".to_owned())
        .spawn(move || {
            let mut acceptor = Acceptor {
                shared,
                pending: VecDeque::new(),
                troubled: false,
            };
            while acceptor.turn() {}
        })
}

struct Acceptor {
    shared: Arc<Shared>,
    pending: VecDeque<Pending>,
    /// The system refused what we need, and that has been logged.
    troubled: bool,
}

impl Acceptor {
    /// Waits for something to do and does it; false at the end.
    fn turn(&mut self) -> bool {
        self.pending.retain(|pending| pending.endpoint.is_open());
        let ready = self.wait();
        // In this order: a stop between the two is seen the next time, since it has woken us again.
        self.shared.wake.clear();
        if self.shared.wake.stop.load(Ordering::SeqCst) {
            return false;
        }
        let pending = std::mem::take(&mut self.pending);
        for (index, pending) in pending.into_iter().enumerate() {
            let ready = ready.get(BEFORE_PENDING + index).copied().unwrap_or(false);
            let kept = match (pending.asked, ready) {
                // It was asked for nothing, so this is its end.
                (true, true) => None,
                (false, false) => Some(pending),
                // Those that wait for a client to leave ask again whatever woke us.
                (true, false) | (false, true) => self.advance(pending),
            };
            self.pending.extend(kept);
        }
        for (id, client) in self.shared.handed.take() {
            let endpoint = self.shared.endpoints().get(id).cloned();
            if let Some(endpoint) = endpoint
                && endpoint.takes_handed()
            {
                self.admit(&endpoint, client);
            }
        }
        for id in self.shared.listeners.ready() {
            let endpoint = self.shared.endpoints().get(id).cloned();
            if let Some(endpoint) = endpoint
                && let Some(listener) = endpoint.listener()
            {
                self.accept(&endpoint, &listener);
            }
        }
        true
    }

    /// Blocks until something is ready: the wake event, the listening sockets, then the pending
    /// connections.
    fn wait(&mut self) -> Vec<bool> {
        let before: [BorrowedFd<'_>; BEFORE_PENDING] = [
            self.shared.wake.event.as_fd(),
            self.shared.listeners.as_fd(),
        ];
        let before = before.map(|fd| (fd, PollFlags::IN));
        // A connection that waits for another client has nothing to say to us meanwhile but
        // that it has ended, which is always told.
        let pending = self.pending.iter().map(|pending| {
            let flags = if pending.asked {
                PollFlags::empty()
            } else {
                PollFlags::IN
            };
            (pending.handshake.as_fd(), flags)
        });
        let mut fds: Vec<PollFd<'_>> = before
            .into_iter()
            .chain(pending)
            .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
            .collect();
        loop {
            match poll(&mut fds, None) {
                Err(Errno::INTR) => {}
                Err(error) => {
                    // No memory, or a limit of descriptors below what is open already: it
                    // passes. The host may end meanwhile.
                    drop(fds);
                    self.trouble("waiting for clients", &error.into());
                    return Vec::new();
                }
                Ok(_) => return fds.iter().map(|fd| !fd.revents().is_empty()).collect(),
            }
        }
    }

    fn accept(&mut self, endpoint: &Arc<Endpoint>, listener: &UnixListener) {
        for _ in 0..MAX_ACCEPTS {
            let stream = match listener.accept() {
                Ok((stream, _)) => {
                    self.troubled = false;
                    stream
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // Out of descriptors, most likely: a silent connection gives its own.
                    if !self.make_room() {
                        self.trouble("accepting a client", &error);
                    }
                    return;
                }
            };
            if !self.admit(endpoint, stream.into()) {
                return;
            }
        }
    }

    /// Takes in a connection that has said nothing yet; false if there is no descriptor for it.
    fn admit(&mut self, endpoint: &Arc<Endpoint>, client: Client) -> bool {
        let Client {
            socket: stream,
            kept,
        } = client;
        let socket = match self.duplicate(&stream) {
            Ok(socket) => socket,
            Err(error) => {
                self.trouble("accepting a client", &error);
                return false;
            }
        };
        let options = SessionOptions::default()
            .with_poll(self.shared.options.poll)
            .with_twin_socket(true);
        let handshake = match Handshake::new(stream, options) {
            Ok(handshake) => handshake,
            Err(error) => {
                tracing::warn!(device = endpoint.slot().name(), "a new client: {error}");
                return true;
            }
        };
        let pending = Pending {
            endpoint: Arc::clone(endpoint),
            handshake,
            socket,
            kept,
            asked: false,
        };
        if let Some(pending) = self.advance(pending) {
            self.pending.push_back(pending);
            let limit = MAX_HANDSHAKES.max(self.shared.endpoints().count());
            if self.pending.len() > limit {
                self.make_room();
            }
        }
        true
    }

    /// Closes a connection of the device that has most, so that no device's clients are in those of another's way:
    /// the oldest that says nothing, else the oldest of those that wait for another client to leave. False if there
    /// is none.
    fn make_room(&mut self) -> bool {
        let mut counts = BTreeMap::new();
        for pending in &self.pending {
            *counts.entry(pending.endpoint.id()).or_insert(0_usize) += 1;
        }
        let Some((most, _)) = counts.into_iter().max_by_key(|(_, count)| *count) else {
            return false;
        };
        let oldest = |silent: bool| {
            let closed =
                |pending: &Pending| pending.endpoint.id() == most && (!silent || !pending.asked);
            self.pending.iter().position(closed)
        };
        let closed = oldest(true).or_else(|| oldest(false));
        closed.is_some_and(|index| self.pending.remove(index).is_some())
    }

    fn duplicate(&mut self, stream: &UnixStream) -> io::Result<OwnedFd> {
        stream.as_fd().try_clone_to_owned().or_else(|_| {
            self.make_room();
            stream.as_fd().try_clone_to_owned()
        })
    }

    /// Waits a moment after an error that passes; says so once until it has passed.
    fn trouble(&mut self, what: &str, error: &io::Error) {
        if !std::mem::replace(&mut self.troubled, true) {
            tracing::warn!("{what}: {error}; trying on");
        }
        std::thread::sleep(PAUSE);
    }

    /// Takes a connection as far as it goes; gives it back if it must wait.
    fn advance(&self, mut pending: Pending) -> Option<Pending> {
        let name = pending.endpoint.slot().name().to_owned();
        if !pending.asked {
            match pending.handshake.advance() {
                Ok(true) => pending.asked = true,
                Ok(false) => return Some(pending),
                Err(error) => {
                    tracing::info!(
                        device = name,
                        "a connection ended before its session: {error}"
                    );
                    return None;
                }
            }
        }
        match pending.endpoint.ask() {
            Answer::Wait => Some(pending),
            Answer::Busy => {
                pending.handshake.refuse(Errno::BUSY);
                None
            }
            Answer::Yours => {
                let Pending {
                    endpoint,
                    handshake,
                    socket,
                    kept,
                    ..
                } = pending;
                let started = session::start(&self.shared, &endpoint, handshake, socket, kept);
                if let Err(error) = started {
                    tracing::warn!(device = name, "the session did not begin: {error}");
                }
                None
            }
        }
    }
}
