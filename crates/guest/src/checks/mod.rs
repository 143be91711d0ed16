//! The checks: does a sensor keep what its registers promise? Each is a function over a
//! [`Sensor`] that returns what it saw or says what was wrong.
//!
//! A check leaves the sensor stopped, and never waits without a limit. Devices of other kinds
//! have their checks beside their drivers and are told apart in [`crate::families`]; what every
//! check returns is here.

mod identity;
mod interrupts;
mod overflow;
mod refusals;
mod registers;
mod reset;
mod samples;
mod selection;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::time::Duration;

use hdv_devices::sensor::registers::{DEVICE_ID, THRESHOLD_HIGH, THRESHOLD_LOW, VECTORS};

use crate::platform::{BarAccess, Error, Platform};
use crate::report::Outcome;
use crate::sensor::Sensor;

pub use samples::Source;
pub use selection::Selection;

/// Why a check was not passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    /// A failure that says what was wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

/// What a check returns: what it saw, or what was wrong.
pub type Verdict = Result<String, Failure>;

/// Fails with `what` unless `true_for_good_devices`.
pub(crate) fn ensure(
    true_for_good_devices: bool,
    what: impl FnOnce() -> String,
) -> Result<(), Failure> {
    if true_for_good_devices {
        Ok(())
    } else {
        Err(Failure(what()))
    }
}

/// A check by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Vendor, device, class and size of BAR 0, as the system and config space tell them.
    Identity,
    /// Registers read and written with 1, 2, 4 and 8 bytes.
    Registers,
    /// Thresholds raise vector 1 and set their status bits, which can be cleared.
    ThresholdInterrupt,
    /// Many samples through the ring, none lost and none torn.
    RingSamples,
    /// A ring that nobody reads: vector 2, the lost samples counted, the gap visible.
    RingOverflow,
    /// Bad settings, a bad ring address among them, are refused and change nothing.
    BadSettings,
    /// Function level reset: everything as after power on, interrupts work.
    FunctionReset,
    /// Two sensors fill their rings at the same time.
    TwoSensors,
}

impl Check {
    /// Every check, in the order in which they are best made.
    pub const ALL: [Self; 8] = [
        Self::Identity,
        Self::Registers,
        Self::ThresholdInterrupt,
        Self::RingSamples,
        Self::RingOverflow,
        Self::BadSettings,
        Self::FunctionReset,
        Self::TwoSensors,
    ];

    /// The checks that BAR access alone suffices for.
    pub const BAR_ACCESS: [Self; 2] = [Self::Identity, Self::Registers];

    /// The name in reports and on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Registers => "registers",
            Self::ThresholdInterrupt => "threshold-interrupt",
            Self::RingSamples => "ring-samples",
            Self::RingOverflow => "ring-overflow",
            Self::BadSettings => "bad-settings",
            Self::FunctionReset => "function-reset",
            Self::TwoSensors => "two-sensors",
        }
    }
}

impl FromStr for Check {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|check| check.name() == name)
            .ok_or_else(|| {
                let names: Vec<_> = Self::ALL.iter().map(|check| check.name()).collect();
                format!("{name:?} is no check; there are {}", names.join(", "))
            })
    }
}

/// What the checks need to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The PCI device id of the sensors: a VF of the SR-IOV sensor is a sensor with another one.
    pub device_id: u16,
    /// What the sensors measure.
    pub source: Source,
    /// Samples of [`Check::RingSamples`].
    pub samples: u32,
    /// Samples of each sensor in [`Check::TwoSensors`].
    pub samples_of_two: u32,
    /// Microseconds between samples to begin with; doubled when the driver cannot keep up.
    pub period: u32,
    /// Samples a ring holds, a power of two.
    pub ring: u32,
    /// How long an interrupt may take. Generous: a machine may be slow and busy.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            device_id: DEVICE_ID,
            source: Source::Sine,
            samples: 1_000_000,
            samples_of_two: 100_000,
            period: 5,
            ring: 1 << 17,
            patience: Duration::from_secs(30),
        }
    }
}

/// Makes the checks of `selection` that BAR access suffices for, on one device, and tells
/// each outcome to `sink`.
pub fn run_bar_access<B: BarAccess>(
    selection: &[Check],
    device: B,
    settings: &Settings,
    sink: &mut dyn FnMut(Outcome),
) {
    let name = device.name().to_owned();
    let transport = device.transport();
    let mut sensor = Some(device);
    let mut opened = None;
    for &check in selection {
        if !Check::BAR_ACCESS.contains(&check) {
            continue;
        }
        let verdict = guarded(|| {
            if let Some(device) = sensor.take() {
                opened = Some(Sensor::new(device)?);
            }
            match &opened {
                Some(sensor) => one_bar_access(check, sensor, settings),
                None => Err(Failure::new("the device was no sensor, see above")),
            }
        });
        sink(outcome(check.name(), &name, transport, verdict));
    }
}

/// Makes the checks of `selection` and tells each outcome to `sink`: those of BAR access on
/// every device, the others on the first, [`Check::TwoSensors`] on the first two.
pub fn run<P: Platform>(
    selection: &[Check],
    devices: Vec<P>,
    settings: &Settings,
    sink: &mut dyn FnMut(Outcome),
) {
    let mut sensors = Vec::new();
    for device in devices {
        let (name, transport) = (device.name().to_owned(), device.transport());
        let opened = guarded(|| {
            let sensor = Sensor::new(device)?;
            prepare(&sensor)?;
            sensors.push(sensor);
            Ok(String::new())
        });
        if opened.is_err() {
            sink(outcome(Check::Identity.name(), &name, transport, opened));
        }
    }
    for &check in selection {
        let count = match check {
            Check::Identity | Check::Registers => sensors.len().max(1),
            _ => 1,
        };
        for index in 0..count {
            let Some(sensor) = sensors.get(index) else {
                let verdict = Err(Failure::new("there is no sensor to check"));
                sink(outcome(check.name(), "", "", verdict));
                continue;
            };
            let verdict = guarded(|| one(check, sensor, sensors.get(1), settings));
            let verdict = left_stopped(sensor, verdict);
            let mut name = sensor.platform().name().to_owned();
            if let (Check::TwoSensors, Some(second)) = (check, sensors.get(1)) {
                name = format!("{name} {}", second.platform().name());
            }
            sink(outcome(
                check.name(),
                &name,
                sensor.platform().transport(),
                verdict,
            ));
        }
    }
}

/// Vectors enabled, thresholds out of reach, nothing running.
fn prepare<P: Platform>(sensor: &Sensor<P>) -> Result<(), Failure> {
    sensor.stop()?;
    sensor.set_signed(THRESHOLD_LOW, i32::MIN)?;
    sensor.set_signed(THRESHOLD_HIGH, i32::MAX)?;
    Ok(sensor.platform().enable_vectors(VECTORS)?)
}

/// The sensor as the next check expects it, whatever became of this one.
fn left_stopped<P: Platform>(sensor: &Sensor<P>, verdict: Verdict) -> Verdict {
    let stopped = guarded(|| {
        prepare(sensor)?;
        Ok(String::new())
    });
    match (verdict, stopped) {
        (Ok(_), Err(failure)) => Err(Failure(format!("afterwards: {failure}"))),
        (verdict, _) => verdict,
    }
}

fn one_bar_access<B: BarAccess>(check: Check, sensor: &Sensor<B>, settings: &Settings) -> Verdict {
    match check {
        Check::Identity => identity::check(sensor, settings),
        _ => registers::check(sensor, settings),
    }
}

fn one<P: Platform>(
    check: Check,
    sensor: &Sensor<P>,
    second: Option<&Sensor<P>>,
    settings: &Settings,
) -> Verdict {
    match check {
        Check::Identity | Check::Registers => one_bar_access(check, sensor, settings),
        Check::ThresholdInterrupt => interrupts::check(sensor, settings),
        Check::RingSamples => samples::check(sensor, settings, settings.samples),
        Check::RingOverflow => overflow::check(sensor, settings),
        Check::BadSettings => refusals::check(sensor, settings),
        Check::FunctionReset => reset::check(sensor, settings),
        Check::TwoSensors => match second {
            Some(second) => samples::check_two(sensor, second, settings),
            None => Err(Failure::new("there is only one sensor")),
        },
    }
}

/// A panic is a failed check, not the end of the others.
pub(crate) fn guarded(check: impl FnOnce() -> Verdict) -> Verdict {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(Failure(format!("the check panicked: {what}")))
    })
}

/// The outcome of the check `name` with what it returned.
pub(crate) fn outcome(name: &str, device: &str, transport: &str, verdict: Verdict) -> Outcome {
    let ok = verdict.is_ok();
    Outcome {
        name: name.to_owned(),
        ok,
        detail: verdict.unwrap_or_else(|failure| failure.to_string()),
        device: device.to_owned(),
        transport: transport.to_owned(),
        round: 1,
    }
}

#[cfg(test)]
mod tests;
