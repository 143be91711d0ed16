//! A PCI address as people and Linux write it.

use std::fmt;
use std::str::FromStr;

use hdv::pci::RoutingId;

/// Segment (Linux: domain), bus, device and function: `ssss:bb:dd.f`, hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// The segment, 32 bits on Linux.
    pub segment: u32,
    /// Bus, device and function.
    pub routing_id: RoutingId,
}

/// A text that is no PCI address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no PCI address: write segment:bus:device.function or bus:device.function, in hexadecimal, such as 0000:01:00.0"
)]
pub struct AddressError(String);

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{}", self.segment, self.routing_id)
    }
}

impl FromStr for PciAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let parse = || {
            let (front, function) = text.rsplit_once('.')?;
            let (front, device) = front.rsplit_once(':')?;
            let (segment, bus) = front.rsplit_once(':').unwrap_or(("0", front));
            let digits = |text: &str, most: usize| {
                let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
                (!text.is_empty() && text.len() <= most && hexadecimal)
                    .then(|| u32::from_str_radix(text, 16).ok())?
            };
            let small = |text| u8::try_from(digits(text, 2)?).ok();
            Some(Self {
                segment: digits(segment, 8)?,
                routing_id: RoutingId::new(small(bus)?, small(device)?, small(function)?).ok()?,
            })
        };
        parse().ok_or_else(|| AddressError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_alike() {
        for text in ["0000:00:00.0", "ffff:ff:1f.7", "10000:01:10.3"] {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), text);
        }
        assert_eq!(
            "5:1.2".parse::<PciAddress>().unwrap().to_string(),
            "0000:05:01.2"
        );
        for text in [
            "",
            "1",
            "00.0",
            ":00.0",
            "00:20.0",
            "00:00.8",
            "00:00.",
            "100:00:00:00.0",
            "+1:00.0",
            "123456789:00:00.0",
            "00:000.0",
        ] {
            let error = text.parse::<PciAddress>().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }
}
