//! The `hdv` command. It translates between people and the libraries and decides nothing: one
//! file per subcommand, beside the files for what they share.
//!
//! It is a library so that the parsers of what other processes send ([`outside`]) can be
//! reached by fuzz targets; nothing else of it is meant for other crates.

mod args;
mod completions;
mod compute;
mod decode;
mod devices;
mod doctor;
mod domain;
mod group;
mod hexdump;
mod ls;
pub mod outside;
mod pci_names;
mod probe;
mod process;
mod progress;
mod remedy;
mod serve;
mod signals;
mod sriov;
mod status;
mod style;

use std::error::Error;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use tracing_subscriber::EnvFilter;

use args::{Cli, Command};
use style::Paint;

/// What a subcommand ends with when it cannot do its work.
type Failure = Box<dyn Error>;

/// Names what is logged to standard error, in the syntax of `tracing`'s filters.
const LOG_VARIABLE: &str = "HDV_LOG";
/// What is logged without that variable.
const LOG_DEFAULT: &str = "warn";

/// Runs the command with this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    start_log();
    match run(&matches) {
        Ok(code) => code,
        Err(error) => {
            let paint = Paint::stderr();
            // It may quote files and other processes.
            let error_text = style::printable_lines(&error.to_string());
            eprintln!("{} {error_text}", paint.paint(style::BAD, "error:"));
            if let Some(remedy) = remedy::of(&*error) {
                eprintln!("{remedy}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(matches: &clap::ArgMatches) -> Result<ExitCode, Failure> {
    let command = Cli::from_arg_matches(matches)?.command;
    clear(&command);
    match command {
        Command::Devices(output) => devices::run(output)?,
        Command::Serve(serve) => {
            // The order of its arguments matters, and only the matches know it.
            let groups = match matches.subcommand_matches("serve") {
                Some(matches) => group::from_matches(matches)?,
                None => Vec::new(),
            };
            serve::run(&serve, groups)?;
        }
        Command::Run(run) => return compute::run(&run),
        Command::Create(create) => compute::create(&create)?,
        Command::Start(system) => compute::start(&system)?,
        Command::Pause(system) => compute::pause(&system)?,
        Command::Resume(system) => compute::resume(&system)?,
        Command::Stop(stop) => compute::stop(&stop)?,
        Command::Inspect(system) => compute::inspect(&system)?,
        Command::Console(console) => return compute::console(&console),
        Command::Plug(plug) if domain::is_place(&plug.id) => domain::plug(&plug)?,
        Command::Plug(plug) => compute::plug(&plug)?,
        Command::Unplug(unplug) if domain::is_place(&unplug.id) => domain::unplug(&unplug)?,
        Command::Unplug(unplug) => compute::unplug(&unplug)?,
        Command::Tree(tree) => domain::tree(&tree)?,
        Command::Inject(inject) => domain::inject(&inject)?,
        Command::Ls(output) => ls::run(output)?,
        Command::Probe(probe) => probe::run(&probe)?,
        Command::Sriov(command) => sriov::run(&command)?,
        Command::Doctor(output) => return doctor::run(output),
        Command::Completions(completions) => completions::run(&completions)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes what killed hosts and workers left behind; `ls` does so itself and fails where it cannot, as `sriov` and `serve`
/// do with hosts.
fn clear(command: &Command) {
    let (hosts, systems) = match command {
        Command::Ls(_) | Command::Completions(_) => (false, false),
        Command::Serve(_) | Command::Sriov(_) | Command::Tree(_) | Command::Inject(_) => {
            (false, true)
        }
        _ => (true, true),
    };
    if hosts && let Err(error) = hdv_control::hosts() {
        tracing::info!("what killed hosts left behind cannot be removed: {error}");
    }
    if systems && let Err(error) = hdv_compute::ComputeSystem::enumerate() {
        tracing::info!("what killed workers left behind cannot be removed: {error}");
    }
}

fn start_log() {
    let wanted = std::env::var(LOG_VARIABLE)
        .ok()
        .filter(|text| !text.is_empty());
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(LOG_DEFAULT));
    let filter = filter.unwrap_or_else(|error| {
        eprintln!("{LOG_VARIABLE} is ignored: {error}; use a level, such as debug");
        EnvFilter::new(LOG_DEFAULT)
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(Paint::stderr().is_on())
        .with_target(false)
        .without_time()
        .init();
}
