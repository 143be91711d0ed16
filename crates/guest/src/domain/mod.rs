//! A domain behind one endpoint, as the guest's kernel has it: what its own driver found, what it says of it, VFs that it
//! enables on a PF inside, resets and hot plug, errors that it recovers from; what lspci shows; and sensors inside, driven from
//! here. What is done from outside is asked for.

mod errors;
mod found;
mod hot_plug;
mod listing;
mod log;
mod resets;
mod sensors;
mod vfs;

use std::str::FromStr;
use std::time::Duration;

use hdv_devices::sensor::registers::VENDOR_ID;

use crate::checks::{Failure, Settings, Verdict, guarded, outcome};
use crate::family::Context;
use crate::platform::sysfs;
use crate::report::Line;

pub use hot_plug::{HOLD, hold};

/// How the addresses of what is inside begin: the driver numbers domains from here.
const INSIDE: &str = "10000:";
/// How long the owner of the domain may take for what it is asked to do.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A check.
type Check = fn(&mut Context<'_>) -> Verdict;

/// Some of the checks of a domain, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What there is, and VFs.
    Functions,
    /// Sensors and VFs driven whole.
    Sensors,
    /// What lspci shows.
    Listing,
    /// Resets by the kernel.
    Resets,
    /// Errors, links and config reads that fail.
    Errors,
    /// Devices that come and go.
    HotPlug,
}

impl Part {
    /// Every part, in an order in which they can follow one another.
    pub const ALL: [Self; 6] = [
        Self::Functions,
        Self::Sensors,
        Self::Listing,
        Self::Resets,
        Self::Errors,
        Self::HotPlug,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Functions => "functions",
            Self::Sensors => "sensors",
            Self::Listing => "listing",
            Self::Resets => "resets",
            Self::Errors => "errors",
            Self::HotPlug => "hot-plug",
        }
    }

    fn checks(self) -> &'static [(&'static str, Check)] {
        match self {
            Self::Functions => &[
                ("domain-bound", |_| found::bound()),
                ("domain-found", |_| found::all()),
                ("domain-vfs", |_| vfs::come_and_go()),
                // Before the kernel has something to complain of.
                ("domain-log", |_| log::check()),
                ("domain-vfs-refused", |_| vfs::refused()),
            ],
            Self::Sensors => &[
                ("domain-sensors", sensors::plain),
                ("domain-sensors-of-vfs", sensors::vfs),
            ],
            Self::Listing => &[
                ("domain-tree", listing::tree),
                ("domain-decoded", listing::decoded),
            ],
            Self::Resets => &[
                ("domain-function-reset", resets::functions),
                ("domain-bus-reset", resets::buses),
            ],
            Self::Errors => &[
                ("domain-vfio-pci", |_| errors::vfio()),
                ("domain-correctable-error", errors::correctable),
                ("domain-non-fatal-error", errors::non_fatal),
                ("domain-fatal-error", errors::fatal),
                ("domain-fatal-error-of-port", errors::fatal_at_port),
                ("domain-config-reads", |_| errors::config_reads()),
                ("domain-link", errors::link),
            ],
            Self::HotPlug => &[("domain-hot-plug", |context| hot_plug::check(context.sink))],
        }
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = Self::ALL.into_iter().find(|part| part.name() == text);
        part.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|part| part.name()).collect();
            format!("there are {}", names.join(", "))
        })
    }
}

/// Checks the domain of this guest and tells each outcome to `sink`.
pub fn check(parts: &[Part], settings: &Settings, sink: &mut dyn FnMut(Line)) {
    for (name, check) in parts.iter().flat_map(|part| part.checks()) {
        let verdict = guarded(|| {
            check(&mut Context {
                settings,
                sink: &mut *sink,
            })
        });
        sink(Line::Check(outcome(name, INSIDE, "sysfs", verdict)));
    }
}

/// The functions inside with this device id.
fn inside(device: u16) -> Result<Vec<String>, Failure> {
    let mut found = sysfs::find(VENDOR_ID, device)?;
    found.retain(|address| address.starts_with(INSIDE));
    Ok(found)
}
