//! OpenHDV's own tasks: `cargo xtask demo`, `cargo xtask test`, `cargo xtask bench`, `cargo xtask lab`,
//! `cargo xtask install`.

mod bench;
mod c;
mod cargo;
mod demo;
mod install;
mod interrupt;
mod lab;
mod test;
mod ui;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// OpenHDV's own tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Show a Linux guest in QEMU using devices that live in this process.
    ///
    /// The first run fetches QEMU and a guest kernel (some 70 MB) into the user's cache directory and builds
    /// the guest's program.
    Demo(demo::Arguments),
    /// Measure what accesses, copies, interrupts and devices cost.
    Bench(bench::Arguments),
    /// Build the C library, the command and the worker of VMs, and put them under a prefix.
    Install(install::Arguments),
    /// Make the guest lab: the kernel, initramfs and disk that ${OPENHDV_LAB} stands for in documents.
    ///
    /// Prints the folder: $OPENHDV_LAB, or one in the user's cache directory. `cargo xtask demo` makes it too.
    Lab,
    /// Run every test, the guest's included.
    Test(test::Arguments),
    /// Plays a part in the checks of compute systems.
    #[command(hide = true, subcommand)]
    ComputeActor(test::Actor),
}

fn main() -> ExitCode {
    let ok = match Arguments::parse().task {
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Install(arguments) => install::run(&arguments),
        Task::Lab => lab::run_folder(),
        Task::Test(arguments) => test::run(&arguments),
        Task::ComputeActor(actor) => test::act(&actor),
    };
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
