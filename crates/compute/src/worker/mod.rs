//! The worker: the process that owns one compute system.

mod console;
mod machine;
mod internal;
mod startup;

use std::process::ExitCode;

/// What `openhdv-worker` does: it is started by [`ComputeSystem::create`](crate::ComputeSystem::create), and by itself for
/// devices of our own.
#[must_use]
pub fn worker_main() -> ExitCode {
    todo!()
}
