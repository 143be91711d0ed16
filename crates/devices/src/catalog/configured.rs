//! A device of the catalog that gets its settings as a VM's configuration gives them: as strings, once it is powered on.

use std::collections::BTreeMap;
use std::mem;

use hdv::{BarAccess, ConfigError, ConfigSpace, DeviceContext, DeviceError, PciDevice};

use super::{CreateError, Created, DeviceKind};

/// `E_INVALIDARG`.
const INVALID: i32 = 0x8007_0057_u32.cast_signed();

/// See the module's documentation. The device is made anew with its settings, before it is initialized.
pub(super) struct Configured {
    kind: &'static DeviceKind,
    device: Box<dyn PciDevice>,
    context: Option<DeviceContext>,
}

impl Configured {
    /// One of a kind whose config space is the same whatever its settings are.
    pub(super) fn new(kind: &'static DeviceKind) -> Result<Self, CreateError> {
        Ok(Self {
            kind,
            device: device(kind, &BTreeMap::new())?,
            context: None,
        })
    }
}

fn device(
    kind: &'static DeviceKind,
    settings: &BTreeMap<String, String>,
) -> Result<Box<dyn PciDevice>, CreateError> {
    match kind.create(settings)? {
        Created::Device(device) => Ok(device),
        Created::PhysicalFunction { .. } => {
            Err(CreateError::PhysicalFunction { device: kind.name })
        }
    }
}

/// The settings in `KEY=VALUE` strings.
fn settings(kind: &DeviceKind, values: &[String]) -> Result<BTreeMap<String, String>, DeviceError> {
    let refuse = |reason: String| {
        DeviceError::new(format!("the configuration of {}: {reason}", kind.name)).with_code(INVALID)
    };
    let mut settings = BTreeMap::new();
    for (index, value) in values.iter().enumerate() {
        let (key, text) = value
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| {
                refuse(format!(
                    "string {index}, {value:?}, is not of the form KEY=VALUE"
                ))
            })?;
        if settings.insert(key.to_owned(), text.to_owned()).is_some() {
            return Err(refuse(format!(
                "string {index}, {value:?}, sets {key} a second time"
            )));
        }
    }
    Ok(settings)
}

impl PciDevice for Configured {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        self.device.config_space()
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        self.context = Some(context);
        Ok(())
    }

    fn set_configuration(&mut self, values: &[String]) -> Result<(), DeviceError> {
        let settings = settings(self.kind, values)?;
        let device = device(self.kind, &settings)
            .map_err(|error| DeviceError::new(error.to_string()).with_code(INVALID))?;
        let mut unconfigured = mem::replace(&mut self.device, device);
        unconfigured.teardown();
        match self.context.take() {
            Some(context) => self.device.initialize(context),
            None => Ok(()),
        }
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.device.start()
    }

    fn stop(&mut self) {
        self.device.stop();
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        self.device.read(access)
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        self.device.write(access, value);
    }

    fn reset(&mut self) {
        self.device.reset();
    }

    fn teardown(&mut self) {
        self.device.teardown();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{by_class, catalog};
    use super::*;

    fn configure(values: &[&str]) -> Result<(), DeviceError> {
        let mut device = catalog()[0].configured().unwrap();
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        device.set_configuration(&values)
    }

    #[test]
    fn settings_come_as_strings_and_wrong_ones_are_named() {
        configure(&[]).unwrap();
        configure(&["source=sine"]).unwrap();
        for (values, part) in [
            (&["sine"][..], "string 0, \"sine\""),
            (&["=sine"], "string 0, \"=sine\""),
            (&["source=sine", "source=load"], "string 1, \"source=load\""),
            (&["sauce=sine"], "no setting \"sauce\""),
            (&["source=moon"], "source=moon"),
        ] {
            let error = configure(values).unwrap_err();
            assert!(error.to_string().contains(part), "{values:?}: {error}");
            assert_eq!(error.code(), Some(INVALID));
        }
    }

    #[test]
    fn class_ids_name_kinds() {
        for kind in catalog() {
            assert_eq!(by_class(kind.class_id).unwrap().name, kind.name);
        }
        assert!(by_class(hdv::Uuid::nil()).is_none());
        let pf = catalog().iter().find(|kind| kind.name == "sriov-sensor");
        assert!(matches!(
            pf.unwrap().configured(),
            Err(CreateError::PhysicalFunction { .. })
        ));
    }
}
