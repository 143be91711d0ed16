//! A VF as a function: its author's, checked against what the PF declares of it.

use std::fmt;
use std::sync::Arc;

use hdv::pci::spec::header::{BAR_PREFETCHABLE, BAR_TYPE_64};
use hdv::{
    Bar, BarIndex, BarKind, ConfigWrite, DeviceError, Function, FunctionCarrier, GuestMemory,
    Identity, Interrupts, Mmio, ResetScope,
};

/// What the PF declares of each of its VFs.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    pub(super) vendor_id: u16,
    pub(super) device_id: u16,
    pub(super) bars: [Option<Bar>; BarIndex::ALL.len()],
}

/// See the module's documentation.
pub(super) struct VfFunction {
    declared: Arc<Declared>,
    inner: Box<dyn Function>,
}

impl VfFunction {
    pub(super) fn new(declared: Arc<Declared>, inner: Box<dyn Function>) -> Self {
        Self { declared, inner }
    }

    /// What the VF shows is what the PF declares.
    ///
    /// # Errors
    /// What differs.
    pub(super) fn check(&mut self) -> Result<(), DeviceError> {
        let identity = self.inner.identity();
        let declared = Arc::clone(&self.declared);
        let ids = [
            ("vendor id", identity.vendor_id, declared.vendor_id),
            ("device id", identity.device_id, declared.device_id),
        ];
        for (what, found, declared) in ids {
            if found != declared {
                return Err(wrong(
                    what,
                    format_args!("{found:#06x}"),
                    format_args!("{declared:#06x}"),
                ));
            }
        }
        for index in BarIndex::ALL {
            let (found, declared) = (self.bar(index), declared.bars[index.get()]);
            if found != declared {
                return Err(wrong(
                    format_args!("BAR{index}"),
                    Described(found),
                    Described(declared),
                ));
            }
        }
        Ok(())
    }

    /// A BAR as the VF shows it.
    fn bar(&mut self, index: BarIndex) -> Option<Bar> {
        let size = self.inner.bar_size(index);
        if size == 0 {
            return None;
        }
        let mut register = [0; 4];
        self.inner.config_read(index.offset(), &mut register);
        let register = u32::from_le_bytes(register);
        Some(Bar {
            kind: if register & BAR_TYPE_64 == 0 {
                BarKind::Memory32
            } else {
                BarKind::Memory64
            },
            prefetchable: register & BAR_PREFETCHABLE != 0,
            size,
        })
    }
}

fn wrong(
    what: impl fmt::Display,
    found: impl fmt::Display,
    declared: impl fmt::Display,
) -> DeviceError {
    DeviceError::new(format!(
        "its {what} is {found}, but its PF declares {declared}; they must be the same"
    ))
}

/// A BAR for people.
struct Described(Option<Bar>);

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bar) = self.0 else {
            return f.write_str("none");
        };
        let bits = match bar.kind {
            BarKind::Memory32 => 32,
            BarKind::Memory64 => 64,
        };
        let non = if bar.prefetchable { "" } else { "non-" };
        write!(f, "{bits}-bit {non}prefetchable of {:#x} bytes", bar.size)
    }
}

impl Function for VfFunction {
    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn bar_size(&self, bar: BarIndex) -> u64 {
        self.inner.bar_size(bar)
    }

    fn memory(&self) -> &GuestMemory {
        self.inner.memory()
    }

    fn interrupts(&self) -> &Interrupts {
        self.inner.interrupts()
    }

    fn mmio(&self) -> &Mmio {
        self.inner.mmio()
    }

    fn carried_by(&mut self, carrier: Arc<dyn FunctionCarrier>) {
        self.inner.carried_by(carrier);
    }

    fn power_on(&mut self, configuration: &[String]) -> Result<(), DeviceError> {
        self.inner.power_on(configuration)?;
        self.check()
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.inner.start()
    }

    fn stop(&mut self) {
        self.inner.stop();
    }

    fn teardown(&mut self) {
        self.inner.teardown();
    }

    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.inner.config_read(offset, data);
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> ConfigWrite {
        self.inner.config_write(offset, data)
    }

    fn config_read_as_vf(&mut self, offset: u16, data: &mut [u8]) {
        self.inner.config_read_as_vf(offset, data);
    }

    fn config_write_as_vf(&mut self, offset: u16, data: &[u8]) -> ConfigWrite {
        self.inner.config_write_as_vf(offset, data)
    }

    fn bar_read(&mut self, bar: BarIndex, offset: u64, data: &mut [u8]) {
        self.inner.bar_read(bar, offset, data);
    }

    fn bar_write(&mut self, bar: BarIndex, offset: u64, data: &[u8]) {
        self.inner.bar_write(bar, offset, data);
    }

    fn interrupts_changed(&mut self) {
        self.inner.interrupts_changed();
    }

    fn reset(&mut self, scope: ResetScope) {
        self.inner.reset(scope);
    }
}
