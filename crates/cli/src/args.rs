//! The command line: subcommands, options, help texts. Nothing here does anything.

mod compute;
mod domain;

use std::path::PathBuf;

use clap::builder::{Styles, ValueHint};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::style;

pub(crate) use compute::{
    ConsoleArgs, CreateArgs, PlugArgs, RunArgs, StopArgs, SystemArgs, UnplugArgs,
};
pub(crate) use domain::{FaultKind, InjectArgs, Severity, TreeArgs};

/// Longest time to poll before blocking, in microseconds.
pub(crate) const POLL_MAX: u64 = 1_000_000;

const STYLES: Styles = Styles::styled()
    .header(style::HEADING)
    .usage(style::HEADING)
    .literal(style::NAME)
    .error(style::BAD)
    .invalid(style::BAD)
    .valid(style::GOOD);

/// Emulated PCI devices for virtual machines, and virtual machines for them.
///
/// OpenHDV serves emulated PCI devices over vfio-user sockets, so that QEMU, Cloud Hypervisor
/// and every other vfio-user VMM can use them. Compute systems are VMs that it runs itself.
#[derive(Debug, Parser)]
#[command(
    name = "hdv",
    version,
    styles = STYLES,
    arg_required_else_help = true,
    after_help = "\
Examples:
  hdv doctor                                           what this machine can run
  hdv devices                                          what can be served
  hdv serve --device sensor --socket /tmp/sensor.sock  serve a device
  hdv probe /tmp/sensor.sock                           look at it
  hdv run --device sensor                              a VM that has one
  hdv plug vm --device sensor                          plug in another one
  hdv sriov list                                       SR-IOV physical functions
  hdv serve --domain lab.toml --socket /tmp/lab.sock   a whole PCIe hierarchy
  hdv tree lab                                         draw it

HDV_LOG=debug before a command makes it tell on standard error what it does."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the devices that can be served, with their settings
    #[command(after_help = "\
Examples:
  hdv devices
  hdv devices --json | jq -r '.devices[].name'")]
    Devices(OutputArgs),
    /// Serve devices on vfio-user sockets until Ctrl-C
    Serve(ServeArgs),
    /// Create and start a VM, and attach its console to this terminal
    Run(RunArgs),
    /// Create a compute system: a VM that is not started yet
    Create(CreateArgs),
    /// Start a compute system
    #[command(after_help = "\
Examples:
  hdv start build

Its devices are powered on, QEMU starts with them, then the guest runs. The
first time on a machine, accelerators are tried, which takes up to half a
minute.")]
    Start(SystemArgs),
    /// Pause a compute system
    #[command(after_help = "\
Examples:
  hdv pause build

Its processors are stopped, then its devices.")]
    Pause(SystemArgs),
    /// Let a paused compute system go on
    #[command(after_help = "\
Examples:
  hdv resume build

Its devices are started again, then its processors.")]
    Resume(SystemArgs),
    /// Press a guest's power button, or end its VM
    Stop(StopArgs),
    /// Show a compute system: its state, its devices, its consoles
    #[command(after_help = "\
Examples:
  hdv inspect build
  hdv inspect --json build | jq -r '.Consoles[\"0\"]'

JSON has the names of HCS, the Host Compute System.")]
    Inspect(SystemArgs),
    /// Attach a serial port of a compute system to this terminal
    Console(ConsoleArgs),
    /// Plug a device into a compute system, or into a slot of a domain
    Plug(PlugArgs),
    /// Take a device out of a compute system, or out of a slot of a domain
    Unplug(UnplugArgs),
    /// Draw what is in a domain, as lspci -tv does, with who has it
    Tree(TreeArgs),
    /// Have something go wrong at a place in a domain
    Inject(InjectArgs),
    /// List compute systems and running device hosts, their devices and who is connected
    #[command(after_help = "\
Examples:
  hdv ls
  hdv ls --json | jq -r '.systems[].id'
  hdv ls --json | jq -r '.hosts[].devices[].socket | select(. != \"\")'

A device in a compute system has no socket: its worker hands its client over.
A device is started by the first use its client makes of it, and stopped again
when the client leaves. Virtual functions (VFs) stand below their physical
function (PF); one that nobody has used yet is powered off. What killed hosts
and killed workers of compute systems left behind is removed.")]
    Ls(OutputArgs),
    /// Look at the device behind a vfio-user socket
    Probe(ProbeArgs),
    /// Look at SR-IOV devices, emulated and real, and enable their virtual functions
    #[command(subcommand, after_help = SRIOV_HELP)]
    Sriov(SriovCommand),
    /// Check what this machine can run, and say what is missing
    #[command(after_help = "\
Examples:
  hdv doctor
  hdv doctor --json

Accelerators are tried with a kernel, which takes half a minute at most on a
busy machine and is remembered until it boots again.")]
    Doctor(OutputArgs),
    /// Print the completions of a shell
    #[command(after_help = "\
Examples:
  hdv completions bash > ~/.local/share/bash-completion/completions/hdv
  hdv completions zsh > ~/.zfunc/_hdv
  hdv completions fish > ~/.config/fish/completions/hdv.fish")]
    Completions(CompletionsArgs),
}

const SRIOV_HELP: &str = "\
Examples:
  hdv sriov list
  hdv sriov show 01:00.0
  hdv sriov enable 01:00.0 3
  hdv sriov config 01:00.0 0 | lspci -F /dev/stdin -vvv

A physical function (PF) is named by its address: 0000:01:00.0, or 01:00.0,
which is looked for in every segment. One of a device host can also be named by
the path of its socket, or by process and address (1234/0000:01:00.0); one of
this machine also by its directory in /sys/bus/pci/devices. One inside a domain
is named by its place there: lab/nic:0, or 1234/lab/nic:0.

Virtual functions (VFs) are counted from 0.";

#[derive(Debug, Subcommand)]
pub(crate) enum SriovCommand {
    /// List the physical functions of running device hosts and of this machine
    #[command(after_help = "\
Examples:
  hdv sriov list
  hdv sriov list --json | jq -r '.pfs[].name'")]
    List(OutputArgs),
    /// Show a physical function: its SR-IOV registers, its VFs and who uses them
    #[command(after_help = "\
Examples:
  hdv sriov show 01:00.0
  hdv sriov show /tmp/nic.sock
  hdv sriov show lab/nic:0
  hdv sriov show --json 01:00.0 | jq -r '.vfs[].socket'

Registers of a PF of this machine can be read by root only.")]
    Show(PfArgs),
    /// Enable virtual functions
    #[command(after_help = "\
Examples:
  hdv sriov enable 01:00.0 3
  hdv sriov enable --json 01:00.0 3 | jq -r '.vfs[].socket'

Each VF of an emulated PF gets a socket beside the PF's (nic-vf0.sock beside
nic.sock), which a VM connects to as to any other device. It is powered on then,
or when its config space is first accessed; its state is powered-off before.
Those of a PF inside a domain are functions there, without sockets.

To change how many there are, disable them first. For a PF of this machine it
takes root.")]
    Enable(EnableArgs),
    /// Disable the virtual functions
    #[command(after_help = "\
Examples:
  hdv sriov disable 01:00.0

VFs in use are stopped and taken away; what their VMs read of them is all ones
from then on.")]
    Disable(PfArgs),
    /// Print config space, in the form that `lspci -F` reads
    #[command(after_help = "\
Examples:
  hdv sriov config 01:00.0 0
  hdv sriov config 01:00.0 | lspci -F /dev/stdin -vvv
  hdv probe --hexdump /tmp/nic-vf0.sock | lspci -F /dev/stdin -vvv

A VF's own config space is raw: vendor and device id read ffff, BARs 0. The last
example shows the complete function that a VM gets.")]
    Config(ConfigArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PfArgs {
    /// Address, process/address or socket of a PF, or its place in a domain
    #[arg(value_name = "PF", value_hint = ValueHint::AnyPath)]
    pub(crate) pf: String,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct EnableArgs {
    /// Address, process/address or socket of a PF, or its place in a domain
    #[arg(value_name = "PF", value_hint = ValueHint::AnyPath)]
    pub(crate) pf: String,
    /// How many VFs, 1 to TotalVFs
    #[arg(value_name = "N")]
    pub(crate) num_vfs: u16,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Address, process/address or socket of a PF, or its place in a domain
    #[arg(value_name = "PF", value_hint = ValueHint::AnyPath)]
    pub(crate) pf: String,
    /// Which VF, from 0; without it, the PF's own config space
    #[arg(value_name = "VF")]
    pub(crate) vf: Option<u16>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hdv serve --device sensor --socket /tmp/sensor.sock
  hdv serve --device sensor --socket /tmp/a.sock --set source=load \\
            --device sensor --socket /tmp/b.sock --set source=sine
  hdv serve --device sriov-sensor --socket /tmp/pf.sock --set enable=3
  hdv serve --domain lab.toml --socket /tmp/lab.sock
  hdv serve --config devices.toml --poll 50

A physical function (PF) brings a socket for each of its virtual functions (VFs)
that is enabled, /tmp/pf-vf0.sock beside /tmp/pf.sock; each can go to a VM of
its own. enable=N enables N from the start, `hdv sriov enable` does it later.

A domain is a whole PCIe hierarchy behind one device: ports, switches, devices,
PFs whose VFs the guest enables. A file describes it in a few lines:
  [[port]]
  name = \"nic\"
  device = \"sriov-sensor\"
  [[port]]
  name = \"rack\"
  switch = { count = 8, slot = true, device = \"sensor\" }
It is called as the file is, here lab, or as name = \"...\" at its beginning says.
Linux for x86-64 enumerates it (its vmd driver), and reports errors in it; for
slots in it QEMU's q35 also needs
  -global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off

A configuration file:
  poll = 50
  [[device]]
  name = \"sensor\"
  socket = \"/tmp/a.sock\"
  set = { source = \"load\" }
  [[domain]]
  file = \"lab.toml\"
  socket = \"/tmp/lab.sock\"

A VM gets the device from QEMU 10.1 or newer with
  qemu-system-x86_64 -machine q35 -m 512M \\
    -object memory-backend-memfd,id=m,size=512M,share=on -numa node,memdev=m \\
    -device '{\"driver\":\"vfio-user-pci\",
              \"socket\":{\"type\":\"unix\",\"path\":\"/tmp/sensor.sock\"}}' ...

The device reaches guest memory only if that is shared (share=on); its size is
that of -m. `hdv doctor` finds a QEMU that can do this. `hdv ls` shows when the
VM is connected.")]
pub(crate) struct ServeArgs {
    /// Device to serve; begins a group, and can be repeated (see `hdv devices`)
    // These four are read in their order by `crate::group`.
    #[arg(long, value_name = "NAME", action = clap::ArgAction::Append)]
    pub(crate) device: Vec<String>,
    /// Domain to serve, described by a file; begins a group, and can be repeated
    #[arg(long, value_name = "FILE.toml", action = clap::ArgAction::Append, value_hint = ValueHint::FilePath)]
    pub(crate) domain: Vec<PathBuf>,
    /// Socket of the device or domain whose --device or --domain stands before it
    #[arg(long, value_name = "PATH", action = clap::ArgAction::Append, value_hint = ValueHint::FilePath)]
    pub(crate) socket: Vec<PathBuf>,
    /// Setting of the device whose --device stands before it; can be repeated
    #[arg(long, value_name = "KEY=VALUE", action = clap::ArgAction::Append)]
    pub(crate) set: Vec<String>,
    /// File with further devices to serve
    #[arg(long, value_name = "FILE.toml", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Poll this long for the next message before blocking: faster, but burns a processor
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u64).range(0..=POLL_MAX))]
    pub(crate) poll: Option<u64>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hdv probe /tmp/sensor.sock
  hdv probe --hexdump /tmp/sensor.sock | lspci -F /dev/stdin -vvv
  hdv probe --json /tmp/sensor.sock | jq .identity

Any vfio-user server can be probed while no VM uses it.

Names of vendors, devices and classes come from the system's pci.ids (package
pci.ids or hwdata), else from the one in the cache that `hdv doctor` names.
Without either only the ids are shown.")]
pub(crate) struct ProbeArgs {
    /// Socket of a vfio-user server
    #[arg(value_name = "SOCKET", value_hint = ValueHint::FilePath)]
    pub(crate) socket: PathBuf,
    /// Print config space in the form that `lspci -F` reads
    #[arg(long, conflicts_with = "json")]
    pub(crate) hexdump: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    pub(crate) shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_laid_out_by_hand_fits_a_terminal() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string);
            for line in help.unwrap_or_default().lines() {
                assert!(line.len() <= 80, "{}: {line}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn polling_is_bounded() {
        let parse = |poll: &str| Cli::try_parse_from(["hdv", "serve", "--poll", poll]);
        assert!(parse("1000000").is_ok());
        assert!(parse("1000001").is_err());
        assert!(parse("-1").is_err());
    }
}
