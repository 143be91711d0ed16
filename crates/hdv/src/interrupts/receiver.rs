//! The eventfd that a client gives for a vector.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags};

use super::bank::Receiver;

/// An eventfd to signal.
pub(super) struct EventFd(OwnedFd);

impl EventFd {
    pub(super) fn new(event: OwnedFd) -> Self {
        Self(event)
    }
}

impl Receiver for EventFd {
    fn signal(&self) {
        // The counter is full only when nobody has read 2^64 - 2 interrupts: it is readable
        // already, nothing is lost.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// The client shares the open file and can make it blocking again, fill the counter and leave: the
    /// device's thread would then wait for ever. Nobody misses interrupts from a full counter.
    fn relieve(&self) {
        let mut fds = [PollFd::new(&self.0, PollFlags::OUT)];
        let full = poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready == 0);
        if full {
            // `NOWAIT`, because it may have been emptied in between.
            let mut count = [0; 8];
            let mut buffers = [std::io::IoSliceMut::new(&mut count)];
            let _ = rustix::io::preadv2(&self.0, &mut buffers, u64::MAX, ReadWriteFlags::NOWAIT);
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
    let link = format!("/proc/self/fd/{}", event.as_raw_fd());
    // Without /proc, as in a confined process, the kind of file cannot be seen.
    if let Ok(target) = std::fs::read_link(link)
        && target.as_os_str() != "anon_inode:[eventfd]"
    {
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
