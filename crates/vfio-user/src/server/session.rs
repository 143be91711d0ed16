//! A connection whose version has been agreed: receive, dispatch, send.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tracing::debug;

use super::channel::Channel;
use super::{Dispatcher, Error, Flow, Ledger, Peer, SessionOptions, Statistics};
use crate::backend::Backend;
use crate::capabilities::Capabilities;
use crate::stream::{Assembler, Credentials, Expect, Received, peer_credentials, receive_polling};
use crate::wire::{Command, Header, Kind};

/// One connection, from the reply to VERSION to its end.
///
/// Dropping it ends the connection.
#[derive(Debug)]
pub struct Session {
    channel: Arc<Channel>,
    assembler: Assembler,
    client: Capabilities,
    poll: Option<Duration>,
    ledger: Option<Ledger>,
}

/// Ends a session from any thread.
#[derive(Clone)]
pub struct Closer {
    channel: Arc<Channel>,
}

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closer").finish_non_exhaustive()
    }
}

impl Closer {
    /// Shuts the connection down. [`Session::run`] returns as soon as the backend lets it, even
    /// while it is blocked in a send; DMA requests under way fail with
    /// [`Disconnected`](super::DmaError::Disconnected).
    pub fn close(&self) {
        self.channel.close();
    }

    /// Whether the session has ended, or has been told to.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.channel.is_closed() {
            return;
        }
        if self.ledger.is_some() && std::thread::panicking() {
            self.channel.hand_over();
        } else {
            self.channel.close();
        }
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.socket()
    }
}

impl Session {
    pub(super) fn new(
        channel: Channel,
        assembler: Assembler,
        client: Capabilities,
        options: &SessionOptions,
    ) -> Self {
        Self {
            channel: Arc::new(channel),
            assembler,
            client,
            poll: options.poll,
            ledger: None,
        }
    }

    /// Writes down what is received and not answered, from now on, for a [`StandIn`](super::StandIn) on a duplicate of
    /// the connection. To be called before [`run`](Self::run).
    ///
    /// A session with a ledger that fails for a reason of this process's own, or whose backend panics, leaves the
    /// connection as it is: it ends when its last descriptor is closed.
    pub fn keep_ledger(&mut self, mut ledger: Ledger) {
        ledger.begin(&self.assembler);
        self.ledger = Some(ledger);
    }

    /// Serves the client with `backend`, on this thread, until it leaves or the session is
    /// closed. The connection has ended when this returns.
    ///
    /// # Errors
    /// When the client breaks framing, the device cannot be started, or the socket fails. A client whose device cannot be
    /// started is told so; the connection ends when it leaves, or uses the device all the same.
    pub fn run(&mut self, backend: &mut dyn Backend) -> Result<(), Error> {
        self.channel.enter();
        let result = self.serve(backend);
        match result {
            Err(Error::Socket(_) | Error::TooMany { .. }) if self.ledger.is_some() => {
                self.channel.hand_over();
            }
            _ => self.channel.close(),
        }
        result
    }

    fn serve(&mut self, backend: &mut dyn Backend) -> Result<(), Error> {
        let statistics = Arc::clone(&self.channel.statistics);
        let mut dispatcher = Dispatcher::new(backend, &self.client, statistics)?;
        backend.connected(&self.peer());
        // A client is not hung up on while it takes its memory back: QEMU would wait for its answers until its time is
        // over, or abort.
        let mut failed = Ok(());
        loop {
            while let Some(header) = self.assembler.next()? {
                let flow = self.handle(&header, &mut dispatcher, backend)?;
                self.assembler.consume();
                match flow {
                    Some(Flow::Continue) => {}
                    Some(Flow::Failed(errno)) => failed = Err(Error::FirstUse(errno)),
                    Some(Flow::End(errno)) => return Err(Error::FirstUse(errno)),
                    None => return failed,
                }
            }
            let socket = self.channel.socket();
            match receive_polling(socket, &mut self.assembler, self.poll, Expect::Descriptors) {
                Ok(Received::Bytes) => {
                    if let Some(ledger) = &mut self.ledger {
                        ledger.note(&self.assembler);
                    }
                }
                Ok(Received::Nothing) => {}
                Ok(Received::Closed) => return failed,
                Err(_) if self.channel.is_closed() => return failed,
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Carries out one message; `None` when the client is gone.
    fn handle(
        &mut self,
        header: &Header,
        dispatcher: &mut Dispatcher,
        backend: &mut dyn Backend,
    ) -> Result<Option<Flow>, Error> {
        let fds = self.assembler.take_descriptors();
        if header.kind() == Kind::Reply {
            self.channel.answer(header, self.assembler.body());
            return Ok(Some(Flow::Continue));
        }
        let wants_reply = !header.no_reply();
        if wants_reply {
            self.channel.begin_command();
        }
        let flow = dispatcher.dispatch(header, self.assembler.body(), fds, backend);
        if wants_reply {
            let reply = dispatcher.last_reply();
            let ledger = &mut self.ledger;
            let about_to_send = || {
                if let Some(ledger) = ledger {
                    ledger.reply_begins();
                }
            };
            let sent = if reply.fds().is_empty() {
                self.channel.end_command(reply.bytes(), &[], about_to_send)
            } else {
                let fds = reply.borrowed_fds();
                self.channel.end_command(reply.bytes(), &fds, about_to_send)
            };
            if let Some(ledger) = &mut self.ledger {
                if sent.is_ok() {
                    ledger.replied(header.command == Command::DeviceReset.number());
                } else {
                    ledger.reply_failed();
                }
            }
            match sent {
                Ok(()) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    debug!("the client left before its reply");
                    return Ok(None);
                }
                Err(_) if self.channel.is_closed() => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Some(flow))
    }

    /// What ends this session from another thread.
    #[must_use]
    pub fn closer(&self) -> Closer {
        Closer {
            channel: Arc::clone(&self.channel),
        }
    }

    /// What reaches the client's memory by messages.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer::new(Arc::clone(&self.channel))
    }

    /// The session's counters, which outlive it.
    #[must_use]
    pub fn statistics(&self) -> Arc<Statistics> {
        Arc::clone(&self.channel.statistics)
    }

    /// What the client announced.
    #[must_use]
    pub fn client_capabilities(&self) -> &Capabilities {
        &self.client
    }

    /// Who connected.
    #[must_use]
    pub fn peer_credentials(&self) -> Option<Credentials> {
        peer_credentials(self)
    }

    /// Process id of who connected, if it is visible here.
    #[must_use]
    pub fn peer_pid(&self) -> Option<i32> {
        self.peer_credentials()?.pid
    }
}
