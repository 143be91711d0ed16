//! A slot of the domain, as the kernel names it, and the sensor in it.

use std::fs;
use std::path::Path;

use hdv_devices::sensor::registers::{
    CONTROL, CONTROL_ENABLE, CONTROL_RING, DEVICE_ID, ERROR, PERIOD, RING_ADDRESS, RING_SIZE,
    SCRATCH, STATUS, STATUS_ERROR, VENDOR_ID,
};

use super::memory::Place;
use super::{INSIDE, LIMIT, interrupts, wait};
use crate::checks::{Failure, ensure};
use crate::platform::pci::{self, COMMAND_BUS_MASTER, COMMAND_MEMORY};
use crate::platform::sysfs::{self, DEVICES, Sysfs};
use crate::platform::{Error, Identity, Width};
use crate::sensor::Sensor;

/// Where the kernel names slots by their numbers.
const SLOTS: &str = "/sys/bus/pci/slots";
/// Microseconds between the samples of a sensor in use.
const SAMPLE_PERIOD: u32 = 10_000;
/// Thousandths in a sample's value.
const THOUSANDTHS: i32 = 1000;

/// A slot.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// The number on the chassis, which is also what the sensor in it measures.
    pub(super) number: u16,
    /// The PCI address of the function in it, also while there is none.
    pub(super) address: String,
}

impl Slot {
    /// The slot with a number.
    ///
    /// # Errors
    /// There is none, or it is not one of the domain's.
    pub(super) fn find(number: u16) -> Result<Self, Failure> {
        let path = Path::new(SLOTS).join(number.to_string()).join("address");
        let device =
            fs::read_to_string(&path).map_err(|error| Error::file(&path, "read", error))?;
        let address = format!("{}.0", device.trim());
        ensure(address.starts_with(INSIDE), || {
            format!("slot {number} is {address}, outside of the domain")
        })?;
        Ok(Self { number, address })
    }

    /// Whether the kernel has the function, with its BAR to map.
    pub(super) fn is_ready(&self) -> bool {
        Path::new(DEVICES)
            .join(&self.address)
            .join("resource0")
            .exists()
    }

    /// Whether the kernel has nothing of a function.
    pub(super) fn is_empty(&self) -> bool {
        !Path::new(DEVICES).join(&self.address).exists()
    }

    /// Takes the sensor that has come: the one that belongs there, new, and with registers that keep what is written, which
    /// is the round.
    ///
    /// # Errors
    /// It is another, or not new.
    pub(super) fn open(&self, round: u32) -> Result<Sensor<Sysfs>, Failure> {
        let identity = sysfs::identity(&self.address)?;
        let expected = Identity {
            vendor: VENDOR_ID,
            device: DEVICE_ID,
            ..identity
        };
        ensure(identity == expected, || {
            format!("{}: it is {identity:?}", self.address)
        })?;
        let function = Sysfs::open(&self.address)?;
        pci::set_command(&function, COMMAND_MEMORY | COMMAND_BUS_MASTER)?;
        let read = pci::identity(&function)?;
        ensure(read == identity, || {
            format!("{}: config space has {read:?}", self.address)
        })?;
        let sensor = Sensor::new(function)?;
        let before = sensor.read(SCRATCH, Width::Qword)?;
        ensure(before == 0, || {
            format!("{}: a new device holds {before:#x}", self.address)
        })?;
        let mark = u64::from(round) << 32 | u64::from(self.number);
        sensor.write(SCRATCH, Width::Qword, mark)?;
        let after = sensor.read(SCRATCH, Width::Qword)?;
        ensure(after == mark, || {
            format!("{}: {after:#x} in place of {mark:#x}", self.address)
        })?;
        Ok(sensor)
    }

    /// Has it sample into memory, with interrupts, until it is stopped, or gone. The first samples are awaited.
    ///
    /// # Errors
    /// It does not, or it measures something else than what the sensor of this slot does.
    pub(super) fn start(&self, sensor: &Sensor<Sysfs>, place: &Place<'_>) -> Result<(), Failure> {
        place.clear()?;
        sensor.write(RING_ADDRESS, Width::Qword, place.address())?;
        sensor.set_register(RING_SIZE, Place::SAMPLES)?;
        sensor.set_register(PERIOD, SAMPLE_PERIOD)?;
        interrupts::enable(self, sensor)?;
        sensor.set_register(CONTROL, CONTROL_ENABLE | CONTROL_RING)?;
        let status = sensor.register(STATUS)?;
        ensure(status & STATUS_ERROR == 0, || {
            let error = sensor.register(ERROR).unwrap_or_default();
            format!("{}: it refuses to sample, error {error}", self.address)
        })?;
        wait("samples in memory", LIMIT, || Ok(place.head()? > 1))?;
        let (value, expected) = (sensor.latest()?.0, i32::from(self.number) * THOUSANDTHS);
        ensure(value == expected, || {
            format!("{}: it measures {value}, not {expected}", self.address)
        })
    }
}

/// The function at an address, for a message.
pub(super) fn describe(slots: &[&Slot]) -> String {
    let addresses: Vec<_> = slots.iter().map(|slot| slot.address.as_str()).collect();
    addresses.join(" ")
}
