//! Eventfds: what is one, and how it is signalled. Who may not be made to wait, and why, is for
//! those who hold them.

use std::os::fd::{AsFd, AsRawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::ReadWriteFlags;

/// Whether a descriptor is an eventfd. Without /proc, as in a confined process, it can only be seen that it is
/// something of that kind: no pipe, socket or file, which may keep a writer waiting for ever.
pub(crate) fn is_event(event: impl AsFd) -> bool {
    let link = format!("/proc/self/fd/{}", event.as_fd().as_raw_fd());
    match std::fs::read_link(link) {
        Ok(target) => target.as_os_str() == "anon_inode:[eventfd]",
        Err(_) => is_anonymous(event),
    }
}

/// Whether a descriptor is of a file that has no type: an eventfd, or another that only its own system call makes.
fn is_anonymous(file: impl AsFd) -> bool {
    rustix::fs::fstat(file)
        .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Unknown)
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

#[cfg(all(test, not(loom)))]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn what_may_keep_a_writer_waiting_is_told_apart_without_proc() {
        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        assert!(is_anonymous(&event));
        let (read, write) = rustix::pipe::pipe().unwrap();
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let file = std::fs::File::open("/").unwrap();
        assert!(!is_anonymous(&read) && !is_anonymous(&write));
        assert!(!is_anonymous(&one) && !is_anonymous(&file));
    }
}
