//! The command line of what concerns compute systems.

use std::path::PathBuf;

use clap::Args;
use clap::builder::ValueHint;

use super::OutputArgs;

/// How long `hdv stop` waits unless told otherwise, in seconds.
const STOP_PATIENCE: u64 = 60;
/// The longest that it can be told to wait, in seconds.
const STOP_PATIENCE_MAX: u64 = 86_400;
/// The longest that `hdv plug` and `hdv unplug` can be told to wait for a slot, in seconds.
const SLOT_PATIENCE_MAX: u64 = hdv::domain::control::WAIT_MAX / 1000;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hdv run vm.json
  hdv run --device sensor
  hdv run --device sensor,source=sine --device sensor vm.json
  hdv run --keep --id build vm.json

The VM is created and started, and its first serial port attached to the
terminal: what is typed goes to the guest, Ctrl-C too; Ctrl-] leaves. Leaving
ends the VM, unless --keep was given: then `hdv console` attaches again.

The document is the JSON of HCS, the Host Compute System; relative paths in it
are relative to its folder, and ${OPENHDV_LAB} is the guest lab's. Without a
document the VM gets the lab's kernel (`cargo xtask lab` brings it).

With --json the console is left alone: one line tells what was started, another
one how it ended.

It ends with 0 when the guest has powered off, and when it was left; with 1 when
the VM ended in another way; with 130, 143 or 129 after SIGINT, SIGTERM, SIGHUP.")]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["document", "device"])))]
pub(crate) struct RunArgs {
    /// Document of the VM
    #[arg(value_name = "DOC.json", value_hint = ValueHint::FilePath)]
    pub(crate) document: Option<PathBuf>,
    /// Device of OpenHDV's to plug in, with its settings; can be repeated (see `hdv devices`)
    #[arg(long, value_name = "NAME[,KEY=VALUE]...")]
    pub(crate) device: Vec<String>,
    /// Id of the compute system; without it, one made of the document's name
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Leave the VM running when the terminal leaves
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hdv create vm.json
  hdv create --id build vm.json
  hdv create --json vm.json | jq -r .id

The compute system stays when this command ends, whatever its document says of
the last handle, until it is stopped. Its devices are powered on when it is
started: device hosts attach before that.")]
pub(crate) struct CreateArgs {
    /// Document of the VM
    #[arg(value_name = "DOC.json", value_hint = ValueHint::FilePath)]
    pub(crate) document: PathBuf,
    /// Id of the compute system; without it, one made of the document's name
    #[arg(long)]
    pub(crate) id: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SystemArgs {
    /// Id of a compute system
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hdv stop build
  hdv stop --force build

The guest's power button is pressed, and the guest decides: a guest without
somebody who listens to it, such as a bare initramfs, goes on. --force ends the
VM at once, as pulling the plug does.")]
pub(crate) struct StopArgs {
    /// Id of a compute system
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// End it at once
    #[arg(long)]
    pub(crate) force: bool,
    /// How long the guest may take
    #[arg(long, value_name = "SECONDS", default_value_t = STOP_PATIENCE, conflicts_with = "force",
          value_parser = clap::value_parser!(u64).range(..=STOP_PATIENCE_MAX))]
    pub(crate) timeout: u64,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hdv console build
  hdv console --port 1 build
  hdv console build < commands.txt
  socat - UNIX:$(hdv console --json build | jq -r .socket)

What the port has written lately comes first. Ctrl-] leaves, and the VM goes on;
every other key goes to the guest. Several terminals can be attached at once. It
ends when the VM does. With --json it attaches nothing, and tells the socket.")]
pub(crate) struct ConsoleArgs {
    /// Id of a compute system
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Number of the serial port
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) port: u8,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hdv plug build --device sensor
  hdv plug build --device sensor,source=sine --name thermometer
  hdv plug build --class 7f3c8b1e-41a2-4a0e-9d53-5b1c2e90aa01 --name camera
  hdv plug lab/bay-3 --device sensor

With --device it is one of OpenHDV's own, with its settings (`hdv devices`).
With --class it is one that a device host of this user has announced to the
compute system, of the same class and the same instance id. Its name is an
instance id, or any other text, which stands for one.

It is plugged in when this ends without an error: its device was started, and
the guest finds it. Before the start of the VM it is only configured.
`hdv unplug` takes it out again.

An argument with a '/' is a place in a domain (`hdv tree`), unless there is a
compute system of that id: one of OpenHDV's devices goes into the slot of that
port, the slot's attention button is pressed if it has one, and the guest turns
it on. This ends when the slot is on, and the guest finds the device a moment
later, up to a second. A slot without a button, or one that the guest has left
on, is on at once.")]
#[command(group(clap::ArgGroup::new("what").required(true).args(["device", "class"])))]
pub(crate) struct PlugArgs {
    /// Id of a compute system, or place in a domain
    #[arg(value_name = "ID|DOMAIN/PLACE")]
    pub(crate) id: String,
    /// Device of OpenHDV's, with its settings
    #[arg(long, value_name = "NAME[,KEY=VALUE]...")]
    pub(crate) device: Option<String>,
    /// Class id of a device of a device host
    #[arg(long, value_name = "GUID", requires = "name", value_parser = class_id)]
    pub(crate) class: Option<hdv::Uuid>,
    /// What it is called in the compute system, an instance id (GUID) or a name; or in the domain
    #[arg(long, visible_alias = "instance", value_name = "NAME|GUID")]
    pub(crate) name: Option<String>,
    /// String for the device's configuration; can be repeated
    #[arg(long, value_name = "STRING")]
    pub(crate) config: Vec<String>,
    /// Its device host is a restricted one, behind a broker
    #[arg(long, requires = "class")]
    pub(crate) restricted: bool,
    /// How long the guest may take to turn a slot of a domain on (60 unless given)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=SLOT_PATIENCE_MAX))]
    pub(crate) timeout: Option<u64>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hdv unplug build sensor
  hdv unplug lab/bay-3
  hdv unplug lab/bay-3 --surprise

The guest is asked to let go of the device first. If it does not in time the
device is removed all the same, and its port stays taken until the guest lets
go: that is an error.

An argument with a '/' is a place in a domain (`hdv tree`), unless there is a
compute system of that id: the attention button of that slot is pressed, and
once the guest has turned the slot off, its device is taken out. If the guest
does not in time, it stays: that is an error. --surprise pulls it out at once.")]
pub(crate) struct UnplugArgs {
    /// Id of a compute system, or place in a domain
    #[arg(value_name = "ID|DOMAIN/PLACE")]
    pub(crate) id: String,
    /// Name or instance id of the device (see `hdv inspect`); none for a place in a domain
    #[arg(value_name = "NAME|GUID")]
    pub(crate) name: Option<String>,
    /// Pull it out of its slot in a domain without asking the guest
    #[arg(long)]
    pub(crate) surprise: bool,
    /// How long the guest may take to turn a slot of a domain off (60 unless given)
    #[arg(long, value_name = "SECONDS", conflicts_with = "surprise",
          value_parser = clap::value_parser!(u64).range(..=SLOT_PATIENCE_MAX))]
    pub(crate) timeout: Option<u64>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

fn class_id(text: &str) -> Result<hdv::Uuid, &'static str> {
    hdv::Uuid::try_parse(text)
        .map_err(|_| "it is no GUID; `hdv devices` lists the class ids of OpenHDV's devices")
}
