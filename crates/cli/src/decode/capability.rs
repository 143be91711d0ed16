//! The capabilities in the first 256 bytes (7.5.3 and following).

use std::fmt;

use hdv_pci::spec::express::{self, DeviceCapabilities};
use hdv_pci::spec::header::{CAPABILITIES_POINTER, END};
use hdv_pci::spec::msi::{self, MsiControl};
use hdv_pci::spec::msix::{self, MsixControl};
use hdv_pci::spec::power::{self, PowerControl};
use hdv_pci::spec::{
    CAPABILITY_NEXT, COMPATIBLE_SIZE, VENDOR_SPECIFIC_DATA, VENDOR_SPECIFIC_LENGTH, capability_id,
};
use serde::Serialize;

use super::{ConfigBytes, Hex, names};

/// Most capabilities that fit: each takes at least a dword.
const COUNT_MAX: usize = ((COMPATIBLE_SIZE - END) / 4) as usize;

/// A capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Capability {
    pub(crate) offset: Hex<2>,
    pub(crate) id: Hex<2>,
    pub(crate) name: &'static str,
    pub(crate) details: Details,
}

/// What is known of a capability's registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Details {
    PowerManagement {
        version: u8,
        state: &'static str,
        no_soft_reset: bool,
    },
    Msi {
        enabled: bool,
        vectors: u32,
        vectors_enabled: u32,
        address_64: bool,
        per_vector_masking: bool,
        address: Hex<8>,
        data: Hex<4>,
    },
    #[serde(rename = "msi-x")]
    MsiX {
        enabled: bool,
        function_masked: bool,
        vectors: u16,
        table: BarLocation,
        pending: BarLocation,
    },
    PciExpress {
        version: u16,
        port: &'static str,
        max_payload: u16,
        function_level_reset: bool,
    },
    VendorSpecific {
        length: u8,
        data: String,
    },
    /// Nothing but its name is known here.
    Other,
}

/// A place in a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct BarLocation {
    pub(crate) bar: u32,
    pub(crate) offset: Hex<1>,
}

impl BarLocation {
    fn of(register: u32) -> Self {
        Self {
            bar: register & msix::BAR_MASK,
            offset: Hex((register & msix::OFFSET_MASK).into()),
        }
    }
}

impl fmt::Display for BarLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BAR{}+0x{}", self.bar, self.offset)
    }
}

/// Follows the list from its pointer; a list that cannot be followed ends in a fault.
pub(super) fn walk(config: ConfigBytes<'_>, faults: &mut Vec<String>) -> Vec<Capability> {
    // The low two bits are reserved and to be masked (7.5.1.1.11).
    let mut offset = u16::from(config.u8(CAPABILITIES_POINTER) & !0b11);
    let mut capabilities: Vec<Capability> = Vec::new();
    while offset != 0 {
        if offset < END || !config.holds(offset, 4) {
            faults.push(format!(
                "the capability list leads to 0x{offset:02x}, outside of its range"
            ));
            break;
        }
        let seen = capabilities
            .iter()
            .any(|former| former.offset.0 == u64::from(offset));
        if seen || capabilities.len() >= COUNT_MAX {
            faults.push(format!("the capability list comes back to 0x{offset:02x}"));
            break;
        }
        let id = config.u8(offset);
        capabilities.push(Capability {
            offset: Hex(offset.into()),
            id: Hex(id.into()),
            name: names::capability(id).unwrap_or("unknown"),
            details: details(config, offset, id),
        });
        offset = u16::from(config.u8(offset + CAPABILITY_NEXT) & !0b11);
    }
    capabilities
}

fn details(config: ConfigBytes<'_>, offset: u16, id: u8) -> Details {
    match id {
        capability_id::POWER_MANAGEMENT if config.holds(offset, power::LENGTH) => {
            let capabilities = config.u16(offset + power::CAPABILITIES);
            let control =
                PowerControl::from_bits_retain(config.u16(offset + power::CONTROL_STATUS));
            Details::PowerManagement {
                version: capabilities.to_le_bytes()[0] & 0b111,
                state: match power::PowerState::of(control) {
                    power::PowerState::D0 => "D0",
                    power::PowerState::D1 => "D1",
                    power::PowerState::D2 => "D2",
                    power::PowerState::D3Hot => "D3hot",
                },
                no_soft_reset: control.contains(PowerControl::NO_SOFT_RESET),
            }
        }
        capability_id::MSI if config.holds(offset, msi::DATA_64 + 2) => {
            details_of_msi(config, offset)
        }
        capability_id::MSIX if config.holds(offset, msix::LENGTH) => {
            let control = MsixControl::from_bits_retain(config.u16(offset + msix::CONTROL));
            Details::MsiX {
                enabled: control.contains(MsixControl::ENABLE),
                function_masked: control.contains(MsixControl::FUNCTION_MASK),
                vectors: (control & MsixControl::TABLE_SIZE).bits() + 1,
                table: BarLocation::of(config.u32(offset + msix::TABLE)),
                pending: BarLocation::of(config.u32(offset + msix::PENDING)),
            }
        }
        capability_id::PCI_EXPRESS if config.holds(offset, express::DEVICE_CONTROL) => {
            let capabilities = config.u16(offset + express::CAPABILITIES);
            let device = DeviceCapabilities::from_bits_retain(
                config.u32(offset + express::DEVICE_CAPABILITIES),
            );
            let payload = (device & DeviceCapabilities::MAX_PAYLOAD_SIZE).bits();
            Details::PciExpress {
                version: capabilities & 0xf,
                port: port(capabilities >> 4 & 0xf),
                max_payload: express::MAX_PAYLOAD_MIN << payload,
                function_level_reset: device.contains(DeviceCapabilities::FUNCTION_LEVEL_RESET),
            }
        }
        capability_id::VENDOR_SPECIFIC => {
            let length = config.u8(offset + VENDOR_SPECIFIC_LENGTH);
            let data = u16::from(length).saturating_sub(VENDOR_SPECIFIC_DATA);
            let data = config.slice(offset + VENDOR_SPECIFIC_DATA, data);
            Details::VendorSpecific {
                length,
                data: data.iter().map(|byte| format!("{byte:02x}")).collect(),
            }
        }
        _ => Details::Other,
    }
}

fn details_of_msi(config: ConfigBytes<'_>, offset: u16) -> Details {
    let control = MsiControl::from_bits_retain(config.u16(offset + msi::CONTROL));
    let count = |field: MsiControl, shift: u32| 1_u32 << ((control & field).bits() >> shift);
    let enabled = control.contains(MsiControl::ENABLE);
    let address_64 = control.contains(MsiControl::ADDRESS_64);
    let low = u64::from(config.u32(offset + msi::ADDRESS));
    let (address, data) = if address_64 {
        let high = u64::from(config.u32(offset + msi::ADDRESS_HIGH));
        (high << 32 | low, msi::DATA_64)
    } else {
        (low, msi::DATA_32)
    };
    Details::Msi {
        enabled,
        vectors: count(
            MsiControl::MULTIPLE_MESSAGE_CAPABLE,
            msi::MULTIPLE_MESSAGE_CAPABLE_SHIFT,
        ),
        vectors_enabled: if enabled {
            count(
                MsiControl::MULTIPLE_MESSAGE_ENABLE,
                msi::MULTIPLE_MESSAGE_ENABLE_SHIFT,
            )
        } else {
            0
        },
        address_64,
        per_vector_masking: control.contains(MsiControl::PER_VECTOR_MASKING),
        address: Hex(address),
        data: Hex(config.u16(offset + data).into()),
    }
}

/// Device or port type (7.5.3.2).
fn port(kind: u16) -> &'static str {
    match kind {
        0x0 => "endpoint",
        0x1 => "legacy endpoint",
        0x4 => "root port",
        0x5 => "upstream switch port",
        0x6 => "downstream switch port",
        0x7 => "PCI Express to PCI bridge",
        0x8 => "PCI to PCI Express bridge",
        0x9 => "root complex integrated endpoint",
        0xa => "root complex event collector",
        _ => "unknown port",
    }
}

impl fmt::Display for Details {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerManagement {
                version,
                state,
                no_soft_reset,
            } => {
                let kept = if *no_soft_reset {
                    ", state kept from D3hot"
                } else {
                    ""
                };
                write!(formatter, "version {version}, {state}{kept}")
            }
            Self::Msi {
                enabled,
                vectors,
                vectors_enabled,
                address_64,
                per_vector_masking,
                address,
                data,
            } => {
                let bits = if *address_64 { 64 } else { 32 };
                write!(formatter, "{}, {bits} bit", plural(*vectors, "vector"))?;
                if *per_vector_masking {
                    formatter.write_str(", maskable")?;
                }
                if *enabled {
                    write!(
                        formatter,
                        ", {vectors_enabled} enabled at 0x{address} data 0x{data}"
                    )
                } else {
                    formatter.write_str(", disabled")
                }
            }
            Self::MsiX {
                enabled,
                function_masked,
                vectors,
                table,
                pending,
            } => {
                let state = match (enabled, function_masked) {
                    (false, _) => "disabled",
                    (true, false) => "enabled",
                    (true, true) => "enabled, masked",
                };
                let vectors = plural((*vectors).into(), "vector");
                write!(
                    formatter,
                    "{vectors}, table {table}, pending bits {pending}, {state}"
                )
            }
            Self::PciExpress {
                version,
                port,
                max_payload,
                function_level_reset,
            } => {
                write!(
                    formatter,
                    "version {version}, {port}, payload up to {max_payload} bytes"
                )?;
                if *function_level_reset {
                    formatter.write_str(", function level reset")?;
                }
                Ok(())
            }
            Self::VendorSpecific { length, data } => {
                write!(formatter, "{length} bytes: {data}")
            }
            Self::Other => Ok(()),
        }
    }
}

fn plural(count: u32, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(capabilities: &[(usize, &[u8])]) -> (Vec<Capability>, Vec<String>) {
        let mut bytes = vec![0; 256];
        bytes[0x34] = u8::try_from(capabilities[0].0).unwrap();
        for (offset, content) in capabilities {
            bytes[*offset..offset + content.len()].copy_from_slice(content);
        }
        let mut faults = Vec::new();
        let found = walk(ConfigBytes(&bytes), &mut faults);
        (found, faults)
    }

    #[test]
    fn all_known_capabilities_are_decoded() {
        let (found, faults) = list(&[
            (0x40, &[0x01, 0x48, 0x03, 0x00, 0x0b, 0x00, 0, 0]),
            (
                0x48,
                &[
                    0x05, 0x60, 0xa5, 0x01, 0, 0, 0xe0, 0xfe, 1, 0, 0, 0, 0x41, 0x40,
                ],
            ),
            (
                0x60,
                &[0x11, 0x70, 0x02, 0x80, 0x04, 0x08, 0, 0, 0x00, 0x0c, 0, 0],
            ),
            (0x70, &[0x10, 0xb0, 0x02, 0x00, 0x01, 0x80, 0x00, 0x10]),
            (0xb0, &[0x09, 0xc0, 0x06, 0xaa, 0xbb, 0xcc]),
            (0xc0, &[0x42, 0x00, 0, 0]),
        ]);
        assert_eq!(faults, Vec::<String>::new());
        let texts: Vec<String> = found
            .iter()
            .map(|capability| {
                let Capability {
                    offset,
                    name,
                    details,
                    ..
                } = capability;
                format!("{offset} {name}: {details}")
            })
            .collect();
        assert_eq!(
            texts,
            [
                "40 Power Management: version 3, D3hot, state kept from D3hot",
                "48 MSI: 4 vectors, 64 bit, maskable, 4 enabled at 0x1fee00000 data 0x4041",
                "60 MSI-X: 3 vectors, table BAR4+0x800, pending bits BAR0+0xc00, enabled",
                "70 PCI Express: version 2, endpoint, payload up to 256 bytes, function level reset",
                "b0 Vendor-Specific: 6 bytes: aabbcc",
                "c0 unknown: ",
            ]
        );
    }

    #[test]
    fn a_32_bit_msi_has_its_data_elsewhere() {
        let (found, _) = list(&[(0x40, &[0x05, 0, 0x01, 0, 0, 0, 0xe0, 0xfe, 0x21, 0x43])]);
        let text = found[0].details.to_string();
        assert_eq!(
            text,
            "1 vector, 32 bit, 1 enabled at 0xfee00000 data 0x4321"
        );
    }

    #[test]
    fn loops_and_wild_pointers_end_in_a_fault() {
        let (found, faults) = list(&[(0x40, &[0, 0x44, 0, 0]), (0x44, &[0, 0x40, 0, 0])]);
        assert_eq!(found.len(), 2);
        assert!(faults[0].contains("comes back to 0x40"), "{faults:?}");
        let (found, faults) = list(&[(0x40, &[0, 0x3c, 0, 0])]);
        assert_eq!(found.len(), 1);
        assert!(faults[0].contains("0x3c, outside"), "{faults:?}");
    }

    #[test]
    fn a_capability_cut_off_at_the_end_is_only_named() {
        let mut bytes = vec![0; 128];
        bytes[0x34] = 0x7c;
        bytes[0x7c] = 0x11;
        let mut faults = Vec::new();
        let found = walk(ConfigBytes(&bytes), &mut faults);
        assert_eq!(found[0].name, "MSI-X");
        assert_eq!(found[0].details, Details::Other);
    }
}
