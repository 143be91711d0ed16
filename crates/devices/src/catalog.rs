//! The devices that a command can make by name, with their settings.

use std::collections::BTreeMap;

use hdv::PciDevice;

use crate::sensor::{Sensor, SourceName};

/// One setting of a kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub key: &'static str,
    /// The value without it.
    pub default: &'static str,
    /// What it means, in one line.
    pub help: &'static str,
}

/// A device that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The kind of device has no such setting.
    #[error("{device} has no setting {key:?}: it has {known}")]
    UnknownSetting {
        /// The kind of device.
        device: &'static str,
        /// The setting that was given.
        key: String,
        /// Those there are.
        known: String,
    },
    /// A setting's value cannot be used.
    #[error("{device}: {key}={value}: {source}")]
    Value {
        /// The kind of device.
        device: &'static str,
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

type Create = fn(&Values<'_>) -> Result<Box<dyn PciDevice>, CreateError>;

/// A kind of device.
#[derive(Debug)]
pub struct DeviceKind {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// PCI vendor and device id.
    pub id: (u16, u16),
    /// Its settings.
    pub settings: &'static [Setting],
    create: Create,
}

/// Settings as given, with the defaults behind them.
struct Values<'a> {
    kind: &'a DeviceKind,
    given: &'a BTreeMap<String, String>,
}

impl Values<'_> {
    /// The setting, read as a `T`.
    fn read<T>(&self, key: &'static str) -> Result<(T, String), CreateError>
    where
        T: std::str::FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        let default = self.kind.settings.iter().find(|setting| setting.key == key);
        let value = self
            .given
            .get(key)
            .map(String::as_str)
            .or(default.map(|setting| setting.default))
            .unwrap_or_default();
        match value.parse() {
            Ok(read) => Ok((read, value.to_owned())),
            Err(source) => Err(self.refuse(key, value, source)),
        }
    }

    fn refuse(
        &self,
        key: &'static str,
        value: &str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> CreateError {
        CreateError::Value {
            device: self.kind.name,
            key,
            value: value.to_owned(),
            source: Box::new(source),
        }
    }
}

impl DeviceKind {
    /// Makes a device.
    ///
    /// # Errors
    /// A setting is unknown or its value cannot be used.
    pub fn create(
        &self,
        settings: &BTreeMap<String, String>,
    ) -> Result<Box<dyn PciDevice>, CreateError> {
        let known = |key: &str| self.settings.iter().any(|setting| setting.key == key);
        if let Some(key) = settings.keys().find(|key| !known(key)) {
            let keys: Vec<_> = self.settings.iter().map(|setting| setting.key).collect();
            return Err(CreateError::UnknownSetting {
                device: self.name,
                key: key.clone(),
                known: keys.join(", "),
            });
        }
        (self.create)(&Values {
            kind: self,
            given: settings,
        })
    }
}

static CATALOG: [DeviceKind; 1] = [DeviceKind {
    name: "sensor",
    summary: "samples a source and delivers it by register, ring and interrupt",
    id: (
        crate::sensor::registers::VENDOR_ID,
        crate::sensor::registers::DEVICE_ID,
    ),
    settings: &[Setting {
        key: "source",
        default: "load",
        help: "load, hwmon, csv:PATH or sine",
    }],
    create: |values| {
        let (source, text) = values.read::<SourceName>("source")?;
        let sensor = Sensor::new(&source).map_err(|error| values.refuse("source", &text, error))?;
        Ok(Box::new(sensor))
    },
}];

/// Every kind of device there is.
#[must_use]
pub fn catalog() -> &'static [DeviceKind] {
    &CATALOG
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(settings: &[(&str, &str)]) -> Result<Box<dyn PciDevice>, CreateError> {
        let settings = settings
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        catalog()[0].create(&settings)
    }

    #[test]
    fn defaults_make_a_device() {
        for kind in catalog() {
            let device = kind.create(&BTreeMap::new()).unwrap();
            let identity = device.config_space().unwrap().identity();
            assert_eq!((identity.vendor_id, identity.device_id), kind.id);
        }
    }

    #[test]
    fn errors_name_the_setting_and_the_value() {
        let error = create(&[("sauce", "sine")]).err().unwrap().to_string();
        assert_eq!(error, "sensor has no setting \"sauce\": it has source");
        let error = create(&[("source", "moon")]).err().unwrap().to_string();
        assert!(
            error.starts_with("sensor: source=moon: there is no source"),
            "{error}"
        );
        let error = create(&[("source", "csv:/nowhere")])
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("source=csv:/nowhere: /nowhere:"), "{error}");
    }
}
