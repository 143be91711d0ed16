//! How large a domain is.

use hdv_pci::spec::msix::{pending_size, table_size};
use hdv_pci::topology::Ecam;

use super::error::DomainError;

/// Most vectors of an endpoint: a message names one by eight bits of its address.
const VECTORS_MAX: u16 = 256;
/// Smallest memory window: what a port passes down is whole MiB.
const WINDOW_MIN: u64 = 1 << 20;
/// Largest window for 32-bit BARs: it and its place are below 4 GiB, with room for the VM's memory.
const MEMORY_MAX: u64 = 1 << 30;
/// Largest window for prefetchable BARs.
const PREFETCHABLE_MAX: u64 = 1 << 40;

/// How large a domain is. What is in it must fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct DomainOptions {
    buses: u16,
    memory: u64,
    prefetchable: u64,
    vectors: u16,
}

impl DomainOptions {
    /// 32 buses, windows of 64 MiB and 1 GiB, 16 vectors.
    pub const fn new() -> Self {
        Self {
            buses: 32,
            memory: 64 << 20,
            prefetchable: 1 << 30,
            vectors: 16,
        }
    }

    /// How many buses there are, the root bus included: a power of two from 1 to 256. Each is 1 MiB of the VM's
    /// addresses.
    pub const fn buses(self, buses: u16) -> Self {
        Self { buses, ..self }
    }

    /// Size of the window for 32-bit BARs and those that are not prefetchable, in bytes: a power of two from 1 MiB to
    /// 1 GiB. VMs place it below 4 GiB, where there may be less room.
    pub const fn memory(self, bytes: u64) -> Self {
        Self {
            memory: bytes,
            ..self
        }
    }

    /// Size of the window for 64-bit prefetchable BARs, in bytes: a power of two from 1 MiB to 1 TiB.
    pub const fn prefetchable(self, bytes: u64) -> Self {
        Self {
            prefetchable: bytes,
            ..self
        }
    }

    /// How many vectors the messages of the functions inside are folded onto: 2 to 256. The first is left to the
    /// endpoint itself.
    pub const fn vectors(self, vectors: u16) -> Self {
        Self { vectors, ..self }
    }

    pub(super) fn memory_size(self) -> u64 {
        self.memory
    }

    pub(super) fn prefetchable_size(self) -> u64 {
        self.prefetchable
    }

    pub(super) fn vector_count(self) -> u16 {
        self.vectors
    }

    /// The window onto config space.
    ///
    /// # Errors
    /// What of this there cannot be.
    pub(super) fn check(self) -> Result<Ecam, DomainError> {
        let refuse = |what, value: u64, low: u64, high: u64| DomainError::Size {
            what,
            value,
            low,
            high,
        };
        let power = |what, value: u64, low, high| {
            if value.is_power_of_two() && (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(refuse(what, value, low, high))
            }
        };
        power("buses", self.buses.into(), 1, 256)?;
        power("bytes of memory", self.memory, WINDOW_MIN, MEMORY_MAX)?;
        power(
            "bytes of prefetchable memory",
            self.prefetchable,
            WINDOW_MIN,
            PREFETCHABLE_MAX,
        )?;
        debug_assert!(table_size(VECTORS_MAX) + pending_size(VECTORS_MAX) < WINDOW_MIN);
        if !(2..=VECTORS_MAX).contains(&self.vectors) {
            let vectors = self.vectors.into();
            return Err(DomainError::Vectors(vectors));
        }
        Ecam::new(super::ROOT_BUS, self.buses)
            .map_err(|_| refuse("buses", self.buses.into(), 1, 256))
    }
}

impl Default for DomainOptions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two_within_limits() {
        let options = DomainOptions::new();
        assert_eq!(options.check().unwrap().bus_count(), 32);
        for wrong in [
            options.buses(0),
            options.buses(3),
            options.buses(512),
            options.memory(3 << 20),
            options.memory(1 << 19),
            options.memory(1 << 31),
            options.prefetchable(1 << 41),
            options.vectors(1),
            options.vectors(257),
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
        for right in [
            options.buses(1),
            options.buses(256).memory(1 << 30),
            options.prefetchable(1 << 40).vectors(256),
        ] {
            right.check().unwrap();
        }
    }
}
