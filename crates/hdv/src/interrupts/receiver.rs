//! Who is told of a vector: the eventfd that a client gives for it, or a vector of another function.

use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Interrupts;
use super::bank::Receiver;
use crate::event;

/// See the module's documentation.
pub(super) enum Told {
    /// An eventfd of a client's.
    Event(OwnedFd),
    /// A vector of the function that carries the bus which this one is on. That one knows nothing of those
    /// whose interrupts it gets.
    Vector(Interrupts, u16),
}

impl Receiver for Told {
    fn signal(&self) {
        match self {
            Self::Event(event) => event::signal(event),
            Self::Vector(interrupts, vector) => interrupts.signal_or_hold(*vector),
        }
    }

    /// The client shares the open file and can make it blocking again, fill the counter and leave: the
    /// device's thread would then wait for ever.
    fn relieve(&self) {
        match self {
            Self::Event(event) => event::relieve(event),
            Self::Vector(interrupts, vector) => interrupts.relieve(*vector),
        }
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
        let receiver = Told::Event(event.try_clone().unwrap());
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
