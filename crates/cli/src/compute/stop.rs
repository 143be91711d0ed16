//! `hdv stop`: the guest's power button, or the plug.

use std::path::Path;
use std::time::{Duration, Instant};

use hdv_compute::document::State;
use hdv_compute::{ComputeSystem, ExitStatus};

use crate::Failure;
use crate::args::StopArgs;
use crate::progress;
use crate::style::{self, Paint, printable};

use super::tell;

/// When the power button is pressed again: a guest that was booting has not seen it.
const PRESS_AGAIN: Duration = Duration::from_secs(10);
/// How long a worker may take to tear everything down.
const END_PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to leave, once nobody has a handle to its compute system.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);
/// How long to pause between two looks whether it has.
const LEAVE_PAUSE: Duration = Duration::from_millis(10);

pub(crate) fn run(args: &StopArgs) -> Result<(), Failure> {
    let shown = printable(&args.id);
    let socket = ComputeSystem::enumerate()?
        .into_iter()
        .find(|summary| summary.id == args.id)
        .map(|summary| summary.socket);
    let system = ComputeSystem::open(&args.id)?;
    // A guest that was never started has no power button.
    let at_once = args.force || system.properties()?.state == State::Created;
    let status = if at_once {
        progress::during(&format!("Ending {shown}"), || terminate(&system))?
    } else {
        let patience = Duration::from_secs(args.timeout);
        let message = format!("Waiting for the guest of {shown} to power off");
        let ended = progress::during(&message, || power_off(&system, patience))?;
        ended.ok_or_else(|| {
            format!(
                "the guest of {shown} has not powered off within {} s: it may not listen to the power button, or take longer \
                 (--timeout); `hdv stop --force {shown}` ends it at once",
                args.timeout
            )
        })?
    };
    drop(system);
    if let Some(socket) = socket {
        wait_until_gone(&socket);
    }
    let name = Paint::stdout().paint(style::NAME, &shown);
    tell(
        args.output,
        &format!("{name} has ended"),
        &serde_json::json!({ "id": args.id, "state": State::Stopped, "exit": status }),
    )
}

/// Presses the power button until the guest powers off; `None` if it does not.
fn power_off(
    system: &ComputeSystem,
    patience: Duration,
) -> hdv_compute::Result<Option<ExitStatus>> {
    system.shut_down()?;
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let ended = system.wait_for_exit(left.min(PRESS_AGAIN));
        if ended.is_some() || left <= PRESS_AGAIN {
            return Ok(ended);
        }
        // It may just end.
        if let Err(error) = system.shut_down() {
            tracing::info!("the power button cannot be pressed again: {error}");
        }
    }
}

/// Ends a compute system and waits until everything is torn down.
pub(super) fn terminate(system: &ComputeSystem) -> Result<ExitStatus, Failure> {
    let result = system.terminate();
    match system.wait_for_exit(END_PATIENCE) {
        // Also when it had ended before.
        Some(status) => Ok(status),
        None => {
            result?;
            let seconds = END_PATIENCE.as_secs();
            Err(format!("the worker was told to end it, and has not within {seconds} s").into())
        }
    }
}

/// So that the id is free when the command ends; it is not if others have handles to what has ended.
fn wait_until_gone(socket: &Path) {
    let deadline = Instant::now() + LEAVE_PATIENCE;
    while socket.exists() && Instant::now() < deadline {
        std::thread::sleep(LEAVE_PAUSE);
    }
}
