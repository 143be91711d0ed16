//! A driver for the framebuffer: its registers, its pixels.
//!
//! The device is `examples/c/framebuffer.c`, which tells what the registers mean.

mod checks;

use crate::platform::{BarAccess, Error, Result, Width};

pub use checks::{FAMILY, LARGE, LAST, SMALL, picture};

/// PCI vendor id.
pub const VENDOR_ID: u16 = 0x4f48;
/// PCI device id.
pub const DEVICE_ID: u16 = 0x0103;
/// PCI class code: display controller, other.
pub const CLASS_CODE: u32 = 0x0003_8000;
/// Size of BAR 0, the pixels, in bytes.
pub const MEMORY_BYTES: u64 = 16 << 20;
/// Size of BAR 2, the registers, in bytes.
pub const REGISTER_BYTES: u64 = 4096;

/// The BAR with the pixels.
const PIXELS: u8 = 0;
/// The BAR with the registers.
const REGISTERS: u8 = 2;

const IDENTIFICATION: u64 = 0x00;
const IDENTIFICATION_VALUE: u32 = u32::from_le_bytes(*b"FBUF");
const VERSION: u64 = 0x04;
const VERSION_VALUE: u32 = 1;
const FEATURES: u64 = 0x08;
const FEATURE_EARLY: u32 = 1 << 0;
const FORMAT: u64 = 0x0c;
const FORMAT_VALUE: u32 = u32::from_le_bytes(*b"XR24");
const WIDTH: u64 = 0x10;
const HEIGHT: u64 = 0x14;
const STRIDE: u64 = 0x18;
const MEMORY: u64 = 0x1c;
const PRESENT: u64 = 0x20;
const SHOWN: u64 = 0x24;
const CHECKSUM: u64 = 0x28;
const PATTERN: u64 = 0x2c;
const READS: u64 = 0x30;
const WRITES: u64 = 0x34;
const NOT_WRITTEN: u64 = 0x38;

/// A framebuffer.
pub struct Framebuffer<'a> {
    platform: &'a dyn BarAccess,
    width: u32,
    height: u32,
}

impl<'a> Framebuffer<'a> {
    /// Takes the device that `platform` reaches, with the resolution that it has.
    ///
    /// # Errors
    /// When it is no framebuffer, or one with other registers or pixels than this driver knows.
    pub fn new(platform: &'a dyn BarAccess) -> Result<Self> {
        for (bar, expected) in [(PIXELS, MEMORY_BYTES), (REGISTERS, REGISTER_BYTES)] {
            let size = platform.bar_size(bar)?;
            if size != expected {
                return Err(Error::Missing(format!(
                    "{}: BAR {bar} has {size} bytes, a framebuffer's has {expected}",
                    platform.name()
                )));
            }
        }
        let mut framebuffer = Self {
            platform,
            width: 0,
            height: 0,
        };
        for (what, register, expected) in [
            ("identification", IDENTIFICATION, IDENTIFICATION_VALUE),
            ("version", VERSION, VERSION_VALUE),
            ("format", FORMAT, FORMAT_VALUE),
            ("memory", MEMORY, 16 << 20),
        ] {
            let value = framebuffer.register(register)?;
            if value != expected {
                return Err(Error::Missing(format!(
                    "{}: the {what} register holds {value:#x}, this driver knows {expected:#x}",
                    platform.name()
                )));
            }
        }
        framebuffer.width = framebuffer.register(WIDTH)?;
        framebuffer.height = framebuffer.register(HEIGHT)?;
        Ok(framebuffer)
    }

    /// Whether its pixels are likely to be fast.
    ///
    /// # Errors
    /// As [`BarAccess::read`].
    pub fn is_early(&self) -> Result<bool> {
        Ok(self.register(FEATURES)? & FEATURE_EARLY != 0)
    }

    /// Sets the resolution.
    ///
    /// # Errors
    /// As [`BarAccess::read`], and when the device refuses it.
    pub fn set_resolution(&mut self, width: u32, height: u32) -> Result<()> {
        self.set_register(WIDTH, width)?;
        self.set_register(HEIGHT, height)?;
        let (w, h, stride) = (
            self.register(WIDTH)?,
            self.register(HEIGHT)?,
            self.register(STRIDE)?,
        );
        if (w, h, stride) != (width, height, width * 4) {
            return Err(Error::Missing(format!(
                "{}: {width} x {height} pixels were asked for; the device has {w} x {h} with {stride} \
                 bytes from line to line",
                self.platform.name()
            )));
        }
        (self.width, self.height) = (width, height);
        Ok(())
    }

    /// Pixels in a line.
    #[must_use]
    pub const fn width(&self) -> u32 {
        self.width
    }

    /// Lines.
    #[must_use]
    pub const fn height(&self) -> u32 {
        self.height
    }

    /// Reads a pixel, 0x00RRGGBB.
    ///
    /// # Errors
    /// As [`BarAccess::read`].
    pub fn pixel(&self, x: u32, y: u32) -> Result<u32> {
        #[expect(clippy::cast_possible_truncation, reason = "4 bytes were read")]
        Ok(self.platform.read(PIXELS, self.at(x, y), Width::Dword)? as u32)
    }

    /// Writes a pixel.
    ///
    /// # Errors
    /// As [`BarAccess::read`].
    pub fn set_pixel(&self, x: u32, y: u32, pixel: u32) -> Result<()> {
        self.platform
            .write(PIXELS, self.at(x, y), Width::Dword, pixel.into())
    }

    fn at(&self, x: u32, y: u32) -> u64 {
        (u64::from(y) * u64::from(self.width) + u64::from(x)) * 4
    }

    fn register(&self, register: u64) -> Result<u32> {
        #[expect(clippy::cast_possible_truncation, reason = "4 bytes were read")]
        Ok(self.platform.read(REGISTERS, register, Width::Dword)? as u32)
    }

    fn set_register(&self, register: u64, value: u32) -> Result<()> {
        self.platform
            .write(REGISTERS, register, Width::Dword, value.into())
    }
}

impl std::fmt::Debug for Framebuffer<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Framebuffer")
            .field("name", &self.platform.name())
            .field("width", &self.width)
            .field("height", &self.height)
            .finish()
    }
}

/// The pixel at (`x`, `y`) of the pattern `number`, as the device draws it.
#[must_use]
pub const fn pattern(x: u32, y: u32, number: u32) -> u32 {
    (x.wrapping_mul(0x0001_0203) ^ y.wrapping_mul(0x0003_0509) ^ number.wrapping_mul(0x9e37_79b1))
        & 0x00ff_ffff
}
