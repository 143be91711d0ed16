//! The answering end of a control socket: one thread, which no client can hold up.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use thiserror::Error;

use crate::claim::{BindError, SocketClaim};
use crate::hosts::{HOSTS, SOCKET_SUFFIX};
use crate::numbers::Number;
use crate::peer::PeerCredentials;
use crate::registry::{ControlError, Registry};
use crate::runtime_directory::{RuntimeDirectory, RuntimeDirectoryError};
use crate::wire::{self, LENGTH_SIZE, Request, Response};

/// Connections at a time; further ones wait in the kernel until one of them ends.
const CONNECTION_LIMIT: usize = 32;
/// How long a connection may be silent, or take for one message.
const IDLE_LIMIT: Duration = Duration::from_secs(5);
/// How long to leave the listener alone after an error such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes asked of the kernel at a time.
const READ_SIZE: usize = 4096;
/// The highest number in the name of a control socket that is tried when those before are taken.
const SERVERS_PER_PROCESS: u32 = 1024;

/// A control server that cannot be started.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The runtime directory cannot be used.
    #[error(transparent)]
    Directory(#[from] RuntimeDirectoryError),
    /// The socket cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The thread or its descriptors could not be had.
    #[error("cannot start the control server: {0}")]
    Io(#[from] io::Error),
}

/// This process's control socket `hosts/<pid>.sock`, answered by a thread of its own until it
/// is dropped.
///
/// A process with several has them at `<pid>-1.sock` and so on.
#[derive(Debug)]
pub struct ControlServer {
    claim: Mutex<SocketClaim>,
    sockets: Mutex<BTreeSet<PathBuf>>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    /// In the socket's name. After the claim, so that it is free only when that is gone.
    _number: Number,
}

impl ControlServer {
    /// Clears away what dead hosts left, binds this process's socket and starts answering.
    ///
    /// # Errors
    /// The runtime directory, the socket or the thread cannot be had.
    pub fn start(directory: &RuntimeDirectory, registry: Registry) -> Result<Self, ServerError> {
        directory.hosts()?;
        let (listener, claim, number) = bind(&directory.subdirectory(HOSTS)?)?;
        listener.set_nonblocking(true)?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = Arc::new(eventfd(0, flags).map_err(io::Error::from)?);
        let mut service = Service {
            listener,
            wake: Arc::clone(&wake),
            registry,
            connections: Vec::new(),
            accept_again: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name("hdv-control".to_owned())
            .spawn(move || service.run())?;
        Ok(Self {
            claim: Mutex::new(claim),
            sockets: Mutex::default(),
            wake,
            thread: Some(thread),
            _number: number,
        })
    }

    /// The control socket.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        claim.path().to_owned()
    }

    /// Notes that this process has, or is about to have, claimed `sockets` ([`SocketClaim`]), so that the
    /// next OpenHDV process removes them should this one be killed. Many at once are one write. Gives back
    /// those that had not been noted before.
    ///
    /// # Errors
    /// The note could not be written.
    pub fn note_sockets<P: AsRef<Path>>(
        &self,
        sockets: impl IntoIterator<Item = P>,
    ) -> io::Result<Vec<PathBuf>> {
        self.update(sockets, BTreeSet::insert)
    }

    /// Takes back [`Self::note_sockets`].
    ///
    /// # Errors
    /// The note could not be written.
    pub fn forget_sockets<P: AsRef<Path>>(
        &self,
        sockets: impl IntoIterator<Item = P>,
    ) -> io::Result<()> {
        self.update(sockets, |noted, socket| noted.remove(&socket))
            .map(drop)
    }

    /// Gives back those of `sockets` that `change` changed something for.
    fn update<P: AsRef<Path>>(
        &self,
        sockets: impl IntoIterator<Item = P>,
        mut change: impl FnMut(&mut BTreeSet<PathBuf>, PathBuf) -> bool,
    ) -> io::Result<Vec<PathBuf>> {
        let mut noted = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = Vec::new();
        let mut next = noted.clone();
        for socket in sockets {
            let socket = std::path::absolute(socket)?;
            if change(&mut next, socket.clone()) {
                changed.push(socket);
            }
        }
        if !changed.is_empty() {
            let mut claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
            claim.set_sockets(next.iter().cloned().collect())?;
            *noted = next;
        }
        Ok(changed)
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        if let Err(errno) = rustix::io::write(&self.wake, &1_u64.to_ne_bytes()) {
            tracing::warn!(%errno, "cannot wake the control thread");
        }
        if let Some(thread) = self.thread.take() {
            // A command may drop the server; the thread then ends after its answer.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("the control thread panicked");
            }
        }
    }
}

fn bind(directory: &Path) -> Result<(UnixListener, SocketClaim, Number), BindError> {
    let pid = std::process::id();
    let mut first = 0;
    loop {
        let number = Number::take(directory, first);
        let name = match number.get() {
            0 => format!("{pid}{SOCKET_SUFFIX}"),
            further => format!("{pid}-{further}{SOCKET_SUFFIX}"),
        };
        match SocketClaim::bind(&directory.join(name)) {
            // Of a process with the same pid in another namespace.
            Err(BindError::InUse { .. }) if number.get() < SERVERS_PER_PROCESS => {
                first = number.get() + 1;
            }
            Ok((listener, claim)) => return Ok((listener, claim, number)),
            Err(error) => return Err(error),
        }
    }
}

/// What the thread owns.
struct Service {
    listener: UnixListener,
    wake: Arc<OwnedFd>,
    registry: Registry,
    connections: Vec<Connection>,
    accept_again: Instant,
}

impl Service {
    fn run(&mut self) {
        loop {
            let now = Instant::now();
            self.connections
                .retain(|connection| connection.deadline > now);
            let accepting = self.connections.len() < CONNECTION_LIMIT && self.accept_again <= now;

            let mut wanted = Vec::with_capacity(self.connections.len() + 2);
            wanted.push(PollFd::new(&*self.wake, PollFlags::IN));
            // Listed even when it is not to be accepted from, so that positions are fixed.
            let listening = if accepting {
                PollFlags::IN
            } else {
                PollFlags::empty()
            };
            wanted.push(PollFd::new(&self.listener, listening));
            for connection in &self.connections {
                wanted.push(PollFd::new(&connection.stream, connection.interest()));
            }
            let timeout = self.timeout(now);
            if let Err(errno) = poll(&mut wanted, timeout.as_ref()) {
                if errno == rustix::io::Errno::INTR {
                    continue;
                }
                tracing::error!(%errno, "the control socket is given up");
                return;
            }
            let ready: Vec<bool> = wanted.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(wanted);

            if ready[0] {
                return;
            }
            let begin = Instant::now();
            let mut ready_connections = ready[2..].iter();
            self.connections.retain_mut(|connection| {
                let ready = ready_connections.next().copied().unwrap_or(false);
                !ready || connection.progress(&self.registry)
            });
            // While a command took its time nobody was looked at, so nobody was silent.
            let held_up = begin.elapsed();
            for connection in &mut self.connections {
                connection.deadline += held_up;
            }
            if ready[1] && accepting {
                self.accept();
            }
        }
    }

    /// Until when `poll` may wait; `None` for ever.
    fn timeout(&self, now: Instant) -> Option<Timespec> {
        let deadlines = self
            .connections
            .iter()
            .map(|connection| connection.deadline);
        let accept = (self.accept_again > now).then_some(self.accept_again);
        let next = deadlines.chain(accept).min()?;
        Timespec::try_from(next.saturating_duration_since(now)).ok()
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
        match PeerCredentials::of(&stream) {
            Ok(peer) if peer.is_trusted() => {}
            Ok(peer) => {
                tracing::warn!(
                    uid = peer.uid,
                    pid = peer.pid,
                    "refused a control connection"
                );
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "refused a control connection of an unknown peer");
                return;
            }
        }
        if let Err(error) = stream.set_nonblocking(true) {
            tracing::warn!(%error, "cannot serve a control connection");
            return;
        }
        self.connections.push(Connection {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            closing: false,
            deadline: Instant::now() + IDLE_LIMIT,
        });
    }
}

/// One client: at most one request and one response are held for it.
struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of the output is sent.
    sent: usize,
    closing: bool,
    deadline: Instant,
}

impl Connection {
    /// A client that does not take its answer is not read from.
    fn interest(&self) -> PollFlags {
        if self.output.is_empty() {
            PollFlags::IN
        } else {
            PollFlags::OUT
        }
    }

    /// Does what can be done without waiting; returns whether the connection goes on.
    fn progress(&mut self, registry: &Registry) -> bool {
        loop {
            match self.send() {
                Ok(true) => {}
                Ok(false) => return true,
                Err(error) => return ended(&error),
            }
            if self.closing {
                return false;
            }
            match self.receive() {
                Ok(true) => self.answer(registry),
                Ok(false) => return true,
                Err(error) => return ended(&error),
            }
        }
    }

    /// Sends what is pending; returns whether nothing is left.
    fn send(&mut self) -> io::Result<bool> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.output = Vec::new();
        self.sent = 0;
        Ok(true)
    }

    /// Reads on; returns whether a whole request, or one that cannot be accepted, is there.
    fn receive(&mut self) -> io::Result<bool> {
        loop {
            let missing = match wire::frame_size::<Request>(&self.input) {
                Ok(Some(size)) if self.input.len() >= size => return Ok(true),
                Ok(Some(size)) => size - self.input.len(),
                Ok(None) => LENGTH_SIZE - self.input.len(),
                Err(_) => return Ok(true),
            };
            // Never past this request, and no memory for bytes that are only announced.
            let mut chunk = [0; READ_SIZE];
            let count = missing.min(READ_SIZE);
            match self.stream.read(&mut chunk[..count]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Carries out the request and puts the response into `output`.
    fn answer(&mut self, registry: &Registry) {
        let input = std::mem::take(&mut self.input);
        let response = match wire::decode::<Request>(&input) {
            Ok(request) => match registry.call(&request.command, request.args) {
                Ok(value) => Response::Ok(value),
                Err(error) => Response::Error(error),
            },
            Err(error) => {
                // After a length that is not believed, nothing that follows can be.
                self.closing = matches!(error, wire::WireError::TooLong { .. });
                Response::Error(ControlError::bad_arguments(error.to_string()))
            }
        };
        let encoded = wire::encode(&response).or_else(|error| {
            let message = format!("the answer cannot be sent: {error}");
            wire::encode(&Response::Error(ControlError::internal(message)))
        });
        match encoded {
            Ok(frame) => self.output = frame,
            Err(error) => {
                tracing::error!(%error, "a control answer cannot be encoded");
                self.closing = true;
            }
        }
        self.deadline = Instant::now() + IDLE_LIMIT;
    }
}

fn ended(error: &io::Error) -> bool {
    tracing::trace!(%error, "a control connection ended");
    false
}
