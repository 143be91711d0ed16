//! Any accesses of a guest to a domain, with anything that its owner does to it in between: no panic, no device that is called
//! once it was torn down, and a tree that agrees with what is there after every step.

#![no_main]

use std::time::Duration;

use hdv::domain::{
    Domain, DomainError, DomainOptions, Injection, MEMORY_BASE, NodeKind, PREFETCHABLE_BASE,
    Position,
};
use hdv::pci::capability::Slot;
use hdv::pci::enumerate::{ConfigBus, HotPlugReserve, Resources, enumerate};
use hdv::pci::spec::aer::{CorrectableError, UncorrectableError};
use hdv::pci::topology::{Member, PortId};
use hdv::pci::{DetectedError, Port, RoutingId};
use hdv::{
    Bar, BarAccess, BarIndex, BarOffset, ClassCode, ConfigError, ConfigSpace, DeviceContext,
    DeviceError, GuestAddress, Identity, Msix, PciDevice, PciExpress, PowerManagement, TestBench,
    pci_function,
};
use hdv_sriov::{
    EmulatedPf, EnableVirtualization, PciVirtualization, PfOptions, PhysicalFunction, Placement,
    VirtualFunctionLayout,
};
use libfuzzer_sys::fuzz_target;

const CONFIG: BarIndex = BarIndex::BAR0;
const VENDOR: u16 = 0x4f48;
const VF_DEVICE: u16 = 2;
const TOTAL_VFS: u16 = 8;
/// Of VFs and plain functions.
const OWN_BAR: Bar = Bar::memory64(0x1000).prefetchable();
const MEMORY_SIZE: u64 = 16 << 20;
const BUSES: u16 = 16;
const GUEST_MEMORY: u64 = 0x10_0000;
/// A write of an address copies from there, one of a vector signals it.
const COPY: u64 = 0x10;
const SIGNAL: u64 = 0x18;

/// Places in config space where something happens: of functions, of ports, of capabilities.
const REGISTERS: [u16; 16] = [
    0x04, 0x06, 0x0e, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x3e, 0x44, 0x50, 0x60, 0x108,
    0x110,
];

/// A device that copies and signals as it is told, and panics if it is called when it must not be.
struct Device {
    device_id: u16,
    context: Option<DeviceContext>,
    started: bool,
    torn_down: bool,
    value: u64,
}

impl Device {
    fn new(device_id: u16) -> Self {
        Self {
            device_id,
            context: None,
            started: false,
            torn_down: false,
            value: 0,
        }
    }
}

impl PciDevice for Device {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let place = |offset| BarOffset::new(BarIndex::BAR0, offset);
        ConfigSpace::builder(Identity {
            vendor_id: VENDOR,
            device_id: self.device_id,
            revision_id: 0,
            class: ClassCode::from_u24(0xff_0000),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        })
        .bar(BarIndex::BAR0, OWN_BAR)
        .capability(PciExpress::endpoint())
        .capability(PowerManagement::new().with_soft_reset())
        .capability(Msix::new(2, place(0x800), place(0xc00)))
        .build()
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        assert!(self.context.is_none() && !self.torn_down);
        self.context = Some(context);
        Ok(())
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        assert!(!self.started && !self.torn_down && self.context.is_some());
        self.started = true;
        Ok(())
    }

    fn stop(&mut self) {
        assert!(self.started && !self.torn_down);
        self.started = false;
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        assert!(!self.torn_down);
        assert!(access.offset + u64::from(access.size) <= OWN_BAR.size);
        self.value ^ access.offset
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        assert!(!self.torn_down);
        assert!(access.offset + u64::from(access.size) <= OWN_BAR.size);
        let context = self.context.as_ref().expect("powered on");
        match access.offset {
            COPY => {
                let mut data = [0; 64];
                if context.memory.read(GuestAddress(value), &mut data).is_ok() {
                    let there = GuestAddress(GUEST_MEMORY);
                    context.memory.write(there, &data).expect("mapped");
                }
            }
            SIGNAL => {
                let _ = context
                    .interrupts
                    .signal(u16::try_from(value & 3).expect("two bits"));
            }
            _ => self.value = value,
        }
    }

    fn reset(&mut self) {
        assert!(!self.torn_down);
        self.value = 0;
    }

    fn teardown(&mut self) {
        assert!(!self.started && !self.torn_down);
        self.torn_down = true;
    }
}

/// The PF: its VFs are such devices, too.
struct Physical(Device);

impl PciDevice for Physical {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        self.0.config_space()
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        self.0.initialize(context)
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.0.start()
    }

    fn stop(&mut self) {
        self.0.stop();
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        self.0.read(access)
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        self.0.write(access, value);
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn teardown(&mut self) {
        self.0.teardown();
    }
}

impl PhysicalFunction for Physical {
    fn virtual_functions(&self) -> VirtualFunctionLayout {
        VirtualFunctionLayout::new(TOTAL_VFS, VF_DEVICE).bar(BarIndex::BAR0, OWN_BAR)
    }

    fn create_virtual_function(&mut self, vf: u16) -> Result<Box<dyn PciDevice>, DeviceError> {
        assert!(vf < TOTAL_VFS);
        Ok(Box::new(Device::new(VF_DEVICE)))
    }
}

/// The domain, its guest and its owner.
struct Stage {
    domain: Domain,
    bench: TestBench,
    pf: EmulatedPf,
    /// Of a root port, of one with an attention button, of a downstream port.
    slots: [PortId; 3],
    /// The port above the switch stays as it is.
    switch: PortId,
    /// Where BARs were put; none before software has enumerated.
    bars: Vec<u64>,
    names: u32,
}

fn function(device_id: u16) -> Box<dyn hdv::Function> {
    pci_function(Box::new(Device::new(device_id))).expect("a function")
}

impl Stage {
    fn new() -> Self {
        let options = DomainOptions::new()
            .buses(BUSES)
            .memory(MEMORY_SIZE)
            .prefetchable(MEMORY_SIZE);
        let (domain, endpoint) = Domain::new(options).expect("possible sizes");
        let root = |device, slot| domain.add_root_port(device, 0, slot).expect("free");
        let first = root(1, Some(Slot::hot_plug(1)));
        let second = root(2, Some(Slot::hot_plug(2).attention_button()));
        let switch = root(3, None);
        let downstream = domain
            .add_switch(switch, &[None, Some(Slot::hot_plug(3))])
            .expect("free");
        let attach = |position, name: &str| {
            domain
                .attach(position, name, function(1), &[])
                .expect("free");
        };
        attach(Position::on_root_bus(4), "on the root bus");
        attach(Position::below(first), "first");
        attach(Position::below(first).function(1), "second");
        let above = Port::new(1, 1).expect("bus numbers").ari_forwarding(true);
        let options = PfOptions {
            guest_controls_sriov: true,
            ..PfOptions::new(Placement::new(0, above, 0, 0).expect("a place"))
        };
        let physical = Box::new(Physical(Device::new(3)));
        let at = Position::below(downstream[0]);
        let (_, pf) = EmulatedPf::inside(&domain, at, "pf", physical, options).expect("free");
        let mut bench = TestBench::new(endpoint).expect("it starts");
        bench
            .add_memory(GuestAddress(GUEST_MEMORY), 0x1000)
            .expect("memory");
        bench.enable_interrupts().expect("eventfds");
        Self {
            domain,
            bench,
            pf,
            slots: [first, second, downstream[1]],
            switch,
            bars: Vec::new(),
            names: 0,
        }
    }

    /// As software does it; what it cannot make fit it leaves.
    fn enumerate(&mut self) {
        let last = |base: u64| base + (MEMORY_SIZE - 1);
        let resources = Resources {
            buses: 0..=u8::try_from(BUSES - 1).expect("a bus number"),
            memory: MEMORY_BASE..=last(MEMORY_BASE),
            prefetchable: Some(PREFETCHABLE_BASE + 0x2000..=last(PREFETCHABLE_BASE)),
            hot_plug: HotPlugReserve {
                buses: 1,
                memory: 1 << 20,
                prefetchable: 1 << 20,
            },
        };
        if let Ok(found) = enumerate(self, &resources) {
            self.bars.clear();
            for function in found.functions {
                let vf_bars = function.sriov.into_iter().flat_map(|sriov| sriov.bars);
                let bars = function.bars.into_iter().chain(vf_bars);
                self.bars.extend(bars.map(|bar| bar.address));
            }
        }
    }

    /// What the tree says is there, each where it says.
    fn check(&self) {
        let tree = self.domain.tree();
        let (vfs, others): (Vec<_>, Vec<_>) = tree
            .iter()
            .partition(|node| node.kind == NodeKind::VirtualFunction);
        let walked = self.domain.walk();
        assert_eq!(others.len(), walked.len());
        for (node, found) in others.iter().zip(&walked) {
            let member = self.domain.find(&node.path);
            assert_eq!(member.expect("it is there"), found.member, "{}", node.path);
        }
        assert!(vfs.len() <= usize::from(TOTAL_VFS));
        if self.pf.registers().vf_enable {
            assert_eq!(vfs.len(), usize::from(self.pf.registers().num_vfs));
        } else {
            assert_eq!(vfs.len(), 0);
        }
    }
}

fn offset(id: RoutingId, register: u16) -> u64 {
    u64::from(id.get()) << 12 | u64::from(register)
}

impl ConfigBus for Stage {
    fn read(&mut self, id: RoutingId, register: u16, data: &mut [u8]) {
        let at = offset(id, register);
        match data.len() {
            1 => data.copy_from_slice(&self.bench.read::<u8>(CONFIG, at).to_le_bytes()),
            2 => data.copy_from_slice(&self.bench.read::<u16>(CONFIG, at).to_le_bytes()),
            _ => data.copy_from_slice(&self.bench.read::<u32>(CONFIG, at).to_le_bytes()),
        }
    }

    fn write(&mut self, id: RoutingId, register: u16, data: &[u8]) {
        let at = offset(id, register);
        match *data {
            [byte] => self.bench.write(CONFIG, at, byte),
            [low, high] => self
                .bench
                .write(CONFIG, at, u16::from_le_bytes([low, high])),
            _ => {
                let dword = data.try_into().expect("1, 2 or 4 bytes");
                self.bench.write(CONFIG, at, u32::from_le_bytes(dword));
            }
        }
    }
}

/// The rest of the input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn word(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes([self.byte()?, self.byte()?]))
    }

    fn dword(&mut self) -> Option<u32> {
        Some(u32::from(self.word()?) | u32::from(self.word()?) << 16)
    }

    /// A register of some function, in the window onto config space.
    fn register(&mut self) -> Option<u64> {
        let (bus, kind) = (self.byte()? % 16, self.byte()?);
        let place = [0, 1, 8, 16, 24, 32, 2, 3][usize::from(kind & 7)];
        let register = if kind & 0x80 == 0 {
            REGISTERS[usize::from(kind >> 3 & 0xf)]
        } else {
            self.word()? % 4096
        };
        Some(offset(RoutingId::with_ari(bus, place), register))
    }

    /// An address in one of the memory windows: mostly in a BAR.
    fn address(&mut self, bars: &[u64]) -> Option<(BarIndex, u64)> {
        let (which, at) = (self.byte()?, self.word()?);
        let address = match bars.get(usize::from(which)) {
            Some(bar) => bar + u64::from(at),
            None if which & 1 == 0 => MEMORY_BASE + 256 * u64::from(at),
            None => PREFETCHABLE_BASE + 256 * u64::from(at),
        };
        Some(match address.checked_sub(PREFETCHABLE_BASE) {
            Some(at) => (BarIndex::BAR4, at),
            None => (BarIndex::BAR2, address.wrapping_sub(MEMORY_BASE)),
        })
    }

    fn error(&mut self) -> Option<DetectedError> {
        let bits = self.dword()?;
        Some(if bits & 1 == 0 {
            DetectedError::Correctable(CorrectableError::from_bits_truncate(bits))
        } else {
            DetectedError::Uncorrectable(UncorrectableError::from_bits_truncate(bits))
        })
    }
}

/// Whatever the owner is refused, for a reason of its own.
fn refused<T>(result: Result<T, DomainError>) {
    if let Err(error) = result {
        assert!(!matches!(error, DomainError::Closed), "{error}");
    }
}

fn inject(stage: &Stage, input: &mut Input<'_>) -> Option<()> {
    let members = stage.domain.walk();
    let found = members[usize::from(input.byte()?) % members.len()];
    let injection = match input.byte()? % 4 {
        0 => Injection::Error(input.error()?),
        1 => Injection::LinkDown,
        2 => Injection::LinkUp,
        // There is one whose reads never fail, to look at.
        _ if found.member == Member::Port(stage.switch) => return Some(()),
        _ => Injection::FailConfigReads(u32::from(input.byte()? % 4)),
    };
    refused(stage.domain.inject(found.member, injection));
    Some(())
}

/// Carries out one step; `None` at the end of the input.
fn step(stage: &mut Stage, input: &mut Input<'_>) -> Option<()> {
    let kind = input.byte()?;
    let slot = stage.slots[usize::from(kind >> 5) % stage.slots.len()];
    match kind % 20 {
        0 => {
            let at = input.register()?;
            let _: u32 = stage.bench.read(CONFIG, at);
        }
        1 => {
            let at = input.register()?;
            let _: [u8; 16] = stage.bench.read(CONFIG, at);
        }
        2 => {
            let at = input.register()?;
            stage.bench.write(CONFIG, at, input.byte()?);
        }
        3 | 4 => {
            let at = input.register()?;
            stage.bench.write(CONFIG, at, input.word()?);
        }
        5 | 6 => {
            let at = input.register()?;
            stage.bench.write(CONFIG, at, input.dword()?);
        }
        7 => {
            let at = input.register()?;
            let value = u64::from(input.dword()?) << 32 | u64::from(input.dword()?);
            stage.bench.write(CONFIG, at, value);
        }
        8 => {
            let (bar, at) = input.address(&stage.bars)?;
            let _: u64 = stage.bench.read(bar, at);
        }
        9 => {
            let (bar, at) = input.address(&stage.bars)?;
            stage.bench.write(bar, at, input.dword()?);
        }
        10 => {
            let (bar, at) = input.address(&stage.bars)?;
            stage.bench.write(bar, at, u64::from(input.byte()?));
        }
        11 | 12 => {
            stage.names += 1;
            let name = format!("late {}", stage.names);
            let position = Position::below(slot).function(input.byte()? % 3);
            refused(stage.domain.attach(position, &name, function(4), &[]));
        }
        13 => refused(stage.domain.pull(slot)),
        14 => refused(stage.domain.press_attention_button(slot)),
        15 => refused(stage.domain.unplug(slot, Duration::ZERO)),
        16 => inject(stage, input)?,
        17 => {
            let count = input.byte()? % 10;
            let _ = stage.pf.enable_virtualization(match count {
                0 => EnableVirtualization::disable(),
                _ => EnableVirtualization::enable(count.into()),
            });
        }
        18 => match input.byte()? % 3 {
            0 => stage.bench.reset(),
            1 => stage.bench.stop_and_start().expect("it starts"),
            _ => stage.bench.enable_interrupts().expect("eventfds"),
        },
        _ => stage.enumerate(),
    }
    Some(())
}

fuzz_target!(|bytes: &[u8]| {
    let mut stage = Stage::new();
    let mut input = Input(bytes);
    let port = RoutingId::new(0, 3, 0).expect("there is one");
    while step(&mut stage, &mut input).is_some() {
        let vendor: u16 = stage.bench.read(CONFIG, offset(port, 0));
        assert_eq!(vendor, VENDOR, "a root port answers always");
        stage.check();
    }
    let domain = stage.domain.clone();
    drop(stage);
    assert!(
        domain
            .tree()
            .iter()
            .all(|node| node.state != Some(hdv::DeviceState::Started))
    );
});
