//! Errors that the owner of the domain has functions detect: the kernel tells of each, counts it, and recovers from what can be
//! recovered from. And links and config reads that fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hdv_devices::sensor::registers::DEVICE_ID as SENSOR;

use super::log::Log;
use super::{ANSWER_LIMIT, INSIDE, inside, resets, sensors};
use crate::ask::ask;
use crate::checks::{Check, Failure, Verdict, ensure};
use crate::family::Context;
use crate::init::system;
use crate::platform::sysfs::{DEVICES, Sysfs};
use crate::platform::vfio_pci::VfioPci;
use crate::platform::{BarAccess, Error, Width};
use crate::report::Line;

/// A driver that knows what to do about errors.
const DRIVER: &str = "vfio-pci";
/// How long the kernel may take for what it does about an error, or a link.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// Config reads that fail, a byte and then dwords.
const FAILED_READS: u32 = 3;

/// A kind of error.
struct Kind {
    /// As it is asked for.
    words: &'static str,
    /// The kernel's word in its log.
    severity: &'static str,
    /// The port above the function detects it.
    at_port: bool,
    /// The file of the counters of who detects it, and its name there. The kernel counts none where it does not ask: a function
    /// behind a link that failed.
    counted: Option<(&'static str, &'static str)>,
    /// The file of the root port's counter.
    root_counter: &'static str,
    /// What the kernel says last: which it was, or what became of its recovery.
    last: &'static str,
}

const CORRECTABLE: Kind = Kind {
    words: "correctable BAD_TLP",
    severity: "Correctable error message received from",
    at_port: false,
    counted: Some(("aer_dev_correctable", "BadTLP")),
    root_counter: "aer_rootport_total_err_cor",
    last: "BadTLP",
};
const NON_FATAL: Kind = Kind {
    words: "uncorrectable COMPLETION_TIMEOUT",
    severity: "Uncorrectable (Non-Fatal) error message received from",
    at_port: false,
    counted: Some(("aer_dev_nonfatal", "CmpltTO")),
    root_counter: "aer_rootport_total_err_nonfatal",
    last: "device recovery successful",
};
const FATAL: Kind = Kind {
    words: "uncorrectable DATA_LINK_PROTOCOL",
    severity: "Uncorrectable (Fatal) error message received from",
    at_port: false,
    counted: None,
    root_counter: "aer_rootport_total_err_fatal",
    last: "device recovery successful",
};
const FATAL_AT_PORT: Kind = Kind {
    at_port: true,
    counted: Some(("aer_dev_fatal", "DLP")),
    ..FATAL
};

/// The driver of user space takes a function and cannot give it to user space: the driver of the endpoint, which is in the same
/// IOMMU group, has the group's DMA.
pub(super) fn vfio() -> Verdict {
    let address = deepest()?;
    system::bind(&address, DRIVER)?;
    system::wait_for_group(&address)?;
    match VfioPci::open(&address) {
        Err(error) => Ok(format!("refused, as it must be: {error}")),
        Ok(_) => Err(Failure::new(format!(
            "{address} can be driven by {DRIVER}: the sensors are to be checked so"
        ))),
    }
}

pub(super) fn correctable(context: &mut Context<'_>) -> Verdict {
    injected(&CORRECTABLE, context)
}

pub(super) fn non_fatal(context: &mut Context<'_>) -> Verdict {
    injected(&NON_FATAL, context)
}

pub(super) fn fatal(context: &mut Context<'_>) -> Verdict {
    injected(&FATAL, context)
}

pub(super) fn fatal_at_port(context: &mut Context<'_>) -> Verdict {
    injected(&FATAL_AT_PORT, context)
}

/// A sensor that is alone on its bus, as deep inside as there is one, the first of those.
fn deepest() -> Result<String, Failure> {
    let mut deepest: Option<(usize, String)> = None;
    for address in inside(SENSOR)? {
        let depth = chain(&address)?.len();
        if resets::is_alone(&address)? && deepest.as_ref().is_none_or(|&(most, _)| depth > most) {
            deepest = Some((depth, address));
        }
    }
    let (_, address) = deepest.ok_or_else(|| Failure::new("no sensor is alone on its bus"))?;
    Ok(address)
}

/// A function, or the port above, detects an error: the kernel tells of it, counts it there and at the root port, and recovers;
/// the sensor works.
fn injected(kind: &Kind, context: &mut Context<'_>) -> Verdict {
    let address = deepest()?;
    let root_port = root_port(&address)?;
    let source = if kind.at_port {
        let port = parent(&address)?;
        let name = port.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    } else {
        address.clone()
    };
    system::bind(&address, DRIVER)?;
    let counter = || match kind.counted {
        Some((file, name)) => count(&source, file, name),
        None => Ok(0),
    };
    let more = u64::from(kind.counted.is_some());
    let root_counter = || count(&root_port, kind.root_counter, "");
    let (before, root_before) = (counter()?, root_counter()?);
    let mut log = Log::from_now()?;
    ask(
        &format!("inject {} {}", way(&source)?, kind.words),
        ANSWER_LIMIT,
    )?;
    let mut told = log.wait_for(&[&root_port, kind.severity, &source], PATIENCE)?;
    told.extend(log.wait_for(&[kind.last], PATIENCE)?);
    wait_until("the counters go up by one", || {
        Ok(counter()? == before + more && root_counter()? == root_before + 1)
    })?;
    let lines = told.join("\n");
    (context.sink)(Line::Text {
        title: format!("the kernel of {} at {source}", kind.words),
        text: lines,
    });
    if kind.root_counter == FATAL.root_counter {
        // The link was reset, and with it what the function knew; its driver keeps nothing for a function that nobody uses.
        found_again(&address)?;
    }
    sensors::whole(&address, &[Check::Registers, Check::FunctionReset], context)?;
    let own = kind
        .counted
        .map_or_else(String::new, |(file, _)| format!("{file} and "));
    Ok(format!(
        "{source}, seen by {root_port}: in the log, {own}{} one more; the sensor works",
        kind.root_counter
    ))
}

/// A link goes down and comes up again: what is below goes, and comes, and works.
pub(super) fn link(context: &mut Context<'_>) -> Verdict {
    let (address, port) = in_slot()?;
    let there = Path::new(DEVICES).join(&address);
    let mut log = Log::from_now()?;
    ask(&format!("inject {} link-down", way(&port)?), ANSWER_LIMIT)?;
    wait_until("the function goes with its link", || Ok(!there.exists()))?;
    let mut told = log.wait_for(&[&port, "Link Down"], PATIENCE)?;
    ask(&format!("inject {} link-up", way(&port)?), ANSWER_LIMIT)?;
    wait_until("the function comes with its link", || Ok(there.exists()))?;
    told.extend(log.wait_for(&[&port, "Slot("], PATIENCE)?);
    (context.sink)(Line::Text {
        title: format!("the kernel of the link below {port}"),
        text: told.join("\n"),
    });
    sensors::whole(&address, &[Check::Identity, Check::FunctionReset], context)?;
    Ok(format!("{address} went and came, and works"))
}

/// Config reads that fail give all ones, so many, and then what is there.
pub(super) fn config_reads() -> Verdict {
    let address = deepest()?;
    system::unbind(&address)?;
    let device = Sysfs::open(&address)?;
    let expected = device.config_read(0, Width::Dword)?;
    let words = format!("inject {} fail-config-reads {FAILED_READS}", way(&address)?);
    ask(&words, ANSWER_LIMIT)?;
    let mut failed = 0;
    for _ in 0..=FAILED_READS {
        let read = device.config_read(0, Width::Dword)?;
        if read == expected {
            break;
        }
        ensure(read == u32::MAX, || format!("{address} reads {read:#x}"))?;
        failed += 1;
    }
    ensure(failed == FAILED_READS, || {
        format!("{failed} reads failed, {FAILED_READS} were to")
    })?;
    Ok(format!("{failed} reads of {address}, and none after"))
}

/// A sensor in a slot that devices can be plugged into, and the port.
fn in_slot() -> Result<(String, String), Failure> {
    for address in inside(SENSOR)? {
        let port = parent(&address)?;
        let name = port.file_name().unwrap_or_default().to_string_lossy();
        if resets::is_alone(&address)? && has_slot(&name)? {
            return Ok((address, name.into_owned()));
        }
    }
    Err(Failure::new("no sensor is alone in a slot"))
}

/// Whether the kernel has a slot for hot plug below a port.
fn has_slot(port: &str) -> Result<bool, Failure> {
    let services = Path::new(DEVICES).join(port);
    let entries = fs::read_dir(&services).map_err(|error| Error::file(&services, "list", error))?;
    // The service of hot plug is numbered so.
    let is_hot_plug = |name: &str| name.ends_with(":pcie004") || name.ends_with(":pcie204");
    Ok(entries
        .flatten()
        .any(|entry| is_hot_plug(&entry.file_name().to_string_lossy())))
}

fn parent(address: &str) -> Result<PathBuf, Failure> {
    let path = place(address)?;
    let parent = path.parent().filter(|parent| parent != &Path::new("/"));
    let parent = parent.ok_or_else(|| Failure::new(format!("{address} is below nothing")))?;
    Ok(parent.to_owned())
}

fn place(address: &str) -> Result<PathBuf, Failure> {
    let link = Path::new(DEVICES).join(address);
    Ok(fs::canonicalize(&link).map_err(|error| Error::file(&link, "follow", error))?)
}

/// The addresses of the ports above a function and its own, from the root port on.
fn chain(address: &str) -> Result<Vec<String>, Failure> {
    let path = place(address)?;
    let names = path.iter().map(|name| name.to_string_lossy().into_owned());
    Ok(names.filter(|name| name.starts_with(INSIDE)).collect())
}

/// The way to a function from the root bus by device and function numbers, which names it for its owner.
fn way(address: &str) -> Result<String, Failure> {
    let numbers = chain(address)?;
    let numbers = numbers
        .iter()
        .filter_map(|name| Some(name.rsplit_once(':')?.1));
    Ok(numbers.collect::<Vec<_>>().join("/"))
}

fn root_port(address: &str) -> Result<String, Failure> {
    let first = chain(address)?.into_iter().next();
    first.ok_or_else(|| Failure::new(format!("{address} is below no root port")))
}

/// A counter of a file of them, `NAME COUNT` in a line, or of the only one in it.
fn count(address: &str, file: &str, name: &str) -> Result<u64, Failure> {
    let path = Path::new(DEVICES).join(address).join(file);
    let text = fs::read_to_string(&path).map_err(|error| Error::file(&path, "read", error))?;
    let number = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    number.ok_or_else(|| {
        Failure::new(format!(
            "{} has no number of {name:?}: {text:?}",
            path.display()
        ))
    })
}

/// Has the kernel forget a function and find it again.
fn found_again(address: &str) -> Result<(), Failure> {
    let device = Path::new(DEVICES).join(address);
    let port = parent(address)?;
    let one =
        |path: PathBuf| fs::write(&path, "1").map_err(|error| Error::file(&path, "write", error));
    one(device.join("remove"))?;
    one(port.join("rescan"))?;
    wait_until("the function is found again", || Ok(device.exists()))
}

fn wait_until(what: &str, condition: impl Fn() -> Result<bool, Failure>) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !condition()? {
        if Instant::now() > deadline {
            let limit = PATIENCE.as_secs();
            return Err(Failure::new(format!("not within {limit} s: {what}")));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}
