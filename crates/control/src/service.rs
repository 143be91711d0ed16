//! The thread that answers on a control socket, which no client can hold up, nor a command that takes long: each of
//! those has a thread of its own.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::connection::{Connection, Progress};
use crate::peer::PeerCredentials;
use crate::registry::{ControlError, ErrorKind, Registry};
use crate::wire::Request;

/// Connections at a time, without those whose slow commands are under way; further ones wait in the kernel until
/// one of them ends.
const CONNECTION_LIMIT: usize = 32;
/// Slow commands at a time; further ones are refused.
pub(crate) const SLOW_LIMIT: usize = 32;
/// How long to leave the listener alone after an error such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is waited for before the connections: the wake event, the listening socket.
const BEFORE_CONNECTIONS: usize = 2;

/// Makes the thread look again.
#[derive(Debug)]
pub(crate) struct Wake {
    event: OwnedFd,
    stop: AtomicBool,
}

impl Wake {
    fn new() -> io::Result<Self> {
        Ok(Self {
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            stop: AtomicBool::new(false),
        })
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        // Full means that it is readable already.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    fn clear(&self) {
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
    }
}

/// What the thread owns.
pub(crate) struct Service {
    listener: UnixListener,
    wake: Arc<Wake>,
    registry: Registry,
    connections: Vec<Connection>,
    accept_again: Instant,
    /// Slow commands that are under way.
    slow: usize,
    /// What becomes of their connections when they are done.
    done: (Sender<Option<Connection>>, Receiver<Option<Connection>>),
}

impl Service {
    /// # Errors
    /// What the system says.
    pub(crate) fn new(listener: UnixListener, registry: Registry) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            wake: Arc::new(Wake::new()?),
            registry,
            connections: Vec::new(),
            accept_again: Instant::now(),
            slow: 0,
            done: mpsc::channel(),
        })
    }

    /// What ends it.
    pub(crate) fn wake(&self) -> &Arc<Wake> {
        &self.wake
    }

    /// Answers until it is ended.
    pub(crate) fn run(&mut self) {
        loop {
            let now = Instant::now();
            self.connections
                .retain(|connection| connection.deadline() > now);
            let accepting = self.connections.len() < CONNECTION_LIMIT && self.accept_again <= now;
            let ready = match self.wait(accepting, now) {
                Ok(ready) => ready,
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => {
                    tracing::error!(%errno, "the control socket is given up");
                    return;
                }
            };
            // In this order: what comes between the two is seen the next time, since it has woken us again.
            self.wake.clear();
            if self.wake.stop.load(Ordering::SeqCst) {
                return;
            }
            let begin = Instant::now();
            let connections = std::mem::take(&mut self.connections);
            for (connection, ready) in connections.into_iter().zip(&ready[BEFORE_CONNECTIONS..]) {
                if *ready {
                    self.serve(connection);
                } else {
                    self.connections.push(connection);
                }
            }
            // While a command took its time nobody was looked at, so nobody was silent.
            let held_up = begin.elapsed();
            for connection in &mut self.connections {
                connection.held_up(held_up);
            }
            for connection in self.done.1.try_iter() {
                self.slow -= 1;
                self.connections.extend(connection);
            }
            if ready[1] && accepting {
                self.accept();
            }
        }
    }

    /// Blocks until something is ready: the wake event, the listening socket, then the connections.
    fn wait(&self, accepting: bool, now: Instant) -> rustix::io::Result<Vec<bool>> {
        // Listed even when it is not to be accepted from, so that positions are fixed.
        let listening = if accepting {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        let before: [PollFd<'_>; BEFORE_CONNECTIONS] = [
            PollFd::new(&self.wake.event, PollFlags::IN),
            PollFd::new(&self.listener, listening),
        ];
        let connections = self.connections.iter();
        let connections =
            connections.map(|connection| PollFd::new(connection, connection.interest()));
        let mut wanted: Vec<_> = before.into_iter().chain(connections).collect();
        poll(&mut wanted, self.timeout(now).as_ref())?;
        Ok(wanted.iter().map(|fd| !fd.revents().is_empty()).collect())
    }

    /// Until when `poll` may wait; `None` for ever.
    fn timeout(&self, now: Instant) -> Option<Timespec> {
        let deadlines = self.connections.iter().map(Connection::deadline);
        let accept = (self.accept_again > now).then_some(self.accept_again);
        let next = deadlines.chain(accept).min()?;
        Timespec::try_from(next.saturating_duration_since(now)).ok()
    }

    fn serve(&mut self, mut connection: Connection) {
        let progress = match connection.progress() {
            Progress::Asked(request) if self.registry.is_slow(&request.command) => {
                if self.slow < SLOW_LIMIT {
                    return self.carry_out_aside(connection, request);
                }
                connection.answer(Err(ControlError::new(
                    ErrorKind::Busy,
                    format!(
                        "{SLOW_LIMIT} commands that take long are under way; wait until one is done"
                    ),
                )))
            }
            Progress::Asked(Request { command, args }) => {
                connection.answer(self.registry.call(&command, args))
            }
            progress => progress,
        };
        self.connections.extend(kept(connection, &progress));
    }

    /// Carries a request out on a thread of its own, which gives the connection back.
    fn carry_out_aside(&mut self, mut connection: Connection, request: Request) {
        let (registry, wake) = (self.registry.clone(), Arc::clone(&self.wake));
        let done = self.done.0.clone();
        let thread = std::thread::Builder::new().name("hdv-command".to_owned());
        // Nobody waits for it: what it waits for may never come.
        let started = thread.spawn(move || {
            let progress = connection.answer(registry.call(&request.command, request.args));
            // Nobody takes it once the service has ended.
            let _ = done.send(kept(connection, &progress));
            wake.wake();
        });
        match started {
            Ok(_) => self.slow += 1,
            Err(error) => tracing::warn!(%error, "cannot carry out a control command"),
        }
    }

    fn accept(&mut self) {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::debug!(%error, "cannot accept a control connection");
                    self.accept_again = Instant::now() + ACCEPT_PAUSE;
                }
                return;
            }
        };
        if !trusted(&stream) {
            return;
        }
        match Connection::new(stream) {
            Ok(connection) => self.connections.push(connection),
            Err(error) => tracing::warn!(%error, "cannot serve a control connection"),
        }
    }
}

/// The connection, unless it is over.
fn kept(connection: Connection, progress: &Progress) -> Option<Connection> {
    (!matches!(progress, Progress::Ended)).then_some(connection)
}

fn trusted(stream: &UnixStream) -> bool {
    match PeerCredentials::of(stream) {
        Ok(peer) if peer.is_trusted() => return true,
        Ok(peer) => {
            tracing::warn!(
                uid = peer.uid,
                pid = peer.pid,
                "refused a control connection"
            );
        }
        Err(error) => tracing::warn!(%error, "refused a control connection of an unknown peer"),
    }
    false
}
