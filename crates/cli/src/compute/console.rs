//! `hdv console`: a serial port of a compute system that is there.

use std::process::ExitCode;

use hdv_compute::ComputeSystem;

use crate::Failure;
use crate::args::ConsoleArgs;
use crate::style::{self, Paint};

use super::attach::{Left, attach};
use super::interrupts::Interrupts;

pub(crate) fn run(args: &ConsoleArgs) -> Result<ExitCode, Failure> {
    let system = ComputeSystem::open(&args.id)?;
    if args.output.json {
        let socket = system.console_socket(args.port)?;
        let document = serde_json::json!({ "id": args.id, "port": args.port, "socket": socket });
        style::print(&format!("{}\n", serde_json::to_string_pretty(&document)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let console = system.console(args.port)?;
    let interrupts = Interrupts::catch()?;
    hint("Ctrl-] leaves the console.");
    let left = attach(&console, &interrupts)?;
    Ok(match left {
        Left::Gone => ExitCode::SUCCESS,
        Left::Ended => {
            eprintln!("the VM has ended");
            ExitCode::SUCCESS
        }
        Left::Signal(signal) => ExitCode::from(signal.exit_code()),
    })
}

/// Says how to leave, where somebody might want to.
pub(super) fn hint(text: &str) {
    use std::io::IsTerminal;
    if std::io::stdin().is_terminal() {
        let paint = Paint::stderr();
        eprintln!("{}", paint.paint(style::NAME, text));
    }
}
