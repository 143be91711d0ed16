//! How a worker begins: it leaves its creator's session, keeps none of its descriptors and nothing of how it took signals, and
//! takes its order from standard input. What it does then is in `worker`.
//!
//! The one place of the worker with `unsafe`: descriptors that the creator let slip through are closed by their numbers, and
//! signals are the C library's.

use std::io;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use hdv_control::PeerCredentials;
use rustix::fs::{Mode, OFlags};

use crate::handover::{self, Order};
use crate::{Error, Result};

/// What a worker has been told, and the creator, who waits to hear that it is there.
#[derive(Debug)]
pub(crate) struct Startup {
    /// The id of its compute system, as it was given.
    pub(crate) id: String,
    /// The document, as it was given.
    pub(crate) document: String,
    creator: UnixStream,
}

impl Startup {
    /// Makes this process a worker's. Must come first in the process: it closes every descriptor but the standard ones.
    ///
    /// # Errors
    /// It was not started by a creator, or that is gone.
    pub(crate) fn begin() -> Result<Self> {
        let failed = |doing: &str, source: io::Error| Error::Io {
            doing: doing.to_owned(),
            source,
        };
        close_inherited();
        take_signals();
        // No signal for the creator's terminal or group is for the worker, too. It fails only where it is so already.
        let _ = rustix::process::setsid();
        let creator = take_stdin().map_err(|source| {
            failed(
                "taking the socket of who started the worker (only the library starts it)",
                source,
            )
        })?;
        let Order { id, document } = Order::receive(&creator)
            .map_err(|source| failed("receiving what the worker is to be", source))?;
        Ok(Self {
            id,
            document,
            creator,
        })
    }

    /// Who the creator is.
    ///
    /// # Errors
    /// The system does not say.
    pub(crate) fn peer(&self) -> io::Result<PeerCredentials> {
        PeerCredentials::of(&self.creator)
    }

    /// Tells the creator that others can connect to the worker now. The socket is its handle from here on, before any hello:
    /// when it closes, that handle is closed.
    ///
    /// # Errors
    /// The creator is gone.
    pub(crate) fn ready(self) -> Result<UnixStream> {
        handover::answer(&self.creator, Ok(())).map_err(|source| Error::Io {
            doing: "telling the creator that the worker is there".to_owned(),
            source,
        })?;
        Ok(self.creator)
    }

    /// Tells the creator why there will be no worker.
    pub(crate) fn refuse(self, error: &Error) {
        if let Err(error) = handover::answer(&self.creator, Err(error.to_control())) {
            tracing::warn!(%error, "nobody is left to hear why there is no worker");
        }
    }
}

/// Standard input as a socket; what has its number then is `/dev/null`.
fn take_stdin() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    let creator = UnixStream::from(stdin.as_fd().try_clone_to_owned()?);
    // It is one.
    creator.peer_addr()?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(creator)
}

/// Takes signals as a process does that nobody prepared. A creator that blocks some, or ignores the ends of its children,
/// leaves that to its children: they would not end when they are asked to, and could not wait for theirs.
fn take_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: all zeros is a value of this structure of numbers and a pointer that may be null.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to that structure; a null pointer stands for nothing to be set.
        let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
        // SIGPIPE is ignored by the runtime, which also undoes that for children.
        if asked == 0 && action.sa_sigaction == libc::SIG_IGN && signal != libc::SIGPIPE {
            // SAFETY: no code of this process runs by it.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    // SAFETY: all zeros is a value of this structure of numbers.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to that structure or null, which stands for nothing to be told.
    unsafe {
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

fn close_inherited() {
    const FIRST: RawFd = 3;
    const LIST: &str = "/proc/self/fd";
    let listed = std::fs::read_dir(LIST).map(|entries| {
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        numbers
            .filter(|number| *number >= FIRST)
            .collect::<Vec<_>>()
    });
    match listed {
        Ok(numbers) => {
            // What the list was read from is closed already; its number is no descriptor any more.
            let is_open = |number: &RawFd| Path::new(LIST).join(number.to_string()).is_symlink();
            for number in numbers.into_iter().filter(is_open) {
                // SAFETY: the process has just begun: nothing in it has a descriptor that it counts on, other than the
                // standard ones, which are below. This one is open.
                unsafe { rustix::io::close(number) };
            }
        }
        Err(error) => tracing::warn!(%error, "descriptors of the creator may have been kept"),
    }
}
