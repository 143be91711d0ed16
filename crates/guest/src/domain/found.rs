//! What the endpoint's driver has found: all that its owner has put into the domain.

use std::fs;
use std::path::Path;

use hdv_devices::sensor::registers::DEVICE_ID as SENSOR;

use super::{ANSWER_LIMIT, INSIDE, inside};
use crate::ask::ask;
use crate::checks::{Failure, Verdict, ensure};
use crate::platform::sysfs::{self, DEVICES, Sysfs};
use crate::platform::{BarAccess, Error};

/// The endpoint's ids, which are those that its driver knows, and that driver.
const ENDPOINT: (u16, u16) = (0x8086, 0xa77f);
pub(super) const DRIVER: &str = "vmd";
/// Ids of the ports.
const PORTS: [(u16, &str); 3] = [
    (0x0d10, "root ports"),
    (0x0d11, "upstream ports"),
    (0x0d12, "downstream ports"),
];

/// The endpoint has its driver.
pub(super) fn bound() -> Verdict {
    let endpoints = sysfs::find(ENDPOINT.0, ENDPOINT.1)?;
    let [endpoint] = &endpoints[..] else {
        return Err(Failure::new(format!("endpoints: {endpoints:?}")));
    };
    let driver = Path::new(DEVICES).join(endpoint).join("driver");
    let target = fs::read_link(&driver).map_err(|error| Error::file(&driver, "follow", error))?;
    ensure(target.ends_with(DRIVER), || {
        format!("{endpoint} has the driver {}", target.display())
    })?;
    Ok(format!("{endpoint} by {DRIVER}"))
}

/// All kinds of functions are there, as many as the owner has, with the BARs of those that have some placed.
pub(super) fn all() -> Verdict {
    let mut told = Vec::new();
    for (device, name) in PORTS {
        let ports = inside(device)?;
        ensure(!ports.is_empty(), || format!("there are no {name}"))?;
        told.push(format!("{} {name}", ports.len()));
    }
    let sensors = inside(SENSOR)?;
    ensure(!sensors.is_empty(), || "there is no sensor".to_owned())?;
    for sensor in &sensors {
        let identity = Sysfs::open(sensor)?.identity()?;
        ensure(identity.device == SENSOR, || {
            format!("{sensor}: {identity:?}")
        })?;
    }
    told.push(format!("{} sensors", sensors.len()));
    let found = all_and_no_more()?;
    told.push(format!("{found} ports and functions in all"));
    Ok(told.join(", "))
}

/// There are as many ports and functions as the owner of the domain has; how many.
pub(super) fn all_and_no_more() -> Result<usize, Failure> {
    let (found, expected) = (count()?, ask("count", ANSWER_LIMIT)?);
    ensure(found.to_string() == expected, || {
        format!("{found} ports and functions, the owner has {expected}")
    })?;
    Ok(found)
}

fn count() -> Result<usize, Failure> {
    let entries = fs::read_dir(DEVICES).map_err(|error| Error::file(DEVICES, "list", error))?;
    let is_inside = |name: std::ffi::OsString| name.to_string_lossy().starts_with(INSIDE);
    Ok(entries
        .flatten()
        .filter(|entry| is_inside(entry.file_name()))
        .count())
}
