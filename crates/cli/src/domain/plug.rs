//! `hdv plug` and `hdv unplug` at a place in a domain.

use std::collections::BTreeMap;
use std::time::Duration;

use hdv::domain::SlotNode;
use hdv::domain::control::{ATTACH, AttachArguments, Attached, DETACH, DetachArguments, Detached};

use super::find::{self, Found};
use super::node::Domain;
use crate::Failure;
use crate::args::{PlugArgs, UnplugArgs};
use crate::compute::OwnDevice;
use crate::progress;
use crate::style::{self, Paint, printable};

/// How long a guest may take to turn a slot on or off unless told otherwise. Linux waits five seconds for a second press of the
/// button, then its drivers let go.
const PATIENCE: u64 = 60;
/// What has the slots of a guest say nothing to it, and what to do about that.
const NOBODY_LISTENS: &str = "no driver of the guest listens to slots";
const LISTEN: &str = "To leave slots to the guest, start QEMU with \
    -global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off";
/// What hosts say then to those who would take something out.
const NO_DRIVER: &str = "no driver in the guest listens";
/// How long devices may take to be powered on or torn down, beside that.
const MORE: Duration = Duration::from_secs(30);

pub(crate) fn plug(args: &PlugArgs) -> Result<(), Failure> {
    if args.class.is_some() || args.restricted {
        return Err("a domain takes OpenHDV's own devices: say --device, not --class".into());
    }
    let Some(text) = &args.device else {
        return Err("give --device; `hdv devices` lists the devices".into());
    };
    let device = OwnDevice::parse(text)?;
    let mut settings = BTreeMap::new();
    let of_device = device.settings.iter().map(|setting| ("--device", setting));
    let of_config = args.config.iter().map(|setting| ("--config", setting));
    for (option, setting) in of_device.chain(of_config) {
        let Some((key, value)) = setting.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(format!("{option} {setting} is not of the form KEY=VALUE").into());
        };
        if settings.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("{option} {setting} sets {key} a second time").into());
        }
    }
    let (domain, place) = find::place(&args.id)?;
    let seconds = args.timeout.unwrap_or(PATIENCE);
    let request = AttachArguments {
        domain: domain.name.clone(),
        place: place.to_owned(),
        device: device.kind.name.to_owned(),
        settings,
        name: args.name.clone(),
        wait: milliseconds(seconds),
    };
    let message = format!("Plugging {} into {}", device.kind.name, printable(&args.id));
    let patience = Duration::from_secs(seconds) + MORE;
    let done: Attached =
        progress::during(&message, || domain.call(ATTACH, &request, Some(patience)))?;
    let (name, port) = (printable(&done.name), printable(&done.port));
    let shown = Paint::stdout().paint(style::NAME, &name);
    let text = format!(
        "{shown} is in the slot of {port} of {}",
        printable(&domain.name)
    );
    let listens = done.told.then(|| slot(&domain, &done.name)).flatten();
    let listens = listens.map(|slot| slot.hot_plug_interrupt);
    let text = match listens {
        _ if !done.told => format!("{text}; no VM has run with it yet"),
        Some(false) => {
            format!(
                "{text}\nnote: {NOBODY_LISTENS}; it is found at the next rescan or boot. {LISTEN}"
            )
        }
        _ => text,
    };
    let document = serde_json::json!({
        "domain": domain.name,
        "pid": domain.pid,
        "name": done.name,
        "port": done.port,
        "told": done.told,
        "listens": listens,
    });
    crate::compute::tell(args.output, &text, &document)
}

pub(crate) fn unplug(args: &UnplugArgs) -> Result<(), Failure> {
    if args.name.is_some() {
        return Err(format!(
            "{} is a place in a domain, which needs no further name",
            printable(&args.id)
        )
        .into());
    }
    let (domain, place) = find::place(&args.id)?;
    let seconds = args.timeout.unwrap_or(PATIENCE);
    let request = DetachArguments {
        domain: domain.name.clone(),
        place: place.to_owned(),
        surprise: args.surprise,
        wait: milliseconds(seconds),
    };
    let message = format!("Taking out what is at {}", printable(&args.id));
    let patience = Duration::from_secs(seconds) + MORE;
    let before = slot(&domain, place);
    let done = progress::during(&message, || domain.call(DETACH, &request, Some(patience)));
    let done: Detached = done.map_err(|error| {
        let is_deaf = before.as_ref().is_some_and(|slot| !slot.hot_plug_interrupt);
        let error = error.to_string();
        if is_deaf && error.contains(NO_DRIVER) {
            format!("{error}\n{LISTEN}")
        } else {
            error
        }
    })?;
    let was_off = before.is_some_and(|slot| !slot.powered);
    let port = printable(&done.port);
    let how = match (args.surprise, done.asked) {
        (true, _) => ", without a word before",
        (_, true) => ", and the guest has let go of it",
        (_, false) if was_off => "; it was off already",
        (_, false) => "; no guest had it",
    };
    let above = above(done.is_above, place);
    let text = format!(
        "the slot of {port} of {} is empty{how}{above}",
        printable(&domain.name)
    );
    let document = serde_json::json!({
        "domain": domain.name,
        "pid": domain.pid,
        "port": done.port,
        "is_above": done.is_above,
        "asked": done.asked,
        "was_off": was_off,
    });
    crate::compute::tell(args.output, &text, &document)
}

/// The slot at a place or of the port above it, as it is now; `None` if it cannot be seen.
fn slot(domain: &Found, place: &str) -> Option<SlotNode> {
    let (tree, endpoint) = domain.look().ok()?;
    let domain = Domain::new(domain, tree, endpoint);
    domain.port(place)?.slot.clone()
}

fn milliseconds(seconds: u64) -> u64 {
    seconds.saturating_mul(1000)
}

/// Says that a place that a person named was that of a function.
pub(super) fn above(is_above: bool, place: &str) -> String {
    if is_above {
        format!(" (the port above {})", printable(place))
    } else {
        String::new()
    }
}
