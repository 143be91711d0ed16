//! Compute systems with a worker and a QEMU of their own: the order of events, plugging in and out, faults.
//!
//! Most need no guest: QEMU asks devices for all that they are before it runs anything.

mod faults;
mod hosts;
mod inside;
mod life;
mod plug;
mod support;
