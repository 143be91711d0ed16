//! A function that brings others when its registers say so.

#![expect(unreachable_pub, reason = "the tests that use this are binaries")]

use std::sync::{Arc, Mutex};

use hdv::{
    BarIndex, BroughtFunction, ClassCode, ConfigWrite, DeviceError, DeviceInstance, Function,
    FunctionCarrier, GuestMemory, HostError, Identity, Interrupts, Mmio, ResetScope, pci_function,
};

use crate::support::{Record, Recorder, lock};

/// A write here brings as many functions.
pub const BRING: u64 = 0x710;
/// A write here takes all of them away.
pub const TAKE_AWAY: u64 = 0x718;
/// A write here calls what the test put there.
pub const CALL: u64 = 0x720;

/// What it says of a VF until that is powered on.
pub const IDENTITY: Identity = Identity {
    vendor_id: 0x4f48,
    device_id: 0x7abc,
    revision_id: 3,
    class: ClassCode {
        base: 0x12,
        subclass: 0,
        interface: 1,
    },
    subsystem_vendor_id: 0,
    subsystem_id: 0,
};

type Make = Box<dyn FnMut(u16) -> Box<dyn Function> + Send>;

#[derive(Default)]
struct Inside {
    carrier: Option<Arc<dyn FunctionCarrier>>,
    instances: Vec<DeviceInstance>,
    make: Option<Make>,
    call: Option<Box<dyn FnOnce() + Send>>,
    ended: Option<Box<dyn FnOnce() + Send>>,
    failure: Option<HostError>,
}

/// A test's hold on the function.
#[derive(Clone, Default)]
pub struct Hold {
    inside: Arc<Mutex<Inside>>,
    pub record: Record,
}

impl Hold {
    pub fn make(&self, make: impl FnMut(u16) -> Box<dyn Function> + Send + 'static) {
        lock(&self.inside).make = Some(Box::new(make));
    }

    /// Makes VFs that are recorders, whose records are given back in their order.
    pub fn make_recorders(&self) -> Arc<Mutex<Vec<Record>>> {
        let records = Arc::<Mutex<Vec<Record>>>::default();
        let kept = Arc::clone(&records);
        self.make(move |_| {
            let device = Recorder::default();
            lock(&kept).push(device.record.clone());
            pci_function(Box::new(device)).expect("a function")
        });
        records
    }

    /// For the next write of [`CALL`].
    pub fn on_call(&self, call: impl FnOnce() + Send + 'static) {
        lock(&self.inside).call = Some(Box::new(call));
    }

    pub fn on_teardown(&self, ended: impl FnOnce() + Send + 'static) {
        lock(&self.inside).ended = Some(Box::new(ended));
    }

    pub fn carrier(&self) -> Arc<dyn FunctionCarrier> {
        lock(&self.inside).carrier.clone().expect("carried")
    }

    pub fn instances(&self) -> Vec<DeviceInstance> {
        lock(&self.inside).instances.clone()
    }

    pub fn failure(&self) -> Option<HostError> {
        lock(&self.inside).failure.take()
    }

    pub fn functions(&self, count: u16) -> Vec<BroughtFunction> {
        let mut inside = lock(&self.inside);
        let make = inside.make.as_mut().expect("told what to make");
        (0..count)
            .map(|vf| BroughtFunction {
                vf,
                offset: 1 + vf,
                identity: IDENTITY,
                function: make(vf),
            })
            .collect()
    }

    pub fn bring(&self, count: u16) {
        let functions = self.functions(count);
        let carrier = self.carrier();
        // Not held while it is called: VFs may look.
        let brought = carrier.bring(functions);
        let mut inside = lock(&self.inside);
        match brought {
            Ok(instances) => inside.instances = instances,
            Err(error) => inside.failure = Some(error),
        }
    }

    pub fn take_away(&self) {
        let carrier = self.carrier();
        carrier.take_away(&self.instances());
    }

    pub fn function(&self) -> Box<dyn Function> {
        let device = Recorder::with(|device| device.record = self.record.clone());
        Box::new(Bringer {
            inner: pci_function(Box::new(device)).expect("a function"),
            hold: self.clone(),
        })
    }
}

pub struct Bringer {
    inner: Box<dyn Function>,
    pub hold: Hold,
}

impl Function for Bringer {
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

    fn power_on(&mut self, configuration: &[String]) -> Result<(), DeviceError> {
        self.inner.power_on(configuration)
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.inner.start()
    }

    fn stop(&mut self) {
        self.inner.stop();
    }

    fn teardown(&mut self) {
        let ended = lock(&self.hold.inside).ended.take();
        if let Some(ended) = ended {
            ended();
        }
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

    fn carried_by(&mut self, carrier: Arc<dyn FunctionCarrier>) {
        let mut inside = lock(&self.hold.inside);
        assert!(inside.carrier.is_none(), "at most once");
        inside.carrier = Some(carrier);
    }

    fn bar_read(&mut self, bar: BarIndex, offset: u64, data: &mut [u8]) {
        self.inner.bar_read(bar, offset, data);
    }

    fn bar_write(&mut self, bar: BarIndex, offset: u64, data: &[u8]) {
        match offset {
            BRING => {
                let count = u16::from_le_bytes([data[0], data[1]]);
                self.hold.bring(count);
            }
            TAKE_AWAY => self.hold.take_away(),
            CALL => {
                let call = lock(&self.hold.inside).call.take();
                if let Some(call) = call {
                    call();
                }
            }
            _ => self.inner.bar_write(bar, offset, data),
        }
    }

    fn interrupts_changed(&mut self) {
        self.inner.interrupts_changed();
    }

    fn reset(&mut self, scope: ResetScope) {
        self.inner.reset(scope);
    }
}

/// A function that is what it wraps, but panics when it is asked for its handles.
pub struct NoHandles(pub Box<dyn Function>);

impl Function for NoHandles {
    fn identity(&self) -> Identity {
        self.0.identity()
    }

    fn bar_size(&self, bar: BarIndex) -> u64 {
        self.0.bar_size(bar)
    }

    fn memory(&self) -> &GuestMemory {
        std::panic::panic_any("as the test wants");
    }

    fn interrupts(&self) -> &Interrupts {
        self.0.interrupts()
    }

    fn mmio(&self) -> &Mmio {
        self.0.mmio()
    }

    fn power_on(&mut self, configuration: &[String]) -> Result<(), DeviceError> {
        self.0.power_on(configuration)
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.0.start()
    }

    fn stop(&mut self) {
        self.0.stop();
    }

    fn teardown(&mut self) {
        self.0.teardown();
    }

    fn config_read(&mut self, _: u16, _: &mut [u8]) {}

    fn config_write(&mut self, _: u16, _: &[u8]) -> ConfigWrite {
        ConfigWrite::Registers
    }

    fn config_read_as_vf(&mut self, _: u16, _: &mut [u8]) {}

    fn config_write_as_vf(&mut self, _: u16, _: &[u8]) -> ConfigWrite {
        ConfigWrite::Registers
    }

    fn bar_read(&mut self, _: BarIndex, _: u64, _: &mut [u8]) {}

    fn bar_write(&mut self, _: BarIndex, _: u64, _: &[u8]) {}

    fn reset(&mut self, _: ResetScope) {}
}
