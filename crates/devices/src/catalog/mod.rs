//! The devices that a command can make by name, and a compute system by class id. What their settings are read with is in
//! `values`, those of PFs in `place`; `configured` reads them from a VM's configuration.

mod configured;
mod place;
mod values;

use std::collections::BTreeMap;
use std::fmt;

use hdv::{PciDevice, Uuid};
use hdv_sriov::{PfOptions, PhysicalFunction};

use crate::sensor::{self, Sensor, SourceName};
use crate::sriov_sensor::registers::VFS_MAX;
use crate::sriov_sensor::{self, SriovSensor, SriovSensorError};

use values::Values;
pub use values::{CreateError, Setting};

/// What was made.
pub enum Created {
    /// A device.
    Device(Box<dyn PciDevice>),
    /// A PF.
    PhysicalFunction {
        /// The PF.
        pf: Box<dyn PhysicalFunction>,
        /// Where it is, and who controls its VFs.
        options: PfOptions,
        /// How many VFs to enable once it is there; 0 for none.
        enable: u16,
    },
}

impl fmt::Debug for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(_) => f.debug_struct("Device").finish_non_exhaustive(),
            Self::PhysicalFunction {
                options, enable, ..
            } => f
                .debug_struct("PhysicalFunction")
                .field("options", options)
                .field("enable", enable)
                .finish_non_exhaustive(),
        }
    }
}

type Create = fn(&Values<'_>) -> Result<Created, CreateError>;

/// There is no such kind of device.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is no device {name:?}; there are: {} (`hdv devices` says more){}",
    known(),
    meant(name)
)]
#[non_exhaustive]
pub struct NoSuchKind {
    /// The name.
    pub name: String,
}

fn known() -> String {
    let names: Vec<_> = CATALOG.iter().map(|kind| kind.name).collect();
    names.join(", ")
}

/// A name that only a slip of the finger is away.
fn meant(name: &str) -> String {
    let is_near = |kind: &&DeviceKind| strsim::osa_distance(name, kind.name) == 1;
    let near = CATALOG.iter().find(is_near);
    near.map_or_else(String::new, |kind| {
        format!("; did you mean {:?}?", kind.name)
    })
}

/// The kind of device that is called so on the command line.
///
/// # Errors
/// There is none; the error says which there are.
pub fn by_name(name: &str) -> Result<&'static DeviceKind, NoSuchKind> {
    let found = CATALOG.iter().find(|kind| kind.name == name);
    found.ok_or_else(|| NoSuchKind {
        name: name.to_owned(),
    })
}

/// A kind of device.
#[derive(Debug)]
pub struct DeviceKind {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// What it is called in a compute system's document: its class id.
    pub class_id: Uuid,
    /// PCI vendor and device id.
    pub id: (u16, u16),
    /// Its settings.
    pub settings: &'static [Setting],
    create: Create,
}

impl DeviceKind {
    /// Makes a device.
    ///
    /// # Errors
    /// A setting is unknown or its value cannot be used.
    pub fn create(&self, settings: &BTreeMap<String, String>) -> Result<Created, CreateError> {
        (self.create)(&Values::new(self.name, self.settings, settings)?)
    }

    /// Makes a device that gets its settings when it is powered on: each string of its configuration
    /// ([`PciDevice::set_configuration`]) is a `KEY=VALUE`. A wrong one fails with `E_INVALIDARG`.
    ///
    /// # Errors
    /// It is a PF, or cannot be made with its default settings.
    pub fn configured(&'static self) -> Result<Box<dyn PciDevice>, CreateError> {
        Ok(Box::new(configured::Configured::new(self)?))
    }
}

const SOURCE: Setting = Setting {
    key: "source",
    default: "load",
    help: "load, hwmon, csv:PATH or sine",
};
const VFS: Setting = Setting {
    key: "vfs",
    default: "64",
    help: "how many VFs there can be (TotalVFs), 1 to 1024",
};
const QUOTA: Setting = Setting {
    key: "quota",
    default: "0",
    help: "most samples per second of each VF until the PF's registers say otherwise, 0 for no limit",
};

static CATALOG: [DeviceKind; 2] = [
    DeviceKind {
        name: "sensor",
        class_id: Uuid::from_u128(0x56d8_cf71_cd20_4ec6_a304_4509_928b_46ff),
        summary: "samples a source and delivers it by register, ring and interrupt",
        id: (sensor::registers::VENDOR_ID, sensor::registers::DEVICE_ID),
        settings: &[SOURCE],
        create: create_sensor,
    },
    DeviceKind {
        name: "sriov-sensor",
        class_id: Uuid::from_u128(0xea5f_7648_4a9f_48c3_bcf2_a409_58fe_10ef),
        summary: "a PF whose VFs are sensors that share its source, each with a quota",
        id: (
            sriov_sensor::registers::VENDOR_ID,
            sriov_sensor::registers::PF_DEVICE_ID,
        ),
        settings: &[
            SOURCE,
            VFS,
            QUOTA,
            place::ENABLE,
            place::PLACE,
            place::BUSES,
            place::ARI,
            place::GUEST,
        ],
        create: create_sriov_sensor,
    },
];

fn create_sensor(values: &Values<'_>) -> Result<Created, CreateError> {
    let source: SourceName = values.read(SOURCE.key)?;
    let sensor = Sensor::new(&source).map_err(|error| values.refuse(SOURCE.key, error))?;
    Ok(Created::Device(Box::new(sensor)))
}

fn create_sriov_sensor(values: &Values<'_>) -> Result<Created, CreateError> {
    let source: SourceName = values.read(SOURCE.key)?;
    let total_vfs: u16 = values.number(VFS.key, 1..=VFS_MAX.into())?;
    let quota = values.number(QUOTA.key, 0..=u32::MAX)?;
    let (options, enable) = place::read(values, total_vfs)?;
    let pf = SriovSensor::new(&source, total_vfs, quota).map_err(|error| match error {
        SriovSensorError::Source(error) => values.refuse(SOURCE.key, error),
        SriovSensorError::Vfs(error) => values.refuse(VFS.key, error),
    })?;
    Ok(Created::PhysicalFunction {
        pf: Box::new(pf),
        options,
        enable,
    })
}

/// Every kind of device there is.
#[must_use]
pub fn catalog() -> &'static [DeviceKind] {
    &CATALOG
}

/// The kind of device that a class id names.
#[must_use]
pub fn by_class(class_id: Uuid) -> Option<&'static DeviceKind> {
    CATALOG.iter().find(|kind| kind.class_id == class_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(kind: &str, settings: &[(&str, &str)]) -> Result<Created, CreateError> {
        let settings = settings
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let kind = catalog().iter().find(|one| one.name == kind).unwrap();
        kind.create(&settings)
    }

    /// The options of an SR-IOV sensor with these settings, and how many VFs to enable.
    fn options(settings: &[(&str, &str)]) -> (PfOptions, u16) {
        let settings = [&[("source", "sine")], settings].concat();
        match create("sriov-sensor", &settings).unwrap() {
            Created::PhysicalFunction {
                options, enable, ..
            } => (options, enable),
            Created::Device(_) => panic!("it is a PF"),
        }
    }

    #[test]
    fn defaults_make_a_device() {
        for kind in catalog() {
            let config = match kind.create(&BTreeMap::new()).unwrap() {
                Created::Device(device) => device.config_space(),
                Created::PhysicalFunction { pf, .. } => pf.config_space(),
            };
            let identity = config.unwrap().identity();
            assert_eq!((identity.vendor_id, identity.device_id), kind.id);
        }
    }

    #[test]
    fn errors_name_the_setting_and_the_value() {
        for (kind, settings, expected) in [
            (
                "sensor",
                &[("sauce", "sine")][..],
                "sensor has no setting \"sauce\": it has source",
            ),
            (
                "sensor",
                &[("source", "moon")],
                "sensor: source=moon: there is no source",
            ),
            (
                "sensor",
                &[("source", "csv:/nowhere")],
                "sensor: source=csv:/nowhere: /nowhere:",
            ),
            (
                "sriov-sensor",
                &[("source", "csv:/nowhere")],
                "sriov-sensor: source=csv:/nowhere: /nowhere:",
            ),
            (
                "sriov-sensor",
                &[("vfs", "0")],
                "sriov-sensor: vfs=0: a whole number from 1 to 1024 is needed",
            ),
            (
                "sriov-sensor",
                &[("vfs", "8"), ("enable", "9")],
                "sriov-sensor: enable=9: a whole number from 0 to 8 is needed",
            ),
            (
                "sriov-sensor",
                &[("quota", "many")],
                "sriov-sensor: quota=many: a whole number from 0 to 4294967295",
            ),
            (
                "sriov-sensor",
                &[("guest", "maybe")],
                "sriov-sensor: guest=maybe: yes or no is needed",
            ),
            (
                "sriov-sensor",
                &[("place", "1:2")],
                "sriov-sensor: place=1:2: \"1:2\" is no PCI address",
            ),
            (
                "sriov-sensor",
                &[("buses", "255")],
                "sriov-sensor: buses=255: a whole number from 0 to 254",
            ),
            (
                "sriov-sensor",
                &[("buses", "0"), ("ari", "no")],
                "sriov-sensor: buses=0: 64 VFs do not fit",
            ),
            (
                "sriov-sensor",
                &[("vfs", "300"), ("place", "0:ff:00.0")],
                "sriov-sensor: buses=auto: 300 VFs do not fit",
            ),
        ] {
            let error = create(kind, settings).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{settings:?}: {error}");
        }
    }

    #[test]
    fn a_pf_is_where_it_is_said_to_be() {
        let (standing, enable) = options(&[]);
        let placement = standing.placement;
        assert_eq!(
            (placement.segment(), placement.routing_id().to_string()),
            (0xf000, "01:00.0".to_owned())
        );
        assert!(!standing.guest_controls_sriov);
        assert_eq!((placement.port().captured_buses(), enable), (0, 0));

        let settings = [
            ("place", "10000:20:1f.7"),
            ("buses", "3"),
            ("ari", "false"),
            ("guest", "true"),
            ("enable", "64"),
        ];
        let (given, enable) = options(&settings);
        let placement = given.placement;
        assert_eq!(
            (placement.segment(), placement.routing_id().to_string()),
            (0x10000, "20:1f.7".to_owned())
        );
        assert!(given.guest_controls_sriov && !placement.port().forwards_ari());
        assert_eq!((placement.port().captured_buses(), enable), (3, 64));
    }

    #[test]
    fn as_many_buses_are_captured_as_the_vfs_need() {
        for (vfs, ari, captured) in [
            ("255", "yes", 0),
            ("256", "yes", 1),
            ("1024", "yes", 4),
            ("7", "no", 0),
            ("8", "no", 1),
            ("256", "no", 1),
            ("257", "no", 2),
        ] {
            let (options, _) = options(&[("vfs", vfs), ("ari", ari)]);
            let port = options.placement.port();
            assert_eq!(port.captured_buses(), captured, "{vfs}, ari {ari}");
        }
    }
}
