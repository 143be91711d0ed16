//! The MSI capability (PCI Express Base Specification 7.7.1).

use super::{BarPlan, Capability, CapabilityRegisters, Change, Window};
use crate::effects::Effects;
use crate::error::ConfigError;
use crate::registers::{Field, Registers};
use crate::spec::capability_id;
use crate::spec::msi::{self, MsiControl};

/// MSI: 1 to 32 vectors, a 32- or 64-bit message address, mask bits when asked for.
#[derive(Clone, Copy, Debug)]
pub struct Msi {
    vectors: u8,
    control: MsiControl,
}

impl Msi {
    /// `vectors` is 1, 2, 4, 8, 16 or 32; the message address has 32 bits.
    #[must_use]
    pub const fn with_32_bit_address(vectors: u8) -> Self {
        Self {
            vectors,
            control: MsiControl::empty(),
        }
    }

    /// `vectors` is 1, 2, 4, 8, 16 or 32; the message address has 64 bits.
    #[must_use]
    pub const fn with_64_bit_address(vectors: u8) -> Self {
        Self {
            vectors,
            control: MsiControl::ADDRESS_64,
        }
    }

    /// Each vector can be masked and has a pending bit.
    #[must_use]
    pub const fn per_vector_mask(self) -> Self {
        Self {
            control: self.control.union(MsiControl::PER_VECTOR_MASKING),
            ..self
        }
    }
}

/// Offsets of the registers that move with the width of the address.
#[derive(Clone, Copy)]
struct Places {
    data: u16,
    mask: u16,
    pending: u16,
    end: u16,
}

impl Places {
    fn of(control: MsiControl) -> Self {
        let wide = control.contains(MsiControl::ADDRESS_64);
        let (data, mask, pending) = if wide {
            (msi::DATA_64, msi::MASK_64, msi::PENDING_64)
        } else {
            (msi::DATA_32, msi::MASK_32, msi::PENDING_32)
        };
        let maskable = control.contains(MsiControl::PER_VECTOR_MASKING);
        let end = if maskable { pending + 4 } else { data + 2 };
        Self {
            data,
            mask,
            pending,
            end,
        }
    }
}

/// A one for each of `vectors` vectors.
fn vector_bits(vectors: u8) -> u32 {
    u32::MAX >> (msi::VECTORS_MAX - vectors.clamp(1, msi::VECTORS_MAX))
}

impl CapabilityRegisters for Msi {
    fn name(&self) -> &'static str {
        "MSI"
    }

    fn length(&self) -> u16 {
        Places::of(self.control).end
    }

    fn check(&self, _bars: &mut BarPlan) -> Result<(), ConfigError> {
        if self.vectors.is_power_of_two() && self.vectors <= msi::VECTORS_MAX {
            return Ok(());
        }
        Err(ConfigError::Vectors {
            name: self.name(),
            vectors: self.vectors.into(),
            allowed: "1, 2, 4, 8, 16 and 32 are possible",
        })
    }

    fn lay_out(&self, window: &mut Window<'_>) {
        let places = Places::of(self.control);
        let capable = self.vectors.trailing_zeros() << msi::MULTIPLE_MESSAGE_CAPABLE_SHIFT;
        let writable = MsiControl::ENABLE.union(MsiControl::MULTIPLE_MESSAGE_ENABLE);
        window.define_u16(
            msi::CONTROL,
            Field::read_only(u32::from(self.control.bits()) | capable)
                .writable(writable.bits().into()),
        );
        window.define_u32(
            msi::ADDRESS,
            Field::read_only(0).writable(msi::ADDRESS_MASK),
        );
        if self.control.contains(MsiControl::ADDRESS_64) {
            window.define_u32(msi::ADDRESS_HIGH, Field::read_only(0).writable(u32::MAX));
        }
        window.define_u16(places.data, Field::read_only(0).writable(u32::MAX));
        if self.control.contains(MsiControl::PER_VECTOR_MASKING) {
            let bits = vector_bits(self.vectors);
            window.define_u32(places.mask, Field::read_only(0).writable(bits));
            window.define_u32(places.pending, Field::read_only(0));
        }
    }

    fn written(&mut self, _window: &mut Window<'_>, change: Change) -> Effects {
        if change.changed() {
            Effects::MSI
        } else {
            Effects::empty()
        }
    }
}

impl Capability for Msi {
    fn id(&self) -> u8 {
        capability_id::MSI
    }
}

/// The MSI capability as software has set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiView {
    /// The function may use MSI (and no INTx).
    pub enabled: bool,
    /// Vectors the function declared, 1 to 32.
    pub vectors_capable: u8,
    /// Vectors software gave it, 1 to `vectors_capable`, whatever was written.
    pub vectors_enabled: u8,
    /// Message address; 32 bits unless declared with 64.
    pub address: u64,
    /// Message data of vector 0.
    pub data: u16,
    /// A one for each masked vector; 0 without mask bits.
    pub mask: u32,
    /// A one for each pending vector; 0 without mask bits.
    pub pending: u32,
    /// Vectors can be masked.
    pub maskable: bool,
}

impl MsiView {
    /// Reads the capability at `base`.
    pub(crate) fn read(registers: &Registers, base: u16) -> Self {
        let control = control(registers, base);
        let places = Places::of(control);
        let log_of = |field: MsiControl, shift| (control.intersection(field).bits()) >> shift;
        let capable = log_of(
            MsiControl::MULTIPLE_MESSAGE_CAPABLE,
            msi::MULTIPLE_MESSAGE_CAPABLE_SHIFT,
        );
        let enabled = log_of(
            MsiControl::MULTIPLE_MESSAGE_ENABLE,
            msi::MULTIPLE_MESSAGE_ENABLE_SHIFT,
        );
        let high = if control.contains(MsiControl::ADDRESS_64) {
            registers.load(base + msi::ADDRESS_HIGH)
        } else {
            0
        };
        let maskable = control.contains(MsiControl::PER_VECTOR_MASKING);
        let load_if_maskable = |at| {
            if maskable {
                registers.load(base + at)
            } else {
                0
            }
        };
        #[expect(clippy::cast_possible_truncation, reason = "the register has 16 bits")]
        let data = registers.load(base + places.data) as u16;
        Self {
            enabled: control.contains(MsiControl::ENABLE),
            vectors_capable: 1 << capable,
            vectors_enabled: 1 << enabled.min(capable),
            address: u64::from(high) << 32 | u64::from(registers.load(base + msi::ADDRESS)),
            data,
            mask: load_if_maskable(places.mask),
            pending: load_if_maskable(places.pending),
            maskable,
        }
    }

    /// Address and data of a vector's message: the vector takes the place of the data's low bits.
    /// `None` if software did not give the function that vector.
    #[must_use]
    pub fn message(&self, vector: u8) -> Option<(u64, u32)> {
        if vector >= self.vectors_enabled {
            return None;
        }
        let low = u16::from(self.vectors_enabled) - 1;
        Some((
            self.address,
            u32::from(self.data & !low | u16::from(vector)),
        ))
    }
}

fn control(registers: &Registers, base: u16) -> MsiControl {
    let control = (registers.load(base) >> 16) as u16;
    MsiControl::from_bits_retain(control)
}

/// Sets the pending bits of the capability at `base`, if it has them.
pub(crate) fn set_pending(registers: &mut Registers, base: u16, bits: u32) {
    let control = control(registers, base);
    if control.contains(MsiControl::PER_VECTOR_MASKING) {
        let vectors = MsiView::read(registers, base).vectors_capable;
        let pending = base + Places::of(control).pending;
        registers.store(pending, vector_bits(vectors), bits);
    }
}
