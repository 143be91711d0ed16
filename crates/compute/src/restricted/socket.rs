//! How a restricted process comes by its socket to the broker: as an open descriptor whose number is in an environment variable.
//!
//! One of the modules with `unsafe`: a number becomes a descriptor.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::{Error, Result};

/// The environment variable with the number of the descriptor.
pub const BROKER_FD_VARIABLE: &str = "OPENHDV_BROKER_FD";

/// The socket to the broker, in a process that [`Broker::spawn`](crate::Broker::spawn) has started. Once: the second time it is
/// somebody's. A descriptor that is something else stays as it is: the variable may have been inherited by another program.
///
/// # Errors
/// The environment variable `OPENHDV_BROKER_FD` is missing or names no such socket.
pub fn broker_socket() -> Result<UnixStream> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let refused = |reason: String| {
        Error::LockedOut(format!(
            "{reason}: a restricted device host is started by its broker"
        ))
    };
    let number = std::env::var(BROKER_FD_VARIABLE)
        .map_err(|_| refused(format!("the environment has no {BROKER_FD_VARIABLE}")))?;
    let number: RawFd = number
        .parse()
        .ok()
        .filter(|number| *number > 2)
        .ok_or_else(|| refused(format!("{BROKER_FD_VARIABLE}={number:?} is no descriptor")))?;
    // SAFETY: no memory of ours is touched.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(refused(format!("descriptor {number} is not open")));
    }
    // SAFETY: it is open, and nothing but these two questions is done with it.
    let asked = unsafe { BorrowedFd::borrow_raw(number) };
    let connection = sockopt::socket_domain(asked) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(asked) == Ok(SocketType::STREAM);
    if !connection {
        return Err(refused(format!("descriptor {number} is no Unix socket")));
    }
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(refused("the socket to the broker is in use".to_owned()));
    }
    // SAFETY: it is open and a socket; whoever set the variable left it to this function alone, and it is taken once.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&socket, FdFlags::CLOEXEC).map_err(|errno| refused(errno.to_string()))?;
    Ok(socket.into())
}
