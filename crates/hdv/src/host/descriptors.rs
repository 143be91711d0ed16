//! Whether this process has descriptors left for what is about to be served.

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::error::HostError;

/// Of a device that is served and has no client: its listening socket and its lock file.
const PER_DEVICE: usize = 2;

/// Left for what must not fail meanwhile: descriptors that come with messages of clients, who are disconnected
/// without them.
const SPARE: usize = 64;

/// Checks that there is room for this many devices, before any of it is taken: a VM that controls its VFs could
/// otherwise leave others' devices without, as often as it likes.
///
/// # Errors
/// There is none.
pub(super) fn check_room(devices: usize) -> Result<(), HostError> {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return Ok(());
    };
    // What cannot be counted is not refused: there may be no /proc.
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else {
        return Ok(());
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let left = limit.saturating_sub(open.count());
    let needed = devices * PER_DEVICE + SPARE;
    if left >= needed {
        return Ok(());
    }
    Err(HostError::Descriptors {
        devices,
        needed,
        left,
        source: Errno::MFILE.into(),
    })
}
