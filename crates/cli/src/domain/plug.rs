//! `hdv plug` and `hdv unplug` at a place in a domain.

use std::collections::BTreeMap;
use std::time::Duration;

use hdv::domain::control::{ATTACH, AttachArguments, Attached, DETACH, DetachArguments, Detached};

use super::find;
use crate::Failure;
use crate::args::{PlugArgs, UnplugArgs};
use crate::compute::OwnDevice;
use crate::progress;
use crate::style::{self, Paint, printable};

/// How long a guest may take to turn a slot on or off unless told otherwise. Linux waits five seconds for a second press of the
/// button, then its drivers let go.
const PATIENCE: u64 = 60;
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
    for setting in device.settings.iter().chain(&args.config) {
        let Some((key, value)) = setting.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(format!("{setting:?} is not of the form KEY=VALUE").into());
        };
        if settings.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("{setting:?} sets {key} a second time").into());
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
    let text = if done.told {
        text
    } else {
        format!("{text}; no VM has run with it yet")
    };
    let document = serde_json::json!({
        "domain": domain.name,
        "pid": domain.pid,
        "name": done.name,
        "port": done.port,
        "told": done.told,
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
    let done: Detached =
        progress::during(&message, || domain.call(DETACH, &request, Some(patience)))?;
    let port = printable(&done.port);
    let how = match (args.surprise, done.asked) {
        (true, _) => ", without a word before",
        (_, true) => ", and the guest has let go of it",
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
    });
    crate::compute::tell(args.output, &text, &document)
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
