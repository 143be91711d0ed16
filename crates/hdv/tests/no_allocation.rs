//! The hot path allocates nothing, from the socket to the device and back: register accesses,
//! copies from and to guest memory, interrupts, doorbells and sections, each on the session's own
//! thread; also of a device inside a domain.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use hdv::domain::{Domain, DomainOptions, MEMORY_BASE, Position};
use hdv::pci::RoutingId;
use hdv::pci::enumerate::{ConfigBus, HotPlugReserve, Resources, enumerate};
use hdv::{
    Bar, BarAccess, BarIndex, BarOffset, ClassCode, ConfigError, ConfigSpace, Delivery, Details,
    DeviceCallbacks, DeviceContext, DeviceError, DeviceHost, Doorbell, GuestAddress, HostOptions,
    Identity, Msi, Msix, PciDevice, PnpId, Section, SectionFlags, TestBench, callback_function,
    pci_function,
};
use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::{DmaFlags, vfio};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::MemfdFlags;

/// The system's allocator, counting on threads that asked for it.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
    }
}

// SAFETY: every call is the system allocator's, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The count is the process's, so its tests take turns.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Keeps what is written.
const SCRATCH: u64 = 0x00;
/// A write copies a page within guest memory, across two regions.
const COPY: u64 = 0x08;
/// A write signals the vector that is written.
const SIGNAL: u64 = 0x10;
/// A write of 1 begins to count the session's thread, of 0 ends it, of 2 allocates.
const COUNT: u64 = 0x18;
/// The MSI-X table of the device that has one.
const TABLE: u64 = 0x800;
/// Where guest memory begins, and where the second of two regions does.
const MEMORY: u64 = 0x10_0000;
const REGION_BYTES: u64 = 0x4000;
/// Of BAR 2: the first page is a section, the second a page of doorbells, one in it on its own.
const SECTION: u64 = 0x0000;
const DOORBELL_PAGE: u64 = 0x1000;
const DOORBELL: u64 = 0x1010;

/// Uses everything of the hot path, as its registers say.
struct Busy {
    kind: fn(hdv::ConfigSpaceBuilder) -> hdv::ConfigSpaceBuilder,
    context: Option<DeviceContext>,
    scratch: u64,
    page: Box<[u8; 4096]>,
    /// Of the doorbells.
    event: OwnedFd,
}

impl PciDevice for Busy {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let identity = Identity {
            vendor_id: 0x4f48,
            device_id: 0x7ffd,
            revision_id: 0,
            class: ClassCode::from_u24(0xff_0000),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        };
        let builder = ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory64(4096))
            .bar(BarIndex::BAR2, Bar::memory64(0x2000));
        (self.kind)(builder).build()
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        let file = rustix::fs::memfd_create("section", MemfdFlags::CLOEXEC).expect("a file");
        rustix::fs::ftruncate(&file, 4096).expect("a length");
        let section = Section {
            bar: BarIndex::BAR2,
            offset: SECTION,
            length: 4096,
            file_offset: 0,
            flags: SectionFlags::WRITEABLE,
        };
        let doorbell = Doorbell {
            bar: BarIndex::BAR2,
            offset: DOORBELL,
            size: None,
            value: Some(7),
        };
        let mmio = &context.mmio;
        mmio.create_section(section, file.as_fd()).expect("placed");
        mmio.register_doorbell(doorbell, self.event.as_fd())
            .expect("placed");
        mmio.register_doorbell_page(BarIndex::BAR2, 1, self.event.as_fd())
            .expect("placed");
        self.context = Some(context);
        Ok(())
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        self.scratch >> (8 * (access.offset % 8))
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        let context = self.context.as_ref().expect("initialized");
        match access.offset {
            SCRATCH => self.scratch = value,
            COPY => {
                let across = GuestAddress(MEMORY + REGION_BYTES - 2048);
                context
                    .memory
                    .read(across, &mut self.page[..])
                    .expect("mapped");
                context
                    .memory
                    .write(GuestAddress(MEMORY), &self.page[..])
                    .expect("mapped");
                let word = GuestAddress(MEMORY + 64);
                let seen: u64 = context.memory.read_obj(word).expect("mapped");
                context
                    .memory
                    .store(word, seen.wrapping_add(1))
                    .expect("mapped");
            }
            SIGNAL => {
                let vector = u16::try_from(value).expect("a small number");
                assert_eq!(context.interrupts.signal(vector), Delivery::Signalled);
            }
            COUNT => {
                COUNTED.set(value != 0);
                if value == 2 {
                    drop(std::hint::black_box(Box::new(value)));
                }
            }
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.scratch = 0;
    }
}

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd")
}

/// Serves a device with two vectors and runs `test` with a client that gave it memory and
/// eventfds.
fn with_device(
    kind: fn(hdv::ConfigSpaceBuilder) -> hdv::ConfigSpaceBuilder,
    index: u32,
    test: impl FnOnce(&mut Client),
) {
    with_served(kind, (index, 0), |device| device, test);
}

/// The same, with what the device is put into being served, and eventfds for two vectors of that from `first` on.
fn with_served<T: PciDevice + 'static>(
    kind: fn(hdv::ConfigSpaceBuilder) -> hdv::ConfigSpaceBuilder,
    (index, first): (u32, u32),
    put: impl FnOnce(Busy) -> T,
    test: impl FnOnce(&mut Client),
) {
    let _one = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("busy");
    let host = DeviceHost::new(HostOptions::new().control(false)).expect("a host");
    let doorbell = event();
    let device = Busy {
        kind,
        context: None,
        scratch: 0,
        page: Box::new([0; 4096]),
        event: doorbell.try_clone().expect("a descriptor"),
    };
    host.serve(&socket, "busy", put(device)).expect("served");
    let mut client = Client::connect(&socket, ClientOptions::default()).expect("connected");
    let file = rustix::fs::memfd_create("memory", MemfdFlags::CLOEXEC).expect("a file");
    rustix::fs::ftruncate(&file, 2 * REGION_BYTES).expect("a length");
    for offset in [0, REGION_BYTES] {
        client
            .dma_map(
                MEMORY + offset,
                REGION_BYTES,
                DmaFlags::READ | DmaFlags::WRITE,
                Some((file.as_fd(), offset)),
            )
            .expect("mapped");
    }
    let events = [event(), event()];
    client
        .set_irq_event_fds(index, first, &[events[0].as_fd(), events[1].as_fd()])
        .expect("connected");
    test(&mut client);
    for event in events.iter().chain([&doorbell]) {
        let mut count = [0; 8];
        rustix::io::read(event, &mut count).expect("it was signalled");
    }
}

fn write(client: &mut Client, offset: u64, value: u64) {
    write_at(client, (vfio::region::BAR0, 0), offset, value);
}

/// Writes to the device's BAR 0, which begins there.
fn write_at(client: &mut Client, (region, base): (u32, u64), offset: u64, value: u64) {
    client
        .region_write(region, base + offset, &value.to_le_bytes())
        .expect("written");
}

/// Allocations of this thread and the session's while `work` runs.
fn counted(client: &mut Client, work: impl Fn(&mut Client)) -> u64 {
    counted_at(client, (vfio::region::BAR0, 0), work)
}

/// The same, of a device whose BAR 0 begins there.
fn counted_at(client: &mut Client, bar0: (u32, u64), work: impl Fn(&mut Client)) -> u64 {
    // What is made once, at the first use, is made before.
    work(client);
    write_at(client, bar0, COUNT, 1);
    COUNTED.set(true);
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    for _ in 0..500 {
        work(client);
    }
    let after = ALLOCATIONS.load(Ordering::SeqCst);
    COUNTED.set(false);
    write_at(client, bar0, COUNT, 0);
    after - before
}

fn everything(client: &mut Client) {
    let mut data = [0; 8];
    for size in [1, 2, 4, 8] {
        client
            .region_read(vfio::region::BAR0, SCRATCH, &mut data[..size])
            .expect("read");
        client
            .region_write(vfio::region::BAR0, SCRATCH, &data[..size])
            .expect("written");
        client
            .region_write_posted(vfio::region::BAR0, SCRATCH, &data[..size])
            .expect("posted");
        client
            .region_write(vfio::region::BAR2, SECTION, &[7; 8][..size])
            .expect("written");
        client
            .region_read(vfio::region::BAR2, SECTION, &mut data[..size])
            .expect("read");
        assert_eq!(data[..size], [7; 8][..size]);
        for offset in [DOORBELL, DOORBELL_PAGE] {
            client
                .region_write(vfio::region::BAR2, offset, &7u64.to_le_bytes()[..size])
                .expect("written");
        }
    }
    // One that is split, and config space with it.
    let mut large = [0; 64];
    client
        .region_read(vfio::region::BAR0, SCRATCH + 1, &mut large)
        .expect("read");
    client
        .region_read(vfio::region::CONFIG, 0, &mut large)
        .expect("read");
    write(client, COPY, 0);
    write(client, SIGNAL, 0);
    write(client, SIGNAL, 1);
}

fn two_vectors(builder: hdv::ConfigSpaceBuilder) -> hdv::ConfigSpaceBuilder {
    let place = |offset| BarOffset::new(BarIndex::BAR0, offset);
    builder.capability(Msix::new(2, place(0x800), place(0xc00)))
}

#[test]
fn accesses_copies_and_msix_interrupts_allocate_nothing() {
    with_device(two_vectors, vfio::irq::MSIX, |client| {
        assert_eq!(counted(client, everything), 0);
    });
}

#[test]
fn msi_interrupts_allocate_nothing() {
    let msi = |builder: hdv::ConfigSpaceBuilder| builder.capability(Msi::with_64_bit_address(2));
    with_device(msi, vfio::irq::MSI, |client| {
        assert_eq!(counted(client, everything), 0);
    });
}

#[test]
fn the_counter_sees_the_session_s_thread() {
    let msi = |builder: hdv::ConfigSpaceBuilder| builder.capability(Msi::with_64_bit_address(2));
    with_device(msi, vfio::irq::MSI, |client| {
        let allocate = |client: &mut Client| {
            everything(client);
            write(client, COUNT, 2);
        };
        assert!(counted(client, allocate) >= 500);
    });
}

/// The window onto config space of a domain.
struct Window<'a>(&'a mut Client);

/// Where in the endpoint's window onto config space a register is.
fn register(id: RoutingId, offset: u16) -> u64 {
    u64::from(id.get()) << 12 | u64::from(offset)
}

impl ConfigBus for Window<'_> {
    fn read(&mut self, id: RoutingId, offset: u16, data: &mut [u8]) {
        let read = self
            .0
            .region_read(vfio::region::BAR0, register(id, offset), data);
        read.expect("read");
    }

    fn write(&mut self, id: RoutingId, offset: u16, data: &[u8]) {
        let written = self
            .0
            .region_write(vfio::region::BAR0, register(id, offset), data);
        written.expect("written");
    }
}

fn in_a_domain(device: Busy) -> impl PciDevice {
    let (domain, endpoint) = Domain::new(DomainOptions::new()).expect("possible sizes");
    let port = domain.add_root_port(1, 0, None).expect("a free place");
    let content = pci_function(Box::new(device)).expect("a function");
    let attached = domain.attach(Position::below(port), "busy", content, &[]);
    attached.expect("a free place");
    endpoint
}

/// Everything of a device inside a domain, whose routing id and BARs these are.
fn everything_inside(client: &mut Client, id: RoutingId, [bar0, bar2]: [u64; 2]) {
    let (config, memory) = (vfio::region::BAR0, vfio::region::BAR2);
    let port = RoutingId::new(0, 1, 0).expect("there is one");
    let mut data = [0; 8];
    for size in [1, 2, 4, 8] {
        for at in [register(port, 0x18), register(id, 0x08), register(id, 0x40)] {
            client
                .region_read(config, at, &mut data[..size])
                .expect("read");
        }
        client
            .region_read(memory, bar0 + SCRATCH, &mut data[..size])
            .expect("read");
        client
            .region_write(memory, bar0 + SCRATCH, &data[..size])
            .expect("written");
        client
            .region_write(memory, bar2 + SECTION, &[7; 8][..size])
            .expect("written");
        for offset in [DOORBELL, DOORBELL_PAGE] {
            let value = 7u64.to_le_bytes();
            client
                .region_write(memory, bar2 + offset, &value[..size])
                .expect("written");
        }
    }
    // What routing follows, unchanged: a command register, a BAR, bus numbers.
    for at in [register(id, 0x04), register(id, 0x10), register(port, 0x18)] {
        client
            .region_read(config, at, &mut data[..4])
            .expect("read");
        client
            .region_write(config, at, &data[..4])
            .expect("written");
    }
    // A vector is masked and unmasked.
    for masked in [1_u32, 0] {
        let control = bar0 + TABLE + 12;
        client
            .region_write(memory, control, &masked.to_le_bytes())
            .expect("written");
    }
    let bar0 = (memory, bar0);
    write_at(client, bar0, COPY, 0);
    write_at(client, bar0, SIGNAL, 0);
    write_at(client, bar0, SIGNAL, 1);
}

#[test]
fn a_device_inside_a_domain_allocates_nothing() {
    with_served(two_vectors, (vfio::irq::MSIX, 1), in_a_domain, |client| {
        let resources = Resources {
            buses: 0..=31,
            memory: MEMORY_BASE..=MEMORY_BASE + (64 << 20) - 1,
            prefetchable: None,
            hot_plug: HotPlugReserve::NONE,
        };
        let found = enumerate(&mut Window(client), &resources).expect("it fits");
        let device = found.functions.last().expect("it is the last");
        let id = device.id;
        let bars = [0, 1].map(|bar: usize| device.bars[bar].address - MEMORY_BASE);
        let bar0 = (vfio::region::BAR2, bars[0]);
        for vector in [0, 1] {
            let entry = TABLE + 16 * vector;
            write_at(client, bar0, entry, 0xfee0_0000 | (vector + 1) << 12);
            write_at(client, bar0, entry + 8, 0);
        }
        let mut bus = Window(client);
        let mut at = [0];
        bus.read(id, 0x34, &mut at);
        let mut entry = [0; 2];
        loop {
            bus.read(id, at[0].into(), &mut entry);
            if entry[0] == 0x11 {
                break;
            }
            assert_ne!(entry[1], 0, "no MSI-X");
            at[0] = entry[1];
        }
        bus.write(id, u16::from(at[0]) + 2, &[0x00, 0x80]);
        let work = |client: &mut Client| everything_inside(client, id, bars);
        assert_eq!(counted_at(client, bar0, work), 0);
    });
}

/// A device behind callbacks with MSI-X in its first BAR: entry 0 of its table is all it keeps.
struct Callbacks {
    entry: [u8; 16],
}

impl DeviceCallbacks for Callbacks {
    fn initialize(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn set_configuration(&mut self, _values: &[String]) -> Result<(), DeviceError> {
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
        Ok(match offset {
            0x34 => 0x40,
            0x40 => 0x0000_0011,
            0x44 => 0x800,
            0x48 => 0xc00,
            _ => 0,
        })
    }

    fn write_config_space(&mut self, _offset: u32, _value: u32) -> Result<(), DeviceError> {
        Ok(())
    }

    fn read_intercepted_memory(
        &mut self,
        _bar: BarIndex,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), DeviceError> {
        let at = usize::try_from(offset % 16).expect("small");
        data.copy_from_slice(&self.entry[at..at + data.len()]);
        Ok(())
    }

    fn write_intercepted_memory(
        &mut self,
        _bar: BarIndex,
        offset: u64,
        data: &[u8],
    ) -> Result<(), DeviceError> {
        let at = usize::try_from(offset % 16).expect("small");
        self.entry[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

#[test]
fn callbacks_and_delivery_by_message_allocate_nothing() {
    let _one = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let device = Callbacks { entry: [0; 16] };
    let function = callback_function(Box::new(device));
    let interrupts = function.interrupts().clone();
    let mut bench = TestBench::with_function(function).expect("started");
    bench.enable_interrupts().expect("eventfds");
    let mut work = || {
        let address: u64 = bench.read(BarIndex::BAR0, 0x800);
        let data: u32 = bench.read(BarIndex::BAR0, 0x808);
        let delivery = interrupts.deliver(address, data);
        assert_eq!(delivery, Some(Delivery::Signalled));
        for offset in [0, 0x800, 0xc00] {
            let value: u64 = bench.read(BarIndex::BAR0, offset);
            bench.write(BarIndex::BAR0, offset, value);
        }
        let control: u16 = bench.config_read(0x42);
        bench.config_write(0x42, control);
        bench.config_write(0x04, 6_u8);
    };
    // What is made once, at the first use, is made before.
    work();
    COUNTED.set(true);
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    for _ in 0..500 {
        work();
    }
    let after = ALLOCATIONS.load(Ordering::SeqCst);
    COUNTED.set(false);
    assert_eq!(after - before, 0);
    assert_eq!(bench.take_interrupts(0), 501);
}
