//! The worker: the process that owns one compute system.
//!
//! | file | what it has |
//! | --- | --- |
//! | `startup`, `serve`, `log` | the process, from its order to its end |
//! | `worker` | what the system is and has; the one mutex |
//! | `connection` | one connection: who it is and what it may ask |
//! | `handles`, `hosts` | who is connected |
//! | `state`, `devices`, `ports` | what is allowed when, the devices, the root ports; no I/O |
//! | `start`, `switch`, `end` | the system's life: start, pause and resume, the end |
//! | `add`, `remove`, `lost`, `claim`, `held` | plugging devices in and out |
//! | `connections` | QEMU's connections to devices: handed to their hosts, and answered here when these have let go |
//! | `power`, `parallel` | what device hosts are told, many at a time |
//! | `vmm`, `events`, `words` | QEMU: the process, what it reports, its last words |
//! | `accelerator`, `machine` | what a VM runs on; the document as a machine |
//! | `internal`, `internal_devices` | the process of our own devices |
//! | `console` | serial ports |
//! | `refusal` | errors |

mod accelerator;
mod add;
mod claim;
mod connection;
mod connections;
mod console;
mod devices;
mod end;
mod events;
mod handles;
mod held;
mod hosts;
mod internal;
mod internal_devices;
mod log;
mod lost;
mod machine;
mod parallel;
mod ports;
mod power;
mod refusal;
mod remove;
mod serve;
mod start;
mod startup;
mod state;
mod switch;
mod vmm;
mod words;
#[expect(clippy::module_inception, reason = "a worker's state is the worker")]
mod worker;

use std::path::Path;
use std::process::ExitCode;

/// What `openhdv-worker` does: it is started by [`ComputeSystem::create`](crate::ComputeSystem::create), and by itself for
/// devices of our own.
#[must_use]
pub fn worker_main() -> ExitCode {
    // What it makes is the user's alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(argument), Some(socket)) if argument == internal::ARGUMENT => {
            internal::run(Path::new(&socket))
        }
        // The only argument is the system's id, for people who look at the process list.
        _ => serve::run(),
    }
}
