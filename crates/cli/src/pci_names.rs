//! Names of vendors, devices and classes from the system's `pci.ids` or, where there is none, the
//! one that came into the cache with pciutils.
//!
//! The file is searched as it is, once per lookup: a command looks up a handful of names.

use std::fs;
use std::path::Path;

use hdv_qemu::bundle::Bundle;
use hdv_qemu::cache::Cache;

/// Where distributions put the file.
const PLACES: [&str; 3] = [
    "/usr/share/misc/pci.ids",
    "/usr/share/hwdata/pci.ids",
    "/usr/share/pci.ids",
];
/// Largest file read, in bytes; the real one has 1.5 MB.
const SIZE_LIMIT: u64 = 64 << 20;

/// The text of a `pci.ids`, or nothing.
#[derive(Debug, Default)]
pub(crate) struct PciNames {
    text: String,
}

impl PciNames {
    /// The system's file, or the cache's. Without either there are no names, which is no error.
    pub(crate) fn find() -> Self {
        PLACES
            .iter()
            .find_map(|place| Self::read(Path::new(place)))
            .or_else(|| Self::of_cache(&Cache::user().ok()?))
            .unwrap_or_default()
    }

    fn of_cache(cache: &Cache) -> Option<Self> {
        let bundle = cache.bundle(&Bundle::PCIUTILS).ok()??;
        PLACES
            .iter()
            .find_map(|place| Self::read(&bundle.path(place.trim_start_matches('/'))))
    }

    fn read(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        if !metadata.is_file() || metadata.len() > SIZE_LIMIT {
            return None;
        }
        Some(Self::parse(&fs::read(path).ok()?))
    }

    /// From the content of a `pci.ids`. Vendors' names are not always UTF-8.
    pub(crate) fn parse(content: &[u8]) -> Self {
        Self {
            text: String::from_utf8_lossy(content).into_owned(),
        }
    }

    /// A vendor's name.
    pub(crate) fn vendor(&self, vendor: u16) -> Option<&str> {
        self.section(&format!("{vendor:04x}")).map(|(name, _)| name)
    }

    /// A device's name.
    pub(crate) fn device(&self, vendor: u16, device: u16) -> Option<&str> {
        let (_, lines) = self.section(&format!("{vendor:04x}"))?;
        entry(lines, "\t", &format!("{device:04x}"))
    }

    /// The most specific name of a class code (base class, subclass, interface, from the high
    /// byte down).
    pub(crate) fn class(&self, class: u32) -> Option<String> {
        let [_, base, subclass, interface] = class.to_be_bytes();
        let (base_name, lines) = self.section(&format!("C {base:02x}"))?;
        let Some(name) = entry(lines.clone(), "\t", &format!("{subclass:02x}")) else {
            return Some(base_name.to_owned());
        };
        let deeper = lines
            .skip_while(|line| !is_entry(line, "\t", &format!("{subclass:02x}")))
            .skip(1)
            .take_while(|line| line.starts_with("\t\t"));
        Some(match entry(deeper, "\t\t", &format!("{interface:02x}")) {
            Some(interface) => format!("{name} ({interface})"),
            None => name.to_owned(),
        })
    }

    /// The name of a top-level entry, and the indented lines under it.
    fn section(&self, key: &str) -> Option<(&str, impl Iterator<Item = &str> + Clone + use<'_>)> {
        let mut lines = self.text.lines();
        let name = lines.find_map(|line| value(line, "", key))?;
        let under = lines
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .take_while(|line| line.starts_with('\t'));
        Some((name, under))
    }
}

fn entry<'a>(mut lines: impl Iterator<Item = &'a str>, indent: &str, key: &str) -> Option<&'a str> {
    lines.find_map(|line| value(line, indent, key))
}

fn is_entry(line: &str, indent: &str, key: &str) -> bool {
    value(line, indent, key).is_some()
}

/// The name in a line `<indent><key>  <name>`.
fn value<'a>(line: &'a str, indent: &str, key: &str) -> Option<&'a str> {
    line.strip_prefix(indent)?
        .strip_prefix(key)?
        .strip_prefix("  ")
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> PciNames {
        PciNames {
            text: "# comment\n\
                   8086  Intel Corporation\n\
                   \t0001  First\n\
                   # in between\n\
                   \t0002  Second\n\
                   \t\t8086 0002  A subsystem\n\
                   8087  Other\n\
                   \t0003  Third\n\
                   C 01  Mass storage controller\n\
                   \t06  SATA controller\n\
                   \t\t00  Vendor specific\n\
                   \t\t01  AHCI 1.0\n\
                   \t08  Non-Volatile memory controller\n\
                   \t\t02  NVM Express\n\
                   C 11  Signal processing controller\n\
                   \t80  Signal processing controller\n"
                .to_owned(),
        }
    }

    #[test]
    fn finds_vendors_and_devices_of_that_vendor_only() {
        let names = sample();
        assert_eq!(names.vendor(0x8086), Some("Intel Corporation"));
        assert_eq!(names.vendor(0x4f48), None);
        assert_eq!(names.device(0x8086, 1), Some("First"));
        assert_eq!(names.device(0x8086, 2), Some("Second"));
        assert_eq!(names.device(0x8086, 3), None);
        assert_eq!(names.device(0x8087, 3), Some("Third"));
        assert_eq!(names.device(0x8087, 0x8086), None);
    }

    #[test]
    fn names_a_class_as_far_as_it_is_known() {
        let names = sample();
        let class = |code| names.class(code);
        assert_eq!(class(0x01_06_01).unwrap(), "SATA controller (AHCI 1.0)");
        assert_eq!(class(0x01_06_02).unwrap(), "SATA controller");
        assert_eq!(
            class(0x01_08_02).unwrap(),
            "Non-Volatile memory controller (NVM Express)"
        );
        assert_eq!(class(0x01_42_01).unwrap(), "Mass storage controller");
        assert_eq!(class(0x11_80_00).unwrap(), "Signal processing controller");
        assert_eq!(class(0x42_00_00), None);
    }

    #[test]
    fn a_system_without_the_file_has_no_names() {
        assert_eq!(PciNames::default().vendor(0x8086), None);
        assert_eq!(PciNames::default().class(0x01_06_01), None);
    }
}
