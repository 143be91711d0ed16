//! Drives the lab: eight devices that let a guest see whether the host keeps the rules of HDV for devices
//! made of callbacks. What each is and does is told by `lab.h` and the sources beside it; their numbers are in
//! [`registers`], and each has its check in a module here.

pub mod registers;

mod dma;
mod doomed;
mod doorbells;
mod failing;
mod late;
mod memory;
mod reset;
mod sections;
mod zeros;

use crate::checks::{Failure, ensure};
use crate::family::{Family, FamilyCheck, Run};
use crate::platform::{BarAccess, Identity, Width};
use registers::{
    CLASS, DEVICE_ID, INDEX, MAGIC, MAGIC_VALUE, OVERLAPS, PAGE, RESULT, SCRATCH, STARTS, STATE,
    STOPS, VENDOR_ID,
};

/// The families of the lab's devices, one each, in the order of their numbers.
pub static FAMILIES: [Family; 8] = [
    family(registers::ZEROS, "lab-zeros", &[ZEROS]),
    family(registers::SECTIONS, "lab-sections", &[SECTIONS]),
    family(registers::LATE, "lab-late", &[LATE]),
    family(registers::DOORBELLS, "lab-doorbells", &[DOORBELLS]),
    family(registers::RESET, "lab-reset", &[RESET]),
    family(registers::DMA, "lab-dma", &[DMA]),
    family(registers::FAILING, "lab-failing", &[FAILING]),
    family(registers::DOOMED, "lab-doomed", &[DOOMED]),
];

const ZEROS: FamilyCheck = FamilyCheck {
    name: "lab-zeros",
    run: Run::Bars(zeros::check),
};
const SECTIONS: FamilyCheck = FamilyCheck {
    name: "lab-sections",
    run: Run::Bars(sections::check),
};
const LATE: FamilyCheck = FamilyCheck {
    name: "lab-late",
    run: Run::Bars(late::check),
};
const DOORBELLS: FamilyCheck = FamilyCheck {
    name: "lab-doorbells",
    run: Run::Bars(doorbells::check),
};
const RESET: FamilyCheck = FamilyCheck {
    name: "lab-reset",
    run: Run::Platform(reset::check),
};
const DMA: FamilyCheck = FamilyCheck {
    name: "lab-dma",
    run: Run::Platform(dma::check),
};
const FAILING: FamilyCheck = FamilyCheck {
    name: "lab-failing",
    run: Run::Bars(failing::check),
};
const DOOMED: FamilyCheck = FamilyCheck {
    name: "lab-doomed",
    run: Run::Ending(doomed::check),
};

const fn family(index: u64, name: &'static str, checks: &'static [FamilyCheck]) -> Family {
    Family {
        name,
        vendor: identity(index).vendor,
        device: identity(index).device,
        checks,
    }
}

/// Who device `index` must say it is.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the numbers are those of fields of these widths"
)]
const fn identity(index: u64) -> Identity {
    Identity {
        vendor: VENDOR_ID as u16,
        device: (DEVICE_ID + index) as u16,
        class: CLASS as u32,
    }
}

const S_OK: u32 = 0;
const E_POINTER: u32 = 0x8000_4003;
const E_ACCESSDENIED: u32 = 0x8007_0005;
const E_INVALIDARG: u32 = 0x8007_0057;
const ALREADY_EXISTS: u32 = 0x8007_00b7;
const INVALID_ADDRESS: u32 = 0x8007_01e7;
const POSSIBLE_DEADLOCK: u32 = 0x8007_046b;
const NOT_FOUND: u32 = 0x8007_0490;

/// The BAR with the registers.
const REGISTERS: u8 = 0;
/// The BAR with what is to be looked at.
const MATTER: u8 = 2;

/// One of the lab's devices.
struct Lab<'a> {
    device: &'a dyn BarAccess,
}

impl<'a> Lab<'a> {
    /// Takes `device`, which must be number `index`.
    fn open(device: &'a dyn BarAccess, index: u64) -> Result<Self, Failure> {
        let size = device.bar_size(REGISTERS)?;
        ensure(size == PAGE, || {
            format!("BAR 0 has {size} bytes, expected {PAGE}")
        })?;
        let lab = Self { device };
        lab.expect("magic", MAGIC, MAGIC_VALUE)?;
        lab.expect("index", INDEX, index)?;
        Ok(lab)
    }

    /// Reads a register of 4 bytes.
    fn get(&self, register: u64) -> Result<u64, Failure> {
        Ok(self.device.read(REGISTERS, register, Width::Dword)?)
    }

    /// Reads a register of 8 bytes.
    fn get_wide(&self, register: u64) -> Result<u64, Failure> {
        Ok(self.device.read(REGISTERS, register, Width::Qword)?)
    }

    /// Writes a register of 4 bytes.
    fn set(&self, register: u64, value: u64) -> Result<(), Failure> {
        Ok(self
            .device
            .write(REGISTERS, register, Width::Dword, value)?)
    }

    /// Writes a register of 8 bytes.
    fn set_wide(&self, register: u64, value: u64) -> Result<(), Failure> {
        Ok(self
            .device
            .write(REGISTERS, register, Width::Qword, value)?)
    }

    /// Reads a register and fails unless it is `expected`.
    fn expect(&self, what: &str, register: u64, expected: u64) -> Result<(), Failure> {
        let value = self.get(register)?;
        ensure(value == expected, || {
            format!("{what} reads {value:#x}, expected {expected:#x}")
        })
    }

    /// Gives a command and fails unless its result is `expected`.
    fn command(
        &self,
        what: &str,
        register: u64,
        command: u64,
        expected: u32,
    ) -> Result<(), Failure> {
        let result = self.result(register, command)?;
        ensure(result == u64::from(expected), || {
            format!("{what}: {result:#010x}, expected {expected:#010x}")
        })
    }

    /// Gives a command and returns its result.
    fn result(&self, register: u64, command: u64) -> Result<u64, Failure> {
        self.set(register, command)?;
        self.get(RESULT)
    }

    /// The device is well and was called as it may be: what every check ends with.
    fn well(&self) -> Result<(), Failure> {
        let value = 0x0123_4567_89ab_cdef_u64.rotate_left(8);
        self.set_wide(SCRATCH, value)?;
        let read = self.get_wide(SCRATCH)?;
        ensure(read == value, || {
            format!("scratch reads {read:#x} after {value:#x} was written")
        })?;
        let starts = self.get(STARTS)?;
        let stops = self.get(STOPS)?;
        ensure(starts == stops + 1, || {
            format!("a device in use was started {starts} times and stopped {stops} times")
        })?;
        self.expect("calls that overlapped", OVERLAPS, 0)?;
        self.expect("calls out of order", STATE, 0)
    }
}
