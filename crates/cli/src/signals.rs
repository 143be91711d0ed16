//! Waiting for the signals that ask this process to end: SIGINT, SIGTERM and SIGHUP.
//!
//! They are blocked and waited for, rather than handled, so that everything that follows
//! runs on an ordinary thread and can remove sockets.

use std::io;
use std::mem::MaybeUninit;

/// The signals that ask a process to end.
const ENDING: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// The ending signals, blocked in this thread and in those it starts from now on.
pub(crate) struct EndingSignals {
    set: libc::sigset_t,
    former: libc::sigset_t,
}

impl EndingSignals {
    /// Blocks them. To be called before other threads are started.
    pub(crate) fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        let mut former = MaybeUninit::uninit();
        // SAFETY: `sigemptyset` initializes the set it is given a pointer to, and the others get
        // pointers to the initialized set and to room for the former one; the signal numbers
        // are valid, so `sigemptyset` and `sigaddset` cannot fail.
        let error = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in ENDING {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), former.as_mut_ptr())
        };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: both were initialized above, the call that writes `former` succeeded.
        let (set, former) = unsafe { (set.assume_init(), former.assume_init()) };
        Ok(Self { set, former })
    }

    /// Waits for one of them, then lets them through again: a second one ends the process at
    /// once. Returns its name.
    pub(crate) fn wait(self) -> io::Result<&'static str> {
        let mut signal = 0;
        // SAFETY: both pointers are to initialized values that live until the call returns.
        let error = unsafe { libc::sigwait(&raw const self.set, &raw mut signal) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: `former` is what `pthread_sigmask` gave, and a null pointer asks for nothing.
        let error = unsafe {
            libc::pthread_sigmask(
                libc::SIG_SETMASK,
                &raw const self.former,
                std::ptr::null_mut(),
            )
        };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        Ok(match signal {
            libc::SIGINT => "SIGINT",
            libc::SIGTERM => "SIGTERM",
            _ => "SIGHUP",
        })
    }
}
