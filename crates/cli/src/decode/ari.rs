//! The registers of the ARI extended capability (7.8.7).

use std::fmt;

use hdv_pci::spec::ari::{
    AriCapabilities, AriControl, CAPABILITIES, CONTROL, FUNCTION_GROUP_SHIFT, LENGTH,
    NEXT_FUNCTION_SHIFT,
};
use serde::Serialize;

use super::ConfigBytes;

/// The ARI extended capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Ari {
    pub(crate) mfvc_function_groups: bool,
    pub(crate) acs_function_groups: bool,
    /// 0 after the last function.
    pub(crate) next_function: u16,
    pub(crate) mfvc_function_groups_enable: bool,
    pub(crate) acs_function_groups_enable: bool,
    pub(crate) function_group: u16,
}

impl Ari {
    /// `None` if config space ends before the capability does.
    pub(super) fn decode(config: ConfigBytes<'_>, offset: u16) -> Option<Self> {
        if !config.holds(offset, LENGTH) {
            return None;
        }
        let word = config.u16(offset + CAPABILITIES);
        let capabilities = AriCapabilities::from_bits_retain(word);
        let control = AriControl::from_bits_retain(config.u16(offset + CONTROL));
        Some(Self {
            mfvc_function_groups: capabilities.contains(AriCapabilities::MFVC_FUNCTION_GROUPS),
            acs_function_groups: capabilities.contains(AriCapabilities::ACS_FUNCTION_GROUPS),
            next_function: word >> NEXT_FUNCTION_SHIFT,
            mfvc_function_groups_enable: control.contains(AriControl::MFVC_FUNCTION_GROUPS_ENABLE),
            acs_function_groups_enable: control.contains(AriControl::ACS_FUNCTION_GROUPS_ENABLE),
            function_group: (control & AriControl::FUNCTION_GROUP).bits() >> FUNCTION_GROUP_SHIFT,
        })
    }
}

impl fmt::Display for Ari {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.next_function {
            0 => formatter.write_str("no next function")?,
            next => write!(formatter, "next function {next}")?,
        }
        for (capable, enabled, name) in [
            (
                self.mfvc_function_groups,
                self.mfvc_function_groups_enable,
                "MFVC",
            ),
            (
                self.acs_function_groups,
                self.acs_function_groups_enable,
                "ACS",
            ),
        ] {
            match (capable, enabled) {
                (_, true) => write!(formatter, ", {name} function groups enabled")?,
                (true, false) => write!(formatter, ", {name} function groups disabled")?,
                (false, false) => {}
            }
        }
        write!(formatter, ", function group {}", self.function_group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_is_decoded() {
        let text = |capabilities: u16, control: u16| {
            let mut bytes = vec![0; 8];
            bytes[4..6].copy_from_slice(&capabilities.to_le_bytes());
            bytes[6..8].copy_from_slice(&control.to_le_bytes());
            Ari::decode(ConfigBytes(&bytes), 0).unwrap().to_string()
        };
        assert_eq!(text(0, 0), "no next function, function group 0");
        assert_eq!(
            text(0xff01, 0x51),
            "next function 255, MFVC function groups enabled, function group 5"
        );
        assert_eq!(
            text(0x0202, 0x20),
            "next function 2, ACS function groups disabled, function group 2"
        );
        assert_eq!(
            text(0x0002, 0x02),
            "no next function, ACS function groups enabled, function group 0"
        );
        assert_eq!(Ari::decode(ConfigBytes(&[0; 7]), 0), None);
    }
}
