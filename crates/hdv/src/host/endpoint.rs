//! One device of a host: where its clients come from, its slot, and whether a client has it.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdv_control::SocketClaim;
use hdv_pci::Identity;
use hdv_vfio_user::server::Statistics;
use rustix::event::{PollFd, PollFlags, poll};

use crate::error::DeviceId;
use crate::instance::DeviceInstance;
use crate::slot::Slot;
use crate::system::DeviceIds;
use crate::vfio_user::BarAccesses;

/// A client that has the device.
pub(super) struct Connected {
    /// A duplicate of its socket, to see whether it is still there.
    pub(super) socket: OwnedFd,
    pub(super) pid: Option<i32>,
    /// Once its VERSION has been answered.
    pub(super) statistics: Option<Arc<Statistics>>,
    pub(super) accesses: Arc<BarAccesses>,
}

impl Connected {
    /// The client has closed its end: its session is about to end.
    fn hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let zero = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&zero)).is_ok_and(|ready| ready > 0)
    }
}

/// Who has the device.
pub(super) enum Occupancy {
    Free,
    /// A client has it.
    Taken(Connected),
    /// Its client has left and its traces are being removed.
    Leaving,
}

/// What a client that asks for the device gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yours,
    /// The last client is on its way out: the answer comes when it has left.
    Wait,
    Busy,
}

/// What another function brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Brought {
    /// Which one did.
    pub(super) by: DeviceId,
    /// Its number among those.
    pub(super) vf: u16,
    /// What it is, as long as it has not been powered on.
    pub(super) identity: Identity,
}

/// Where the clients of a device come from.
pub(super) enum Source {
    Socket(Arc<UnixListener>, SocketClaim),
    /// They are handed over.
    Handed {
        /// Where what the device brings lies beside.
        beside: Option<PathBuf>,
    },
}

/// See the module's documentation.
pub(super) struct Endpoint {
    id: DeviceId,
    ids: Option<DeviceIds>,
    brought: Option<Brought>,
    slot: Arc<Slot>,
    /// Of its socket, if it has one.
    path: Option<Arc<Path>>,
    /// Where what it brings lies beside, if anywhere.
    beside: Option<Arc<Path>>,
    /// `None` once the device was removed.
    source: Mutex<Option<Source>>,
    occupancy: Mutex<Occupancy>,
}

impl Endpoint {
    pub(super) fn new(
        id: DeviceId,
        ids: Option<DeviceIds>,
        brought: Option<Brought>,
        slot: Arc<Slot>,
        source: Source,
    ) -> Self {
        let path: Option<Arc<Path>> = match &source {
            Source::Socket(_, claim) => Some(claim.path().into()),
            Source::Handed { .. } => None,
        };
        let beside = match &source {
            Source::Socket(..) => path.clone(),
            Source::Handed { beside } => beside.as_deref().map(Arc::from),
        };
        if let Some(path) = &path {
            slot.served_on(Arc::clone(path));
        }
        Self {
            id,
            ids,
            brought,
            slot,
            path,
            beside,
            source: Mutex::new(Some(source)),
            occupancy: Mutex::new(Occupancy::Free),
        }
    }

    pub(super) fn id(&self) -> DeviceId {
        self.id
    }

    /// The ids of a device instance; a device served on a socket of its own choice has none.
    pub(super) fn ids(&self) -> Option<DeviceIds> {
        self.ids
    }

    /// For one that another function brought.
    pub(super) fn brought(&self) -> Option<Brought> {
        self.brought
    }

    /// Which function brought it, if one did.
    pub(super) fn brought_by(&self) -> Option<DeviceId> {
        Some(self.brought?.by)
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Of its socket, if it has one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Where the sockets of what it brings lie beside, if they may be anywhere.
    pub(super) fn beside(&self) -> Option<&Path> {
        self.beside.as_deref()
    }

    /// What its creator holds of it.
    pub(super) fn instance(&self) -> DeviceInstance {
        DeviceInstance {
            id: self.id,
            ids: self.ids,
            brought_by: self.brought_by(),
            slot: Arc::clone(&self.slot),
        }
    }

    fn source(&self) -> MutexGuard<'_, Option<Source>> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The listening socket, if it has one, until the device is removed.
    pub(super) fn listener(&self) -> Option<Arc<UnixListener>> {
        match &*self.source() {
            Some(Source::Socket(socket, _)) => Some(Arc::clone(socket)),
            Some(Source::Handed { .. }) | None => None,
        }
    }

    /// Whether clients that are handed over are let in.
    pub(super) fn takes_handed(&self) -> bool {
        matches!(&*self.source(), Some(Source::Handed { .. }))
    }

    /// Whether clients are let in at all.
    pub(super) fn is_open(&self) -> bool {
        self.source().is_some()
    }

    /// Lets no more clients in, and removes the socket's file.
    pub(super) fn close_source(&self) {
        // Dropped without the lock.
        let source = self.source().take();
        drop(source);
    }

    pub(super) fn occupancy(&self) -> MutexGuard<'_, Occupancy> {
        self.occupancy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What a client that asks now gets. Only the accepting thread asks, so the answer holds until it
    /// acts on it.
    pub(super) fn ask(&self) -> Answer {
        match &*self.occupancy() {
            Occupancy::Free => Answer::Yours,
            // A VMM that was killed and started again asks before its old session has seen the
            // end of its connection; it must not be told that it is in its own way.
            Occupancy::Taken(connected) if connected.hung_up() => Answer::Wait,
            Occupancy::Taken(_) => Answer::Busy,
            Occupancy::Leaving => Answer::Wait,
        }
    }
}
