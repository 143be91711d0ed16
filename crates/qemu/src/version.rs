//! A program's version of three numbers, as QEMU states it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A version such as 11.1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number; 0 when it was not stated.
    pub micro: u32,
}

impl Version {
    /// A version of three numbers.
    #[must_use]
    pub const fn new(major: u32, minor: u32, micro: u32) -> Self {
        Self {
            major,
            minor,
            micro,
        }
    }

    /// Reads the version from the first line that QEMU prints for `--version`,
    /// `QEMU emulator version 11.1.3 (...)`.
    #[must_use]
    pub fn from_qemu(output: &str) -> Option<Self> {
        let words = output
            .lines()
            .next()?
            .strip_prefix("QEMU emulator version ")?;
        let mut numbers = words.split_whitespace().next()?.split('.');
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        let micro = numbers
            .next()
            .map_or(Some(0), |number| number.parse().ok())?;
        Some(Self {
            major,
            minor,
            micro,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_qemu_prints() {
        let debian = "QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)\nCopyright (c)";
        assert_eq!(Version::from_qemu(debian), Some(Version::new(11, 1, 3)));
        assert_eq!(
            Version::from_qemu("QEMU emulator version 10.1"),
            Some(Version::new(10, 1, 0))
        );
        assert_eq!(Version::from_qemu("qemu-img version 10.1.0"), None);
        assert_eq!(Version::from_qemu("QEMU emulator version ten"), None);
        assert_eq!(Version::from_qemu(""), None);
    }

    #[test]
    fn ten_is_newer_than_nine() {
        assert!(Version::new(10, 0, 9) < Version::new(10, 1, 0));
        assert!(Version::new(9, 2, 0) < Version::new(10, 1, 0));
    }
}
