//! A driver for the sensor: registers by name, and its [`ring`].
//!
//! What the registers mean is told by [`hdv_devices::sensor::registers`].

pub mod ring;

use std::time::Duration;

use hdv_devices::sensor::registers::{
    BAR0_SIZE, CONTROL, ERROR, IDENTIFICATION, IDENTIFICATION_VALUE, OVERFLOWS, SEQUENCE, STATUS,
    VALUE, VERSION, VERSION_VALUE,
};

use crate::platform::{BarAccess, Error, Platform, Result, Width};

/// The BAR with the registers.
const BAR: u8 = 0;

/// A sensor.
#[derive(Debug)]
pub struct Sensor<P> {
    platform: P,
}

impl<P: BarAccess> Sensor<P> {
    /// Takes the device that `platform` reaches.
    ///
    /// # Errors
    /// When it is no sensor, or one with another register map.
    pub fn new(platform: P) -> Result<Self> {
        let size = platform.bar_size(BAR)?;
        if size < BAR0_SIZE {
            return Err(Error::Missing(format!(
                "{}: BAR 0 has {size} bytes, a sensor's has {BAR0_SIZE}",
                platform.name()
            )));
        }
        let sensor = Self { platform };
        for (what, register, expected) in [
            ("identification", IDENTIFICATION, IDENTIFICATION_VALUE),
            ("version", VERSION, VERSION_VALUE),
        ] {
            let value = sensor.register(register)?;
            if value != expected {
                return Err(Error::Missing(format!(
                    "{}: the {what} register holds {value:#010x}, this driver knows {expected:#010x}",
                    sensor.platform.name()
                )));
            }
        }
        Ok(sensor)
    }

    /// How the device is reached.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Reads a register with `width`.
    ///
    /// # Errors
    /// As [`BarAccess::read`].
    pub fn read(&self, register: u64, width: Width) -> Result<u64> {
        self.platform.read(BAR, register, width)
    }

    /// Writes a register with `width`.
    ///
    /// # Errors
    /// As [`BarAccess::read`].
    pub fn write(&self, register: u64, width: Width, value: u64) -> Result<()> {
        self.platform.write(BAR, register, width, value)
    }

    /// Reads a register of 4 bytes.
    ///
    /// # Errors
    /// As [`BarAccess::read`].
    pub fn register(&self, register: u64) -> Result<u32> {
        #[expect(clippy::cast_possible_truncation, reason = "4 bytes were read")]
        Ok(self.read(register, Width::Dword)? as u32)
    }

    /// Writes a register of 4 bytes.
    ///
    /// # Errors
    /// As [`BarAccess::read`].
    pub fn set_register(&self, register: u64, value: u32) -> Result<()> {
        self.write(register, Width::Dword, u64::from(value))
    }

    /// Writes a signed register of 4 bytes.
    ///
    /// # Errors
    /// As [`BarAccess::read`].
    pub fn set_signed(&self, register: u64, value: i32) -> Result<()> {
        self.set_register(register, value.cast_unsigned())
    }

    /// The latest value in thousandths and its sequence number, read together.
    ///
    /// # Errors
    /// As [`BarAccess::read`].
    pub fn latest(&self) -> Result<(i32, u32)> {
        let both = self.read(VALUE, Width::Qword)?.to_le_bytes();
        let [a, b, c, d, e, f, g, h] = both;
        Ok((
            i32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, g, h]),
        ))
    }

    /// Stops sampling. No sample is taken and no memory written once this returns: the write may
    /// be posted, so it is followed by a read, which nothing overtakes.
    ///
    /// # Errors
    /// As [`BarAccess::read`], and when the sensor goes on.
    pub fn halt(&self) -> Result<()> {
        self.set_register(CONTROL, 0)?;
        match self.register(CONTROL)? {
            0 => Ok(()),
            control => Err(Error::Missing(format!(
                "{}: control reads {control:#x} after 0 was written",
                self.platform.name()
            ))),
        }
    }

    /// Stops sampling and clears every status bit.
    ///
    /// # Errors
    /// As [`Sensor::halt`].
    pub fn stop(&self) -> Result<()> {
        self.halt()?;
        self.set_register(STATUS, u32::MAX)
    }

    /// The registers that say what the device is doing, for a message about what it is not.
    pub fn describe(&self) -> String {
        let show = |register| {
            self.register(register)
                .map_or_else(|error| error.to_string(), |value| format!("{value:#x}"))
        };
        format!(
            "control {}, status {}, error {}, sequence {}, overflows {}",
            show(CONTROL),
            show(STATUS),
            show(ERROR),
            show(SEQUENCE),
            show(OVERFLOWS)
        )
    }
}

impl<P: Platform> Sensor<P> {
    /// Waits until `vector` has fired and a status bit of `bits` is set; returns the status.
    /// `None` when the vector has not fired within `limit`.
    ///
    /// # Errors
    /// As [`Platform::wait`].
    pub fn wait_for_status(&self, vector: u16, bits: u32, limit: Duration) -> Result<Option<u32>> {
        // An interrupt for what was cleared meanwhile may precede the one waited for.
        while self.platform.wait(vector, limit)? != 0 {
            let status = self.register(STATUS)?;
            if status & bits != 0 {
                return Ok(Some(status));
            }
        }
        Ok(None)
    }
}
