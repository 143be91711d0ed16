//! Synchronization for the hot path. What lives here is small, knows nothing of devices and
//! takes no lock to read.

mod published;

pub(crate) use published::Published;
