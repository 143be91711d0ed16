//! Which listening sockets have clients to accept, at a cost that does not grow with their number.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::error::DeviceId;

/// Sockets that one look tells of; those left out come first at the next.
const AT_ONCE: usize = 64;

/// The listening sockets of a host. Readable when one of them is.
pub(super) struct Listeners {
    epoll: OwnedFd,
}

impl Listeners {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll })
    }

    /// Looks after a device's socket.
    pub(super) fn add(&self, socket: impl AsFd, id: DeviceId) -> io::Result<()> {
        let data = EventData::new_u64(id.0);
        Ok(epoll::add(&self.epoll, socket, data, EventFlags::IN)?)
    }

    /// Does so no more.
    pub(super) fn remove(&self, socket: impl AsFd) {
        if let Err(error) = epoll::delete(&self.epoll, socket) {
            tracing::warn!("a listening socket cannot be left alone: {error}");
        }
    }

    /// Devices whose sockets have a client to accept; all of them in some looks, without waiting.
    pub(super) fn ready(&self) -> Vec<DeviceId> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut events = Vec::with_capacity(AT_ONCE);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&now)) {
            Ok(_) => {}
            // The next look tells.
            Err(Errno::INTR) => events.clear(),
            Err(error) => tracing::warn!("looking for clients: {error}"),
        }
        events
            .iter()
            .map(|event| DeviceId(event.data.u64()))
            .collect()
    }
}

impl AsFd for Listeners {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
