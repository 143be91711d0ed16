//! Resets by the kernel: of a function alone, and of the bus that it is on. Each brings its registers to what they are after power
//! on, and it works again.

use std::fs;
use std::path::{Path, PathBuf};

use hdv_devices::sensor::registers::DEVICE_ID as SENSOR;

use super::{inside, sensors};
use crate::checks::{Check, Failure, Verdict, ensure};
use crate::family::Context;
use crate::platform::Error;
use crate::platform::sysfs::DEVICES;
use crate::report::Line;

/// How often each function is reset in each way, beside the resets that the check itself makes.
const ROUNDS: usize = 5;
/// What the kernel calls the ways.
const FUNCTION: &str = "flr";
const BUS: &str = "bus";

/// Function level reset of every sensor.
pub(super) fn functions(context: &mut Context<'_>) -> Verdict {
    let found = inside(SENSOR)?;
    by(FUNCTION, &found, context)
}

/// Secondary bus reset, of the port above: sensors that are alone on their bus.
pub(super) fn buses(context: &mut Context<'_>) -> Verdict {
    let mut found = Vec::new();
    for address in inside(SENSOR)? {
        if is_alone(&address)? {
            found.push(address);
        }
    }
    by(BUS, &found, context)
}

fn by(method: &str, found: &[String], context: &mut Context<'_>) -> Verdict {
    ensure(!found.is_empty(), || {
        format!("there is no sensor to be reset by {method}")
    })?;
    for address in found {
        let path = Path::new(DEVICES).join(address).join("reset_method");
        fs::write(&path, method).map_err(|error| Error::file(&path, "write", error))?;
        let now = fs::read_to_string(&path).map_err(|error| Error::file(&path, "read", error))?;
        ensure(now.trim() == method, || {
            format!("{address} is reset by {}", now.trim())
        })?;
        for _ in 0..ROUNDS {
            let sink = &mut |line| match line {
                // One line for all that are well.
                Line::Check(outcome) if outcome.ok => {}
                line => (context.sink)(line),
            };
            let settings = context.settings;
            let mut quiet = Context { settings, sink };
            sensors::whole(address, &[Check::FunctionReset], &mut quiet)?;
        }
        // The kernel's own choice again.
        fs::write(&path, "default").map_err(|error| Error::file(&path, "write", error))?;
    }
    Ok(format!(
        "{} sensors, {ROUNDS} times each, twice each time: {}",
        found.len(),
        found.join(" ")
    ))
}

/// Whether nothing else is on its bus.
pub(super) fn is_alone(address: &str) -> Result<bool, Failure> {
    let link = Path::new(DEVICES).join(address);
    let path = fs::canonicalize(&link).map_err(|error| Error::file(&link, "follow", error))?;
    let bus: PathBuf = path.parent().unwrap_or(&path).to_owned();
    let entries = fs::read_dir(&bus).map_err(|error| Error::file(&bus, "list", error))?;
    let siblings = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Its own domain, a bus and a place: services of the port have such names, too, with more behind.
        name.starts_with(super::INSIDE) && name.len() == address.len() && !name.contains("pcie")
    });
    Ok(siblings.count() == 1)
}
