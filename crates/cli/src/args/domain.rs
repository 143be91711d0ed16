//! The command line of what concerns domains.

use clap::{Args, ValueEnum};

use super::OutputArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hdv tree
  hdv tree lab
  hdv tree --watch lab
  hdv tree --json lab | jq -r '.domains[].nodes[].path'

One line for each port, function and virtual function (VF): its address as the
guest has numbered it (--: before that), its name, its vendor and device id. Of
a port: its buses, its slot (empty, on, off, blinking) and its link. Of a
function: the state of its device, and what of it the guest's driver has
enabled: memory, bus mastering, interrupts.

A place in a domain is the domain's name, '/', and a name or the way there by
device and function numbers: lab/rack-3, lab/01.0/00.0/02.0. Where several hosts
have a domain of that name, the process stands before it: 1234/lab/rack-3. JSON
has places as they can be typed. A picture that does not fit the terminal of
--watch has the VFs of a PF in one line.")]
pub(crate) struct TreeArgs {
    /// Domain; all there are without one
    #[arg(value_name = "DOMAIN")]
    pub(crate) domain: Option<String>,
    /// Draw it again every second until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How bad an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    Correctable,
    NonFatal,
    Fatal,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FaultKind {
    /// An error that hardware put right (bad-tlp unless --error says)
    Correctable,
    /// An error that costs a transaction (completion-timeout unless --error says)
    NonFatal,
    /// An error that makes the link unreliable (malformed-tlp unless --error says)
    Fatal,
    /// The link below a port goes down, and stays down
    LinkDown,
    /// The link below a port comes up again
    LinkUp,
    /// What is below a port is pulled out
    SurpriseRemoval,
    /// The next config reads give all ones (--count says how many)
    ConfigFailure,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hdv inject lab/nic:0 correctable
  hdv inject lab/nic:0 fatal --error surprise-down
  hdv inject lab/nic:0 non-fatal --error COMP_TIME
  hdv inject lab/rack-3 link-down
  hdv inject lab/nic:0 config-failure --count 3

Errors are detected by the function or port at the place, and climb to the root
port, whose interrupt tells the guest (AER), as far as the guest has enabled
that: an error that it masks, or for which it has reporting off, is recorded
only, and this says so. Their names are those of the PCI Express specification;
those of aer-inject (BAD_TLP) and of lspci (BadTLP) are known too. What a port
is meant for happens to the port above if the place is a function. Nothing can
be injected into a virtual function: name its PF.

After a fatal error Linux leaves the function with reporting off until it is
removed and found again (rescan). A link that comes up after the guest has given
up on it needs `hdv unplug` and `hdv plug`. A surprise removal below a port
without a slot is told to nobody, and nothing brings the device back.

`hdv tree` shows places.")]
pub(crate) struct InjectArgs {
    /// Place in a domain
    #[arg(value_name = "DOMAIN/PLACE")]
    pub(crate) place: String,
    /// What goes wrong
    #[arg(value_name = "FAULT")]
    pub(crate) fault: FaultKind,
    /// Which error, by name (see FAULT for those without it)
    #[arg(long, value_name = "NAME")]
    pub(crate) error: Option<String>,
    /// How many errors, or config reads (1 unless given); 0 config reads end that
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u32>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
