//! How long the kernel takes to find PCI functions: they are removed through sysfs, then all buses are looked through again, as
//! `echo 1 > /sys/bus/pci/rescan` does it. A look that finds nothing tells what of that is the rest of the machine's.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::checks::{Verdict, ensure};
use crate::platform::sysfs;
use crate::platform::{Error, Result};
use crate::report::Line;

const DEVICES: &str = "/sys/bus/pci/devices";
const RESCAN: &str = "/sys/bus/pci/rescan";

/// What is looked for, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looks {
    /// PCI vendor id of the functions.
    pub vendor: u16,
    /// Their device id.
    pub device: u16,
    /// How often.
    pub count: u32,
}

/// As in `4f48:7ffe:10`: ids in hexadecimal, then how often.
impl FromStr for Looks {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parts: Vec<_> = text.split(':').collect();
        let looks = match parts[..] {
            [vendor, device, count] => (|| {
                Some(Self {
                    vendor: u16::from_str_radix(vendor, 16).ok()?,
                    device: u16::from_str_radix(device, 16).ok()?,
                    count: count.parse().ok()?,
                })
            })(),
            _ => None,
        };
        looks.ok_or_else(|| "it is not VENDOR:DEVICE:COUNT, ids in hexadecimal".to_owned())
    }
}

impl fmt::Display for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            vendor,
            device,
            count,
        } = self;
        write!(f, "{vendor:04x}:{device:04x}:{count}")
    }
}

/// Removes the functions and has them found again, and tells each time to `sink`.
///
/// # Errors
/// Sysfs cannot be used; not all are found again.
pub fn measure(looks: &Looks, sink: &mut dyn FnMut(Line)) -> Verdict {
    let found = sysfs::find(looks.vendor, looks.device)?;
    ensure(!found.is_empty(), || {
        format!(
            "there is no function {:04x}:{:04x}",
            looks.vendor, looks.device
        )
    })?;
    for _ in 0..looks.count {
        for address in &found {
            put(&Path::new(DEVICES).join(address).join("remove"))?;
        }
        let found_again = look()?;
        let nothing = look()?;
        let again = sysfs::find(looks.vendor, looks.device)?;
        ensure(again == found, || {
            format!(
                "{} functions were found again of {}",
                again.len(),
                found.len()
            )
        })?;
        sink(Line::Rescanned {
            functions: found.len(),
            found_ns: nanoseconds(found_again),
            nothing_ns: nanoseconds(nothing),
        });
    }
    Ok(format!("{} functions, {} times", found.len(), looks.count))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How long a look through all buses takes.
fn look() -> Result<Duration> {
    let begun = Instant::now();
    put(Path::new(RESCAN))?;
    Ok(begun.elapsed())
}

fn put(path: &Path) -> Result<()> {
    fs::write(path, "1").map_err(|error| Error::file(path, "write 1", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_look_for_is_read_and_written_alike() {
        let looks = Looks {
            vendor: 0x1b36,
            device: 5,
            count: 10,
        };
        assert_eq!(looks.to_string(), "1b36:0005:10");
        assert_eq!(looks.to_string().parse(), Ok(looks));
        for wrong in ["", "1b36:5", "1b36:5:x", "1b36:5:1:1", "10000:5:1"] {
            assert!(wrong.parse::<Looks>().is_err(), "{wrong}");
        }
    }
}
