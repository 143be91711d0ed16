//! Addresses of network adapters.

use std::fmt;
use std::str::FromStr;

/// The address of an Ethernet adapter (IEEE 802: an individual one, not all zeros).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

/// What is wrong with an address: the end of a sentence that begins with the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no address of an adapter: six pairs of hexadecimal digits with - or : between, the first pair even, for example 02-00-00-00-00-01"
)]
pub struct MacAddressError;

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, MacAddressError> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut parts = text.split(separator);
        let mut bytes = [0; 6];
        for byte in &mut bytes {
            let part = parts.next().unwrap_or_default();
            let hexadecimal = part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit());
            *byte = u8::from_str_radix(part, 16)
                .ok()
                .filter(|_| hexadecimal)
                .ok_or(MacAddressError)?;
        }
        // The lowest bit of the first byte makes a group's address.
        let individual = bytes[0] & 1 == 0 && bytes != [0; 6];
        match parts.next() {
            None if individual => Ok(Self(bytes)),
            _ => Err(MacAddressError),
        }
    }
}

impl fmt::Display for MacAddress {
    /// As QEMU takes it: with colons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_write_one_are_read() {
        for text in ["02-00-5E-10-00-ff", "02:00:5e:10:00:FF"] {
            assert_eq!(
                text.parse::<MacAddress>().unwrap().to_string(),
                "02:00:5e:10:00:ff"
            );
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "02-00-5E-10-00",
            "02-00-5E-10-00-01-02",
            "02-00:5E-10-00-01",
            "2-0-5E-10-00-01",
            "+2-00-5E-10-00-01",
            "00-00-00-00-00-00",
            "01-00-5E-00-00-01",
            "0200.5e10.0001",
        ] {
            assert_eq!(text.parse::<MacAddress>(), Err(MacAddressError), "{text}");
        }
    }
}
