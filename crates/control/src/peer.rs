//! Who is on the other end of a Unix socket (`SO_PEERCRED`, `unix(7)`).

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

/// The process that connected, or that called `listen`, as the kernel recorded it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Its process id; `None` for a process outside this one's pid namespace.
    pub pid: Option<u32>,
    /// Its effective user id.
    pub uid: u32,
}

impl PeerCredentials {
    /// Asks the kernel about the peer of a connected socket.
    ///
    /// rustix has this call too, but its type cannot hold the pid 0 of a foreign pid namespace.
    ///
    /// # Errors
    /// What `getsockopt` returned; `ENOTSOCK` for anything but a socket.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let mut credentials = libc::ucred {
            pid: 0,
            uid: 0,
            gid: 0,
        };
        let mut length =
            libc::socklen_t::try_from(mem::size_of::<libc::ucred>()).map_err(io::Error::other)?;
        // SAFETY: the descriptor is open for the whole call, and the pointers are to a `ucred`
        // and to its length, both writable and alive until the call returns.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut credentials).cast(),
                &raw mut length,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            pid: u32::try_from(credentials.pid).ok().filter(|pid| *pid != 0),
            uid: credentials.uid,
        })
    }

    /// Whether this process may talk to the peer: the same user, or root.
    pub(crate) fn is_trusted(self) -> bool {
        self.uid == 0 || self.uid == rustix::process::geteuid().as_raw()
    }
}
