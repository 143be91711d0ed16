//! Where everything goes in config space: device registers where they were declared, capabilities
//! in the gaps.

use std::ops::Range;

use crate::capability::{Capability, ExtendedCapability};
use crate::error::ConfigError;
use crate::placed::{AnyCapability, Placed};
use crate::spec::{COMPATIBLE_SIZE, CONFIG_SPACE_SIZE, extended, header};

/// Plain registers of the device's own.
#[derive(Debug)]
pub(crate) struct DeviceRegisters {
    pub(crate) offset: u16,
    pub(crate) initial: Vec<u8>,
    pub(crate) write_mask: Vec<u8>,
}

impl DeviceRegisters {
    /// The bytes they take.
    pub(crate) fn range(&self) -> Range<usize> {
        let start = usize::from(self.offset);
        start..start.saturating_add(self.initial.len())
    }
}

/// Which bytes of config space are taken.
#[derive(Debug)]
pub(crate) struct Map {
    taken: Vec<bool>,
}

impl Default for Map {
    fn default() -> Self {
        let mut taken = vec![false; usize::from(CONFIG_SPACE_SIZE)];
        taken[..usize::from(header::END)].fill(true);
        Self { taken }
    }
}

impl Map {
    pub(crate) fn reserve_registers(
        &mut self,
        registers: &DeviceRegisters,
    ) -> Result<(), ConfigError> {
        let DeviceRegisters {
            offset,
            initial,
            write_mask,
        } = registers;
        let (offset, length) = (*offset, initial.len());
        if length != write_mask.len() {
            return Err(ConfigError::RegistersMask {
                offset,
                initial: length,
                mask: write_mask.len(),
            });
        }
        let Range { start, end } = registers.range();
        // A word other than 0 at 0x100 would be taken for an extended capability.
        let parts = [
            usize::from(header::END)..usize::from(COMPATIBLE_SIZE),
            usize::from(extended::FIRST + extended::HEADER_SIZE)..usize::from(CONFIG_SPACE_SIZE),
        ];
        let inside = |part: &Range<usize>| part.start <= start && end <= part.end;
        if length == 0 || !parts.iter().any(inside) {
            return Err(ConfigError::RegistersRange { offset, length });
        }
        if self.taken[start..end].contains(&true) {
            return Err(ConfigError::RegistersOverlap { offset, length });
        }
        self.taken[start..end].fill(true);
        Ok(())
    }

    /// Takes the first gap of whole 32-bit words in `start..end`.
    fn reserve(&mut self, start: u16, end: u16, length: u16) -> Option<u16> {
        let needed = usize::from(length).next_multiple_of(4);
        for at in (start..end).step_by(4) {
            let place = usize::from(at)..usize::from(at) + needed;
            if place.end <= usize::from(end) && !self.taken[place.clone()].contains(&true) {
                self.taken[place].fill(true);
                return Some(at);
            }
        }
        None
    }

    /// The end of what is taken.
    pub(crate) fn end(&self) -> u16 {
        let last = self.taken.iter().rposition(|taken| *taken);
        last.and_then(|last| u16::try_from(last + 1).ok())
            .unwrap_or(CONFIG_SPACE_SIZE)
    }
}

/// Finds a place for every capability.
pub(crate) fn place(
    capabilities: Vec<Box<dyn Capability>>,
    extended_capabilities: Vec<Box<dyn ExtendedCapability>>,
    map: &mut Map,
) -> Result<Vec<Placed>, ConfigError> {
    let mut placed = Vec::with_capacity(capabilities.len() + extended_capabilities.len());
    for capability in capabilities {
        let (name, length) = (capability.name(), capability.length());
        let offset = map
            .reserve(header::END, COMPATIBLE_SIZE, length)
            .ok_or(ConfigError::NoRoom { name, length })?;
        let length = length.next_multiple_of(4);
        placed.push(Placed {
            offset,
            length,
            capability: AnyCapability::Compatible(capability),
        });
    }
    let mut first = true;
    for capability in extended_capabilities {
        let (name, length) = (capability.name(), capability.length());
        // The list has no pointer to its first entry: it is at 0x100.
        let end = if first {
            extended::FIRST + length.next_multiple_of(4)
        } else {
            CONFIG_SPACE_SIZE
        };
        let offset = map
            .reserve(extended::FIRST, end, length)
            .ok_or(ConfigError::NoRoom { name, length })?;
        first = false;
        let length = length.next_multiple_of(4);
        placed.push(Placed {
            offset,
            length,
            capability: AnyCapability::Extended(capability),
        });
    }
    Ok(placed)
}
