//! What the threads of one connection share: the socket, who may write to it, whether the
//! client waits for a reply, and the DMA message under way.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::{self, ThreadId};
use std::time::Instant;

use rustix::io::Errno;

use super::{DmaError, Statistics};
use crate::limits::MAX_MESSAGE_SIZE;
use crate::stream::{
    self, Assembler, Received, SendError, receive, send_counting, send_until, wait_readable,
};
use crate::wire::{Header, Kind};

/// No command that wants a reply is under way.
const IDLE: u8 = 0;
/// A command that wants a reply has been received: the client waits, for as long as the backend
/// takes.
const BUSY: u8 = 1;
/// Its reply is being sent: the client is about to go on.
const REPLYING: u8 = 2;

/// The connection, as its threads share it.
#[derive(Debug)]
pub(super) struct Channel {
    socket: UnixStream,
    twin: Option<OwnedFd>,
    /// Whoever sends on the main socket holds this, so that messages do not mix.
    sending: Mutex<()>,
    /// One of [`IDLE`], [`BUSY`] and [`REPLYING`].
    state: AtomicU8,
    /// How many threads wait for the state to leave [`REPLYING`].
    reply_waiters: AtomicU32,
    /// A DMA request on the main socket waits for its reply.
    asking: AtomicBool,
    closed: AtomicBool,
    session_thread: OnceLock<ThreadId>,
    /// Whoever makes a DMA request holds this until it is answered.
    turn: Mutex<Turn>,
    waiter: Mutex<Waiter>,
    answered: Condvar,
    /// Most data bytes of one DMA message.
    pub(super) max_transfer: usize,
    pub(super) statistics: Arc<Statistics>,
}

/// What successive DMA requests hand on.
#[derive(Debug)]
pub(super) struct Turn {
    next_id: u16,
    /// Messages of the twin socket.
    twin: Assembler,
}

/// The DMA request on the main socket that waits for its reply.
#[derive(Debug, Default)]
struct Waiter {
    expected: Option<Header>,
    outcome: Option<Result<(), DmaError>>,
    body: Vec<u8>,
}

impl Channel {
    pub(super) fn new(socket: UnixStream, twin: Option<OwnedFd>, max_transfer: usize) -> Self {
        Self {
            socket,
            twin,
            sending: Mutex::new(()),
            state: AtomicU8::new(IDLE),
            reply_waiters: AtomicU32::new(0),
            asking: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            session_thread: OnceLock::new(),
            turn: Mutex::new(Turn {
                next_id: 0,
                twin: Assembler::new(MAX_MESSAGE_SIZE),
            }),
            waiter: Mutex::default(),
            answered: Condvar::new(),
            max_transfer,
            statistics: Arc::default(),
        }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The calling thread is the one that receives.
    pub(super) fn enter(&self) {
        // A session that is run twice has ended after the first time, so whose thread it
        // is does not matter then.
        let _ = self.session_thread.set(thread::current().id());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends the connection; everybody who waits in it returns.
    pub(super) fn close(&self) {
        self.let_go();
        stream::shutdown(self.socket());
    }

    /// Ends the use of the connection here, and nothing for who has a duplicate of it.
    pub(super) fn let_go(&self) {
        {
            let _waiter = lock(&self.waiter);
            self.closed.store(true, Ordering::Release);
        }
        self.answered.notify_all();
        if let Some(twin) = &self.twin {
            stream::shutdown(twin.as_fd());
        }
    }

    /// The same, for somebody to go on with a duplicate: no request is being sent any more when this returns.
    pub(super) fn hand_over(&self) {
        self.let_go();
        drop(lock(&self.sending));
    }

    /// A command that wants a reply has been received. A DMA request under way fails: its client
    /// serves none until it has the reply, and the backend may need what the asking thread holds.
    pub(super) fn begin_command(&self) {
        self.state.store(BUSY, Ordering::SeqCst);
        // Either this sees the request, or the asking thread sees the state.
        if self.asking.load(Ordering::SeqCst) {
            let mut waiter = lock(&self.waiter);
            if waiter.expected.take().is_some() {
                waiter.outcome = Some(Err(DmaError::ClientWaits));
                drop(waiter);
                self.answered.notify_all();
            }
        }
    }

    /// Sends its reply, after `about_to_send`. Blocks as long as the client does not read. A reply of which only a part
    /// was sent leaves a stream that nobody can use any more: the connection is closed then.
    pub(super) fn end_command(
        &self,
        bytes: &[u8],
        fds: &[BorrowedFd<'_>],
        about_to_send: impl FnOnce(),
    ) -> Result<(), Errno> {
        self.state.store(REPLYING, Ordering::SeqCst);
        let sent = {
            let _sending = lock(&self.sending);
            about_to_send();
            let mut count = 0;
            let sent = send_counting(self.socket(), bytes, fds, &mut count);
            if let Err(errno) = sent
                && count > 0
                && !self.is_closed()
            {
                tracing::debug!(%errno, count, "a part of a reply was sent: the connection is closed");
                self.close();
            }
            sent
        };
        self.state.store(IDLE, Ordering::SeqCst);
        if self.reply_waiters.load(Ordering::SeqCst) != 0 {
            drop(lock(&self.waiter));
            self.answered.notify_all();
        }
        sent
    }

    /// A reply has been received on the main socket: hands it to who waits for it.
    pub(super) fn answer(&self, header: &Header, body: &[u8]) {
        let mut waiter = lock(&self.waiter);
        let Some(expected) = waiter.expected else {
            return;
        };
        if (expected.message_id, expected.command) != (header.message_id, header.command) {
            return;
        }
        waiter.expected = None;
        waiter.outcome = Some(match header.reported_error() {
            Some(errno) => Err(DmaError::Refused(errno)),
            None => {
                waiter.body.clear();
                waiter.body.extend_from_slice(body);
                Ok(())
            }
        });
        drop(waiter);
        self.answered.notify_all();
    }

    /// Whether a DMA request can be made now; takes the turn if so.
    pub(super) fn take_turn(&self, deadline: Instant) -> Result<MutexGuard<'_, Turn>, DmaError> {
        self.check(deadline)?;
        let turn = lock(&self.turn);
        self.check(deadline)?;
        Ok(turn)
    }

    fn check(&self, deadline: Instant) -> Result<(), DmaError> {
        if self.is_closed() {
            return Err(DmaError::Disconnected);
        }
        // In a posted write nobody waits, but the thread that would receive the reply on the
        // main socket is the one that asks.
        let nobody_receives =
            self.twin.is_none() && self.session_thread.get() == Some(&thread::current().id());
        if nobody_receives {
            return Err(DmaError::ClientWaits);
        }
        match self.state.load(Ordering::SeqCst) {
            IDLE => Ok(()),
            REPLYING => self.await_reply_sent(deadline),
            _ => Err(DmaError::ClientWaits),
        }
    }

    /// The client may have its reply already and act on it before the session's thread has
    /// returned from the send: that must not look like a client that waits.
    fn await_reply_sent(&self, deadline: Instant) -> Result<(), DmaError> {
        self.reply_waiters.fetch_add(1, Ordering::SeqCst);
        let mut waiter = lock(&self.waiter);
        let result = loop {
            if self.is_closed() {
                break Err(DmaError::Disconnected);
            }
            match self.state.load(Ordering::SeqCst) {
                IDLE => break Ok(()),
                REPLYING => {}
                _ => break Err(DmaError::ClientWaits),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Err(DmaError::TimedOut);
            }
            waiter = self
                .answered
                .wait_timeout(waiter, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        };
        drop(waiter);
        self.reply_waiters.fetch_sub(1, Ordering::SeqCst);
        result
    }

    /// Sends a request (a whole message, whose id is set here) and passes the body of the
    /// reply to `accept`.
    pub(super) fn exchange(
        &self,
        turn: &mut Turn,
        header: Header,
        message: &mut [u8],
        deadline: Instant,
        accept: &mut dyn FnMut(&[u8]) -> Result<(), Errno>,
    ) -> Result<(), DmaError> {
        use zerocopy::IntoBytes;
        let header = Header {
            message_id: turn.next_id,
            ..header
        };
        turn.next_id = turn.next_id.wrapping_add(1);
        message[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        match &self.twin {
            Some(twin) => {
                self.exchange_on_twin(twin.as_fd(), turn, header, message, deadline, accept)
            }
            None => self.exchange_on_main(header, message, deadline, accept),
        }
    }

    fn exchange_on_main(
        &self,
        header: Header,
        message: &[u8],
        deadline: Instant,
        accept: &mut dyn FnMut(&[u8]) -> Result<(), Errno>,
    ) -> Result<(), DmaError> {
        {
            let mut waiter = lock(&self.waiter);
            waiter.expected = Some(header);
            waiter.outcome = None;
        }
        self.asking.store(true, Ordering::SeqCst);
        let result = self
            .ask_on_main(message, deadline)
            .and_then(|()| self.await_answer(deadline, accept));
        self.asking.store(false, Ordering::SeqCst);
        let mut waiter = lock(&self.waiter);
        waiter.expected = None;
        // A large reply's memory is not kept.
        waiter.body = Vec::new();
        result
    }

    fn ask_on_main(&self, message: &[u8], deadline: Instant) -> Result<(), DmaError> {
        let _sending = self.lock_sending(deadline)?;
        if self.is_closed() {
            return Err(DmaError::Disconnected);
        }
        if self.state.load(Ordering::SeqCst) == BUSY {
            return Err(DmaError::ClientWaits);
        }
        send_until(self.socket(), message, deadline).map_err(|error| self.failed_send(error))
    }

    fn await_answer(
        &self,
        deadline: Instant,
        accept: &mut dyn FnMut(&[u8]) -> Result<(), Errno>,
    ) -> Result<(), DmaError> {
        let mut waiter = lock(&self.waiter);
        loop {
            if let Some(outcome) = waiter.outcome.take() {
                outcome?;
                return accept(&waiter.body).map_err(DmaError::Refused);
            }
            if self.is_closed() {
                return Err(DmaError::Disconnected);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(DmaError::TimedOut);
            }
            waiter = self
                .answered
                .wait_timeout(waiter, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Only the session's thread competes for this, with a reply that a client may never read.
    fn lock_sending(&self, deadline: Instant) -> Result<MutexGuard<'_, ()>, DmaError> {
        loop {
            match self.sending.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => self.await_reply_sent(deadline)?,
            }
        }
    }

    fn exchange_on_twin(
        &self,
        twin: BorrowedFd<'_>,
        turn: &mut Turn,
        header: Header,
        message: &[u8],
        deadline: Instant,
        accept: &mut dyn FnMut(&[u8]) -> Result<(), Errno>,
    ) -> Result<(), DmaError> {
        use rustix::net::RecvFlags;
        send_until(twin, message, deadline).map_err(|error| self.failed_send(error))?;
        loop {
            loop {
                let Ok(next) = turn.twin.next() else {
                    stream::shutdown(twin);
                    return Err(DmaError::Disconnected);
                };
                let Some(reply) = next else { break };
                let ours = reply.kind() == Kind::Reply
                    && (reply.message_id, reply.command) == (header.message_id, header.command);
                if !ours {
                    turn.twin.consume();
                    continue;
                }
                let result = match reply.reported_error() {
                    Some(errno) => Err(errno),
                    None => accept(turn.twin.body()),
                };
                turn.twin.consume();
                return result.map_err(DmaError::Refused);
            }
            match receive(twin, &mut turn.twin, RecvFlags::DONTWAIT) {
                Ok(Received::Bytes) => {}
                Ok(Received::Closed) | Err(_) => return Err(DmaError::Disconnected),
                Ok(Received::Nothing) => match wait_readable(twin, deadline) {
                    Ok(true) => {}
                    Ok(false) => return Err(DmaError::TimedOut),
                    Err(_) => return Err(DmaError::Disconnected),
                },
            }
        }
    }

    /// A request that was not sent whole leaves a stream that cannot be used any more.
    fn failed_send(&self, error: SendError) -> DmaError {
        match error {
            SendError::TimedOut { begun: false } => DmaError::TimedOut,
            SendError::TimedOut { begun: true } => {
                self.close();
                DmaError::TimedOut
            }
            SendError::Socket(_) => DmaError::Disconnected,
        }
    }
}

/// What the locks guard is consistent at every step, so a thread that panicked with one has
/// not spoiled it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
