//! A program's version of three numbers, as QEMU states it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A version such as 11.1.3; serialized as that text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
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
        Self::parse(words.split_whitespace().next()?)
    }

    /// Reads `11.1.3` or `11.1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.');
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        let micro = numbers
            .next()
            .map_or(Some(0), |number| number.parse().ok())?;
        numbers.next().is_none().then_some(Self {
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

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is not a version such as 11.1.3"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_serialized_as_text() {
        let text = serde_json::to_string(&Version::new(11, 1, 3)).unwrap();
        assert_eq!(text, "\"11.1.3\"");
        assert_eq!(
            serde_json::from_str::<Version>(&text).unwrap(),
            Version::new(11, 1, 3)
        );
        assert!(serde_json::from_str::<Version>("\"11.1.3.4\"").is_err());
    }

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
