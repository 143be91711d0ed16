//! The program as a guest's first process: makes a system, finds the devices, does what the
//! kernel's command line asks for ([`parameters`]), says so on the console and ends the guest.
//!
//! With `openhdv.reboot=1` the guest boots once more by itself when the first round is done,
//! and powers off after the second; QEMU must then run without `-no-reboot`. The second boot
//! knows itself by a [`marker`]. Nothing here waits without a limit: a watchdog ends the guest
//! when a check hangs.

pub mod live;
pub mod marker;
pub mod parameters;
pub mod system;

mod watch;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hdv_devices::sensor::registers::{DEVICE_ID, VENDOR_ID};
use hdv_devices::sriov_sensor::registers::VF_DEVICE_ID;

use self::parameters::{Mode, Parameters};
use self::watch::Next;
use crate::checks::{self, Check, Failure, Settings, Verdict, ensure};
use crate::domain;
use crate::family::{Family, Run};
use crate::platform::direct::Direct;
use crate::platform::memory::HUGE_PAGE_BYTES;
use crate::platform::sysfs::{self, Sysfs};
use crate::platform::vfio_pci::VfioPci;
use crate::platform::{Identity, Result};
use crate::report::{Line, Outcome};
use crate::rescan;
use crate::sensor::ring;
use crate::sriov::{
    self,
    vf::{gone, quota},
};

/// The driver for everything but BAR access.
const DRIVER: &str = "vfio-pci";

/// How the checks went so far; a watchdog reads it too.
#[derive(Debug, Default)]
struct Tally {
    passed: AtomicUsize,
    failed: AtomicUsize,
}

static TALLY: Tally = Tally {
    passed: AtomicUsize::new(0),
    failed: AtomicUsize::new(0),
};

/// Does everything and ends the guest. Returns only if the kernel does not end it.
pub fn main() {
    let mounted = system::mount_all();
    let command_line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let (parameters, wrong) = Parameters::parse(&command_line);
    let marker = marker_of_last_boot(&parameters);
    let round = if matches!(marker, Ok(true)) { 2 } else { 1 };
    let guest = Guest { round };
    watch(&guest, parameters.deadline);

    guest.step("system", mounted.map(|()| String::new()));
    guest.step("console", system::quiet_kernel().map(|()| String::new()));
    for what in wrong {
        guest.check(outcome("parameters", false, what));
    }
    if let Err(error) = &marker {
        guest.check(outcome("reboot", false, error.to_string()));
    }
    guest.step(
        "modules",
        system::load_modules().map(|count| format!("{count} loaded")),
    );
    let worked = catch_unwind(AssertUnwindSafe(|| guest.work(&parameters)));
    if worked.is_err() {
        let detail = "the program panicked, see its message above".to_owned();
        guest.check(outcome("program", false, detail));
    }

    let mut again = parameters.reboot && round == 1 && marker.is_ok();
    if matches!(worked, Ok(Next::Reboot)) {
        guest.end(true);
    }
    if again && let Err(error) = marker::leave() {
        guest.check(outcome("reboot", false, error.to_string()));
        again = false;
    }
    guest.end(again);
}

fn marker_of_last_boot(parameters: &Parameters) -> Result<bool> {
    if parameters.reboot {
        marker::take()
    } else {
        Ok(false)
    }
}

/// One boot of the guest.
#[derive(Clone, Copy, Debug)]
struct Guest {
    round: u32,
}

impl Guest {
    /// Does what is asked for; what was asked for meanwhile.
    fn work(self, parameters: &Parameters) -> Next {
        let sensors = if parameters.sensors_wanted() {
            self.find(VENDOR_ID, parameters.settings.device_id, "sensors")
        } else {
            Vec::new()
        };
        let families: Vec<_> = parameters
            .families()
            .into_iter()
            .map(|(family, count)| {
                let found = self.find(family.vendor, family.device, family.name);
                (family, count, found)
            })
            .collect();
        let others = families.iter().flat_map(|(_, _, found)| found);
        print(&Line::Start {
            kernel: system::kernel(),
            round: self.round,
            devices: sensors.iter().chain(others).cloned().collect(),
        });
        if parameters.sensors_wanted() {
            self.enough("sensors", sensors.len(), parameters.sensors);
        }
        for (family, count, found) in &families {
            if self.round > 1 && family.ends(&parameters.checks) {
                let gone = format!("{} found, none must be left", found.len());
                self.check(outcome(family.name, found.is_empty(), gone));
            } else {
                self.enough(family.name, found.len(), *count);
            }
        }
        for mode in &parameters.modes {
            match mode {
                Mode::Wait => self.wait(),
                Mode::Sriov => sriov::check(&mut |line| self.take(line)),
                Mode::Domain => {
                    let settings = &parameters.settings;
                    domain::check(&parameters.domain, settings, &mut |line| self.take(line));
                }
                Mode::Rescan => self.rescan(parameters),
                Mode::Watch => match self.watch(parameters) {
                    Next::GoOn => {}
                    next => return next,
                },
                _ if !parameters.sensors_wanted() => {}
                Mode::Sysfs => self.through_sysfs(parameters, &sensors),
                Mode::Vfio => self.through_vfio(parameters, &sensors),
                Mode::Direct => self.directly(parameters, &sensors),
                Mode::Live => self.first("live", &sensors, |device| live(parameters, device)),
                Mode::Quota => self.first(quota::NAME, &sensors, |device| {
                    let Some(quota) = parameters.quota else {
                        return Err(Failure::new("openhdv.quota says no number"));
                    };
                    quota::check(device, &parameters.settings, quota)
                }),
                Mode::Gone => self.first(gone::NAME, &sensors, |device| {
                    let Parameters {
                        live, live_period, ..
                    } = *parameters;
                    gone::check(device, live_period, live, &mut |line| print(&line))
                }),
            }
            for (family, _, found) in &families {
                for address in found {
                    self.of_family(family, *mode, parameters, address);
                }
            }
        }
        Next::GoOn
    }

    /// The addresses of the functions with these ids.
    fn find(self, vendor: u16, device: u16, what: &str) -> Vec<String> {
        sysfs::find(vendor, device).unwrap_or_else(|error| {
            self.check(outcome(what, false, error.to_string()));
            Vec::new()
        })
    }

    fn enough(self, what: &str, found: usize, expected: usize) {
        let count = format!("{found} found, {expected} expected");
        self.check(outcome(what, found >= expected, count));
    }

    /// The checks of one device that is no sensor.
    fn of_family(self, family: &Family, mode: Mode, parameters: &Parameters, address: &str) {
        let (selection, settings) = (&parameters.checks, &parameters.settings);
        let mut sink = |line| self.take(line);
        let (transport, opened) = match mode {
            Mode::Sysfs => {
                let opened = system::unbind(address).and_then(|()| Sysfs::open(address));
                let checked = opened.map(|device| {
                    family.check_bars(&device, selection, settings, &mut sink);
                });
                ("sysfs", checked)
            }
            Mode::Vfio => {
                let checked = open(address).map(|device| {
                    family.check(&device, selection, settings, &mut sink);
                });
                (DRIVER, checked)
            }
            // Only sensors are driven without an IOMMU, and have something to show as it comes.
            Mode::Direct
            | Mode::Live
            | Mode::Quota
            | Mode::Gone
            | Mode::Wait
            | Mode::Sriov
            | Mode::Domain
            | Mode::Rescan
            | Mode::Watch => return,
        };
        if let Err(error) = opened {
            for check in family.wanted(selection) {
                if mode == Mode::Vfio || matches!(check.run, Run::Bars(_)) {
                    self.not_opened(check.name, address, transport, &error);
                }
            }
        }
    }

    fn through_sysfs(self, parameters: &Parameters, found: &[String]) {
        for address in found {
            match system::unbind(address).and_then(|()| Sysfs::open(address)) {
                Ok(device) => checks::run_bar_access(
                    &parameters.checks.of_sensors(),
                    device,
                    &parameters.settings,
                    &mut |outcome| self.check(outcome),
                ),
                Err(error) => {
                    self.refused(&parameters.checks.of_sensors(), address, "sysfs", &error);
                }
            }
        }
    }

    /// Sensors in a guest without an IOMMU: every check but the one that memory around a ring is out of reach.
    fn directly(self, parameters: &Parameters, found: &[String]) {
        let mut selection = parameters.checks.of_sensors();
        selection.retain(|check| !matches!(check, Check::BadSettings | Check::TwoSensors));
        let mut settings = parameters.settings.clone();
        while ring::bytes(settings.ring) > HUGE_PAGE_BYTES {
            settings.ring /= 2;
        }
        for address in found {
            match system::unbind(address).and_then(|()| Direct::open(address)) {
                Ok(device) => checks::run(&selection, vec![device], &settings, &mut |outcome| {
                    self.check(outcome);
                }),
                Err(error) => {
                    self.not_opened(Check::Identity.name(), address, "direct", &error);
                }
            }
        }
    }

    /// Tells devices as they come and go, and checks the sensors among them.
    fn watch(self, parameters: &Parameters) -> Next {
        let watched = watch::watch(
            self.round,
            &mut |line| print(&line),
            &mut |address, identity| {
                let Identity { vendor, device, .. } = identity;
                if vendor != VENDOR_ID || !matches!(device, DEVICE_ID | VF_DEVICE_ID) {
                    return;
                }
                let settings = Settings {
                    device_id: device,
                    ..parameters.settings.clone()
                };
                let parameters = Parameters {
                    settings,
                    ..parameters.clone()
                };
                let address = [address.to_owned()];
                if parameters.modes.contains(&Mode::Direct) {
                    self.directly(&parameters, &address);
                } else {
                    self.through_sysfs(&parameters, &address);
                }
            },
        );
        watched.unwrap_or_else(|error| {
            self.check(outcome("watch", false, error.to_string()));
            Next::Off
        })
    }

    fn through_vfio(self, parameters: &Parameters, found: &[String]) {
        let mut devices = Vec::new();
        for address in found {
            match open(address) {
                Ok(device) => devices.push(device),
                Err(error) => self.refused(&[Check::Identity], address, DRIVER, &error),
            }
        }
        checks::run(
            &parameters.checks.of_sensors(),
            devices,
            &parameters.settings,
            &mut |outcome| self.check(outcome),
        );
    }

    /// Something with the first sensor.
    fn first(self, name: &str, found: &[String], with: impl FnOnce(VfioPci) -> Verdict) {
        let Some(address) = found.first() else {
            self.check(outcome(name, false, "there is no sensor".to_owned()));
            return;
        };
        let verdict = checks::guarded(|| with(open(address)?));
        self.check(checks::outcome(name, address, DRIVER, verdict));
    }

    /// Has the kernel find functions again.
    fn rescan(self, parameters: &Parameters) {
        let verdict = checks::guarded(|| match &parameters.rescan {
            Some(looks) => rescan::measure(looks, &mut |line| print(&line)),
            None => Err(Failure::new("openhdv.rescan says nothing to look for")),
        });
        self.check(checks::outcome("rescan", "", "sysfs", verdict));
    }

    /// Waits for a line on the console.
    fn wait(self) {
        print(&Line::Waiting { round: self.round });
        if let Err(error) = std::io::stdin().lines().next().transpose() {
            self.check(outcome("wait", false, format!("the console: {error}")));
        }
    }

    /// A device that could not be opened fails the checks it was to be opened for.
    fn refused(
        self,
        selection: &[Check],
        address: &str,
        transport: &str,
        error: &dyn std::fmt::Display,
    ) {
        for check in selection {
            if transport == DRIVER || Check::BAR_ACCESS.contains(check) {
                self.not_opened(check.name(), address, transport, error);
            }
        }
    }

    fn not_opened(
        self,
        check: &str,
        address: &str,
        transport: &str,
        error: &dyn std::fmt::Display,
    ) {
        let mut failed = outcome(check, false, error.to_string());
        address.clone_into(&mut failed.device);
        transport.clone_into(&mut failed.transport);
        self.check(failed);
    }

    /// A step that is told only when it fails.
    fn step(self, name: &str, done: Result<String>) {
        if let Err(error) = done {
            self.check(outcome(name, false, error.to_string()));
        }
    }

    /// A line of the checks themselves.
    fn take(self, line: Line) {
        match line {
            Line::Check(outcome) => self.check(outcome),
            line => print(&line),
        }
    }

    fn check(self, mut outcome: Outcome) {
        outcome.round = self.round;
        let count = if outcome.ok {
            &TALLY.passed
        } else {
            &TALLY.failed
        };
        count.fetch_add(1, Ordering::Relaxed);
        print(&Line::Check(outcome));
    }

    fn end(self, rebooting: bool) {
        let (passed, failed) = (
            TALLY.passed.load(Ordering::Relaxed),
            TALLY.failed.load(Ordering::Relaxed),
        );
        print(&Line::Done {
            done: true,
            ok: failed == 0 && passed > 0,
            round: self.round,
            kernel: system::kernel(),
            passed,
            failed,
            rebooting,
        });
        rustix::fs::sync();
        let errno = system::end(rebooting);
        print(&Line::Check(outcome(
            "end",
            false,
            format!("the kernel does not end the system: {errno}"),
        )));
    }
}

fn live(parameters: &Parameters, device: VfioPci) -> Verdict {
    let Parameters {
        live, live_period, ..
    } = *parameters;
    let count = live::show(device, live, live_period, &mut |line| print(&line))?;
    ensure(count > 0, || "no samples".to_owned())?;
    Ok(format!("{count} samples read"))
}

fn open(address: &str) -> Result<VfioPci> {
    system::bind(address, DRIVER)?;
    system::wait_for_group(address)?;
    VfioPci::open(address)
}

/// Ends the guest when it has not ended by itself within `deadline`.
fn watch(guest: &Guest, deadline: Duration) {
    let guest = *guest;
    let watchdog = std::thread::Builder::new().spawn(move || {
        std::thread::sleep(deadline);
        guest.check(outcome(
            "deadline",
            false,
            format!(
                "not done within {} s; openhdv.deadline sets another limit",
                deadline.as_secs()
            ),
        ));
        guest.end(false);
    });
    if let Err(error) = watchdog {
        guest.check(outcome("deadline", false, format!("no watchdog: {error}")));
    }
}

fn outcome(name: &str, ok: bool, detail: String) -> Outcome {
    Outcome {
        name: name.to_owned(),
        ok,
        detail,
        device: String::new(),
        transport: String::new(),
        round: 1,
    }
}

/// One write per line, so that the console keeps it whole. The console is the only place to
/// say that it fails, so nothing is.
fn print(line: &Line) {
    let text = format!("{line}\n");
    let mut console = std::io::stdout().lock();
    let _ = console
        .write_all(text.as_bytes())
        .and_then(|()| console.flush());
}
