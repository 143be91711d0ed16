//! The `openhdv.*` parameters of the kernel's command line.
//!
//! | parameter | meaning | default |
//! | --- | --- | --- |
//! | `openhdv.mode=A,B` | what to do, in this order: `sysfs`, `vfio`, `direct`, `live`, `quota`, `gone`, `wait`, `sriov`, `domain`, `rescan`, `watch` | `vfio` |
//! | `openhdv.devices=A,B` | what to check: `sensor`, `sensor-vf` in place of it, or a family of [`crate::families`]; one named twice must be there twice | `sensor` |
//! | `openhdv.checks=A,B` | which checks, by name | all of these devices |
//! | `openhdv.domain=A,B` | which parts of the checks of a domain ([`crate::domain`]) | `functions` |
//! | `openhdv.rescan=VENDOR:DEVICE:COUNT` | which functions `rescan` removes and has found again, and how often | none |
//! | `openhdv.sensors=N` | sensors that must be there, if they are checked | 1 |
//! | `openhdv.source=KIND` | what they measure: `sine`, `any` | `sine` |
//! | `openhdv.samples=N` | samples of the check `ring-samples` | 1000000 |
//! | `openhdv.samples-of-two=N` | samples of each sensor in `two-sensors` | 100000 |
//! | `openhdv.period=US` | microseconds between samples there, to begin with | 5 |
//! | `openhdv.quota=N` | samples per second that `quota` expects at most | 0, which is none |
//! | `openhdv.seconds=N` | how long `live` lasts, and `gone` at most | 10 |
//! | `openhdv.live-period=US` | microseconds between samples in `live` and `gone` | 250000 |
//! | `openhdv.reboot=1` | boot once more when done, and do everything again | 0 |
//! | `openhdv.deadline=S` | seconds after which this boot is given up | 900 |

use std::fmt::Display;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use hdv_devices::sensor::registers::DEVICE_ID;
use hdv_devices::sriov_sensor::registers::VF_DEVICE_ID;

use crate::checks::{Selection, Settings, Source};
use crate::domain::Part;
use crate::families::{self, FAMILIES};
use crate::family::Family;
use crate::rescan::Looks;

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Checks of BAR access, through sysfs.
    Sysfs,
    /// Every check, through vfio-pci.
    Vfio,
    /// Checks of sensors through [`Direct`](crate::platform::direct::Direct).
    Direct,
    /// Samples are read and printed.
    Live,
    /// The first sensor, a VF, keeps to its quota.
    Quota,
    /// Samples of the first sensor, a VF, are read and printed until it is gone.
    Gone,
    /// Nothing is done until a line comes on the console.
    Wait,
    /// Checks of this machine's own SR-IOV devices, whatever `openhdv.devices` says.
    Sriov,
    /// Checks of a domain behind an endpoint, whatever `openhdv.devices` says.
    Domain,
    /// The time until the kernel has found the functions of `openhdv.rescan`.
    Rescan,
    /// Our devices are told and sensors checked as they come, until the console or the power button ends it.
    Watch,
}

impl Mode {
    /// Whether it is about the devices of `openhdv.devices`.
    #[must_use]
    pub const fn needs_devices(self) -> bool {
        !matches!(
            self,
            Self::Wait | Self::Sriov | Self::Domain | Self::Rescan | Self::Watch
        )
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sysfs" => Ok(Self::Sysfs),
            "vfio" => Ok(Self::Vfio),
            "direct" => Ok(Self::Direct),
            "live" => Ok(Self::Live),
            "quota" => Ok(Self::Quota),
            "gone" => Ok(Self::Gone),
            "wait" => Ok(Self::Wait),
            "sriov" => Ok(Self::Sriov),
            "domain" => Ok(Self::Domain),
            "rescan" => Ok(Self::Rescan),
            "watch" => Ok(Self::Watch),
            _ => Err(
                "there are sysfs, vfio, direct, live, quota, gone, wait, sriov, domain, rescan and watch"
                    .to_owned(),
            ),
        }
    }
}

/// A kind of device to check.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// The sensor.
    Sensor,
    /// A VF of the SR-IOV sensor.
    SensorVf,
    /// Any other.
    Family(&'static Family),
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sensor" => Ok(Self::Sensor),
            "sensor-vf" => Ok(Self::SensorVf),
            _ => families::named(text).map(Self::Family).ok_or_else(|| {
                let names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
                format!("there are sensor, sensor-vf, {}", names.join(", "))
            }),
        }
    }
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// What to do, in this order.
    pub modes: Vec<Mode>,
    /// Which devices to check; one that is named twice must be there twice.
    pub devices: Vec<Kind>,
    /// Which checks.
    pub checks: Selection,
    /// Parts of the checks of a domain.
    pub domain: Vec<Part>,
    /// What [`Mode::Rescan`] looks for.
    pub rescan: Option<Looks>,
    /// Sensors that must be there.
    pub sensors: usize,
    /// What the checks need to know.
    pub settings: Settings,
    /// Samples per second that [`Mode::Quota`] expects at most.
    pub quota: Option<NonZeroU32>,
    /// How long [`Mode::Live`] lasts, and [`Mode::Gone`] at most.
    pub live: Duration,
    /// Microseconds between samples in [`Mode::Live`] and [`Mode::Gone`].
    pub live_period: u32,
    /// Boot once more when done.
    pub reboot: bool,
    /// When this boot is given up.
    pub deadline: Duration,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            modes: vec![Mode::Vfio],
            devices: vec![Kind::Sensor],
            checks: Selection::all(),
            domain: vec![Part::Functions],
            rescan: None,
            sensors: 1,
            settings: Settings::default(),
            quota: None,
            live: Duration::from_secs(10),
            live_period: 250_000,
            reboot: false,
            deadline: Duration::from_secs(900),
        }
    }
}

impl Parameters {
    /// Reads the parameters of a kernel command line. The second value says what is wrong with
    /// those that could not be understood; they have no effect.
    #[must_use]
    pub fn parse(command_line: &str) -> (Self, Vec<String>) {
        let mut parameters = Self::default();
        let mut wrong = Vec::new();
        for word in command_line.split_whitespace() {
            let Some((name, value)) = word
                .strip_prefix("openhdv.")
                .map(|rest| rest.split_once('=').unwrap_or((rest, "")))
            else {
                continue;
            };
            if let Err(why) = parameters.set(name, value) {
                wrong.push(format!("openhdv.{name}={value}: {why}"));
            }
        }
        (parameters, wrong)
    }

    /// Whether sensors are to be checked.
    #[must_use]
    pub fn sensors_wanted(&self) -> bool {
        self.modes.iter().any(|mode| mode.needs_devices())
            && self
                .devices
                .iter()
                .any(|kind| matches!(kind, Kind::Sensor | Kind::SensorVf))
    }

    /// The families to check, each once, and how many devices of it must be there.
    #[must_use]
    pub fn families(&self) -> Vec<(&'static Family, usize)> {
        let mut families: Vec<(&'static Family, usize)> = Vec::new();
        for kind in &self.devices {
            let Kind::Family(family) = *kind else {
                continue;
            };
            match families
                .iter_mut()
                .find(|(known, _)| known.name == family.name)
            {
                Some((_, count)) => *count += 1,
                None => families.push((family, 1)),
            }
        }
        families
    }

    fn set_devices(&mut self, devices: Vec<Kind>) -> Result<(), String> {
        let has = |wanted: fn(&Kind) -> bool| devices.iter().any(wanted);
        let vfs = has(|kind| matches!(kind, Kind::SensorVf));
        if vfs && has(|kind| matches!(kind, Kind::Sensor)) {
            return Err("it is either sensor or sensor-vf".to_owned());
        }
        self.settings.device_id = if vfs { VF_DEVICE_ID } else { DEVICE_ID };
        self.devices = devices;
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "mode" => self.modes = list(value)?,
            "devices" => self.set_devices(list(value)?)?,
            "checks" => self.checks = families::select(value.split(','))?,
            "domain" => self.domain = list(value)?,
            "rescan" => self.rescan = Some(one(value)?),
            "sensors" => self.sensors = one(value)?,
            "source" => self.settings.source = one(value)?,
            "samples" => self.settings.samples = one(value)?,
            "samples-of-two" => self.settings.samples_of_two = one(value)?,
            "period" => self.settings.period = one(value)?,
            "quota" => self.quota = NonZeroU32::new(one(value)?),
            "seconds" => self.live = Duration::from_secs(one::<u32>(value)?.into()),
            "live-period" => self.live_period = one(value)?,
            "reboot" => self.reboot = one::<u8>(value)? != 0,
            "deadline" => self.deadline = Duration::from_secs(one::<u32>(value)?.into()),
            _ => return Err("there is no such parameter".to_owned()),
        }
        Ok(())
    }
}

fn one<T: FromStr<Err: Display>>(value: &str) -> Result<T, String> {
    value.parse().map_err(|error: T::Err| error.to_string())
}

fn list<T: FromStr<Err: Display>>(value: &str) -> Result<Vec<T>, String> {
    value.split(',').map(one).collect()
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sine" => Ok(Self::Sine),
            "any" => Ok(Self::Any),
            _ => Err("there are sine and any".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Check;

    #[test]
    fn every_parameter_is_read_and_others_are_left_alone() {
        let (parameters, wrong) = Parameters::parse(
            "console=ttyS0 quiet openhdv.mode=sysfs,vfio,live openhdv.checks=identity,two-sensors \
             openhdv.sensors=2 openhdv.source=any openhdv.samples=5 openhdv.samples-of-two=6 \
             openhdv.period=7 openhdv.seconds=8 openhdv.live-period=9 openhdv.reboot=1 \
             openhdv.deadline=10 openhdv.domain=functions openhdv.rescan=1b36:5:3",
        );
        assert_eq!(wrong, [""; 0]);
        assert_eq!(parameters.domain, [Part::Functions]);
        assert_eq!(parameters.rescan.map(|looks| looks.count), Some(3));
        assert_eq!(parameters.modes, [Mode::Sysfs, Mode::Vfio, Mode::Live]);
        assert_eq!(
            parameters.checks.of_sensors(),
            [Check::Identity, Check::TwoSensors]
        );
        assert!(parameters.sensors_wanted());
        assert_eq!(parameters.sensors, 2);
        assert_eq!(parameters.settings.source, Source::Any);
        assert_eq!(parameters.settings.samples, 5);
        assert_eq!(parameters.settings.samples_of_two, 6);
        assert_eq!(parameters.settings.period, 7);
        assert_eq!(parameters.live, Duration::from_secs(8));
        assert_eq!(parameters.live_period, 9);
        assert!(parameters.reboot);
        assert_eq!(parameters.deadline, Duration::from_secs(10));
    }

    #[test]
    fn virtual_functions_are_sensors_with_another_device_id() {
        let (parameters, wrong) = Parameters::parse(
            "openhdv.devices=sensor-vf openhdv.mode=wait,vfio,quota,gone openhdv.quota=5000",
        );
        assert_eq!(wrong, [""; 0]);
        assert_eq!(
            parameters.modes,
            [Mode::Wait, Mode::Vfio, Mode::Quota, Mode::Gone]
        );
        assert!(parameters.sensors_wanted());
        assert_eq!(parameters.settings.device_id, VF_DEVICE_ID);
        assert_eq!(parameters.quota, NonZeroU32::new(5000));

        let (parameters, wrong) = Parameters::parse("openhdv.devices=sensor,sensor-vf");
        assert_eq!(wrong.len(), 1);
        assert_eq!(parameters.settings.device_id, DEVICE_ID);
        let (parameters, _) = Parameters::parse("openhdv.mode=wait,sriov,watch");
        assert!(!parameters.sensors_wanted());
        let (parameters, _) = Parameters::parse("openhdv.mode=watch,direct");
        assert!(parameters.sensors_wanted());
    }

    #[test]
    fn what_is_not_understood_is_told() {
        let (parameters, wrong) = Parameters::parse(
            "openhdv.mode=fast openhdv.reboot openhdv.checks= openhdv.x=1 openhdv.devices=toaster",
        );
        assert_eq!(wrong.len(), 5);
        assert_eq!(parameters.modes, [Mode::Vfio]);
        assert!(parameters.checks.is_all() && parameters.sensors_wanted());
        assert!(!parameters.reboot);
    }
}
