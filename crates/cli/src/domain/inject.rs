//! `hdv inject`: something goes wrong at a place in a domain.

use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use hdv::domain::control::{Fault, INJECT, InjectArguments, Injected};

use super::{errors, find};
use crate::Failure;
use crate::args::{FaultKind, InjectArgs, Severity};
use crate::progress;
use crate::style::{self, printable};

/// How long devices may take to be reset or torn down.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(args: &InjectArgs) -> Result<(), Failure> {
    let error = |severity| errors::fault(severity, args.error.as_deref());
    let (fault, what): (Fault, &'static str) = match args.fault {
        FaultKind::Correctable => error(Severity::Correctable)?,
        FaultKind::NonFatal => error(Severity::NonFatal)?,
        FaultKind::Fatal => error(Severity::Fatal)?,
        FaultKind::LinkDown => (Fault::LinkDown, "link down"),
        FaultKind::LinkUp => (Fault::LinkUp, "link up"),
        FaultKind::SurpriseRemoval => (Fault::SurpriseRemoval, "surprise removal"),
        FaultKind::ConfigFailure => (Fault::FailConfigReads, "failing config reads"),
    };
    let is_error = matches!(fault, Fault::Correctable(_) | Fault::Uncorrectable(_));
    if args.error.is_some() && !is_error {
        return Err("--error names an error: it goes with correctable, non-fatal and fatal".into());
    }
    if args.count.is_some() && !is_error && fault != Fault::FailConfigReads {
        return Err("--count goes with correctable, non-fatal, fatal and config-failure".into());
    }
    let count = args.count.unwrap_or(1);
    let (domain, place) = find::place(&args.place)?;
    let request = InjectArguments {
        domain: domain.name.clone(),
        place: place.to_owned(),
        fault,
        count,
    };
    let message = format!("Injecting {what}");
    let done = progress::during(&message, || domain.call(INJECT, &request, Some(PATIENCE)));
    let done: Injected = done.map_err(|error| match pf_of(place) {
        Some(pf) => Failure::from(format!(
            "{error}\nNothing can be injected into a virtual function; name its physical function, {}/{}",
            printable(&domain.label),
            printable(pf)
        )),
        None => error,
    })?;
    let has_count = is_error || fault == Fault::FailConfigReads;
    let text = if args.output.json {
        let kind = args.fault.to_possible_value();
        let document = serde_json::json!({
            "domain": domain.name,
            "pid": domain.pid,
            "place": done.place,
            "is_above": done.is_above,
            "fault": kind.as_ref().map(PossibleValue::get_name),
            "error": is_error.then_some(what),
            "count": has_count.then_some(count),
            "reported": done.reported,
        });
        format!("{}\n", serde_json::to_string_pretty(&document)?)
    } else {
        let times = match (has_count, count) {
            (true, 0) => " no more".to_owned(),
            (true, 2..) => format!(" {count} times"),
            _ => String::new(),
        };
        let above = super::plug::above(done.is_above, place);
        let at = printable(&done.place);
        let domain = printable(&domain.name);
        let how = if done.reported {
            ""
        } else {
            ": recorded, not reported: the guest masks it or has reporting off"
        };
        format!("{what}{times} at {at} of {domain}{above}{how}\n")
    };
    style::print(&text)?;
    Ok(())
}

/// The PF of a place that names one of its VFs, as `hdv tree` shows it.
fn pf_of(place: &str) -> Option<&str> {
    let number = |(pf, number): (_, &str)| number.parse::<u16>().is_ok().then_some(pf);
    let of_path = place.rsplit_once("/vf").and_then(number);
    of_path.or_else(|| place.rsplit_once(" VF ").and_then(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vfs_are_known_by_their_places() {
        for (place, pf) in [
            ("01.0/00.0/vf3", Some("01.0/00.0")),
            ("nic:0/vf65535", Some("nic:0")),
            ("nic:0 VF 3", Some("nic:0")),
            ("nic:0/vf", None),
            ("vf3", None),
            ("nic:0/vfx", None),
        ] {
            assert_eq!(pf_of(place), pf, "{place}");
        }
    }
}
