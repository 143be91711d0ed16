//! `hdv run`: a compute system for as long as this command runs, with its console on the terminal.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hdv_compute::document::ComputeSystemDocument;
use hdv_compute::{ComputeSystem, ExitStatus, ExitType};

use crate::Failure;
use crate::args::RunArgs;
use crate::progress;
use crate::style::{self, printable};

use super::attach::{Left, attach};
use super::console::hint;
use super::device::OwnDevice;
use super::interrupts::{Interrupts, Signal};
use super::{document, naming, stop};

/// The serial port that is attached.
const PORT: u8 = 0;
/// How long the end may take to be told after the console has ended.
const END_PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let devices = args
        .device
        .iter()
        .map(|device| OwnDevice::parse(device))
        .collect::<Result<Vec<_>, _>>()?;
    // Before there is anything to leave behind.
    let interrupts = Interrupts::catch()?;
    let system = create(args, &devices)?;
    let outcome = live(args, &system, &interrupts);
    let stays = args.keep && matches!(outcome, Ok(Outcome::Left(_)));
    let mut ended = None;
    if matches!(outcome, Ok(Outcome::Ended)) {
        ended = system.wait_for_exit(END_PATIENCE).map(Ok);
    }
    if ended.is_none() && !stays {
        interrupts.be_impatient();
        let message = format!("Ending {}", printable(system.id()));
        ended = Some(progress::during(&message, || stop::terminate(&system)));
    }
    let outcome = outcome?;
    // What could not be ended is still there.
    let ended = ended.transpose()?;
    match outcome {
        Outcome::Ended => report(args, ended.as_ref()),
        Outcome::Left(signal) => {
            if stays {
                let id = printable(system.id());
                eprintln!("{id} goes on; `hdv console {id}` attaches to it again");
            }
            if args.output.json
                && let Some(status) = ended
            {
                print_line(&serde_json::json!({ "exit": status }))?;
            }
            Ok(signal.map_or(ExitCode::SUCCESS, |signal| {
                ExitCode::from(signal.exit_code())
            }))
        }
    }
}

/// What became of the command's work.
enum Outcome {
    /// The VM has ended.
    Ended,
    /// The person has left, or was made to by a signal.
    Left(Option<Signal>),
}

/// The document that was given; an id in its place is an easy mistake.
fn given(path: &Path) -> Result<ComputeSystemDocument, Failure> {
    document::read(path).map_err(|error| {
        if path.exists() {
            return error;
        }
        format!("{error}; `hdv start ID` starts a VM that was created").into()
    })
}

fn create(args: &RunArgs, devices: &[OwnDevice]) -> Result<ComputeSystem, Failure> {
    let suggested = args
        .document
        .as_deref()
        .map_or_else(|| "vm".to_owned(), naming::of_file);
    let given = args.document.as_deref().map(given).transpose()?;
    let document = |id: &str| {
        let mut document = match &given {
            Some(given) => given.clone(),
            None => document::make(id)?,
        };
        // However this process ends, SIGKILL included.
        document.should_terminate_on_last_handle_closed = !args.keep;
        let names = &mut document.virtual_machine.devices.flexible_iov;
        for device in devices {
            let name = naming::free(device.kind.name, |name| names.contains_key(name))
                .ok_or("there are too many devices of one kind")?;
            names.insert(name, device.to_document(&[]));
        }
        Ok::<_, Failure>(serde_json::to_string(&document)?)
    };
    progress::during("Creating the VM", || {
        naming::create(args.id.as_deref(), &suggested, document)
    })
}

/// Starts the VM and stays with it.
fn live(
    args: &RunArgs,
    system: &ComputeSystem,
    interrupts: &Interrupts,
) -> Result<Outcome, Failure> {
    if let Some(signal) = start(args, system, interrupts)? {
        return Ok(Outcome::Left(Some(signal)));
    }
    let left = if args.output.json {
        print_line(&serde_json::json!({ "started": system.properties()? }))?;
        wait(system, interrupts)?
    } else if system
        .properties()?
        .consoles
        .contains_key(&PORT.to_string())
    {
        let id = printable(system.id());
        hint(&if args.keep {
            format!("{id} runs; Ctrl-] leaves the console.")
        } else {
            format!("{id} runs; Ctrl-] leaves the console and ends it.")
        });
        attach(&system.console(PORT)?, interrupts)?
    } else {
        let id = printable(system.id());
        eprintln!(
            "{id} runs; it has no serial port {PORT} (VirtualMachine/Devices/ComPorts of its document). Ctrl-C ends it."
        );
        wait(system, interrupts)?
    };
    Ok(match left {
        Left::Ended => Outcome::Ended,
        Left::Gone => Outcome::Left(None),
        Left::Signal(signal) => Outcome::Left(Some(signal)),
    })
}

/// Starts the VM; a signal that came meanwhile, which breaks the start off unless the VM is to go on.
fn start(
    args: &RunArgs,
    system: &ComputeSystem,
    interrupts: &Interrupts,
) -> Result<Option<Signal>, Failure> {
    let is_done = AtomicBool::new(false);
    let waker = interrupts.waker();
    let message = format!("Starting {}", printable(system.id()));
    progress::during(&message, || {
        thread::scope(|scope| {
            let starting = scope.spawn(|| {
                let result = system.start();
                is_done.store(true, Ordering::SeqCst);
                waker.wake();
                result
            });
            let mut asked = None;
            while !is_done.load(Ordering::SeqCst) {
                if asked.is_none()
                    && let Some(signal) = interrupts.ending()
                {
                    asked = Some(signal);
                    interrupts.be_impatient();
                    if !args.keep {
                        // It may have failed meanwhile, which the start tells.
                        let _ = system.terminate();
                    }
                }
                if starting.is_finished() {
                    break;
                }
                interrupts.wait()?;
            }
            let result = starting
                .join()
                .map_err(|_| "the thread that starts the VM has panicked")?;
            match asked.or_else(|| interrupts.ending()) {
                Some(signal) if args.keep => Ok(result.map(|()| Some(signal))?),
                Some(signal) => Ok(Some(signal)),
                None => result.map(|()| None).map_err(Failure::from),
            }
        })
    })
}

/// Waits for the VM's end, or for a signal.
fn wait(system: &ComputeSystem, interrupts: &Interrupts) -> Result<Left, Failure> {
    let ended = Arc::new(AtomicBool::new(false));
    let (waker, seen) = (interrupts.waker(), Arc::clone(&ended));
    system.set_callback(Some(Arc::new(move |_| {
        // Every event there is tells of an end.
        seen.store(true, Ordering::SeqCst);
        waker.wake();
    })));
    let left = loop {
        if let Some(signal) = interrupts.ending() {
            break Left::Signal(signal);
        }
        if ended.load(Ordering::SeqCst) {
            break Left::Ended;
        }
        interrupts.wait()?;
    };
    system.set_callback(None);
    Ok(left)
}

/// Tells how the VM ended.
fn report(args: &RunArgs, status: Option<&ExitStatus>) -> Result<ExitCode, Failure> {
    let Some(status) = status else {
        return Ok(ExitCode::SUCCESS);
    };
    if args.output.json {
        print_line(&serde_json::json!({ "exit": status }))?;
    }
    let detail = if status.detail.is_empty() {
        String::new()
    } else {
        format!(": {}", status.detail)
    };
    match status.exit_type {
        ExitType::GracefulExit | ExitType::None => {
            if !args.output.json {
                eprintln!("the VM has powered off");
            }
            Ok(ExitCode::SUCCESS)
        }
        ExitType::ForcedExit => Err(format!("the VM was terminated{detail}").into()),
        ExitType::UnexpectedExit => Err(format!("the VM has ended unexpectedly{detail}").into()),
    }
}

fn print_line(document: &serde_json::Value) -> Result<(), Failure> {
    style::print(&format!("{document}\n"))?;
    Ok(())
}
