//! A marker that survives a warm reboot: one byte of the CMOS memory of the real-time clock.
//!
//! A reset leaves guest memory to the firmware and the kernel's command line as it was; the
//! battery-backed bytes stay. The last one (0x7f) is used by neither SeaBIOS nor Linux, and a
//! machine that starts anew has a zero there. The kernels at hand offer no file for these
//! bytes, so the ports 0x70 and 0x71 are used, which only a PC has.

use crate::platform::{Error, Result};

/// In the marker's byte after the first of two rounds.
const SECOND_ROUND: u8 = 0x5a;

/// Whether the boot before this one left the marker; takes it away.
///
/// # Errors
/// When the clock's memory cannot be reached.
pub fn take() -> Result<bool> {
    let found = cmos::read()? == SECOND_ROUND;
    if found {
        cmos::write(0)?;
    }
    Ok(found)
}

/// Leaves the marker for the next boot.
///
/// # Errors
/// When the clock's memory cannot be reached or does not keep what was written.
pub fn leave() -> Result<()> {
    cmos::write(SECOND_ROUND)?;
    let read = cmos::read()?;
    if read == SECOND_ROUND {
        Ok(())
    } else {
        Err(Error::Missing(format!(
            "the clock's memory reads {read:#x} after {SECOND_ROUND:#x} was written: the next boot \
             would not know that it is the second"
        )))
    }
}

#[cfg(target_arch = "x86_64")]
mod cmos {
    //! The ports of the clock.

    use std::arch::asm;

    use rustix::io::Errno;

    use crate::platform::{Error, Result};

    const INDEX: u16 = 0x70;
    const DATA: u16 = 0x71;
    /// The byte used.
    const BYTE: u8 = 0x7f;

    pub(super) fn read() -> Result<u8> {
        allow()?;
        // SAFETY: `allow` gave this thread the ports. Selecting and reading a byte of the clock
        // touches no memory; the byte is not one the kernel uses.
        unsafe {
            out(INDEX, BYTE);
            let value: u8;
            asm!("in al, dx", in("dx") DATA, out("al") value, options(nomem, nostack, preserves_flags));
            Ok(value)
        }
    }

    pub(super) fn write(value: u8) -> Result<()> {
        allow()?;
        // SAFETY: as above.
        unsafe {
            out(INDEX, BYTE);
            out(DATA, value);
        }
        Ok(())
    }

    /// # Safety
    /// The thread must be allowed to use the port, and the write must do no harm.
    unsafe fn out(port: u16, value: u8) {
        // SAFETY: the caller's promise; the instruction touches no memory.
        unsafe {
            asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags));
        }
    }

    /// `ioperm(2)` for the two ports, for this thread.
    fn allow() -> Result<()> {
        /// The number of the system call.
        const IOPERM: u64 = 173;
        let outcome: i64;
        // SAFETY: the call takes numbers only and changes nothing but this thread's rights.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") IOPERM => outcome,
                in("rdi") u64::from(INDEX),
                in("rsi") 2_u64,
                in("rdx") 1_u64,
                out("rcx") _,
                out("r11") _,
                options(nostack),
            );
        }
        match i32::try_from(-outcome) {
            Ok(0) => Ok(()),
            Ok(number) => Err(Error::call(
                "ioperm for the clock's ports",
                Errno::from_raw_os_error(number),
            )),
            Err(_) => Err(Error::call("ioperm for the clock's ports", Errno::INVAL)),
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod cmos {
    //! No ports.

    use crate::platform::{Error, Result};

    fn none() -> Error {
        Error::Missing(
            "a warm reboot needs the clock of a PC, which this machine has not".to_owned(),
        )
    }

    pub(super) fn read() -> Result<u8> {
        Err(none())
    }

    pub(super) fn write(_: u8) -> Result<()> {
        Err(none())
    }
}
