//! BAR access through `/sys/bus/pci/devices/<address>`: no IOMMU, no driver, no interrupts and
//! no DMA. Also finds devices, and reads what sysfs knows of one.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::memory::Memory;
use super::pci::{self, COMMAND_MEMORY, CONFIG_BYTES};
use super::{BarAccess, Error, Identity, Result, Width};

/// Where Linux lists PCI functions.
pub const DEVICES: &str = "/sys/bus/pci/devices";

/// Number of BARs of a type 0 function.
pub const BARS: usize = 6;

/// The PCI addresses (`0000:00:03.0`) of every function with these ids, in order.
///
/// # Errors
/// When sysfs cannot be read.
pub fn find(vendor: u16, device: u16) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(DEVICES).map_err(|error| Error::file(DEVICES, "list", error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Error::file(DEVICES, "list", error))?;
        let path = entry.path();
        if number(&path.join("vendor"))? == u64::from(vendor)
            && number(&path.join("device"))? == u64::from(device)
        {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    Ok(found)
}

/// The identity in the files `vendor`, `device` and `class` of a function.
///
/// # Errors
/// When a file cannot be read or holds no number that fits.
pub fn identity(address: &str) -> Result<Identity> {
    let path = Path::new(DEVICES).join(address);
    let narrow = |name: &str| -> Result<u32> {
        let path = path.join(name);
        u32::try_from(number(&path)?).map_err(|_| content(&path, "a 32-bit number"))
    };
    let word = |name: &str| -> Result<u16> {
        u16::try_from(narrow(name)?).map_err(|_| content(&path.join(name), "a 16-bit number"))
    };
    Ok(Identity {
        vendor: word("vendor")?,
        device: word("device")?,
        class: narrow("class")?,
    })
}

/// The sizes in bytes of a function's BARs, from its file `resource`.
///
/// # Errors
/// When the file cannot be read or holds something else.
pub fn bar_sizes(address: &str) -> Result<[u64; BARS]> {
    let path = Path::new(DEVICES).join(address).join("resource");
    let text = fs::read_to_string(&path).map_err(|error| Error::file(&path, "read", error))?;
    parse_resources(&text).ok_or_else(|| content(&path, "six lines of start, end and flags"))
}

fn parse_resources(text: &str) -> Option<[u64; BARS]> {
    let mut sizes = [0; BARS];
    let mut lines = text.lines();
    for size in &mut sizes {
        let mut fields = lines.next()?.split_whitespace().map(hexadecimal);
        let (start, end, flags) = (fields.next()??, fields.next()??, fields.next()??);
        if flags != 0 {
            *size = end.checked_sub(start)?.checked_add(1)?;
        }
    }
    Some(sizes)
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

fn number(path: &Path) -> Result<u64> {
    let text = fs::read_to_string(path).map_err(|error| Error::file(path, "read", error))?;
    hexadecimal(&text).ok_or_else(|| content(path, "a hexadecimal number"))
}

fn content(path: &Path, expected: &'static str) -> Error {
    Error::Content {
        path: path.to_owned(),
        text: fs::read_to_string(path).unwrap_or_default(),
        expected,
    }
}

/// A function reached through sysfs.
#[derive(Debug)]
pub struct Sysfs {
    address: String,
    sizes: [u64; BARS],
    bars: [Option<Memory>; BARS],
    config: File,
    config_path: PathBuf,
}

impl Sysfs {
    /// Enables the function at `address` (`0000:00:03.0`) and maps its memory BARs.
    ///
    /// # Errors
    /// When a file in sysfs cannot be used; mapping needs root, and no driver that has claimed
    /// the BARs.
    pub fn open(address: &str) -> Result<Self> {
        let path = Path::new(DEVICES).join(address);
        let open = |path: &Path| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .map_err(|error| Error::file(path, "open", error))
        };
        // With a driver that is for the driver to do.
        if !path.join("driver").exists() {
            let enable = path.join("enable");
            fs::write(&enable, "1").map_err(|error| Error::file(&enable, "write 1", error))?;
        }
        let sizes = bar_sizes(address)?;
        let mut bars = [const { None }; BARS];
        for (index, (bar, &size)) in bars.iter_mut().zip(&sizes).enumerate() {
            let resource = path.join(format!("resource{index}"));
            if size == 0 || !resource.exists() {
                continue;
            }
            let file = open(&resource)?;
            *bar = Some(
                Memory::shared(file.as_fd(), 0, size)
                    .map_err(|errno| Error::file(&resource, "map", errno))?,
            );
        }
        let config_path = path.join("config");
        let sysfs = Self {
            address: address.to_owned(),
            sizes,
            bars,
            config: open(&config_path)?,
            config_path,
        };
        pci::set_command(&sysfs, COMMAND_MEMORY)?;
        Ok(sysfs)
    }

    fn bar(&self, bar: u8) -> Result<&Memory> {
        self.bars
            .get(usize::from(bar))
            .and_then(Option::as_ref)
            .ok_or_else(|| {
                Error::Missing(format!(
                    "{}: sysfs offers no BAR {bar} to map",
                    self.address
                ))
            })
    }
}

impl BarAccess for Sysfs {
    fn name(&self) -> &str {
        &self.address
    }

    fn transport(&self) -> &'static str {
        "sysfs"
    }

    fn identity(&self) -> Result<Identity> {
        identity(&self.address)
    }

    fn bar_size(&self, bar: u8) -> Result<u64> {
        Ok(self.sizes.get(usize::from(bar)).copied().unwrap_or(0))
    }

    fn read(&self, bar: u8, offset: u64, width: Width) -> Result<u64> {
        self.bar(bar)?.read(offset, width)
    }

    fn write(&self, bar: u8, offset: u64, width: Width, value: u64) -> Result<()> {
        self.bar(bar)?.write(offset, width, value)
    }

    fn config_read(&self, offset: u16, width: Width) -> Result<u32> {
        config_read(offset, width, |bytes| {
            self.config
                .read_exact_at(bytes, u64::from(offset))
                .map_err(|error| Error::file(&self.config_path, "read", error))
        })
    }

    fn config_write(&self, offset: u16, width: Width, value: u32) -> Result<()> {
        config_write(offset, width, value, |bytes| {
            self.config
                .write_all_at(bytes, u64::from(offset))
                .map_err(|error| Error::file(&self.config_path, "write", error))
        })
    }
}

/// Reads config space, where it is bytes in something, through `read`.
pub(super) fn config_read(
    offset: u16,
    width: Width,
    read: impl FnOnce(&mut [u8]) -> Result<()>,
) -> Result<u32> {
    let count = config_width(offset, width)?;
    let mut bytes = [0; 4];
    read(&mut bytes[..count])?;
    Ok(u32::from_le_bytes(bytes))
}

/// Writes config space, where it is bytes in something, through `write`.
pub(super) fn config_write(
    offset: u16,
    width: Width,
    value: u32,
    write: impl FnOnce(&[u8]) -> Result<()>,
) -> Result<()> {
    let count = config_width(offset, width)?;
    write(&value.to_le_bytes()[..count])
}

fn config_width(offset: u16, width: Width) -> Result<usize> {
    width.check("config space", u64::from(offset), CONFIG_BYTES)?;
    match width {
        Width::Byte => Ok(1),
        Width::Word => Ok(2),
        Width::Dword => Ok(4),
        Width::Qword => Err(Error::Missing(
            "config space has no accesses of 8 bytes".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_parsed_and_nonsense_is_not() {
        let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
        let bar = "0x000000c000000000 0x000000c000000fff 0x0000000000140204\n";
        let text = format!("{bar}{}", none.repeat(6));
        assert_eq!(parse_resources(&text), Some([4096, 0, 0, 0, 0, 0]));
        assert_eq!(parse_resources(&none.repeat(5)), None);
        assert_eq!(parse_resources(&"0x1 0x0 0x1\n".repeat(6)), None);
        assert_eq!(parse_resources(&"x\n".repeat(6)), None);
    }

    #[test]
    fn config_accesses_are_bounded() {
        let read = |offset, width| {
            config_read(offset, width, |bytes| {
                bytes.fill(0xff);
                Ok(())
            })
        };
        assert_eq!(read(0xfff, Width::Byte).unwrap(), 0xff);
        assert_eq!(read(0xffc, Width::Dword).unwrap(), u32::MAX);
        assert!(read(0xfff, Width::Word).is_err());
        assert!(read(0x1000, Width::Byte).is_err());
        assert!(read(0, Width::Qword).is_err());
    }
}
