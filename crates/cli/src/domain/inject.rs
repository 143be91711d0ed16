//! `hdv inject`: something goes wrong at a place in a domain.

use std::time::Duration;

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
    let (fault, what) = match args.fault {
        FaultKind::Correctable => error(Severity::Correctable)?,
        FaultKind::NonFatal => error(Severity::NonFatal)?,
        FaultKind::Fatal => error(Severity::Fatal)?,
        FaultKind::LinkDown => (Fault::LinkDown, "link down".to_owned()),
        FaultKind::LinkUp => (Fault::LinkUp, "link up".to_owned()),
        FaultKind::SurpriseRemoval => (Fault::SurpriseRemoval, "surprise removal".to_owned()),
        FaultKind::ConfigFailure => (Fault::FailConfigReads, "failing config reads".to_owned()),
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
    let done: Injected =
        progress::during(&message, || domain.call(INJECT, &request, Some(PATIENCE)))?;
    let text = if args.output.json {
        let document = serde_json::json!({
            "domain": domain.name,
            "pid": domain.pid,
            "place": done.place,
            "is_above": done.is_above,
            "fault": fault,
            "count": count,
        });
        format!("{}\n", serde_json::to_string_pretty(&document)?)
    } else {
        let times = match (is_error || fault == Fault::FailConfigReads, count) {
            (true, 0) => " no more".to_owned(),
            (true, 2..) => format!(" {count} times"),
            _ => String::new(),
        };
        let above = super::plug::above(done.is_above, place);
        let at = printable(&done.place);
        let domain = printable(&domain.name);
        format!("{what}{times} at {at} of {domain}{above}\n")
    };
    style::print(&text)?;
    Ok(())
}
