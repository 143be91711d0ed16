//! SR-IOV in a guest: [`vf`] has what is checked of a VF of the SR-IOV sensor; the rest drives this guest's own PFs, real ones
//! to its kernel, by the programs that users have, and compares with what Linux says of them.

mod c_program;
mod command;
pub mod linux;
pub(crate) mod program;
pub mod vf;

use crate::checks::{Failure, guarded, outcome};
use crate::report::Line;

/// How a PF of this machine is reached.
const TRANSPORT: &str = "sysfs";

/// Checks every PF of this machine and tells each outcome to `sink`.
pub fn check(sink: &mut dyn FnMut(Line)) {
    let found = linux::pfs();
    let verdict = guarded(|| match &found {
        Ok(pfs) if pfs.is_empty() => Err(Failure::new("there is none")),
        Ok(pfs) => Ok(format!("{} found", pfs.len())),
        Err(error) => Err(Failure::new(error.to_string())),
    });
    sink(Line::Check(outcome("pfs", "", "", verdict)));
    for pf in found.unwrap_or_default() {
        for (name, check) in command::CHECKS {
            let verdict = guarded(|| check(&pf));
            sink(Line::Check(outcome(name, pf.address(), TRANSPORT, verdict)));
        }
        c_program::check(&pf, sink);
    }
    c_program::check_without(sink);
}
