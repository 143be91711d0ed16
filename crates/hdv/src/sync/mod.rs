//! Synchronization for the hot path. What lives here is small, knows nothing of devices and
//! takes no lock to read.
//!
//! The tests named `loom` check every order in which threads can meet:
//!
//! ```text
//! cargo xtask test loom
//! ```

pub(crate) mod atomic;
mod place;
mod published;

pub(crate) use published::Published;
