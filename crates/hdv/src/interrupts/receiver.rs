//! The eventfd that a client gives for a vector.

use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::bank::Receiver;
use crate::event;

/// An eventfd to signal.
pub(super) struct EventFd(OwnedFd);

impl EventFd {
    pub(super) fn new(event: OwnedFd) -> Self {
        Self(event)
    }
}

impl Receiver for EventFd {
    fn signal(&self) {
        event::signal(&self.0);
    }

    /// The client shares the open file and can make it blocking again, fill the counter and leave: the
    /// device's thread would then wait for ever.
    fn relieve(&self) {
        event::relieve(&self.0);
    }
}

/// Accepts a descriptor from a client as a vector's receiver.
///
/// A device's thread writes to it, so it must never block: a pipe that nobody reads, or a
/// blocking eventfd that is full, would stop the device for this client and every later one.
///
/// # Errors
/// `EINVAL` for anything but an eventfd.
pub(crate) fn accept(event: OwnedFd) -> Result<OwnedFd, Errno> {
    if !event::is_event(&event) {
        return Err(Errno::INVAL);
    }
    let flags = rustix::fs::fcntl_getfl(&event)?;
    rustix::fs::fcntl_setfl(&event, flags | OFlags::NONBLOCK)?;
    Ok(event)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn a_thread_that_hangs_in_a_full_eventfd_is_freed() {
        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let receiver = EventFd(event.try_clone().unwrap());
        // Empty: relieving must not block either.
        receiver.relieve();
        rustix::io::write(&event, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        std::thread::scope(|scope| {
            let device = scope.spawn(|| receiver.signal());
            while !device.is_finished() {
                receiver.relieve();
                std::thread::yield_now();
            }
        });
    }

    #[test]
    fn only_eventfds_are_accepted_and_made_non_blocking() {
        let event = accept(eventfd(0, EventfdFlags::CLOEXEC).unwrap()).unwrap();
        assert!(
            rustix::fs::fcntl_getfl(&event)
                .unwrap()
                .contains(OFlags::NONBLOCK)
        );
        let (read, write) = rustix::pipe::pipe().unwrap();
        assert_eq!(accept(write).unwrap_err(), Errno::INVAL);
        assert_eq!(accept(read).unwrap_err(), Errno::INVAL);
    }
}
