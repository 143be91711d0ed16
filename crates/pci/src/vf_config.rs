//! A VF's own config space, as the interface to its PF reads and writes it: the registers of the
//! complete function with what the SR-IOV rules take away.

use crate::config_space::ConfigSpace;
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
}

/// What a VF has of the config space of the complete function that a VM is shown (PCI Express Base
/// Specification 9.3.4, 9.3.5), by aligned 32-bit words.
///
/// Vendor and device id read all ones. BARs, I/O Space, Memory Space and what else of the header
/// belongs to the PF read 0, and so do the controls of the link. Bus Master, the status bits and
/// the capabilities are as in the complete function, function level reset among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VfConfigRules {
    express: Option<u16>,
}

impl VfConfigRules {
    /// The rules for a function whose PCI Express capability is at `express`, an offset in config space
    /// in bytes; `None` without one.
    #[must_use]
    pub const fn new(express: Option<u16>) -> Self {
        Self { express }
    }

    /// What the VF reads in the aligned word that holds `offset`, where the complete function reads
    /// `complete`.
    #[must_use]
    pub fn shown(self, offset: u16, complete: u32) -> u32 {
        let access = self.access(offset);
        complete & access.read | access.ones
    }

    /// Ones for the bits that software can write in the aligned word that holds `offset`, if it can in
    /// the complete function.
    #[must_use]
    pub fn writable(self, offset: u16) -> u32 {
        self.access(offset).write
    }

    fn access(self, offset: u16) -> Access {
        const COMMAND: u32 = Command::BUS_MASTER.bits() as u32;
        const STATUS: u32 = Status::INTERRUPT_STATUS.complement().bits() as u32;
        let offset = offset & !3;
        if offset >= header::END {
            return self.in_capability(offset);
        }
        match offset {
            header::VENDOR_ID => Access {
                ones: u32::MAX,
                ..Access::NONE
            },
            header::COMMAND => Access::of(COMMAND | STATUS << 16),
            header::REVISION_ID | header::SUBSYSTEM_VENDOR_ID | header::CAPABILITIES_POINTER => {
                Access::ALL
            }
            _ => Access::NONE,
        }
    }

    fn in_capability(self, offset: u16) -> Access {
        let express =
            |register| self.express.and_then(|base| base.checked_add(register)) == Some(offset);
        if express(DEVICE_CONTROL) {
            let reset = u32::from(DeviceControl::INITIATE_FUNCTION_LEVEL_RESET.bits());
            Access::of(HIGH | reset)
        } else if express(LINK_CONTROL) {
            // The link is the PF's: neither control nor status.
            Access::NONE
        } else if express(DEVICE_CONTROL_2) || express(LINK_CONTROL_2) {
            Access::of(HIGH)
        } else {
            Access::ALL
        }
    }
}

/// The function as a VF, by [`VfConfigRules`]. The registers are those that
/// [`read`](ConfigSpace::read) and [`write`](ConfigSpace::write) show as a complete function
/// to the VM that uses the VF, so both always agree.
impl ConfigSpace {
    /// Fills `data` with the bytes of the VF's own config space from `offset` on. Any length;
    /// bytes from 4096 on are all ones.
    pub fn read_as_vf(&self, offset: u16, data: &mut [u8]) {
        self.read(offset, data);
        let rules = VfConfigRules::new(self.places.express);
        for (at, byte) in (offset..CONFIG_SPACE_SIZE).zip(data) {
            let lane = usize::from(at % 4);
            let mut word = [0; 4];
            word[lane] = *byte;
            *byte = rules.shown(at, u32::from_le_bytes(word)).to_le_bytes()[lane];
        }
    }

    /// Software writes `data` to the VF's own config space at `offset`, as
    /// [`write`](ConfigSpace::write) does; what the VF does not have stays as it is.
    pub fn write_as_vf(&mut self, offset: u16, data: &[u8]) -> Effects {
        let rules = VfConfigRules::new(self.places.express);
        self.write_bits(offset, data, |word| rules.writable(word))
    }
}
