//! A PF of this machine, over trees of files that look like Linux's sysfs. That the real one looks so is tested in a guest.

#![allow(missing_docs, reason = "tests")]

mod enable;
mod gone;
mod malformed;
mod permission;
mod tree;
mod view;

use hdv_sriov::{NtStatus, VirtualizationError};

/// The status of an error.
fn status<T: std::fmt::Debug>(result: Result<T, VirtualizationError>) -> NtStatus {
    result.unwrap_err().status()
}
