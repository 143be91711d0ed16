//! A domain behind one endpoint, as the guest's kernel has it: what its own driver found, what it says of it, and VFs that it
//! enables on a PF inside. Everything by the kernel's own machinery, nothing of OpenHDV's.

mod log;

use std::fs;
use std::path::Path;

use hdv_devices::sensor::registers::{DEVICE_ID as SENSOR, SCRATCH, VENDOR_ID};
use hdv_devices::sriov_sensor::registers::{PF_DEVICE_ID, VF_DEVICE_ID};

use crate::checks::{Failure, Verdict, ensure, guarded, outcome};
use crate::init::system;
use crate::platform::sysfs::{self, DEVICES, Sysfs};
use crate::platform::{BarAccess, Error, Width};
use crate::report::Line;
use crate::sriov::linux::{Pf, pfs};

/// The endpoint's ids, which are those that its driver knows, and that driver.
const ENDPOINT: (u16, u16) = (0x8086, 0xa77f);
const DRIVER: &str = "vmd";
/// How the addresses of what is inside begin: the driver numbers domains from here.
const INSIDE: &str = "10000:";
/// A driver that does nothing but let VFs be enabled.
const STUB_DRIVER: &str = "/sys/bus/pci/drivers/pci-pf-stub";
/// Ids of the ports.
const PORTS: [(u16, &str); 3] = [
    (0x0d10, "root ports"),
    (0x0d11, "upstream ports"),
    (0x0d12, "downstream ports"),
];
/// Bytes of a VF's config space in which it has no bits of its own: its ids.
const IDS: std::ops::Range<usize> = 0..4;

/// A check.
type Check = fn() -> Verdict;

/// The checks, in their order.
const CHECKS: [(&str, Check); 5] = [
    ("domain-bound", bound),
    ("domain-found", found),
    ("domain-vfs", vfs),
    // Before the kernel has something to complain of.
    ("domain-log", log::check),
    ("domain-vfs-refused", vfs_refused),
];

/// Checks the domain of this guest and tells each outcome to `sink`.
pub fn check(sink: &mut dyn FnMut(Line)) {
    for (name, check) in CHECKS {
        sink(Line::Check(outcome(name, INSIDE, "sysfs", guarded(check))));
    }
}

/// The endpoint has its driver.
fn bound() -> Verdict {
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

fn inside(device: u16) -> Result<Vec<String>, Failure> {
    let mut found = sysfs::find(VENDOR_ID, device)?;
    found.retain(|address| address.starts_with(INSIDE));
    Ok(found)
}

/// All kinds of functions are there, with the BARs of those that have some placed.
fn found() -> Verdict {
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
    Ok(told.join(", "))
}

fn pf() -> Result<Pf, Failure> {
    let is_inside = |pf: &Pf| pf.address().starts_with(INSIDE);
    let found = pfs()?.into_iter().find(is_inside);
    found.ok_or_else(|| Failure::new("there is no PF inside"))
}

fn count(pf: &Pf, expected: u16) -> Result<(), Failure> {
    let (count, links) = (pf.num_vfs()?, pf.vf_links()?);
    let functions = inside(VF_DEVICE_ID)?.len();
    let all = usize::from(expected);
    ensure(
        count == expected && links == all && functions == all,
        || format!("{expected} expected: {count} enabled, {links} links, {functions} functions"),
    )
}

/// VFs come as they are asked for and go again: few, and as many as there can be.
fn vfs() -> Verdict {
    let pf = pf()?;
    let ids = format!("{VENDOR_ID:04x} {PF_DEVICE_ID:04x}");
    let new_id = Path::new(STUB_DRIVER).join("new_id");
    fs::write(&new_id, ids).map_err(|error| Error::file(&new_id, "write", error))?;
    let total = pf.total_vfs()?;
    for wanted in [1, 4, total] {
        pf.set_num_vfs(wanted)?;
        count(&pf, wanted)?;
        check_vfs(&pf, wanted)?;
        pf.set_num_vfs(0)?;
        count(&pf, 0)?;
    }
    Ok(format!(
        "1, 4 and {total} of {}, and none after each",
        pf.address()
    ))
}

/// Each VF has the config space of one, and registers of its own.
fn check_vfs(pf: &Pf, all: u16) -> Result<(), Failure> {
    let mut opened = Vec::new();
    for vf in 0..all {
        let address = pf
            .vf(vf)
            .ok_or_else(|| Failure::new(format!("VF {vf} has no link")))?;
        let config = pf.vf_config(vf)?;
        ensure(config.get(IDS).is_some_and(|ids| ids == [0xff; 4]), || {
            format!("{address}: its ids are not all ones")
        })?;
        system::unbind(&address)?;
        let device = Sysfs::open(&address)?;
        device.write(0, SCRATCH, Width::Dword, vf.into())?;
        opened.push((vf, device));
    }
    for (vf, device) in opened {
        let value = device.read(0, SCRATCH, Width::Dword)?;
        ensure(value == u64::from(vf), || {
            format!("{}: {value:#x} in place of {vf}", device.name())
        })?;
    }
    Ok(())
}

/// More than there can be, and another number while some are enabled.
fn vfs_refused() -> Verdict {
    let pf = pf()?;
    let too_many = pf.total_vfs()?.saturating_add(1);
    let refused = |wanted: u16, expected: u16| {
        let written = pf.set_num_vfs(wanted);
        ensure(written.is_err(), || format!("{wanted} were not refused"))?;
        count(&pf, expected)
    };
    refused(too_many, 0)?;
    pf.set_num_vfs(1)?;
    refused(4, 1)?;
    pf.set_num_vfs(0)?;
    count(&pf, 0)?;
    Ok(format!("{too_many}, and 4 while 1 is enabled"))
}
