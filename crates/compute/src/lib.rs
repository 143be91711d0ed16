//! Compute systems: virtual machines made from a JSON document, into which devices are plugged.
//!
//! Each is owned by a worker, a process of its own; every [`ComputeSystem`] in every process is a connection to one.
//!
//! | module | what it has |
//! | --- | --- |
//! | [`document`] | the document, HCS's JSON, as types; what is wrong in it, with its place |
//! | [`protocol`] | what handles, device hosts, brokers and workers say to each other |
//! | `system` | [`ComputeSystem`], a handle: create, open, start, pause, plug in, wait for the end |
//! | `attach` | a compute system as an [`hdv::System`]: device hosts register with its worker |
//! | `handover` | what the creator of a worker tells it, and hears of it |
//! | `places` | where compute systems are found: their sockets and directories, what dead workers left |
//! | `worker` | the worker process: its VM's state, QEMU, plugging, consoles, devices of our own |
//! | `broker`, `restricted` | device hosts without rights: the process that speaks for one, and that process's end |
//! | `host_commands` | what workers and brokers ask of a device host, done to it |
//!
//! The [`book`] tells how to have one. Not here: how QEMU is found and what its command line looks like (`qemu`), devices
//! (`hdv`, `devices`).

mod attach;
pub mod book;
mod broker;
pub mod document;
mod error;
mod handover;
mod host_commands;
mod places;
pub mod protocol;
mod restricted;
mod system;
mod worker;

pub use broker::{Broker, BrokerLimits};
pub use error::{Error, Result, codes};
pub use restricted::{BROKER_FD_VARIABLE, RestrictedSystem, broker_socket, lock_in};
pub use system::{ComputeSystem, Event, EventCallback, ExitStatus, ExitType, Summary};
pub use worker::worker_main;
