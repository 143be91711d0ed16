//! A PF as Linux shows it in sysfs: what the checks compare with, read without anything of OpenHDV's.

use std::fs;
use std::path::{Path, PathBuf};

use crate::platform::sysfs::{BARS, DEVICES};
use crate::platform::{Error, Result};

/// The most VFs that Linux will enable.
const TOTAL_VFS: &str = "sriov_totalvfs";
/// How many are enabled.
const NUM_VFS: &str = "sriov_numvfs";

/// Secondary and Subordinate Bus Number of a port (PCI Express Base Specification 6.0, 7.5.1.3).
const SECONDARY_BUS: usize = 0x19;
const SUBORDINATE_BUS: usize = 0x1a;
/// Where extended capabilities begin (7.6.1), and the id of SR-IOV's (9.3.3.1).
const EXTENDED: usize = 0x100;
const SRIOV: u32 = 0x0010;
/// TotalVFs in that capability (9.3.3.6).
const SRIOV_TOTAL_VFS: usize = 0x0e;
/// The most capabilities that config space has room for.
const CAPABILITIES_MAX: usize = 1024;

/// The PFs of this machine, by their addresses, in order.
///
/// # Errors
/// When sysfs cannot be read.
pub fn pfs() -> Result<Vec<Pf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(DEVICES).map_err(|error| Error::file(DEVICES, "list", error))? {
        let entry = entry.map_err(|error| Error::file(DEVICES, "list", error))?;
        if entry.path().join(TOTAL_VFS).exists() {
            found.push(Pf {
                address: entry.file_name().to_string_lossy().into_owned(),
            });
        }
    }
    found.sort();
    Ok(found)
}

/// A BAR as Linux has placed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its address on the bus.
    pub address: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// A PF.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pf {
    address: String,
}

impl Pf {
    /// Its address, `0000:01:00.0`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its driver; `None` without one.
    #[must_use]
    pub fn driver(&self) -> Option<String> {
        name_of_target(&self.path("driver"))
    }

    /// The most VFs that Linux will enable; fewer than the capability says where the driver wants it so.
    ///
    /// # Errors
    /// When the file cannot be read or holds no number.
    pub fn offered_vfs(&self) -> Result<u16> {
        self.number(TOTAL_VFS)
    }

    /// How many VFs are enabled.
    ///
    /// # Errors
    /// When the file cannot be read or holds no number.
    pub fn num_vfs(&self) -> Result<u16> {
        self.number(NUM_VFS)
    }

    /// Enables so many VFs, or disables all with 0.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_num_vfs(&self, count: u16) -> Result<()> {
        let path = self.path(NUM_VFS);
        fs::write(&path, count.to_string()).map_err(|error| Error::file(&path, "write", error))
    }

    /// TotalVFs of the capability.
    ///
    /// # Errors
    /// When config space cannot be read or has no such capability.
    pub fn total_vfs(&self) -> Result<u16> {
        let path = self.path("config");
        let config = read(&path)?;
        let mut at = EXTENDED;
        for _ in 0..CAPABILITIES_MAX {
            let Some(header) = number(&config, at, 4) else {
                break;
            };
            if header & 0xffff == SRIOV {
                let total = number(&config, at + SRIOV_TOTAL_VFS, 2);
                return total
                    .and_then(|total| u16::try_from(total).ok())
                    .ok_or_else(|| Error::Missing(format!("{} is cut off", path.display())));
            }
            at = usize::try_from(header >> 20).unwrap_or(0);
            if at < EXTENDED {
                break;
            }
        }
        Err(Error::Missing(format!(
            "{} has no SR-IOV capability",
            path.display()
        )))
    }

    /// Where VF `vf` is, by its link; `None` when there is no such VF now.
    #[must_use]
    pub fn vf(&self, vf: u16) -> Option<String> {
        name_of_target(&self.path(&format!("virtfn{vf}")))
    }

    /// How many links to VFs there are.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn vf_links(&self) -> Result<usize> {
        let path = self.path("");
        let entries = fs::read_dir(&path).map_err(|error| Error::file(&path, "list", error))?;
        Ok(entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("virtfn"))
            .count())
    }

    /// The config space of VF `vf`, as the device has it.
    ///
    /// # Errors
    /// When there is no such VF or it cannot be read.
    pub fn vf_config(&self, vf: u16) -> Result<Vec<u8>> {
        read(&self.path(&format!("virtfn{vf}/config")))
    }

    /// Where Linux has placed the BARs of VF `vf`; `None` for those it does not have.
    ///
    /// # Errors
    /// When there is no such VF or its resources cannot be read.
    pub fn vf_bars(&self, vf: u16) -> Result<[Option<Placed>; BARS]> {
        let path = self.path(&format!("virtfn{vf}/resource"));
        let text = fs::read_to_string(&path).map_err(|error| Error::file(&path, "read", error))?;
        parse_resources(&text).ok_or(Error::Content {
            path,
            text,
            expected: "six lines of start, end and flags",
        })
    }

    /// The bus numbers that the port above has beyond its secondary one.
    ///
    /// # Errors
    /// When there is no port above or its config space cannot be read.
    pub fn captured_buses(&self) -> Result<u8> {
        let link = self.path("");
        let path = fs::canonicalize(&link).map_err(|error| Error::file(&link, "follow", error))?;
        let path = path.with_file_name("config");
        let config = read(&path)?;
        match (config.get(SECONDARY_BUS), config.get(SUBORDINATE_BUS)) {
            (Some(secondary), Some(subordinate)) if subordinate >= secondary => {
                Ok(subordinate - secondary)
            }
            numbers => Err(Error::Missing(format!(
                "{}: the bus numbers are {numbers:?}",
                path.display()
            ))),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(DEVICES).join(&self.address).join(name)
    }

    fn number(&self, name: &str) -> Result<u16> {
        let path = self.path(name);
        let text = fs::read_to_string(&path).map_err(|error| Error::file(&path, "read", error))?;
        text.trim().parse().map_err(|_| Error::Content {
            path,
            text,
            expected: "a 16-bit number",
        })
    }
}

fn name_of_target(link: &Path) -> Option<String> {
    let target = fs::read_link(link).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Error::file(path, "read", error))
}

/// A little-endian number of up to 4 bytes.
fn number(bytes: &[u8], at: usize, count: usize) -> Option<u32> {
    let mut whole = [0; 4];
    whole
        .get_mut(..count)?
        .copy_from_slice(bytes.get(at..at.checked_add(count)?)?);
    Some(u32::from_le_bytes(whole))
}

fn parse_resources(text: &str) -> Option<[Option<Placed>; BARS]> {
    let mut bars = [None; BARS];
    let mut lines = text.lines();
    for bar in &mut bars {
        let mut fields = lines
            .next()?
            .split_whitespace()
            .map(|field| u64::from_str_radix(field.strip_prefix("0x")?, 16).ok());
        let (address, end, flags) = (fields.next()??, fields.next()??, fields.next()??);
        if flags != 0 {
            *bar = Some(Placed {
                address,
                size: end.checked_sub(address)?.checked_add(1)?,
            });
        }
    }
    Some(bars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_parsed_and_nonsense_is_not() {
        let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
        let bar = "0x000000c000000000 0x000000c000003fff 0x0000000000140204\n";
        let text = format!("{none}{bar}{}", none.repeat(5));
        let mut expected = [None; BARS];
        expected[1] = Some(Placed {
            address: 0xc0_0000_0000,
            size: 0x4000,
        });
        assert_eq!(parse_resources(&text), Some(expected));
        assert_eq!(parse_resources(&none.repeat(5)), None);
        assert_eq!(parse_resources(&"0x1 0x0 0x1\n".repeat(6)), None);
        assert_eq!(parse_resources(&"x\n".repeat(6)), None);
    }

    #[test]
    fn numbers_are_not_read_beyond_the_end() {
        assert_eq!(number(&[1, 2, 3], 1, 2), Some(0x0302));
        assert_eq!(number(&[1, 2, 3], 2, 2), None);
        assert_eq!(number(&[1, 2, 3], usize::MAX, 2), None);
    }
}
