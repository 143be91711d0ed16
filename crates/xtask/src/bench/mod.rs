//! `cargo xtask bench`: what an access, a copy, an interrupt and a device cost, each beside what
//! it could cost at best and beside the `vfio_user` crate.
//!
//! It measures and judges nothing: a missed target is shown, not an error. What is compared takes
//! turns within one run (`contest`); the other end of a socket is another process (`peer`).

mod accesses;
mod apertures;
mod c_device;
mod compute;
mod contest;
mod copies;
mod cpus;
mod device;
mod devices;
mod domain;
mod doorbells;
mod ends;
mod error;
mod interrupts;
mod machine;
mod mapped;
mod peer;
mod posted;
mod process;
mod report;
mod statistics;
mod stream;
mod virtual_functions;

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cargo::workspace;
use crate::ui::Ui;
use accesses::Access;
use contest::Effort;
use copies::Direction;
use error::BenchError;
use machine::Machine;
use report::{Report, Section};
use virtual_functions::Change;

/// What the user asks for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Print one line of JSON on standard output instead of the table.
    #[arg(long)]
    json: bool,
    /// Measure too little to mean anything: only to see that everything works.
    #[arg(long)]
    quick: bool,
    /// How often each contender takes its turn.
    #[arg(long, value_name = "NUMBER", default_value_t = 41)]
    rounds: u32,
    /// Run only the measurements whose name contains this.
    #[arg(long, value_name = "PART", default_value = "")]
    only: String,
    #[command(subcommand)]
    role: Option<Hidden>,
}

/// What only this program asks itself for.
#[derive(Clone, Debug, clap::Subcommand)]
enum Hidden {
    /// The other end of a measurement.
    #[command(hide = true)]
    Peer(peer::PeerArguments),
}

impl Arguments {
    fn effort(&self) -> Effort {
        if self.quick {
            Effort {
                rounds: 3,
                divisor: 50,
            }
        } else {
            Effort {
                rounds: self.rounds.max(1),
                divisor: 1,
            }
        }
    }
}

/// Runs the benchmarks and prints the report; true if everything could be measured.
pub(crate) fn run(arguments: &Arguments) -> bool {
    if let Some(Hidden::Peer(peer)) = &arguments.role {
        return match peer::serve(peer) {
            Ok(()) => true,
            Err(error) => {
                eprintln!("the other end of a measurement: {error}");
                false
            }
        };
    }
    let ui = Ui::new();
    if cfg!(debug_assertions) && !arguments.quick {
        ui.line("building an optimized program to measure");
        return hand_over(&ui);
    }
    let result = measure(arguments, &ui).and_then(|report| print(&report, arguments.json));
    ui.finish();
    match result {
        Ok(()) => true,
        Err(error) => {
            eprintln!("the benchmarks failed: {error}");
            if arguments.json {
                let report = serde_json::json!({ "ok": false, "error": error.to_string() });
                println!("{report}");
            }
            false
        }
    }
}

/// Becomes the optimized build of this program, with the same arguments.
fn hand_over(ui: &Ui) -> bool {
    ui.finish();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let error = Command::new(cargo)
        .args(["run", "--quiet", "--release", "--package", "xtask"])
        .arg("--manifest-path")
        .arg(workspace().join("Cargo.toml"))
        .arg("--")
        .args(std::env::args_os().skip(1))
        .exec();
    eprintln!("cargo cannot be run: {error}");
    false
}

fn print(report: &Report, json: bool) -> Result<(), BenchError> {
    if json {
        let line = report
            .json()
            .map_err(|error| BenchError::new("writing JSON", error))?;
        println!("{line}");
    } else {
        print!("{}", report.text());
    }
    Ok(())
}

/// What is measured, by name.
type Measurement = (String, Box<dyn Fn(Effort) -> Result<Section, BenchError>>);

/// The same for what gives several tables, or takes a guest to measure.
type Several = (
    String,
    Box<dyn Fn(Effort) -> Result<Vec<Section>, BenchError>>,
);

/// What takes a guest, or several tables.
fn with_guests() -> Result<Vec<Several>, BenchError> {
    let mut list: Vec<Several> = vec![
        ("compute, starting".to_owned(), Box::new(compute::starting)),
        ("compute, plugging".to_owned(), Box::new(compute::plugging)),
        (
            "domain, enumeration".to_owned(),
            Box::new(domain::enumeration),
        ),
    ];
    for placement in cpus::placements()? {
        list.push((
            format!("compute, hosting, {}", placement.name()),
            Box::new(move |effort| compute::hosting(placement, effort)),
        ));
    }
    Ok(list)
}

fn measurements() -> Result<Vec<Measurement>, BenchError> {
    let placements = cpus::placements()?;
    let mut list: Vec<Measurement> = Vec::new();
    for (name, access) in [
        ("region read", Access::Read),
        ("region write", Access::Write),
    ] {
        for placement in placements.clone() {
            list.push((
                format!("{name}, {}", placement.name()),
                Box::new(move |effort| accesses::measure(access, placement, effort)),
            ));
        }
    }
    for placement in placements.clone() {
        list.push((
            format!("posted writes, {}", placement.name()),
            Box::new(move |effort| posted::measure(placement, effort)),
        ));
    }
    for (name, direction) in [
        ("memory read", Direction::Read),
        ("memory write", Direction::Write),
    ] {
        for copies in copies::COPIES {
            let placement = placements[0];
            list.push((
                format!("{name}, {}", copies.name),
                Box::new(move |effort| copies::measure(direction, copies, placement, effort)),
            ));
        }
    }
    let placement = placements[0];
    list.push((
        "interrupt signal".to_owned(),
        Box::new(move |effort| interrupts::signalling(placement, effort)),
    ));
    for (name, size) in apertures::SIZES {
        list.push((
            format!("aperture, {name}"),
            Box::new(move |effort| apertures::measure(name, size, placement, effort)),
        ));
    }
    for placement in placements.clone() {
        list.push((
            format!("doorbell, {}", placement.name()),
            Box::new(move |effort| doorbells::measure(placement, effort)),
        ));
    }
    for placement in placements.clone() {
        list.push((
            format!("device in C, {}", placement.name()),
            Box::new(move |effort| c_device::measure(placement, effort)),
        ));
    }
    for placement in placements.clone() {
        list.push((
            format!("interrupt delivery, {}", placement.name()),
            Box::new(move |effort| interrupts::delivery(placement, effort)),
        ));
    }
    list.push(("devices".to_owned(), Box::new(|_| devices::measure())));
    for (name, change) in [
        ("enabling", Change::Enabling),
        ("disabling", Change::Disabling),
    ] {
        list.push((
            format!("virtual functions, {name}"),
            Box::new(move |effort| virtual_functions::enabling(change, placement, effort)),
        ));
    }
    list.push((
        "virtual functions, idle".to_owned(),
        Box::new(|_| virtual_functions::idle()),
    ));
    for placement in placements.clone() {
        list.push((
            format!("domain, access, {}", placement.name()),
            Box::new(move |effort| domain::access(placement, effort)),
        ));
    }
    for placement in placements {
        list.push((
            format!("virtual functions, busy, {}", placement.name()),
            Box::new(move |effort| virtual_functions::busy(placement, effort)),
        ));
    }
    list.push((
        "virtual functions, sampling".to_owned(),
        Box::new(virtual_functions::sampling),
    ));
    Ok(list)
}

fn measure(arguments: &Arguments, ui: &Ui) -> Result<Report, BenchError> {
    let machine = Machine::facts();
    let effort = arguments.effort();
    let mut sections = Vec::new();
    for (name, measurement) in measurements()? {
        if !name.contains(&arguments.only) {
            continue;
        }
        ui.doing(&name);
        sections.push(measurement(effort)?);
    }
    for (name, measurement) in with_guests()? {
        if !name.contains(&arguments.only) {
            continue;
        }
        ui.doing(&name);
        sections.extend(measurement(effort)?);
    }
    if sections.is_empty() {
        return Err(BenchError::new(
            format!("looking for {:?}", arguments.only),
            "no measurement has that in its name",
        ));
    }
    Ok(Report::new(machine, effort.rounds, sections))
}
