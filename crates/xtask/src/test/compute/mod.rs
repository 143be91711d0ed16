//! Compute systems: VMs made from documents, with real guests; devices of this process, of others, of restricted ones, and of our
//! own; faults; and nothing left of any of it.
//!
//! The checks are made in a process of their own (`actor`), which has a runtime directory to itself and the installed worker; what
//! plays other device hosts and creators is that program again.
//!
//! | module | what it has |
//! | --- | --- |
//! | `facts` | what the process of the checks is told |
//! | `actor` | the processes that are this program again |
//! | `checks` | how a check is named, made and reported |
//! | `journal` | a sensor that notes the calls into it, and its host |
//! | `vm` | a VM with the guest program in it: its document, its console |
//! | `clients`, `vmm` | a VM without a guest, whose devices are left to clients of ours |
//! | `life`, `hosting`, `many`, `programs`, `faults`, `outlive`, `lifetimes` | the checks |
//! | `remains` | what is left of VMs |

mod actor;
mod checks;
mod clients;
mod facts;
mod faults;
mod hosting;
mod journal;
mod life;
mod lifetimes;
mod many;
mod outlive;
mod programs;
mod remains;
mod vm;
mod vmm;

use std::process::Command;

use hdv_qemu::bundle::Bundle;
use hdv_qemu::guest::Scratch;

pub(crate) use actor::{Actor, run as act};
pub(crate) use clients::{Clients, MODELS};
pub(crate) use facts::Facts;
pub(crate) use journal::{Journal, announce};
pub(crate) use vm::{Form, Vm, add, remove};

use super::Failure;
use crate::c::Library;
use crate::lab::{Contents, Lab};
use crate::ui::Ui;

/// Prepares what the checks need, and has them made. `lifetimes` is how many VMs the check of what is left behind makes.
pub(super) fn run(lifetimes: u32, ui: &Ui) -> Result<(), Failure> {
    let library = Library::prepare(ui)?;
    let contents = Contents {
        kernel: Bundle::KERNEL_CLOUD,
        // For the power button.
        modules: vec!["button", "evdev"],
        programs: Vec::new(),
    };
    let lab = Lab::with(&contents, ui)?;
    let facts = Facts {
        kernel: lab.vmlinuz().to_owned(),
        initramfs: lab.initramfs().to_owned(),
        prefix: library.prefix().to_owned(),
        kernel_release: lab.kernel_release().to_owned(),
        qemu_version: lab.qemu_version(),
        programs: programs::build(&library, ui),
        lifetimes,
    };
    ui.finish();
    let scratch = Scratch::new()?;
    let status = actor::command(&Actor::Checks)?
        .env(facts::VARIABLE, serde_json::to_string(&facts)?)
        .env("XDG_RUNTIME_DIR", scratch.path())
        .env("OPENHDV_WORKER", facts.worker())
        .status()?;
    remains::of_directory(scratch.path())?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the checks of compute systems: {status}").into())
    }
}

/// A command whose end is awaited by whoever started it.
fn succeed(mut command: Command, what: &str) -> Result<String, Failure> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{what}: {}: {said}", output.status).into())
}
