//! Starting the process of a restricted host, with nothing open but its standard streams and its socket.
//!
//! One of the modules with `unsafe`: what a child inherits is said between fork and exec.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::restricted::BROKER_FD_VARIABLE;
use crate::{Error, Result};

/// The first descriptor that is no standard stream.
const FIRST: libc::c_uint = 3;

/// Where the socket is in the child, at least: never one of the standard streams, also where this process has closed its own.
const LOWEST: i32 = 10;

/// See [`Broker::spawn`](super::Broker::spawn).
pub(super) fn spawn(mut command: Command) -> Result<(Child, UnixStream)> {
    let program = command.get_program().display().to_string();
    let failed = |source| Error::Io {
        doing: format!("starting {program} as a restricted device host"),
        source,
    };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let theirs = fcntl_dupfd_cloexec(&theirs, LOWEST).map_err(|errno| failed(errno.into()))?;
    command.env(BROKER_FD_VARIABLE, theirs.as_raw_fd().to_string());
    leave_only(&mut command, theirs);
    let child = hdv_qemu::child::spawn(command).map_err(failed)?;
    Ok((child, ours))
}

/// Closes everything in the child, at exec, but its standard streams and `socket`.
fn leave_only(command: &mut Command, socket: OwnedFd) {
    let prepare = move || {
        let flags = libc::CLOSE_RANGE_CLOEXEC;
        // SAFETY: it only marks descriptors, which close at exec: nothing here uses them after that.
        let closed =
            unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, flags) };
        if closed != 0 {
            return Err(io::Error::last_os_error());
        }
        fcntl_setfd(&socket, FdFlags::empty())?;
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed. The closure makes two system calls, allocates
    // nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
}
