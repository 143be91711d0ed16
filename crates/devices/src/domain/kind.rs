//! Devices of the catalog as they go into a domain: their settings, and what of them the domain has to have room for.

use std::collections::BTreeMap;

use hdv::domain::{Domain, DomainFunction, Position};
use hdv::pci::BarKind;
use hdv::{Bar, BarIndex, ConfigSpace, Function, HostError, pci_function};
use hdv_sriov::EmulatedPf;
use toml::{Table, Value};

use super::error::{AttachError, Problem};
use crate::catalog::{Created, DeviceKind};

/// Settings that say of a PF what inside a domain the guest says.
const THE_GUESTS: [&str; 3] = ["place", "enable", "guest"];

/// The text of a setting that a TOML file gives as a string, a number or a boolean; `None` for anything else.
#[must_use]
pub fn setting_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

pub(super) fn settings(table: &Table) -> Result<BTreeMap<String, String>, Problem> {
    let text = |(key, value): (&String, &Value)| {
        let text = setting_text(value).ok_or_else(|| Problem::SettingType {
            key: key.clone(),
            kind: value.type_str(),
        })?;
        Ok((key.clone(), text))
    };
    table.iter().map(text).collect()
}

pub(super) fn kind(name: &str) -> Result<&'static DeviceKind, Problem> {
    Ok(crate::by_name(name)?)
}

/// Makes a device for a place inside a domain.
pub(super) fn create(
    kind: &'static DeviceKind,
    settings: &BTreeMap<String, String>,
) -> Result<Created, Problem> {
    let given = THE_GUESTS.iter().find(|key| settings.contains_key(**key));
    if let Some(key) = given
        && kind.settings.iter().any(|setting| setting.key == *key)
    {
        return Err(Problem::SettingInside(key));
    }
    Ok(kind.create(settings)?)
}

/// What a domain has to have for a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Footprint {
    pub(super) is_pf: bool,
    /// Bytes in all and their alignment, of each BAR of 32 bits or that is not prefetchable.
    pub(super) memory: Vec<(u128, u64)>,
    /// The same of prefetchable BARs of 64 bits.
    pub(super) prefetchable: Vec<(u128, u64)>,
    /// Vectors, also of VFs as far as they are known.
    pub(super) vectors: u32,
    /// Buses beyond its own.
    pub(super) captured_buses: u8,
}

impl Footprint {
    /// Finds out by making one.
    pub(super) fn of(
        kind: &'static DeviceKind,
        settings: &BTreeMap<String, String>,
    ) -> Result<Self, Problem> {
        let mut need = Self::default();
        let refuse = |error: hdv::ConfigError| Problem::Device {
            device: kind.name,
            reason: error.to_string(),
        };
        match create(kind, settings)? {
            Created::Device(mut device) => {
                need.add(&device.config_space().map_err(refuse)?);
                device.teardown();
            }
            Created::PhysicalFunction {
                mut pf, options, ..
            } => {
                need.is_pf = true;
                need.captured_buses = options.placement.port().captured_buses();
                need.add(&pf.config_space().map_err(refuse)?);
                let layout = pf.virtual_functions();
                for (_, bar) in &layout.bars {
                    need.add_bar(*bar, layout.total_vfs);
                }
                // Each VF has at least one.
                need.vectors += u32::from(layout.total_vfs);
                pf.teardown();
            }
        }
        Ok(need)
    }

    fn add(&mut self, config: &ConfigSpace) {
        for index in BarIndex::ALL {
            if let Some(bar) = config.bar(index) {
                self.add_bar(bar, 1);
            }
        }
        let msix = config.msix().map(|msix| u32::from(msix.vectors));
        let msi = config.msi().map(|msi| u32::from(msi.vectors_capable));
        self.vectors += msix.or(msi).unwrap_or(0);
    }

    fn add_bar(&mut self, bar: Bar, count: u16) {
        let window = if bar.prefetchable && bar.kind == BarKind::Memory64 {
            &mut self.prefetchable
        } else {
            &mut self.memory
        };
        window.push((u128::from(bar.size) * u128::from(count), bar.size));
    }
}

/// Makes a device of the catalog and puts it into its place. A PF's VFs are the guest's to enable; a PF is given back, to be
/// published.
///
/// # Errors
/// There is no such kind of device, or it has no such settings; what the domain refuses; the device's own.
pub fn attach(
    domain: &Domain,
    position: Position,
    name: &str,
    device: &str,
    settings: &BTreeMap<String, String>,
) -> Result<Option<EmulatedPf>, AttachError> {
    put(domain, position, name, create(kind(device)?, settings)?)
}

pub(super) fn put(
    domain: &Domain,
    position: Position,
    name: &str,
    created: Created,
) -> Result<Option<EmulatedPf>, AttachError> {
    match created {
        Created::Device(device) => {
            let function: Result<Box<dyn Function>, HostError> = pci_function(device);
            let function = function.map_err(|source| hdv::domain::DomainError::Function {
                name: name.to_owned(),
                source,
            })?;
            let _: DomainFunction = domain.attach(position, name, function, &[])?;
            Ok(None)
        }
        Created::PhysicalFunction {
            pf, mut options, ..
        } => {
            options.guest_controls_sriov = true;
            let (_, pf) = EmulatedPf::inside(domain, position, name, pf, options)?;
            Ok(Some(pf))
        }
    }
}
