//! Restricted device hosts and their brokers: a real process that is locked in, a real client through the broker, a worker that is
//! played, and a real one with QEMU; and hosts, brokers and workers that lie.

mod attempts;
mod lies;
mod paths;
mod played;
mod process;
mod tries;
mod vm;
