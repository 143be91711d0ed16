//! Eventfds: what is one, and how it is signalled. Who may not be made to wait, and why, is for
//! those who hold them.

use std::os::fd::{AsFd, AsRawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ReadWriteFlags;

/// Whether a descriptor is an eventfd. Without /proc, as in a confined process, the kind of a file
/// cannot be seen: then every one is taken for one.
pub(crate) fn is_event(event: impl AsFd) -> bool {
    let link = format!("/proc/self/fd/{}", event.as_fd().as_raw_fd());
    std::fs::read_link(link).map_or(true, |target| target.as_os_str() == "anon_inode:[eventfd]")
}

/// Adds 1 to its counter.
pub(crate) fn signal(event: impl AsFd) {
    // The counter is full only when nobody has read 2^64 - 2 signals: it is readable
    // already, nothing is lost.
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}

/// Whether a signal would have to wait, or fail, because the counter is full.
pub(crate) fn is_full(event: impl AsFd) -> bool {
    let event = event.as_fd();
    let mut fds = [PollFd::new(&event, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready == 0)
}

/// Empties a full one, so that a thread that hangs in [`signal`] goes on. Nobody misses
/// signals from a full counter.
pub(crate) fn relieve(event: impl AsFd) {
    if is_full(&event) {
        // `NOWAIT`, because it may have been emptied in between.
        let mut count = [0; 8];
        let mut buffers = [std::io::IoSliceMut::new(&mut count)];
        let _ = rustix::io::preadv2(event, &mut buffers, u64::MAX, ReadWriteFlags::NOWAIT);
    }
}
