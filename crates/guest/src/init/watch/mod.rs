//! A guest whose devices come and go: it tells which functions it sees and since when, checks each sensor that
//! comes, and does what lines on the console and the power button say.
//!
//! | line on the console | what is done |
//! | --- | --- |
//! | `go` | the program goes on to its next mode |
//! | `off` | the guest powers off |
//! | `reboot` | the guest boots once more |
//! | `clock` | the guest's clock is told |
//! | `check` | every sensor that is there is checked once more |
//! | `poll` | registers are read, without a pause, until a sensor answers no more |

mod button;
mod commands;
mod kernel_log;
mod poll;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use hdv_devices::sensor::registers::VENDOR_ID;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use self::button::Buttons;
use self::commands::{Command, Commands};
use self::kernel_log::KernelLog;
use crate::platform::sysfs::{self, BARS, DEVICES};
use crate::platform::{Error, Identity, Result};
use crate::report::{Change, Line};

/// How long a look at the devices waits for something else.
const LOOK: Duration = Duration::from_millis(20);

/// What comes after watching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The program's next mode.
    GoOn,
    /// The guest's end.
    Off,
    /// Another boot.
    Reboot,
}

/// Watches until it is told what comes next. `sensor` checks a function of these ids at this address.
///
/// # Errors
/// When sysfs, the kernel's log, the console or the buttons cannot be read.
pub(super) fn watch(
    round: u32,
    sink: &mut dyn FnMut(Line),
    sensor: &mut dyn FnMut(&str, Identity),
) -> Result<Next> {
    let mut log = KernelLog::open()?;
    let mut buttons = Buttons::open()?;
    let mut commands = Commands::default();
    let mut known = BTreeMap::new();
    log.read()?;
    let mut first = true;
    loop {
        look(&mut known, &mut log, sink, sensor)?;
        if std::mem::take(&mut first) {
            sink(Line::Waiting { round });
        }
        let console = std::io::stdin();
        let (read, pressed) = wait(console.as_fd(), &buttons)?;
        if pressed && buttons.power()? {
            sink(Line::PowerButton {
                clock_us: clock_us(),
            });
            return Ok(Next::Off);
        }
        if !read {
            continue;
        }
        for command in commands.read(console.as_fd())? {
            match command {
                Command::Go => return Ok(Next::GoOn),
                Command::Off => return Ok(Next::Off),
                Command::Reboot => return Ok(Next::Reboot),
                Command::Clock => sink(Line::Clock {
                    clock_us: clock_us(),
                }),
                Command::Check => {
                    for (address, identity) in &known {
                        sensor(address, *identity);
                    }
                    sink(Line::Waiting { round });
                }
                Command::Poll => poll::poll(known.keys(), sink)?,
            }
        }
    }
}

/// Tells what is new and what is gone since the last look.
fn look(
    known: &mut BTreeMap<String, Identity>,
    log: &mut KernelLog,
    sink: &mut dyn FnMut(Line),
    sensor: &mut dyn FnMut(&str, Identity),
) -> Result<()> {
    let mut now = present()?;
    let gone: Vec<_> = known
        .keys()
        .filter(|address| !now.contains_key(*address))
        .cloned()
        .collect();
    for address in gone {
        if let Some(identity) = known.remove(&address) {
            sink(line(&address, identity, Change::Gone, None));
        }
    }
    now.retain(|address, _| !known.contains_key(address));
    if now.is_empty() {
        return Ok(());
    }
    let seen_us = clock_us();
    log.read()?;
    let mut new: Vec<_> = now.into_iter().collect();
    new.sort_by_key(|(address, _)| log.enumerated(address).map(|entry| entry.order));
    for (address, identity) in &new {
        let entry = log.enumerated(address);
        let change = match entry {
            Some(entry) if entry.first => Change::First,
            _ => Change::Later,
        };
        let enumerated = entry.map(|entry| entry.clock_us);
        let mut line = line(address, *identity, change, enumerated);
        if let Line::Device { clock_us, .. } = &mut line {
            *clock_us = seen_us;
        }
        sink(line);
    }
    for (address, identity) in new {
        sensor(&address, identity);
        known.insert(address, identity);
    }
    Ok(())
}

fn line(address: &str, identity: Identity, change: Change, enumerated_us: Option<u64>) -> Line {
    Line::Device {
        address: address.to_owned(),
        vendor: identity.vendor,
        device: identity.device,
        change,
        enumerated_us,
        clock_us: clock_us(),
    }
}

/// Our functions that a driver can use, by address.
fn present() -> Result<BTreeMap<String, Identity>> {
    let mut present = BTreeMap::new();
    let entries = fs::read_dir(DEVICES).map_err(|error| Error::file(DEVICES, "list", error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Error::file(DEVICES, "list", error))?;
        let address = entry.file_name().to_string_lossy().into_owned();
        // One that goes meanwhile has no identity any more.
        if let Ok(identity) = sysfs::identity(&address)
            && identity.vendor == VENDOR_ID
            && has_addresses(&entry.path())
        {
            present.insert(address, identity);
        }
    }
    Ok(present)
}

/// Whether the kernel has got to giving its BARs addresses and offering them.
fn has_addresses(path: &Path) -> bool {
    (0..BARS).any(|bar| path.join(format!("resource{bar}")).exists())
}

/// Waits for the console and for buttons; whether there is something to read of either.
fn wait(console: impl AsFd, buttons: &Buttons) -> Result<(bool, bool)> {
    let mut files = vec![PollFd::from_borrowed_fd(console.as_fd(), PollFlags::IN)];
    files.extend(
        buttons
            .files()
            .map(|file| PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN)),
    );
    let limit = Timespec::try_from(LOOK).map_err(|_| Error::call("poll", Errno::INVAL))?;
    match poll(&mut files, Some(&limit)) {
        Ok(0) | Err(Errno::INTR) => Ok((false, false)),
        Ok(_) => {
            let ready = |file: &PollFd<'_>| !file.revents().is_empty();
            let (console, buttons) = files.split_at(1);
            Ok((console.iter().any(ready), buttons.iter().any(ready)))
        }
        Err(errno) => Err(Error::call("poll of the console and the buttons", errno)),
    }
}

/// Microseconds since the guest's kernel began.
fn clock_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(now.tv_sec) * 1_000_000 + part(now.tv_nsec) / 1000
}
