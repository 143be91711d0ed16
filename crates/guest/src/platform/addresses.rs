//! Which DMA addresses are in use. Addresses only; no memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::memory::PAGE_BYTES;
use super::{Error, Result};

/// The lowest address given out. Above 4 GiB, so that devices and drivers that drop the upper
/// half of an address are found out, and clear of the interrupt range below it.
pub const FIRST_ADDRESS: u64 = 1 << 32;
/// One past the highest address given out: within the 39 bits of the smallest VT-d.
pub const END_ADDRESS: u64 = 1 << 36;

/// The DMA addresses of one address space.
#[derive(Debug, Default)]
pub struct DmaAddresses {
    used: Mutex<BTreeMap<u64, u64>>,
}

impl DmaAddresses {
    /// Takes the lowest range of `length` bytes (whole pages) that has an unused page on
    /// either side.
    ///
    /// # Errors
    /// When the address space is full.
    pub fn take(&self, length: u64) -> Result<u64> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut start = FIRST_ADDRESS;
        for (&address, &bytes) in used.iter() {
            if start.saturating_add(length).saturating_add(PAGE_BYTES) <= address {
                break;
            }
            start = address + bytes + PAGE_BYTES;
        }
        if start
            .checked_add(length)
            .is_none_or(|end| end > END_ADDRESS)
        {
            return Err(Error::Missing(format!(
                "no {length} bytes of DMA addresses are left below {END_ADDRESS:#x}"
            )));
        }
        used.insert(start, length);
        Ok(start)
    }

    /// Gives a range back.
    pub fn give_back(&self, address: u64) {
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_apart_and_used_again() {
        let addresses = DmaAddresses::default();
        let a = addresses.take(PAGE_BYTES).unwrap();
        let b = addresses.take(2 * PAGE_BYTES).unwrap();
        let c = addresses.take(PAGE_BYTES).unwrap();
        assert_eq!(a, FIRST_ADDRESS);
        assert_eq!(b, a + 2 * PAGE_BYTES);
        assert_eq!(c, b + 3 * PAGE_BYTES);
        addresses.give_back(b);
        assert_eq!(addresses.take(3 * PAGE_BYTES).unwrap(), c + 2 * PAGE_BYTES);
        assert_eq!(addresses.take(2 * PAGE_BYTES).unwrap(), b);
    }

    #[test]
    fn the_end_is_an_error() {
        let addresses = DmaAddresses::default();
        assert!(addresses.take(END_ADDRESS).is_err());
        assert!(addresses.take(u64::MAX).is_err());
    }
}
