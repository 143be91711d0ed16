//! What a command that waits is to hear of meanwhile: signals, and whatever another thread has to say.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::{flag, low_level};

/// The signals that ask a process to end.
const ENDING: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT];

/// Catches signals from its making on, and can be waited for.
#[derive(Debug)]
pub(super) struct Interrupts {
    receiver: UnixStream,
    waker: Waker,
    /// The last signal that asks this process to end; 0 for none.
    ending: Arc<AtomicUsize>,
    /// SIGTSTP has come while it was caught.
    stopping: Arc<AtomicBool>,
    /// SIGTSTP is not caught: it stops the process.
    stops: Arc<AtomicBool>,
    /// The next signal ends the process at once.
    impatient: Arc<AtomicBool>,
}

/// SIGTSTP is caught until this is dropped; then it stops the process, also one that nobody has seen to.
#[derive(Debug)]
pub(super) struct StopCaught<'a>(&'a Interrupts);

impl Drop for StopCaught<'_> {
    fn drop(&mut self) {
        self.0.stops.store(true, Ordering::SeqCst);
        if self.0.take_stop() {
            stop_here();
        }
    }
}

/// Wakes who waits.
#[derive(Clone, Debug)]
pub(super) struct Waker(Arc<UnixStream>);

impl Waker {
    pub(super) fn wake(&self) {
        // A full one wakes too.
        let _ = (&*self.0).write(&[0]);
    }
}

impl Interrupts {
    /// Catches the signals that ask a process to end.
    pub(super) fn catch() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        sender.set_nonblocking(true)?;
        let ending = Arc::new(AtomicUsize::new(0));
        let impatient = Arc::new(AtomicBool::new(false));
        for signal in ENDING {
            flag::register_conditional_default(signal, Arc::clone(&impatient))?;
            let number = usize::try_from(signal).unwrap_or(usize::MAX);
            flag::register_usize(signal, Arc::clone(&ending), number)?;
            low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        Ok(Self {
            receiver,
            waker: Waker(Arc::new(sender)),
            ending,
            stopping: Arc::default(),
            stops: Arc::default(),
            impatient,
        })
    }

    /// Catches SIGTSTP too, once, for who holds a terminal in raw mode, until what is given back is dropped.
    pub(super) fn catch_stop(&self) -> io::Result<StopCaught<'_>> {
        flag::register_conditional_default(SIGTSTP, Arc::clone(&self.stops))?;
        flag::register(SIGTSTP, Arc::clone(&self.stopping))?;
        low_level::pipe::register(SIGTSTP, self.waker.0.try_clone()?)?;
        Ok(StopCaught(self))
    }

    /// Wakes who waits for this.
    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The signal that asked this process to end.
    pub(super) fn ending(&self) -> Option<Signal> {
        let number = self.ending.load(Ordering::SeqCst);
        (number != 0).then_some(Signal(number))
    }

    /// Whether SIGTSTP has come since this was asked last.
    pub(super) fn take_stop(&self) -> bool {
        self.stopping.swap(false, Ordering::SeqCst)
    }

    /// From now on a signal that asks this process to end does so at once.
    pub(super) fn be_impatient(&self) {
        self.impatient.store(true, Ordering::SeqCst);
    }

    /// What can be polled for reading.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }

    /// Takes in what woke.
    pub(super) fn drain(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.receiver).read(&mut bytes), Ok(count) if count > 0) {}
    }

    /// Waits until woken.
    pub(super) fn wait(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.receiver, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.drain();
        Ok(())
    }
}

/// A signal that asked this process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signal(usize);

impl Signal {
    /// What a shell says of a process that a signal ended.
    pub(super) fn exit_code(self) -> u8 {
        u8::try_from(128 + self.0).unwrap_or(1)
    }
}

/// Stops this process, as SIGTSTP does where nobody catches it, until SIGCONT.
pub(super) fn stop_here() {
    let _ = low_level::emulate_default_handler(SIGTSTP);
}
