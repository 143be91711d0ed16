//! `cargo xtask test`: everything that must hold before a change lands, one step after another.
//!
//! What a step needs it brings itself; what it cannot bring is a failure.

mod beside;
mod c_library;
mod compute;
mod conformance;
mod devices;
mod domain;
mod fuzz;
mod lspci;
mod memcheck;
mod sriov;
mod steps;

use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::interrupt;
use crate::ui::Ui;
use beside::Beside;
pub(crate) use compute::{
    Actor, Clients, Facts, Form, Journal, MODELS, Vm, act, add, announce, remove,
};

/// What the user asks for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The steps to run; all of them if none is named.
    #[arg(value_enum)]
    steps: Vec<Step>,
    /// How long each fuzz target runs.
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    fuzz_seconds: u32,
    /// Samples of the guest's ring check.
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000)]
    samples: u32,
    /// The same for sensors in C.
    #[arg(long, value_name = "NUMBER", default_value_t = 200_000)]
    c_samples: u32,
    /// How many VMs the check of what is left behind makes, one after another.
    #[arg(long, value_name = "NUMBER", default_value_t = 200)]
    lifetimes: u32,
    /// How often devices come into a domain's slots and go again, by attention button and by surprise each.
    #[arg(long, value_name = "NUMBER", default_value_t = 200)]
    hot_plugs: u32,
    /// Run at the lowest priority, and end when standard input does.
    #[arg(long, hide = true)]
    beside: bool,
}

/// A step, in the order in which they run: the quick ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// The source is formatted.
    Format,
    /// No clippy warning.
    Clippy,
    /// No rustdoc warning.
    Docs,
    /// Unit, property and socket tests, examples, code blocks of the documents.
    Tests,
    /// Every name of the C interface has its tests.
    Conformance,
    /// The lock-free parts are model-checked.
    Loom,
    /// lspci decodes what the probe command dumps.
    Lspci,
    /// The C library: installed, linked under either name, its examples built in every way and run.
    C,
    /// C programs under valgrind: no error, no leak.
    Memcheck,
    /// The benchmarks run.
    Bench,
    /// The fuzz targets run for a bounded time.
    Fuzz,
    /// The checks of the demo, in a real guest.
    Guest,
    /// Devices in C, in real guests.
    Devices,
    /// SR-IOV in real guests: real devices through Linux, and VFs of an emulated one in three guests at once.
    Sriov,
    /// A domain of ports, devices and a PF behind one endpoint, in a real guest whose own driver enumerates it; hot plug in two
    /// guests at once.
    Domain,
    /// Compute systems: VMs from documents, with real guests, and what dies or hangs.
    Compute,
}

/// Why a step failed.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// Runs the steps; true if none failed.
pub(crate) fn run(arguments: &Arguments) -> bool {
    if let Err(error) = interrupt::watch() {
        println!("Ctrl-C will leave temporary files behind: {error}");
    }
    if arguments.beside
        && let Err(error) = beside::settle()
    {
        println!("running beside other steps: {error}");
        return false;
    }
    let mut outcomes = Vec::new();
    let mut fuzzing = None;
    let mut steps = Step::value_variants()
        .iter()
        .copied()
        .filter(|step| arguments.steps.is_empty() || arguments.steps.contains(step))
        .peekable();
    while let Some(step) = steps.next() {
        if interrupt::requested() {
            println!("interrupted");
            return false;
        }
        println!("\n=== {}: {}", name(step), help(step));
        if step == Step::Fuzz && steps.peek().is_some() {
            let seconds = arguments.fuzz_seconds.to_string();
            match Beside::start(["fuzz", "--fuzz-seconds", &seconds]) {
                Ok(started) => {
                    println!("runs beside what follows; what it prints comes last");
                    fuzzing = Some(started);
                }
                Err(error) => outcomes.push(ended(step, &Err(error.into()), Duration::ZERO)),
            }
            continue;
        }
        let begun = Instant::now();
        let result = run_step(step, arguments);
        outcomes.push(ended(step, &result, begun.elapsed()));
    }
    if let Some(fuzzing) = fuzzing {
        println!("\n=== {}: what it printed", name(Step::Fuzz));
        let (result, taken) = fuzzing.join();
        outcomes.push(ended(Step::Fuzz, &result, taken));
    }
    println!();
    for (step, ok, taken) in &outcomes {
        let verdict = if *ok { "ok" } else { "FAILED" };
        println!(
            "{verdict:>6}  {:<11} {:6.1} s",
            name(*step),
            taken.as_secs_f32()
        );
    }
    let failed = outcomes.iter().filter(|(_, ok, _)| !ok).count();
    println!("{} passed, {failed} failed", outcomes.len() - failed);
    failed == 0
}

/// Tells why a step failed, if it did. The step, whether it went well, how long it took.
fn ended(step: Step, result: &Result<(), Failure>, taken: Duration) -> (Step, bool, Duration) {
    if let Err(failure) = result {
        println!("{failure}");
    }
    (step, result.is_ok(), taken)
}

fn name(step: Step) -> String {
    step.to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

fn help(step: Step) -> String {
    step.to_possible_value()
        .and_then(|value| value.get_help().map(ToString::to_string))
        .unwrap_or_default()
}

fn run_step(step: Step, arguments: &Arguments) -> Result<(), Failure> {
    match step {
        Step::Format => steps::format(),
        Step::Clippy => steps::clippy(),
        Step::Docs => steps::docs(),
        Step::Tests => steps::tests(),
        Step::Conformance => conformance::run(),
        Step::Loom => steps::loom(),
        Step::Lspci => with_ui(lspci::run),
        Step::C => with_ui(c_library::run),
        Step::Memcheck => with_ui(memcheck::run),
        Step::Bench => steps::bench(),
        Step::Fuzz => fuzz::run(arguments.fuzz_seconds),
        Step::Devices => with_ui(|ui| devices::run(arguments.c_samples, ui)),
        Step::Sriov => with_ui(sriov::run),
        Step::Domain => with_ui(|ui| domain::run(arguments.hot_plugs, ui)),
        Step::Compute => with_ui(|ui| compute::run(arguments.lifetimes, ui)),
        Step::Guest => with_ui(|ui| steps::guest(arguments.samples, ui)),
    }
}

fn with_ui(step: impl FnOnce(&Ui) -> Result<(), Failure>) -> Result<(), Failure> {
    let ui = Ui::new();
    let result = step(&ui);
    ui.finish();
    result
}
