//! Where the interrupts of a function go whose driver is this process, and how they are seen: messages in memory, or interrupts
//! of the endpoint behind which it is.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::memory::Memory;
use super::sysfs::DEVICES;
use super::{Error, Result, physical};

/// Bytes from one message's place in memory to the next: a cache line.
const MESSAGE_BYTES: u64 = 64;
/// What a message writes into memory.
const FIRED: u32 = 0x0f1e_ed00;

/// Where the kernel tells of its interrupts, by their numbers.
const INTERRUPTS: &str = "/sys/kernel/irq";
/// How the folder of a domain's root bus begins.
const ROOT_BUS: &str = "pci";
/// The messages of functions behind an endpoint name its vector from this bit of their address on.
const ENDPOINT_MESSAGE: u64 = 0xfee0_0000;
const ENDPOINT_VECTOR_SHIFT: u32 = 12;
/// The endpoint's vectors from here on are free: the first is its own, the second takes what its driver hands on.
const ENDPOINT_FREE: u16 = 2;
/// Enough for the counts of many processors.
const COUNT_BYTES: usize = 4096;

/// How a function's messages are seen.
#[derive(Debug)]
pub(super) enum Messages {
    /// They write to memory, each to a place of its own.
    Memory {
        /// That memory.
        page: Memory,
        /// Its physical address.
        at: u64,
    },
    /// They are interrupts of an endpoint, which its driver takes and the kernel counts.
    Endpoint(Vec<Interrupt>),
}

/// An interrupt of an endpoint.
#[derive(Debug)]
pub(super) struct Interrupt {
    vector: u16,
    path: PathBuf,
    /// How often each processor took it.
    counts: File,
    /// What of it was told.
    seen: AtomicU64,
}

impl Messages {
    /// Messages that write to memory.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn in_memory() -> Result<Self> {
        let page = physical::huge_page()?;
        let at = physical::physical_address(&page)?;
        Ok(Self::Memory { page, at })
    }

    /// Messages that are interrupts of the endpoint behind which the function at `address` is. Of its free vectors the first
    /// `skip` are left to others.
    ///
    /// # Errors
    /// When it is behind none, or the kernel does not tell of its interrupts.
    pub(super) fn of_endpoint(address: &str, skip: u16) -> Result<Self> {
        let endpoint = endpoint_of(address)?;
        let path = endpoint.join("msi_irqs");
        let entries = fs::read_dir(&path).map_err(|error| Error::file(&path, "list", error))?;
        let mut numbers: Vec<u32> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        // The kernel numbers the interrupts of a function in the order of its vectors.
        numbers.sort_unstable();
        let free =
            (0..)
                .zip(numbers)
                .skip((ENDPOINT_FREE + skip).into())
                .map(|(vector, number)| {
                    let path = Path::new(INTERRUPTS)
                        .join(number.to_string())
                        .join("per_cpu_count");
                    Ok(Interrupt {
                        vector,
                        counts: File::open(&path)
                            .map_err(|error| Error::file(&path, "open", error))?,
                        path,
                        seen: AtomicU64::new(0),
                    })
                });
        Ok(Self::Endpoint(free.collect::<Result<_>>()?))
    }

    /// Address and data of what a vector is to write. What came before is forgotten.
    ///
    /// # Errors
    /// When there are not so many.
    pub(super) fn arm(&self, vector: u16) -> Result<(u64, u32)> {
        match self {
            Self::Memory { page, at } => {
                let place = MESSAGE_BYTES * u64::from(vector);
                page.store_release(place, 0)?;
                Ok((at + place, FIRED))
            }
            Self::Endpoint(interrupts) => {
                let interrupt = of(interrupts, vector)?;
                interrupt.new_ones()?;
                let vector = u64::from(interrupt.vector) << ENDPOINT_VECTOR_SHIFT;
                Ok((ENDPOINT_MESSAGE | vector, 0))
            }
        }
    }

    /// How often a vector fired since it was asked last; several times may be one.
    ///
    /// # Errors
    /// When something else was written in its place, or the kernel does not tell.
    pub(super) fn fired(&self, vector: u16) -> Result<u64> {
        match self {
            Self::Memory { page, .. } => {
                let place = MESSAGE_BYTES * u64::from(vector);
                match page.load_acquire(place)? {
                    0 => Ok(0),
                    FIRED => {
                        // A message that comes in between is for what is seen of the device after this.
                        page.store_release(place, 0)?;
                        Ok(1)
                    }
                    other => Err(Error::Missing(format!(
                        "vector {vector} wrote {other:#x}, its data is {FIRED:#x}"
                    ))),
                }
            }
            Self::Endpoint(interrupts) => of(interrupts, vector)?.new_ones(),
        }
    }
}

fn of(interrupts: &[Interrupt], vector: u16) -> Result<&Interrupt> {
    interrupts.get(usize::from(vector)).ok_or_else(|| {
        let left = interrupts.len();
        Error::Missing(format!(
            "vector {vector} has no vector of the endpoint to go to, {left} are free"
        ))
    })
}

impl Interrupt {
    /// How often it came since this was asked last.
    fn new_ones(&self) -> Result<u64> {
        let mut text = [0; COUNT_BYTES];
        let count = self
            .counts
            .read_at(&mut text, 0)
            .map_err(|error| Error::file(&self.path, "read", error))?;
        let text = String::from_utf8_lossy(&text[..count]);
        let sum = sum(&text).ok_or_else(|| Error::Content {
            path: self.path.clone(),
            text: text.into_owned(),
            expected: "a count for each processor",
        })?;
        let seen = self.seen.swap(sum, Ordering::Relaxed);
        Ok(sum.saturating_sub(seen))
    }
}

fn sum(counts: &str) -> Option<u64> {
    let mut counts = counts.trim().split(',').map(|count| count.parse().ok());
    counts.try_fold(0_u64, |sum, count| sum.checked_add(count?))
}

/// Where sysfs has the endpoint behind which a function is: above the root bus of its domain.
fn endpoint_of(address: &str) -> Result<PathBuf> {
    let link = Path::new(DEVICES).join(address);
    let path = fs::canonicalize(&link).map_err(|error| Error::file(&link, "follow", error))?;
    let is_root_bus = |path: &&Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(ROOT_BUS)
    };
    let root_bus = path.ancestors().find(is_root_bus);
    let endpoint = root_bus.and_then(Path::parent);
    let endpoint = endpoint.filter(|endpoint| endpoint.join("msi_irqs").exists());
    endpoint.map(Path::to_owned).ok_or_else(|| {
        Error::Missing(format!(
            "{address} is behind no endpoint with interrupts: {}",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_processors_are_one() {
        assert_eq!(sum("0,12,3\n"), Some(15));
        assert_eq!(sum("7\n"), Some(7));
        assert_eq!(sum("7,\n"), None);
        assert_eq!(sum(""), None);
    }
}
