//! Whether this process has descriptors left for what is about to be served.

use std::io;

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
    let wanted = devices * PER_DEVICE + SPARE;
    if limit.saturating_sub(open.count()) >= wanted {
        return Ok(());
    }
    let error = format!(
        "{devices} devices need {wanted} with what is kept in reserve, and too many of {limit} are in use: raise the \
         limit of open files (ulimit -n)"
    );
    Err(HostError::system(
        "making room for descriptors",
        io::Error::other(error),
    ))
}
