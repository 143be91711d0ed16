//! The end of a restricted device host: its system, reached through a broker's socket, and how its process locks itself in.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::Result;

/// The compute system behind a broker, for one device host to attach to.
#[derive(Debug)]
pub struct RestrictedSystem {}

impl RestrictedSystem {
    /// The system that the broker at the other end of `socket` speaks to.
    ///
    /// # Errors
    /// A thread or a descriptor cannot be had.
    pub fn over(socket: UnixStream) -> Result<Arc<dyn hdv::System>> {
        let _ = socket;
        todo!()
    }
}

/// Locks this process in, for good: no new privileges, no files (landlock), none but the system calls that a device host
/// needs (seccomp). What is open stays open.
///
/// # Errors
/// The kernel has no landlock or no seccomp, or refuses.
pub fn lock_in() -> Result<()> {
    todo!()
}
