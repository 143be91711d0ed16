//! The subcommands of compute systems, one file each.
//!
//! | file | what it has |
//! | --- | --- |
//! | `run`, `create`, `life` (start, pause, resume), `stop`, `inspect`, `plug` (and unplug) | subcommands |
//! | `console`, `attach` | the subcommand, and what it and `run` do with a terminal |
//! | `terminal` | the terminal's raw mode, which is left on every way out |
//! | `interrupts` | signals and other reasons to stop waiting |
//! | `document`, `naming` | documents as people give them; ids and names of devices that nobody chose |
//! | `device` | a device as the command line has it |
//! | `table` | compute systems in `hdv ls` |

mod attach;
mod console;
mod create;
mod device;
mod document;
mod inspect;
mod interrupts;
mod life;
mod naming;
mod plug;
mod run;
mod stop;
pub(crate) mod table;
mod terminal;

pub(crate) use console::run as console;
pub(crate) use create::run as create;
pub(crate) use device::OwnDevice;
pub(crate) use inspect::run as inspect;
pub(crate) use life::{pause, resume, start};
pub(crate) use plug::{plug, unplug};
pub(crate) use run::run;
pub(crate) use stop::run as stop;

use serde_json::Value;

use crate::Failure;
use crate::args::OutputArgs;
use crate::style;

/// Prints what was done: a sentence, or a document.
pub(crate) fn tell(output: OutputArgs, text: &str, document: &Value) -> Result<(), Failure> {
    let text = if output.json {
        format!("{}\n", serde_json::to_string_pretty(document)?)
    } else {
        format!("{text}\n")
    };
    style::print(&text)?;
    Ok(())
}
