//! A VF's own config space, as the interface to its PF reads and writes it: the registers of the
//! complete function with what the SR-IOV rules take away.

use crate::config_space::{ConfigSpace, Places};
use crate::effects::Effects;
use crate::spec::CONFIG_SPACE_SIZE;
use crate::spec::express::{
    DEVICE_CONTROL, DEVICE_CONTROL_2, DeviceControl, LINK_CONTROL, LINK_CONTROL_2,
};
use crate::spec::header::{self, Command, Status};

/// The high half of a word, where the low half is a register that a VF does not have.
const HIGH: u32 = 0xffff_0000;

/// What of an aligned 32-bit word a VF has.
#[derive(Clone, Copy)]
struct Access {
    /// Bits that read 1.
    ones: u32,
    /// Bits that read as those of the complete function; the rest reads 0.
    read: u32,
    /// Bits that can be written if those of the complete function can.
    write: u32,
}

impl Access {
    const ALL: Self = Self::of(u32::MAX);
    const NONE: Self = Self::of(0);

    const fn of(bits: u32) -> Self {
        Self {
            ones: 0,
            read: bits,
            write: bits,
        }
    }

    /// The word at `offset`, a multiple of 4.
    fn at(places: Places, offset: u16) -> Self {
        const COMMAND: u32 = Command::BUS_MASTER.bits() as u32;
        const STATUS: u32 = Status::INTERRUPT_STATUS.complement().bits() as u32;
        if offset >= header::END {
            return Self::in_capability(places, offset);
        }
        match offset {
            header::VENDOR_ID => Self {
                ones: u32::MAX,
                ..Self::NONE
            },
            header::COMMAND => Self::of(COMMAND | STATUS << 16),
            header::REVISION_ID | header::SUBSYSTEM_VENDOR_ID | header::CAPABILITIES_POINTER => {
                Self::ALL
            }
            _ => Self::NONE,
        }
    }

    fn in_capability(places: Places, offset: u16) -> Self {
        let express = |register| places.express.map(|base| base + register) == Some(offset);
        if express(DEVICE_CONTROL) {
            let reset = u32::from(DeviceControl::INITIATE_FUNCTION_LEVEL_RESET.bits());
            Self::of(HIGH | reset)
        } else if express(LINK_CONTROL) {
            // The link is the PF's: neither control nor status.
            Self::NONE
        } else if express(DEVICE_CONTROL_2) || express(LINK_CONTROL_2) {
            Self::of(HIGH)
        } else {
            Self::ALL
        }
    }
}

/// The function as a VF (PCI Express Base Specification 9.3.4, 9.3.5). The registers are those
/// that [`read`](ConfigSpace::read) and [`write`](ConfigSpace::write) show as a complete function
/// to the VM that uses the VF, so both always agree.
///
/// Vendor and device id read all ones. BARs, I/O Space, Memory Space and what else of the header
/// belongs to the PF read 0, and so do the controls of the link. Bus Master, the status bits and
/// the capabilities are as in the complete function, function level reset among them.
impl ConfigSpace {
    /// Fills `data` with the bytes of the VF's own config space from `offset` on. Any length;
    /// bytes from 4096 on are all ones.
    pub fn read_as_vf(&self, offset: u16, data: &mut [u8]) {
        self.read(offset, data);
        for (at, byte) in (offset..CONFIG_SPACE_SIZE).zip(data) {
            let access = Access::at(self.places, at & !3);
            let lane = usize::from(at % 4);
            let part = |bits: u32| bits.to_le_bytes()[lane];
            *byte = *byte & part(access.read) | part(access.ones);
        }
    }

    /// Software writes `data` to the VF's own config space at `offset`, as
    /// [`write`](ConfigSpace::write) does; what the VF does not have stays as it is.
    pub fn write_as_vf(&mut self, offset: u16, data: &[u8]) -> Effects {
        let places = self.places;
        self.write_bits(offset, data, |word| Access::at(places, word).write)
    }
}
