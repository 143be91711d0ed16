use std::os::fd::OwnedFd;
use std::sync::Mutex;

use hdv_pci::spec::capability_id;
use hdv_pci::{
    Bar, BarOffset, ClassCode, ConfigError, ConfigSpace, Identity, Msi, Msix, PciExpress,
};
use hdv_vfio_user::backend::{DmaFlags, DmaMap};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::MemfdFlags;
use vm_memory::GuestAddress;

use super::*;
use crate::callbacks::{Details, DeviceCallbacks, PnpId, callback_function};
use crate::calls::HostToken;
use crate::device::{DeviceContext, PciDevice};
use crate::function::Function;
use crate::interrupts::{Delivery, InterruptKind, Interrupts, MsixMessage};
use crate::pci_function::pci_function;

const TABLE: u64 = 0x800;
const PENDING: u64 = 0xc00;
/// Of a bus of ours: bits 19:12 of the address are the vector.
const ADDRESS: u64 = 0xfee0_0000;

/// What a test sees of its device.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    context: Option<DeviceContext>,
    /// Offsets of accesses to the BAR.
    accesses: Vec<u64>,
    life: Vec<&'static str>,
}

impl Seen {
    fn inner<R>(&self, look: impl FnOnce(&mut Inner) -> R) -> R {
        look(&mut self.0.lock().unwrap())
    }

    fn note(&self, call: &'static str) {
        self.inner(|inner| inner.life.push(call));
    }

    fn life(&self) -> Vec<&'static str> {
        self.inner(|inner| std::mem::take(&mut inner.life))
    }

    fn accesses(&self) -> Vec<u64> {
        self.inner(|inner| std::mem::take(&mut inner.accesses))
    }

    fn signal(&self, vector: u16) -> Delivery {
        let context = self.inner(|inner| inner.context.clone().unwrap());
        context.interrupts.signal(vector)
    }
}

/// With MSI-X of three vectors, or MSI of four.
struct Device(Seen, bool);

impl PciDevice for Device {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let place = |offset| BarOffset::new(BarIndex::BAR0, offset);
        let builder = ConfigSpace::builder(Identity {
            vendor_id: 0x4f48,
            device_id: 0x7ffe,
            revision_id: 0,
            class: ClassCode::from_u24(0xff_0000),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        })
        .bar(BarIndex::BAR0, Bar::memory64(4096))
        .capability(PciExpress::endpoint());
        match self.1 {
            true => builder.capability(Msix::new(3, place(0x800), place(0xc00))),
            false => builder.capability(Msi::with_64_bit_address(4).per_vector_mask()),
        }
        .build()
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        self.0.inner(|inner| inner.context = Some(context));
        Ok(())
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.0.note("start");
        Ok(())
    }

    fn stop(&mut self) {
        self.0.note("stop");
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        self.0.inner(|inner| inner.accesses.push(access.offset));
        0x5a5a_5a5a_5a5a_5a5a
    }

    fn write(&mut self, access: BarAccess, _: u64) {
        self.0.inner(|inner| inner.accesses.push(access.offset));
    }

    fn reset(&mut self) {
        self.0.note("reset");
        // Belongs to before the reset.
        self.0.signal(0);
    }

    fn teardown(&mut self) {
        self.0.note("teardown");
    }
}

/// Answers config space itself: MSI-X of two vectors at 0x50, PCI Express with function level reset at 0x60,
/// MSI at 0xa0.
struct Callbacks {
    config: Vec<u32>,
    memory: Arc<Mutex<Vec<u8>>>,
}

impl DeviceCallbacks for Callbacks {
    fn initialize(&mut self) -> Result<(), DeviceError> {
        for (offset, value) in [
            (0x34, 0x50),
            (0x50, 0x0001_6011),
            (0x54, 0x800),
            (0x58, 0xc00),
            (0x60, 0x0002_a010),
            (0x64, 0x1000_8000),
            (0xa0, 0x0080_0005),
        ] {
            self.config[offset / 4] = value;
        }
        Ok(())
    }

    fn set_configuration(&mut self, _: &[String]) -> Result<(), DeviceError> {
        Ok(())
    }

    fn get_details(&mut self) -> Result<Details, DeviceError> {
        Ok(Details {
            pnp_id: PnpId::default(),
            probed_bars: [0xffff_f000, 0, 0, 0, 0, 0],
        })
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn stop(&mut self) {}

    fn teardown(&mut self) {}

    fn read_config_space(&mut self, offset: u32) -> Result<u32, DeviceError> {
        Ok(self.config[usize::try_from(offset / 4).unwrap()])
    }

    fn write_config_space(&mut self, offset: u32, value: u32) -> Result<(), DeviceError> {
        self.config[usize::try_from(offset / 4).unwrap()] = value;
        Ok(())
    }

    fn read_intercepted_memory(
        &mut self,
        _: BarIndex,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), DeviceError> {
        let at = usize::try_from(offset).unwrap();
        data.copy_from_slice(&self.memory.lock().unwrap()[at..at + data.len()]);
        Ok(())
    }

    fn write_intercepted_memory(
        &mut self,
        _: BarIndex,
        offset: u64,
        data: &[u8],
    ) -> Result<(), DeviceError> {
        let at = usize::try_from(offset).unwrap();
        self.memory.lock().unwrap()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// A function on a bus, and the endpoint that carries it: 8 vectors, each with an eventfd.
struct Bus {
    attachment: Attachment,
    memory: GuestMemory,
    outer: Interrupts,
    events: Vec<OwnedFd>,
}

impl Bus {
    fn new(function: Box<dyn Function>, view: ConfigView) -> Self {
        let bus = Self::stopped(function, view);
        bus.attachment.start().unwrap();
        bus
    }

    fn stopped(function: Box<dyn Function>, view: ConfigView) -> Self {
        let slot = Slot::new("inside", HostToken::new(), function, None).unwrap();
        slot.power_on(&[]).unwrap();
        let (memory, outer) = (GuestMemory::new(), Interrupts::new(0, 8));
        let (mut given, mut events) = (Vec::new(), Vec::new());
        for _ in 0..8 {
            let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
            given.push(Some(event.try_clone().unwrap()));
            events.push(event);
        }
        outer.connect(InterruptKind::MsiX, 0, given);
        let endpoint = outer.clone();
        let fold = move |address: u64, _| {
            let vector = u16::try_from(address >> 12 & 0xff).unwrap();
            (address & !0xff000 == ADDRESS).then(|| (endpoint.clone(), vector))
        };
        let slot = Arc::new(slot);
        let attachment = Attachment::new(slot, view, &memory, Arc::new(fold)).unwrap();
        Self {
            attachment,
            memory,
            outer,
            events,
        }
    }

    fn of_device(msix: bool) -> (Self, Seen) {
        let seen = Seen::default();
        let device = Device(seen.clone(), msix);
        let function = pci_function(Box::new(device)).unwrap();
        (Self::new(function, ConfigView::Function), seen)
    }

    /// How often each vector of the endpoint was signalled since the last look.
    fn taken(&self) -> Vec<(usize, u64)> {
        let count = |event: &OwnedFd| {
            let mut count = [0; 8];
            rustix::io::read(event, &mut count).map_or(0, |_| u64::from_ne_bytes(count))
        };
        let counts = self.events.iter().map(count).enumerate();
        counts.filter(|(_, count)| *count > 0).collect()
    }

    fn write(&self, offset: u64, value: u32) {
        let value = value.to_le_bytes();
        self.attachment.bar_write(BarIndex::BAR0, offset, &value);
    }

    fn read(&self, offset: u64) -> u32 {
        let mut value = [0; 4];
        self.attachment.bar_read(BarIndex::BAR0, offset, &mut value);
        u32::from_le_bytes(value)
    }

    /// Writes a vector's message, and its mask.
    fn entry(&self, vector: u64, outer: u32, masked: bool) {
        let at = TABLE + 16 * vector;
        self.write(at, 0xfee0_0000 | outer << 12);
        self.write(at + 4, 0);
        self.write(at + 8, u32::try_from(vector).unwrap());
        self.write(at + 12, masked.into());
    }

    fn mask(&self, vector: u64, masked: bool) {
        self.write(TABLE + 16 * vector + 12, masked.into());
    }

    fn config<const N: usize>(&self, offset: u16) -> [u8; N] {
        let mut data = [0; N];
        self.attachment.config_read(offset, &mut data);
        data
    }

    fn capability(&self, id: u8) -> Option<u16> {
        let known = self.attachment.known.get()?;
        Some(known.registers.capabilities().find(id)?.offset)
    }

    /// Writes MSI-X control: 0x8000 enables, 0x4000 masks all.
    fn control(&self, control: u16) -> Changed {
        let at = self.capability(capability_id::MSIX).unwrap() + 2;
        self.attachment.config_write(at, &control.to_le_bytes())
    }

    fn function_level_reset(&self) -> Changed {
        let express = self.capability(capability_id::PCI_EXPRESS);
        let at = express.unwrap() + 8;
        self.attachment.config_write(at, &[0x00, 0x80])
    }

    fn pending(&self) -> u32 {
        self.read(PENDING)
    }
}

#[test]
fn messages_reach_the_vector_that_their_address_means() {
    let (bus, seen) = Bus::of_device(true);
    for (vector, outer) in [(0, 5), (1, 2), (2, 5)] {
        bus.entry(vector, outer, false);
    }
    assert_eq!(seen.signal(0), Delivery::Disabled);
    assert_eq!(bus.control(0x8000), Changed::INTERRUPTS);
    for vector in 0..3 {
        assert_eq!(seen.signal(vector), Delivery::Signalled);
    }
    assert_eq!(bus.taken(), [(2, 1), (5, 2)]);
    // An entry that is written in use: byte by byte, as hardware would take it.
    bus.write(TABLE, 0xfee0_7000);
    seen.signal(0);
    assert_eq!(bus.taken(), [(7, 1)]);
    bus.control(0);
    assert_eq!(seen.signal(0), Delivery::Disabled);
    bus.control(0x8000);
    seen.signal(0);
    assert_eq!(bus.taken(), [(7, 1)]);
}

#[test]
fn the_device_does_not_see_its_table() {
    let (bus, seen) = Bus::of_device(true);
    bus.entry(1, 3, false);
    assert_eq!(bus.read(TABLE + 16), 0xfee0_3000);
    assert_eq!(bus.read(TABLE + 12), 1, "masked from the beginning");
    bus.write(PENDING, u32::MAX);
    assert_eq!(bus.pending(), 0);
    assert_eq!(seen.accesses(), [0_u64; 0]);
    // Also not where an access goes over the end of the table.
    let mut data = [0; 16];
    let end = TABLE + 48;
    bus.attachment.bar_read(BarIndex::BAR0, end - 8, &mut data);
    assert_eq!(data[8..], [0x5a; 8]);
    bus.attachment.bar_write(BarIndex::BAR0, end - 4, &[0; 8]);
    assert_eq!(bus.read(end - 4), 0);
    assert_eq!(seen.accesses(), [end, end]);
    // Nor is the function's own table in use.
    let mut own = [0; 4];
    let slot = &bus.attachment.slot;
    slot.bar_read(BarIndex::BAR0, TABLE + 16, &mut own);
    assert_eq!(own, [0; 4]);
    assert_eq!(bus.read(0x10), 0x5a5a_5a5a);
}

#[test]
fn each_mask_holds_an_interrupt_back_and_shows_it() {
    let (bus, seen) = Bus::of_device(true);
    // Enabled first, as Linux does: all masked while entries are written.
    bus.control(0xc000);
    assert_eq!(seen.signal(1), Delivery::Pending);
    assert_eq!(bus.pending(), 0b010);
    bus.entry(1, 4, false);
    assert_eq!(bus.taken(), []);
    bus.control(0x8000);
    assert_eq!(bus.taken(), [(4, 1)]);
    assert_eq!(bus.pending(), 0);
    // By its entry, whose message changes meanwhile.
    bus.mask(1, true);
    assert_eq!(seen.signal(1), Delivery::Pending);
    bus.entry(1, 6, true);
    assert_eq!((bus.pending(), bus.taken()), (0b010, vec![]));
    bus.mask(1, false);
    assert_eq!(bus.taken(), [(6, 1)]);
    // By the function, which unmasks itself before anybody else sees the write.
    bus.control(0xc000);
    assert_eq!(seen.signal(1), Delivery::Pending);
    bus.entry(1, 7, false);
    assert_eq!((bus.pending(), bus.taken()), (0b010, vec![]));
    bus.control(0x8000);
    assert_eq!(bus.taken(), [(7, 1)]);
    // Never unmasked, or with an address that means nothing: until it has one that does.
    assert_eq!(seen.signal(2), Delivery::Pending);
    bus.mask(2, false);
    assert_eq!(bus.pending(), 0b100);
    bus.write(TABLE + 32, 0xfee0_1000);
    assert_eq!(bus.taken(), [(1, 1)]);
    // Pending beyond the endpoint's own mask.
    bus.outer.mask_by_client(InterruptKind::MsiX, 1, true);
    assert_eq!(seen.signal(2), Delivery::Signalled);
    assert_eq!((bus.pending(), bus.taken()), (0, vec![]));
    bus.outer.mask_by_client(InterruptKind::MsiX, 1, false);
    assert_eq!(bus.taken(), [(1, 1)]);
}

#[test]
fn no_interrupt_is_lost_while_entries_are_masked_and_moved() {
    const ROUNDS: u32 = 1000;
    let (bus, seen) = Bus::of_device(true);
    bus.entry(0, 0, false);
    bus.control(0x8000);
    std::thread::scope(|scope| {
        let (bus, seen) = (&bus, &seen);
        for round in 0..ROUNDS {
            let device = scope.spawn(move || seen.signal(0));
            // Linux moves an interrupt so.
            bus.mask(0, true);
            bus.write(TABLE, 0xfee0_0000 | (round % 8) << 12);
            bus.mask(0, false);
            let delivery = device.join().unwrap();
            let counts: u64 = bus.taken().iter().map(|(_, count)| count).sum();
            assert_eq!(counts, 1, "round {round}: {delivery:?}");
            assert_eq!(bus.pending(), 0);
        }
    });
}

#[test]
fn resets_take_back_the_table_and_what_is_pending() {
    let (bus, seen) = Bus::of_device(true);
    let resets: [(&dyn Fn() -> Changed, &[&str]); 3] = [
        (&|| bus.function_level_reset(), &["reset"]),
        (
            &|| {
                bus.attachment.reset(ResetScope::Function);
                Changed::all()
            },
            &["reset"],
        ),
        (
            &|| {
                bus.attachment.reset(ResetScope::Registers);
                Changed::all()
            },
            &[],
        ),
    ];
    assert_eq!(seen.life(), ["start"]);
    for (reset, life) in resets {
        bus.entry(0, 3, false);
        bus.entry(1, 3, true);
        bus.control(0x8000);
        bus.attachment.config_write(0x04, &[0x06, 0x00]);
        seen.signal(1);
        assert_eq!(bus.pending(), 0b010);
        assert_eq!(reset(), Changed::all());
        assert_eq!(seen.life(), life);
        bus.taken();
        assert_eq!((bus.read(TABLE), bus.read(TABLE + 12)), (0, 1));
        assert_eq!(bus.pending(), 0);
        assert_eq!(bus.config::<2>(0x04), [0, 0]);
        assert_eq!(seen.signal(0), Delivery::Disabled);
        // Afterwards it is as new.
        bus.control(0x8000);
        assert_eq!(seen.signal(0), Delivery::Pending);
        bus.entry(0, 4, false);
        assert_eq!(bus.taken(), [(4, 1)]);
        bus.control(0);
        bus.attachment.reset(ResetScope::Registers);
    }
    // What it signals as it is reset from the bus is nobody's.
    bus.entry(0, 3, false);
    bus.control(0x8000);
    bus.attachment.reset(ResetScope::Function);
    assert_eq!(bus.taken(), []);
}

#[test]
fn msi_is_folded_as_config_space_says() {
    let (bus, seen) = Bus::of_device(false);
    let msi = bus.capability(capability_id::MSI).unwrap();
    let write = |at: u16, data: &[u8]| bus.attachment.config_write(msi + at, data);
    write(4, &0xfee0_2000_u32.to_le_bytes());
    write(8, &[0; 4]);
    write(12, &[0x40, 0]);
    assert_eq!(seen.signal(0), Delivery::Disabled);
    // Two of four vectors: the others fold onto them.
    assert_eq!(write(2, &[0x11, 0]), Changed::INTERRUPTS);
    for vector in 0..4 {
        assert_eq!(seen.signal(vector), Delivery::Signalled);
    }
    assert_eq!(bus.taken(), [(2, 4)]);
    // The per-vector mask is the function's.
    write(16, &[0b10, 0, 0, 0]);
    assert_eq!(seen.signal(3), Delivery::Pending);
    assert_eq!(bus.config::<1>(msi + 20), [0b10]);
    write(4, &0xfee0_3000_u32.to_le_bytes());
    write(16, &[0; 4]);
    assert_eq!(bus.taken(), [(3, 1)]);
    // All four; the address moves in use.
    write(2, &[0x21, 0]);
    assert_eq!(seen.signal(3), Delivery::Signalled);
    assert_eq!(bus.taken(), [(3, 1)]);
    bus.function_level_reset();
    bus.taken();
    assert_eq!(seen.signal(0), Delivery::Disabled);
    write(2, &[0x01, 0]);
    assert_eq!(seen.signal(0), Delivery::Pending, "to address 0");
    write(2, &[0x00, 0]);
    assert_eq!(seen.signal(0), Delivery::Disabled);
}

#[test]
fn a_device_behind_callbacks_delivers_messages_and_keeps_its_own_table() {
    let memory = Arc::new(Mutex::new(vec![0; 4096]));
    let function = callback_function(Box::new(Callbacks {
        config: vec![0; 1024],
        memory: Arc::clone(&memory),
    }));
    let interrupts = function.interrupts().clone();
    let bus = Bus::new(function, ConfigView::Function);
    let own = |at: usize| {
        let bytes: [u8; 4] = memory.lock().unwrap()[at..at + 4].try_into().unwrap();
        u32::from_le_bytes(bytes)
    };
    let deliver = |vector| interrupts.deliver(MsixMessage::ADDRESS, MsixMessage::data(vector));
    bus.entry(0, 2, false);
    bus.entry(1, 3, true);
    assert_eq!((own(0x800), own(0x808)), (0, 0), "not the guest's");
    bus.control(0x8000);
    assert_eq!((own(0x800), own(0x80c)), (0xfee0_0000, 0));
    assert_eq!(own(0x810), 0, "never unmasked");
    assert_eq!(deliver(0), Some(Delivery::Signalled));
    assert_eq!((deliver(1), bus.taken()), (None, vec![(2, 1)]));
    bus.mask(1, false);
    assert_eq!(own(0x818), 1);
    assert_eq!(deliver(1), Some(Delivery::Signalled));
    bus.mask(1, true);
    assert_eq!(deliver(1), Some(Delivery::Pending));
    assert_eq!(bus.pending(), 0b10);
    bus.mask(1, false);
    assert_eq!(bus.taken(), [(3, 2)]);
    assert_eq!(bus.function_level_reset(), Changed::all());
    assert_eq!((own(0x80c), own(0x81c)), (1, 1), "masked");
    assert_eq!(deliver(0), None);
    // MSI: the message is what its config space holds.
    let write = |at: u16, data: &[u8]| bus.attachment.config_write(0xa0 + at, data);
    write(4, &0xfee0_5000_u32.to_le_bytes());
    write(12, &[0x31, 0]);
    write(2, &[0x81, 0]);
    assert_eq!(
        interrupts.deliver(0xfee0_5000, 0x31),
        Some(Delivery::Signalled)
    );
    assert_eq!(bus.taken(), [(5, 1)]);
}

#[test]
fn messages_that_are_known_late_are_kept_back_like_all() {
    let function = callback_function(Box::new(Callbacks {
        config: vec![0; 1024],
        memory: Arc::new(Mutex::new(vec![0; 4096])),
    }));
    let interrupts = function.interrupts().clone();
    let bus = Bus::stopped(function, ConfigView::Function);
    bus.attachment.set_requests(false);
    bus.attachment.start().unwrap();
    let write = |at: u16, data: &[u8]| bus.attachment.config_write(0xa0 + at, data);
    write(4, &0xfee0_5000_u32.to_le_bytes());
    write(12, &[0x31, 0]);
    write(2, &[0x81, 0]);
    let deliver = || interrupts.deliver(0xfee0_5000, 0x31);
    assert_eq!((deliver(), bus.taken()), (None, vec![]));
    bus.attachment.set_requests(true);
    assert_eq!(deliver(), Some(Delivery::Signalled));
    assert_eq!(bus.taken(), [(5, 1)]);
}

#[test]
fn writes_say_what_they_may_change() {
    let (bus, _) = Bus::of_device(true);
    let write = |offset: u16, data: &[u8]| bus.attachment.config_write(offset, data);
    let decode = Changed::DECODE;
    assert_eq!(write(0x04, &[2, 0]), decode);
    assert_eq!(write(0x05, &[0]), decode);
    assert_eq!(write(0x06, &[0, 0]), Changed::empty());
    assert_eq!(write(0x10, &[0xff; 4]), decode);
    assert_eq!(write(0x27, &[0]), decode);
    assert_eq!(write(0x28, &[0; 4]), Changed::empty());
    assert_eq!(write(0x30, &[0; 4]), decode);
    assert_eq!(write(0x3c, &[7]), Changed::empty());
    assert_eq!(write(0xfff, &[0]), Changed::empty());
    assert_eq!(
        bus.attachment
            .extended_capability(hdv_pci::spec::extended::extended_capability_id::SRIOV),
        None
    );
}

#[test]
fn guest_memory_is_the_endpoint_s() {
    let (bus, seen) = Bus::of_device(true);
    let file = rustix::fs::memfd_create("memory", MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, 4096).unwrap();
    let map = DmaMap {
        address: 0x1000,
        size: 4096,
        flags: DmaFlags::READ | DmaFlags::WRITE,
        offset: 0,
        file: Some(file.try_clone().unwrap()),
    };
    bus.memory.map(&map).unwrap();
    // The handle that the device got before it was on the bus.
    let memory = seen.inner(|inner| inner.context.clone().unwrap().memory);
    memory.write_obj(GuestAddress(0x1000), 7_u32).unwrap();
    assert_eq!(bus.memory.load::<u32>(GuestAddress(0x1000)), Ok(7));
    bus.attachment.slot.remove();
    assert!(memory.read_obj::<u32>(GuestAddress(0x1000)).is_err());
    assert_eq!(bus.memory.load::<u32>(GuestAddress(0x1000)), Ok(7));
    // Once it is lost, a function that is there reads all ones, table included.
    let (bus, _) = Bus::of_device(true);
    bus.memory.map(&map).unwrap();
    bus.entry(0, 1, false);
    rustix::fs::ftruncate(&file, 0).unwrap();
    assert!(bus.memory.load::<u32>(GuestAddress(0x1000)).is_err());
    assert_eq!(bus.read(TABLE), u32::MAX);
    assert_eq!(bus.config::<2>(0), [0xff; 2]);
}

#[test]
fn life_goes_through_the_slot_and_what_is_left_is_a_stub() {
    let (bus, seen) = Bus::of_device(true);
    bus.entry(0, 1, false);
    bus.control(0x8000);
    bus.attachment.slot.stop();
    bus.attachment.start().unwrap();
    assert_eq!(seen.signal(0), Delivery::Signalled);
    assert_eq!(bus.taken(), [(1, 1)]);
    bus.attachment.slot.remove();
    assert_eq!(seen.life(), ["start", "stop", "start", "stop", "teardown"]);
    assert_eq!(seen.signal(0), Delivery::Disabled);
    bus.entry(0, 2, false);
    bus.control(0x8000);
    assert_eq!((bus.read(TABLE), bus.read(PENDING)), (u32::MAX, u32::MAX));
    assert_eq!(bus.config::<4>(0), [0xff; 4]);
    bus.attachment.reset(ResetScope::Function);
    bus.attachment.start().unwrap();
    assert_eq!(seen.life(), <[&str; 0]>::default());
    assert_eq!(bus.taken(), []);
}

#[test]
fn a_vf_shows_what_the_sriov_rules_leave() {
    let seen = Seen::default();
    let function = pci_function(Box::new(Device(seen.clone(), true))).unwrap();
    let bus = Bus::new(function, ConfigView::Vf);
    assert_eq!(bus.config::<4>(0), [0xff; 4]);
    bus.attachment.config_write(0x10, &[0xff; 4]);
    assert_eq!(bus.config::<4>(0x10), [0; 4]);
    bus.entry(2, 6, false);
    assert_eq!(bus.control(0x8000), Changed::INTERRUPTS);
    assert_eq!(seen.signal(2), Delivery::Signalled);
    assert_eq!(bus.taken(), [(6, 1)]);
    assert_eq!(bus.function_level_reset(), Changed::all());
    assert_eq!(seen.life(), ["start", "reset"]);
    assert_eq!(bus.read(TABLE + 32), 0);
}
