//! A domain on the test bench: its config space and windows as software has them, which is what an operating system needs to
//! enumerate it.

use std::fmt;

use hdv_pci::enumerate::{ConfigBus, HotPlugReserve, Resources};
use hdv_pci::{BarIndex, RoutingId};

use super::vmd::{self, MEMORY_BASE, PREFETCHABLE_BASE};
use crate::test_bench::TestBench;

/// Bytes of config space that a bus has: 256 functions of 4096.
const BUS_SIZE: u64 = 1 << 20;

/// The buses of a domain whose [endpoint](super::DomainEndpoint) is on a test bench. With
/// [`enumerate`](hdv_pci::enumerate::enumerate) it plays the operating system of a guest:
///
/// ```
/// use hdv::TestBench;
/// use hdv::domain::{BenchBus, Domain, DomainOptions};
/// use hdv::pci::enumerate::enumerate;
///
/// let (domain, endpoint) = Domain::new(DomainOptions::new())?;
/// let port = domain.add_root_port(1, 0, None)?;
/// domain.add_switch(port, &[None, None])?;
/// let mut bench = TestBench::new(endpoint)?;
/// let mut bus = BenchBus::new(&mut bench);
/// let resources = bus.resources();
/// let found = enumerate(&mut bus, &resources)?;
/// assert_eq!(found.functions.len(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BenchBus<'a> {
    bench: &'a mut TestBench,
}

impl<'a> BenchBus<'a> {
    /// Those of the endpoint on this bench.
    pub fn new(bench: &'a mut TestBench) -> Self {
        Self { bench }
    }

    /// What the endpoint has for what is inside, by the sizes of its windows, with what Linux keeps for slots.
    #[must_use]
    pub fn resources(&self) -> Resources {
        let size = |bar: BarIndex| self.bench.bar_size(bar);
        let buses = size(vmd::CONFIG) / BUS_SIZE;
        let last = |base: u64, size: u64| base + size.saturating_sub(1);
        Resources {
            buses: 0..=u8::try_from(buses.saturating_sub(1)).unwrap_or(u8::MAX),
            memory: MEMORY_BASE..=last(MEMORY_BASE, size(vmd::MEMORY)),
            prefetchable: Some(
                PREFETCHABLE_BASE + vmd::TABLES_SIZE
                    ..=last(PREFETCHABLE_BASE, size(vmd::PREFETCHABLE)),
            ),
            hot_plug: HotPlugReserve::default(),
        }
    }
}

fn offset(id: RoutingId, register: u16) -> u64 {
    u64::from(id.get()) << 12 | u64::from(register)
}

impl ConfigBus for BenchBus<'_> {
    fn read(&mut self, id: RoutingId, register: u16, data: &mut [u8]) {
        let at = offset(id, register);
        match data {
            [byte] => *byte = self.bench.read(vmd::CONFIG, at),
            [_, _] => {
                let word: u16 = self.bench.read(vmd::CONFIG, at);
                data.copy_from_slice(&word.to_le_bytes());
            }
            _ => {
                let dword: u32 = self.bench.read(vmd::CONFIG, at);
                data.copy_from_slice(&dword.to_le_bytes());
            }
        }
    }

    fn write(&mut self, id: RoutingId, register: u16, data: &[u8]) {
        let at = offset(id, register);
        match *data {
            [byte] => self.bench.write(vmd::CONFIG, at, byte),
            [low, high] => {
                self.bench
                    .write(vmd::CONFIG, at, u16::from_le_bytes([low, high]));
            }
            [first, second, third, fourth] => {
                let dword = u32::from_le_bytes([first, second, third, fourth]);
                self.bench.write(vmd::CONFIG, at, dword);
            }
            _ => {}
        }
    }
}

impl fmt::Debug for BenchBus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BenchBus").finish_non_exhaustive()
    }
}
