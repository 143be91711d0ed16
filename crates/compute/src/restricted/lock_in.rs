//! How a process locks itself in: no new privileges, no files (landlock), no system calls but those in `calls` (seccomp).

use std::sync::{Mutex, PoisonError};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, RestrictSelfAttr, Ruleset,
    RulesetAttr, RulesetError, RulesetStatus, Scope,
};

use super::calls;
use crate::{Error, Result};

/// The newest landlock whose kinds of accesses are known here; a kernel with less takes away what it knows.
const NEWEST: ABI = ABI::V9;

/// Locks this process in, for good: no new privileges, no files, no sockets beyond those that it has, no other processes. What is
/// open stays open. Denied system calls fail with `EPERM`. What a device host needs goes on: memory, threads, time, descriptors
/// that come over its sockets, memfds, eventfds. A second time does nothing.
///
/// To be called as early as can be. Seccomp holds every thread; before Linux 7.0, landlock, the second lock on files, holds the
/// calling thread and those that it starts afterwards.
///
/// Not possible afterwards: to load code (libraries, machine code made at run time), to open files, also those in /proc, to
/// look at files by name (which glibc before 2.39 does for `fstat` too: `lseek` tells a size), to resolve names, to start
/// programs.
///
/// # Errors
/// The kernel has no landlock (Linux 5.13) or no seccomp, or refuses.
pub fn lock_in() -> Result<()> {
    static LOCKED: Mutex<bool> = Mutex::new(false);
    let mut locked = LOCKED.lock().unwrap_or_else(PoisonError::into_inner);
    if *locked {
        return Ok(());
    }
    close_files().map_err(|error| refused("landlock", &error))?;
    calls::close().map_err(|error| refused("seccomp", &error))?;
    *locked = true;
    Ok(())
}

fn refused(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::LockedOut(format!(
        "this process cannot lock itself in by {what}: {error}; restricted device hosts need Linux 5.13 or later with \
         landlock and seccomp"
    ))
}

/// Takes away everything that landlock can.
fn close_files() -> Result<(), Box<dyn std::error::Error>> {
    let ruleset = || -> Result<_, RulesetError> {
        // Without the first one nothing is worth anything.
        Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V1))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?
            .all_threads(true)?
            .restrict_self()
    };
    match ruleset()?.ruleset {
        RulesetStatus::NotEnforced => Err("it is switched off".into()),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}
