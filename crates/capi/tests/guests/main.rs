//! A device with C callbacks and a guest that uses it, in one process: what the functions do once a virtual
//! machine is there, and every error that needs one.
//!
//! Tests are named for the function and the condition.

mod device;
#[path = "../support/guest.rs"]
mod guest;
mod interrupts;
mod lifecycle;
mod memory;
mod mmio;
mod proxy;
mod virtualization;
