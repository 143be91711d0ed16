//! The thread of a serial port: waits for whatever can be read or written, and moves it on.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::client::Client;
use super::history::History;
use super::{CLIENTS, HISTORY, Orders, is_trusted};

/// How much is read at once.
const PIECE: usize = 16 << 10;
/// How much of what clients wrote waits for the guest to read it; then clients wait.
const INPUT: usize = 16 << 10;
/// How much of one client's is taken at once, so that the others have their turn.
const SHARE: usize = INPUT / CLIENTS;
/// How long nobody is accepted after accepting has failed, for want of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What a client is told that is one too many.
pub(super) const FULL: &str =
    "\r\n[this serial port has as many clients as it can have: come back when one has left]\r\n";

/// Where the guest's end is.
enum Guest {
    /// QEMU has not connected.
    Expected,
    /// It has.
    Connected(UnixStream),
    /// It has left.
    Ended,
}

/// What the thread has.
pub(super) struct Pump {
    orders: Arc<Orders>,
    qemu: UnixListener,
    /// Where clients come in.
    listeners: Vec<UnixListener>,
    guest: Guest,
    clients: Vec<Client>,
    history: History,
    /// For the guest.
    input: VecDeque<u8>,
    /// Until when nobody is accepted.
    pause: Option<Instant>,
    buffer: Vec<u8>,
}

/// What a poll has found.
struct Found {
    orders: bool,
    qemu: bool,
    listeners: Vec<bool>,
    guest: PollFlags,
    clients: Vec<PollFlags>,
}

impl Pump {
    /// One without clients.
    pub(super) fn new(orders: Arc<Orders>, qemu: UnixListener, clients: UnixListener) -> Self {
        Self {
            orders,
            qemu,
            listeners: vec![clients],
            guest: Guest::Expected,
            clients: Vec::new(),
            history: History::new(HISTORY),
            input: VecDeque::new(),
            pause: None,
            buffer: vec![0; PIECE],
        }
    }

    /// Accepts clients here too.
    pub(super) fn listen(&mut self, listener: UnixListener) {
        self.listeners.push(listener);
    }

    /// Takes a client, whose socket does not block.
    pub(super) fn add(&mut self, stream: UnixStream) {
        self.clients.push(Client::new(stream, &self.history));
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            let found = match self.wait() {
                Ok(found) => found,
                Err(Errno::INTR) => continue,
                Err(errno) => {
                    // No memory, as a rule.
                    tracing::error!(%errno, "a serial port waits in vain and ends");
                    return;
                }
            };
            let stop = found.orders && self.take_orders();
            if found.guest.intersects(readable()) {
                self.read_guest(1);
            }
            for (client, flags) in self.clients.iter_mut().zip(&found.clients) {
                client.is_gone |= flags.intersects(PollFlags::HUP | PollFlags::ERR);
            }
            self.read_clients(&found.clients);
            self.write_guest();
            let is_last = stop || matches!(self.guest, Guest::Ended);
            for client in &mut self.clients {
                client.send(&self.history, is_last);
            }
            if stop {
                return;
            }
            self.clients.retain(|client| !client.is_done());
            if found.qemu {
                self.accept_guest();
            }
            for (index, ready) in found.listeners.iter().enumerate() {
                if *ready {
                    self.accept_clients(index);
                }
            }
        }
    }

    fn wait(&mut self) -> Result<Found, Errno> {
        let timeout = self.pause.and_then(|pause| {
            let left = pause.saturating_duration_since(Instant::now());
            Timespec::try_from(left).ok()
        });
        let mut fds = vec![PollFd::new(&self.orders.event, PollFlags::IN)];
        let accepts_guest = self.pause.is_none() && !matches!(self.guest, Guest::Connected(_));
        if accepts_guest {
            fds.push(PollFd::new(&self.qemu, PollFlags::IN));
        }
        let accepts_clients = self.pause.is_none();
        if accepts_clients {
            fds.extend(
                self.listeners
                    .iter()
                    .map(|listener| PollFd::new(listener, PollFlags::IN)),
            );
        }
        if let Guest::Connected(stream) = &self.guest {
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, !self.input.is_empty());
            fds.push(PollFd::new(stream, flags));
        }
        let has_room = self.input.len() < INPUT;
        // One that hung up says so at once, always: it is asked again when what it wrote can be read.
        let polled = |client: &Client| !client.is_gone || has_room;
        for client in self.clients.iter().filter(|client| polled(client)) {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, has_room && client.has_input());
            flags.set(PollFlags::OUT, client.wants_output(&self.history));
            fds.push(PollFd::new(client.stream(), flags));
        }
        poll(&mut fds, timeout.as_ref())?;

        let mut results = fds.iter().map(PollFd::revents);
        let mut next = || results.next().unwrap_or(PollFlags::empty());
        let found = Found {
            orders: !next().is_empty(),
            qemu: accepts_guest && !next().is_empty(),
            listeners: self
                .listeners
                .iter()
                .map(|_| accepts_clients && !next().is_empty())
                .collect(),
            guest: match self.guest {
                Guest::Connected(_) => next(),
                Guest::Expected | Guest::Ended => PollFlags::empty(),
            },
            clients: self
                .clients
                .iter()
                .map(|client| {
                    if polled(client) {
                        next()
                    } else {
                        PollFlags::empty()
                    }
                })
                .collect(),
        };
        if self.pause.is_some_and(|pause| pause <= Instant::now()) {
            self.pause = None;
        }
        Ok(found)
    }

    /// Does what it was told; whether that was to stop.
    fn take_orders(&mut self) -> bool {
        let mut count = [0; 8];
        // It was read, or woken by nothing.
        let _ = rustix::io::read(&self.orders.event, &mut count);
        let stop = self.orders.stop.load(Ordering::SeqCst);
        if stop || self.orders.guest_has_ended.load(Ordering::SeqCst) {
            // What is in flight is bounded by the socket's buffer; its writer, whoever that is, may go on.
            self.read_guest(HISTORY / PIECE);
            self.guest = Guest::Ended;
        }
        stop
    }

    /// Takes in what the guest wrote, at most so much of it: clients are to keep up.
    fn read_guest(&mut self, mut pieces: usize) {
        let Guest::Connected(stream) = &mut self.guest else {
            return;
        };
        while pieces > 0 {
            match stream.read(&mut self.buffer) {
                Ok(0) => {
                    self.guest = Guest::Ended;
                    return;
                }
                Ok(count) => {
                    self.history.push(&self.buffer[..count]);
                    pieces -= 1;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.guest = Guest::Ended;
                    return;
                }
            }
        }
    }

    fn read_clients(&mut self, found: &[PollFlags]) {
        for (client, flags) in self.clients.iter_mut().zip(found) {
            let ended = matches!(self.guest, Guest::Ended);
            let room = INPUT.saturating_sub(self.input.len()).min(SHARE);
            if flags.intersects(readable()) && room > 0 {
                let count = client.receive(&mut self.buffer[..room]);
                if !ended {
                    self.input.extend(&self.buffer[..count]);
                }
            }
        }
    }

    fn write_guest(&mut self) {
        match &mut self.guest {
            Guest::Expected => {}
            Guest::Ended => self.input.clear(),
            Guest::Connected(stream) => {
                while !self.input.is_empty() {
                    let (first, _) = self.input.as_slices();
                    match stream.write(first) {
                        Ok(count) => {
                            self.input.drain(..count);
                        }
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                        // What it still wrote is to be read: that tells its end.
                        Err(_) => self.input.clear(),
                    }
                }
            }
        }
    }

    fn accept_guest(&mut self) {
        if let Some(stream) = accept(&self.qemu, &mut self.pause) {
            self.guest = Guest::Connected(stream);
        }
    }

    fn accept_clients(&mut self, listener: usize) {
        while let Some(mut stream) = accept(&self.listeners[listener], &mut self.pause) {
            if self.clients.len() >= CLIENTS {
                // Who has left since the last poll is in nobody's way.
                self.clients.retain(|client| !client.has_left());
            }
            if self.clients.len() >= CLIENTS {
                tracing::warn!("a serial port has {CLIENTS} clients; a further one is let go");
                // It may be gone again.
                let _ = stream.write(FULL.as_bytes());
                continue;
            }
            let mut client = Client::new(stream, &self.history);
            // Nothing else may ever wake the thread for it.
            client.send(&self.history, matches!(self.guest, Guest::Ended));
            self.clients.push(client);
        }
    }
}

/// What says that there is something to read, or the end.
fn readable() -> PollFlags {
    PollFlags::IN | PollFlags::HUP | PollFlags::ERR
}

/// A connection of this user that waits to be accepted, if there is one.
fn accept(listener: &UnixListener, pause: &mut Option<Instant>) -> Option<UnixStream> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let trusted = is_trusted(&stream).unwrap_or(false);
                if trusted && stream.set_nonblocking(true).is_ok() {
                    return Some(stream);
                }
                tracing::warn!("a connection to a serial port is not this user's, and is closed");
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                ) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => {
                tracing::warn!(%error, "a serial port accepts nobody for a while");
                *pause = Some(Instant::now() + ACCEPT_PAUSE);
                return None;
            }
        }
    }
}
