//! A device of OpenHDV's as the command line has it: `NAME[,KEY=VALUE]...`.

use hdv_compute::document::{FlexibleIoDevice, HostingModel};
use hdv_devices::DeviceKind;

use crate::Failure;

/// A device of the catalog, with its settings.
#[derive(Clone, Debug)]
pub(crate) struct OwnDevice {
    /// What it is.
    pub(crate) kind: &'static DeviceKind,
    /// `KEY=VALUE`s.
    pub(crate) settings: Vec<String>,
}

impl OwnDevice {
    /// Reads what a person wrote. What is wrong with the settings, the device says when it gets them, where it will be.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let kind = hdv_devices::by_name(name)?;
        let settings: Vec<String> = parts.map(str::to_owned).collect();
        if let Some(setting) = settings.iter().find(|setting| !setting.contains('=')) {
            return Err(format!(
                "--device {text}: {setting:?} is not of the form KEY=VALUE; `hdv devices` lists the settings of {name}"
            )
            .into());
        }
        Ok(Self { kind, settings })
    }

    /// It, as a document has it.
    pub(super) fn to_document(&self, more: &[String]) -> FlexibleIoDevice {
        FlexibleIoDevice {
            emulator_id: self.kind.class_id,
            hosting_model: HostingModel::Internal,
            configuration: [&self.settings, more].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_stand_behind_the_name() {
        let device = OwnDevice::parse("sensor,source=csv:/a=b,x=").unwrap();
        assert_eq!(device.kind.name, "sensor");
        assert_eq!(device.settings, ["source=csv:/a=b", "x="]);
        let document = device.to_document(&["k=v,w".to_owned()]);
        assert_eq!(document.configuration, ["source=csv:/a=b", "x=", "k=v,w"]);
        for (text, part) in [
            ("", "no device \"\"; there are: sensor"),
            ("censor", "no device \"censor\""),
            ("sensor,sine", "\"sine\" is not of the form"),
            ("sensor,", "\"\" is not of the form"),
        ] {
            let error = OwnDevice::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
