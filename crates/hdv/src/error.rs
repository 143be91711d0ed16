//! Why a host, or a test bench, could not do what was asked of it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use hdv_control::BindError;
use hdv_pci::ConfigError;
use uuid::Uuid;

use crate::device::DeviceError;

/// Names a device within its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub(crate) u64);

impl DeviceId {
    /// One that no device of this process has, whoever carries it: a function of a domain is no device of a host.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Its number, as control commands have it.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a host could not do what was asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The device's declaration of its config space is wrong.
    #[error("the device's config space cannot be built: {0}")]
    Config(#[from] ConfigError),
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(#[from] DeviceError),
    /// The socket cannot be had.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// The control socket cannot be had.
    #[error("no control socket: {0}")]
    Control(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The system refused something the host needs.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Too few descriptors are left for what is about to be served.
    #[error(
        "{devices} devices need {needed} open files, those in reserve included, but {left} are left of the \
         process's limit: raise it (ulimit -n)"
    )]
    Descriptors {
        /// How many devices are to be served.
        devices: usize,
        /// Descriptors that must be left for that.
        needed: usize,
        /// Descriptors that are left.
        left: usize,
        /// `EMFILE`.
        source: io::Error,
    },
    /// There is no such device on this host.
    #[error("there is no device {0} on this host")]
    NoSuchDevice(DeviceId),
    /// There is no such device instance on this host.
    #[error("there is no device instance {0} on this host")]
    NoSuchInstance(Uuid),
    /// The compute system that the host is attached to, or attaches to, refused.
    #[error("{message}")]
    Refused {
        /// What was wrong and what to do.
        message: String,
        /// Its result code, an `HRESULT`, if it has one.
        code: Option<i32>,
    },
    /// The device instance has been powered on.
    #[error("device instance {0} is powered on already: remove it first")]
    PoweredOn(Uuid),
    /// The host may not have more devices ([`HostOptions::devices`](crate::HostOptions::devices)).
    #[error("the device host may have {limit} devices: remove one first, or use another host")]
    TooManyDevices {
        /// How many it may have.
        limit: usize,
    },
    /// Too many clients wait for their turn.
    #[error("{waiting} clients wait to be let in, which is as many as may")]
    TooManyClients {
        /// How many wait.
        waiting: usize,
    },
    /// The device instance does not get its clients handed over ([`Listen::Handed`](crate::Listen::Handed)).
    #[error(
        "device instance {0} takes no clients that are handed over: it was not powered on for that"
    )]
    NotHanded(Uuid),
    /// A function brings others and is served on no socket that theirs could lie beside.
    #[error("device {0} gets its clients handed over, so there is no place for what it brings")]
    NoPlaceFor(DeviceId),
    /// There is no such compute system.
    #[error("there is no compute system at {}: {_1}; it must be a directory that exists", .0.display())]
    NoSuchSystem(PathBuf, String),
    /// The instance id is in use.
    #[error("device instance {0} exists already: every device of a system needs an id of its own")]
    InstanceExists(Uuid),
    /// A host attaches to one system, once.
    #[error("the device host is attached to a system already")]
    AlreadyAttached,
    /// A function brings others, whose sockets lie beside its own, and has none.
    #[error("device {0} is not served, so what it brings has no place: serve it first")]
    NotServed(DeviceId),
    /// What a function brings cannot be carried.
    #[error("VF {vf}: {source}")]
    Brought {
        /// Its number among those that the function brings, from 0.
        vf: u16,
        /// Why.
        source: Box<HostError>,
    },
    /// The host has been shut down.
    #[error("the device host has been torn down")]
    Closed,
    /// Waiting for a call to end inside that call.
    #[error(
        "this would wait for a call into a device of this host, and was asked for from inside \
         one: do it from another thread"
    )]
    InsideCall,
}

impl HostError {
    pub(crate) fn system(what: &'static str, source: impl Into<io::Error>) -> Self {
        Self::System {
            what,
            source: source.into(),
        }
    }

    pub(crate) fn brought(vf: u16, error: impl Into<Self>) -> Self {
        Self::Brought {
            vf,
            source: Box::new(error.into()),
        }
    }
}
