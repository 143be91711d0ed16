//! A driver for the camera: its registers, its ring of buffers, the frames in them.
//!
//! The device is `examples/c/camera.c`.

mod checks;
pub mod picture;
pub mod registers;

use std::time::{Duration, Instant};

use self::picture::{HEIGHT, WIDTH};
use self::registers::{
    BAR0_SIZE, COMPLETED, CONTROL, CONTROL_ENABLE, DESCRIPTOR_BUFFER, DESCRIPTOR_BYTES,
    DESCRIPTOR_BYTES_WRITTEN, DESCRIPTOR_CHECKSUM, DESCRIPTOR_NUMBER, DESCRIPTOR_TIME, DROPPED,
    ERROR, FORMAT, FORMAT_VALUE, FRAME_SIZE, IDENTIFICATION, IDENTIFICATION_VALUE, PERIOD, POSTED,
    RING_ADDRESS, RING_SIZE, SEQUENCE, STATUS, STRIDE, VERSION, VERSION_VALUE,
};
use crate::platform::{DmaBuffer, Error, Platform, Result, Width};

pub use checks::FAMILY;

/// The BAR with the registers.
const BAR: u8 = 0;

/// A camera.
pub struct Camera<'a> {
    platform: &'a dyn Platform,
}

impl<'a> Camera<'a> {
    /// Takes the device that `platform` reaches.
    ///
    /// # Errors
    /// When it is no camera, or one with other registers or frames than this driver knows.
    pub fn new(platform: &'a dyn Platform) -> Result<Self> {
        let size = platform.bar_size(BAR)?;
        if size < BAR0_SIZE {
            return Err(Error::Missing(format!(
                "{}: BAR 0 has {size} bytes, a camera's has {BAR0_SIZE}",
                platform.name()
            )));
        }
        let camera = Self { platform };
        for (what, register, expected) in [
            ("identification", IDENTIFICATION, IDENTIFICATION_VALUE),
            ("version", VERSION, VERSION_VALUE),
            ("format", FORMAT, FORMAT_VALUE),
            ("width", registers::WIDTH, WIDTH),
            ("height", registers::HEIGHT, HEIGHT),
            ("stride", STRIDE, WIDTH * 4),
            ("frame size", FRAME_SIZE, WIDTH * HEIGHT * 4),
        ] {
            let value = camera.register(register)?;
            if value != expected {
                return Err(Error::Missing(format!(
                    "{}: the {what} register holds {value:#x}, this driver knows {expected:#x}",
                    platform.name()
                )));
            }
        }
        Ok(camera)
    }

    /// Reads a register.
    ///
    /// # Errors
    /// As [`crate::platform::BarAccess::read`].
    pub fn register(&self, register: u64) -> Result<u32> {
        #[expect(clippy::cast_possible_truncation, reason = "4 bytes were read")]
        Ok(self.platform.read(BAR, register, Width::Dword)? as u32)
    }

    /// Writes a register.
    ///
    /// # Errors
    /// As [`crate::platform::BarAccess::read`].
    pub fn set_register(&self, register: u64, value: u32) -> Result<()> {
        self.platform
            .write(BAR, register, Width::Dword, value.into())
    }

    /// Stops it. No frame is taken and no memory written once this returns.
    ///
    /// # Errors
    /// As [`crate::platform::BarAccess::read`], and when the camera goes on.
    pub fn stop(&self) -> Result<()> {
        self.set_register(CONTROL, 0)?;
        match self.register(CONTROL)? {
            0 => self.set_register(STATUS, u32::MAX),
            control => Err(Error::Missing(format!(
                "{}: control reads {control:#x} after 0 was written",
                self.platform.name()
            ))),
        }
    }

    /// The registers that say what the device is doing, for a message about what it is not.
    #[must_use]
    pub fn describe(&self) -> String {
        let show = |register| {
            self.register(register)
                .map_or_else(|error| error.to_string(), |value| format!("{value:#x}"))
        };
        format!(
            "control {}, status {}, error {}, posted {}, completed {}, sequence {}, dropped {}",
            show(CONTROL),
            show(STATUS),
            show(ERROR),
            show(POSTED),
            show(COMPLETED),
            show(SEQUENCE),
            show(DROPPED)
        )
    }
}

/// A frame that lies in its buffer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Nanoseconds on the camera's clock.
    pub time: u64,
    /// Its number since the camera was started.
    pub number: u32,
    /// Bytes written.
    pub bytes: u32,
    /// The camera's checksum.
    pub checksum: u32,
    buffer: &'a DmaBuffer,
}

impl Frame<'_> {
    /// The pixel at (`x`, `y`).
    ///
    /// # Errors
    /// When it is outside the picture.
    pub fn pixel(&self, x: u32, y: u32) -> Result<u32> {
        let at = (u64::from(y) * u64::from(WIDTH) + u64::from(x)) * 4;
        #[expect(clippy::cast_possible_truncation, reason = "4 bytes were read")]
        Ok(self.buffer.read(at, Width::Dword)? as u32)
    }
}

/// Buffers and the ring with their addresses. Dropping it stops the camera first.
pub struct Stream<'a> {
    camera: &'a Camera<'a>,
    ring: DmaBuffer,
    buffers: Vec<DmaBuffer>,
    posted: u32,
    taken: u32,
}

impl<'a> Stream<'a> {
    /// Stops the camera and gives it a ring of `size` descriptors, a power of two, with a buffer
    /// each.
    ///
    /// # Errors
    /// When there is no memory for it or the device refuses it.
    pub fn new(camera: &'a Camera<'a>, size: u32) -> Result<Self> {
        camera.stop()?;
        let ring = camera
            .platform
            .dma_buffer(u64::from(size) * DESCRIPTOR_BYTES)?;
        let buffers = (0..size)
            .map(|_| camera.platform.dma_buffer(u64::from(WIDTH * HEIGHT * 4)))
            .collect::<Result<Vec<_>>>()?;
        for (index, buffer) in (0..).zip(&buffers) {
            let at = index * DESCRIPTOR_BYTES + DESCRIPTOR_BUFFER;
            ring.write(at, Width::Qword, buffer.address())?;
        }
        camera.set_register(RING_SIZE, size)?;
        camera
            .platform
            .write(BAR, RING_ADDRESS, Width::Qword, ring.address())?;
        Ok(Self {
            camera,
            ring,
            buffers,
            posted: 0,
            taken: 0,
        })
    }

    /// Starts to film, with a frame every `period` microseconds and no buffer posted.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn start(&mut self, period: u32) -> Result<()> {
        self.camera.stop()?;
        self.camera.set_register(PERIOD, period)?;
        (self.posted, self.taken) = (0, 0);
        self.camera.set_register(CONTROL, CONTROL_ENABLE)?;
        let status = self.camera.register(STATUS)?;
        if status & registers::STATUS_ERROR != 0 {
            return Err(Error::Missing(format!(
                "{}: the camera refused to start: {}",
                self.camera.platform.name(),
                self.camera.describe()
            )));
        }
        Ok(())
    }

    /// Offers `count` more buffers.
    ///
    /// # Errors
    /// As [`crate::platform::BarAccess::read`].
    pub fn post(&mut self, count: u32) -> Result<()> {
        self.posted = self.posted.wrapping_add(count);
        self.camera.set_register(POSTED, self.posted)
    }

    /// Buffers that are offered and hold no frame that was taken.
    #[must_use]
    pub fn outstanding(&self) -> u32 {
        self.posted.wrapping_sub(self.taken)
    }

    /// The next frame, if it is there. Its buffer is the driver's until it is posted again.
    ///
    /// # Errors
    /// When the device says that it filled more buffers than it was offered.
    pub fn take(&mut self) -> Result<Option<Frame<'_>>> {
        let completed = self.camera.register(COMPLETED)?;
        let waiting = completed.wrapping_sub(self.taken);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > self.outstanding() {
            return Err(Error::Missing(format!(
                "the camera has completed {completed} buffers of {} that it was offered",
                self.posted
            )));
        }
        let slot = self.taken as usize % self.buffers.len();
        self.taken = self.taken.wrapping_add(1);
        let at = slot as u64 * DESCRIPTOR_BYTES;
        let dword = |offset| -> Result<u32> {
            #[expect(clippy::cast_possible_truncation, reason = "4 bytes were read")]
            Ok(self.ring.read(at + offset, Width::Dword)? as u32)
        };
        Ok(Some(Frame {
            time: self.ring.read(at + DESCRIPTOR_TIME, Width::Qword)?,
            number: dword(DESCRIPTOR_NUMBER)?,
            bytes: dword(DESCRIPTOR_BYTES_WRITTEN)?,
            checksum: dword(DESCRIPTOR_CHECKSUM)?,
            buffer: &self.buffers[slot],
        }))
    }

    /// Waits until the register reads at least `value`.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn wait_for(&self, register: u64, value: u32, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while self.camera.register(register)? < value {
            if Instant::now() > deadline {
                return Err(Error::Missing(format!(
                    "register {register:#x} did not reach {value}: {}",
                    self.camera.describe()
                )));
            }
        }
        Ok(())
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        // When even this fails the device loses the memory below all the same.
        let _ = self.camera.stop();
    }
}

impl std::fmt::Debug for Camera<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Camera")
            .field("name", &self.platform.name())
            .finish()
    }
}

impl std::fmt::Debug for Stream<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Stream")
            .field("posted", &self.posted)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}
