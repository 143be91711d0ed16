//! `hdv start`, `hdv pause` and `hdv resume`.

use hdv_compute::ComputeSystem;

use crate::Failure;
use crate::args::SystemArgs;
use crate::progress;
use crate::style::{self, Paint, printable};

use super::tell;

pub(crate) fn start(args: &SystemArgs) -> Result<(), Failure> {
    change(args, "Starting", "runs", ComputeSystem::start)
}

pub(crate) fn pause(args: &SystemArgs) -> Result<(), Failure> {
    change(args, "Pausing", "is paused", ComputeSystem::pause)
}

pub(crate) fn resume(args: &SystemArgs) -> Result<(), Failure> {
    change(args, "Resuming", "runs again", ComputeSystem::resume)
}

fn change(
    args: &SystemArgs,
    doing: &str,
    done: &str,
    work: impl FnOnce(&ComputeSystem) -> hdv_compute::Result<()>,
) -> Result<(), Failure> {
    let system = ComputeSystem::open(&args.id)?;
    let id = printable(&args.id);
    progress::during(&format!("{doing} {id}"), || work(&system))?;
    let state = system.properties()?.state;
    let name = Paint::stdout().paint(style::NAME, &id);
    tell(
        args.output,
        &format!("{name} {done}"),
        &serde_json::json!({ "id": args.id, "state": state }),
    )
}
