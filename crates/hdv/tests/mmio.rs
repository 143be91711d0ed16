//! Doorbells and sections, from a client's side of a real socket: what it may map, what it sees and rings
//! without the device being called, and what the device cannot take back meanwhile.

mod support;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use hdv::{
    AccessSize, Bar, BarAccess, BarIndex, BarOffset, ClassCode, ClientStatus, ConfigError,
    ConfigSpace, DeviceContext, DeviceError, DeviceHost, DeviceId, Doorbell, Identity, Mmio,
    MmioError, Msix, PciDevice, PciExpress, Section, SectionFlags, TestBench,
};
use hdv_vfio_user::SparseArea;
use hdv_vfio_user::client::{Client, ClientRegion};
use support::{connect, event, host, lock, memfd, read32, taken, wait_for, write32};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

const PAGE: u64 = 4096;
const BAR_SIZE: u64 = 16 * PAGE;
/// The last page of BAR 0.
const MSIX_TABLE: u32 = 0xf000;
const MSIX_PENDING: u32 = 0xf800;
const VECTORS: u16 = 4;
const BAR0: u32 = 0;
const BAR2: u32 = 2;

/// A write here panics.
const PANIC: u64 = 0xe000;
/// What its registers read.
const REGISTER: u64 = 0x7e57_7e57_7e57_7e57;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read(BarAccess),
    Write(BarAccess, u64),
}

/// What a test sees of its device.
#[derive(Clone, Default)]
struct Seen {
    context: Arc<Mutex<Option<DeviceContext>>>,
    accesses: Arc<Mutex<Vec<Access>>>,
    /// What became of its section by the time it was torn down.
    at_teardown: Arc<Mutex<Option<Result<(), MmioError>>>>,
}

impl Seen {
    fn mmio(&self) -> Mmio {
        lock(&self.context).clone().expect("powered on").mmio
    }

    fn take(&self) -> Vec<Access> {
        std::mem::take(&mut *lock(&self.accesses))
    }
}

/// A device with two BARs, which places what it is given when it is started.
#[derive(Default)]
struct Board {
    seen: Seen,
    at_start: Option<(Section, OwnedFd)>,
}

impl PciDevice for Board {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let identity = Identity {
            vendor_id: 0x4f48,
            device_id: 0x7ffc,
            revision_id: 0,
            class: ClassCode::from_u24(0xff_0000),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        };
        let place = |offset| BarOffset::new(BarIndex::BAR0, offset);
        ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory64(BAR_SIZE))
            .bar(BarIndex::BAR2, Bar::memory64(BAR_SIZE))
            .capability(PciExpress::endpoint())
            .capability(Msix::new(VECTORS, place(MSIX_TABLE), place(MSIX_PENDING)))
            .build()
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        *lock(&self.seen.context) = Some(context);
        Ok(())
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        if let Some((section, file)) = &self.at_start {
            self.seen
                .mmio()
                .create_section(*section, file.as_fd())
                .map_err(|error| DeviceError::new(error.to_string()))?;
        }
        Ok(())
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        lock(&self.seen.accesses).push(Access::Read(access));
        REGISTER
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        assert_ne!(access.offset, PANIC, "as the test wants");
        lock(&self.seen.accesses).push(Access::Write(access, value));
    }

    fn reset(&mut self) {}

    fn teardown(&mut self) {
        let destroyed = self.seen.mmio().destroy_section(BarIndex::BAR2, 0);
        *lock(&self.seen.at_teardown) = Some(destroyed);
    }
}

/// A host that serves one.
struct Served {
    host: DeviceHost,
    id: DeviceId,
    seen: Seen,
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

fn serve(board: Board) -> Served {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("board.sock");
    let seen = board.seen.clone();
    let host = host();
    let id = host.serve(&socket, "board", board).expect("served");
    Served {
        host,
        id,
        seen,
        socket,
        _directory: directory,
    }
}

impl Served {
    fn connect(&self) -> Client {
        connect(&self.socket)
    }

    fn mmio(&self) -> Mmio {
        self.seen.mmio()
    }

    fn client(&self) -> Option<ClientStatus> {
        self.host.devices()[0].client.clone()
    }

    /// Reads and writes of BARs that its client sent.
    fn counts(&self) -> (u64, u64) {
        let client = self.client().expect("a client");
        (client.bar_reads, client.bar_writes)
    }

    fn leave(&self, client: Client) {
        drop(client);
        let instance = self.host.instance(self.id).expect("it is served");
        wait_for("departure", || !instance.has_client());
    }
}

fn section(bar: BarIndex, offset: u64, length: u64, file_offset: u64) -> Section {
    Section {
        bar,
        offset,
        length,
        file_offset,
        flags: SectionFlags::WRITEABLE,
    }
}

fn doorbell(offset: u64, size: Option<AccessSize>, value: Option<u64>) -> Doorbell {
    Doorbell {
        bar: BarIndex::BAR2,
        offset,
        size,
        value,
    }
}

fn area(offset: u64, size: u64) -> SparseArea {
    SparseArea { offset, size }
}

/// Maps bytes of a file, as a client and a device do.
fn map(file: &OwnedFd, offset: u64, size: u64) -> MmapRegion {
    let file = File::from(file.try_clone().expect("a descriptor"));
    let size = usize::try_from(size).expect("small");
    MmapRegion::from_file(FileOffset::new(file, offset), size).expect("mapped")
}

/// Maps an area of a BAR at the client's end: its offset in the BAR is not its offset in the file.
fn map_area(region: &ClientRegion, area: SparseArea) -> MmapRegion {
    let file = region.file.as_ref().expect("a file");
    map(file, region.offset + area.offset, area.size)
}

fn get(mapping: &MmapRegion, offset: usize) -> u32 {
    mapping
        .as_volatile_slice()
        .read_obj(offset)
        .expect("inside")
}

fn put(mapping: &MmapRegion, offset: usize, value: u32) {
    mapping
        .as_volatile_slice()
        .write_obj(value, offset)
        .expect("inside");
}

fn mapped(result: Result<(), MmioError>) -> bool {
    matches!(result, Err(MmioError::Mapped { .. }))
}

#[test]
fn a_section_that_the_client_maps_is_shared_memory_without_any_access() {
    let served = serve(Board::default());
    let file = memfd(8 * PAGE);
    let placed = section(BarIndex::BAR2, PAGE, 2 * PAGE, 4 * PAGE);
    served.mmio().create_section(placed, file.as_fd()).unwrap();
    let own = map(&file, 4 * PAGE, 2 * PAGE);

    let mut client = served.connect();
    let region = client.region_info(BAR2).unwrap();
    assert!(region.mappable);
    assert_eq!((region.size, region.offset), (BAR_SIZE, 3 * PAGE));
    assert_eq!(region.areas, [area(PAGE, 2 * PAGE)]);
    let theirs = map_area(&region, region.areas[0]);
    put(&theirs, 0x10, 0x1111_1111);
    assert_eq!(get(&own, 0x10), 0x1111_1111);
    put(&own, 0x1ffc, 0x2222_2222);
    assert_eq!(get(&theirs, 0x1ffc), 0x2222_2222);
    assert_eq!(served.counts(), (0, 0));
    assert!(!client.region_info(BAR0).unwrap().mappable);

    // The same bytes for a client that does not use its mapping.
    assert_eq!(read32(&mut client, BAR2, PAGE + 0x10), 0x1111_1111);
    write32(&mut client, BAR2, PAGE + 0x14, 0x3333_3333);
    assert_eq!(get(&own, 0x14), 0x3333_3333);
    assert_eq!(served.counts(), (1, 1));
    assert_eq!(served.seen.take(), []);
    // Beside it the device answers; one access across the edge is both.
    let mut across = [0; 16];
    put(&own, 0, 0x4444_4444);
    client.region_read(BAR2, PAGE - 8, &mut across).unwrap();
    assert_eq!(across[..8], REGISTER.to_le_bytes());
    assert_eq!(across[8..12], [0x44; 4]);
    assert_eq!(served.seen.take().len(), 1);
    assert_eq!(served.counts(), (2, 1));
}

#[test]
fn sections_made_at_start_are_still_offered() {
    let placed = section(BarIndex::BAR2, 0, BAR_SIZE, 0);
    let board = Board {
        at_start: Some((placed, memfd(BAR_SIZE))),
        ..Board::default()
    };
    let served = serve(board);
    for _ in 0..2 {
        let mut client = served.connect();
        let region = client.region_info(BAR2).unwrap();
        assert_eq!(region.areas, [area(0, BAR_SIZE)]);
        assert_eq!(region.offset, 0);
        // The next client starts it again: the same section changes nothing.
        served.leave(client);
    }
}

#[test]
fn of_two_files_the_larger_part_is_offered_and_the_other_one_served() {
    let served = serve(Board::default());
    let (small, large) = (memfd(2 * PAGE), memfd(8 * PAGE));
    let mmio = served.mmio();
    let in_small = section(BarIndex::BAR2, 0, 2 * PAGE, 0);
    let in_large = section(BarIndex::BAR2, 2 * PAGE, 3 * PAGE, 2 * PAGE);
    // The same file, at another distance.
    let elsewhere = section(BarIndex::BAR2, 8 * PAGE, PAGE, 0);
    mmio.create_section(in_small, small.as_fd()).unwrap();
    mmio.create_section(in_large, large.as_fd()).unwrap();
    mmio.create_section(elsewhere, large.as_fd()).unwrap();
    let mut client = served.connect();
    let region = client.region_info(BAR2).unwrap();
    assert_eq!(region.areas, [area(2 * PAGE, 3 * PAGE)]);
    let theirs = map_area(&region, region.areas[0]);
    put(&theirs, 4, 7);
    assert_eq!(get(&map(&large, 2 * PAGE, PAGE), 4), 7);

    for (offset, file) in [(PAGE + 8, &small), (8 * PAGE + 8, &large)] {
        write32(&mut client, BAR2, offset, 0x5555_5555);
        assert_eq!(read32(&mut client, BAR2, offset), 0x5555_5555);
        let base = if offset > 2 * PAGE { 0 } else { PAGE };
        assert_eq!(get(&map(file, base, PAGE), 8), 0x5555_5555);
    }
    assert_eq!(served.counts(), (2, 2));
    assert_eq!(served.seen.take(), []);
    // Only what the client may have mapped stays.
    assert!(mapped(mmio.destroy_section(BarIndex::BAR2, 2 * PAGE)));
    mmio.destroy_section(BarIndex::BAR2, 0).unwrap();
    mmio.destroy_section(BarIndex::BAR2, 8 * PAGE).unwrap();
    read32(&mut client, BAR2, 0);
    assert_eq!(served.seen.take().len(), 1);
}

#[test]
fn a_read_only_section_is_not_offered_and_ignores_writes() {
    let served = serve(Board::default());
    let file = memfd(PAGE);
    let flags = SectionFlags::empty();
    let placed = Section {
        flags,
        ..section(BarIndex::BAR2, 0, PAGE, 0)
    };
    served.mmio().create_section(placed, file.as_fd()).unwrap();
    let own = map(&file, 0, PAGE);
    put(&own, 0, 0x1234_5678);
    let mut client = served.connect();
    let region = client.region_info(BAR2).unwrap();
    assert!(!region.mappable && region.file.is_none());
    for size in [1, 2, 4, 8] {
        client.region_write(BAR2, 0, &vec![0xff; size]).unwrap();
    }
    assert_eq!(read32(&mut client, BAR2, 0), 0x1234_5678);
    assert_eq!(get(&own, 0), 0x1234_5678);
    assert_eq!(served.seen.take(), []);
}

#[test]
fn what_comes_after_the_client_asked_is_served_and_can_go() {
    let served = serve(Board::default());
    let (file, mmio) = (memfd(PAGE), served.mmio());
    let placed = section(BarIndex::BAR2, 0, PAGE, 0);
    let mut client = served.connect();
    assert!(!client.region_info(BAR2).unwrap().mappable);
    mmio.create_section(placed, file.as_fd()).unwrap();
    assert!(!client.region_info(BAR2).unwrap().mappable);
    write32(&mut client, BAR2, 0x20, 5);
    assert_eq!(get(&map(&file, 0, PAGE), 0x20), 5);
    assert_eq!(served.seen.take(), []);
    mmio.destroy_section(BarIndex::BAR2, 0).unwrap();
    assert_eq!(u64::from(read32(&mut client, BAR2, 0x20)), REGISTER >> 32);
    mmio.create_section(placed, file.as_fd()).unwrap();
    served.leave(client);
    let mut client = served.connect();
    assert!(client.region_info(BAR2).unwrap().mappable);
}

#[test]
fn what_a_client_has_mapped_stays_until_it_leaves() {
    let served = serve(Board::default());
    let (file, mmio, ring) = (memfd(4 * PAGE), served.mmio(), event());
    let placed = section(BarIndex::BAR2, 0, 4 * PAGE, 0);
    mmio.create_section(placed, file.as_fd()).unwrap();
    // Nobody has asked yet.
    mmio.destroy_section(BarIndex::BAR2, 0).unwrap();
    mmio.create_section(placed, file.as_fd()).unwrap();
    let mut client = served.connect();
    assert!(client.region_info(BAR2).unwrap().mappable);

    let inside = doorbell(PAGE + 8, None, None);
    assert!(mapped(mmio.destroy_section(BarIndex::BAR2, 0)));
    assert!(mapped(mmio.register_doorbell(inside, ring.as_fd())));
    let page = mmio.register_doorbell_page(BarIndex::BAR2, 3, ring.as_fd());
    assert!(mapped(page));
    let outside = doorbell(4 * PAGE, None, None);
    mmio.register_doorbell(outside, ring.as_fd()).unwrap();
    mmio.create_section(placed, file.as_fd()).unwrap();
    let partly = section(BarIndex::BAR2, PAGE, PAGE, PAGE);
    let taken_already = mmio.create_section(partly, file.as_fd());
    assert!(matches!(taken_already, Err(MmioError::Taken { .. })));
    // A reset is no departure.
    client.reset().unwrap();
    assert!(mapped(mmio.destroy_section(BarIndex::BAR2, 0)));

    served.leave(client);
    mmio.register_doorbell(inside, ring.as_fd()).unwrap();
    let mut client = served.connect();
    let region = client.region_info(BAR2).unwrap();
    let without_the_doorbell = [area(0, PAGE), area(2 * PAGE, 2 * PAGE)];
    assert_eq!(region.areas, without_the_doorbell);
    write32(&mut client, BAR2, PAGE + 8, 9);
    assert_eq!(taken(&ring), 1);
    write32(&mut client, BAR2, PAGE + 12, 9);
    assert_eq!(get(&map(&file, PAGE, PAGE), 8), 0, "the doorbell took it");
    assert_eq!(get(&map(&file, PAGE, PAGE), 12), 9);
    served.leave(client);
    mmio.destroy_section(BarIndex::BAR2, 0).unwrap();
}

#[test]
fn a_section_never_offered_can_always_go() {
    let served = serve(Board::default());
    let (file, mmio) = (memfd(2 * PAGE), served.mmio());
    let placed = Section {
        flags: SectionFlags::WRITEABLE | SectionFlags::NEVER_OFFERED,
        ..section(BarIndex::BAR2, 0, PAGE, 0)
    };
    mmio.create_section(placed, file.as_fd()).unwrap();
    let mut client = served.connect();
    assert!(!client.region_info(BAR2).unwrap().mappable);
    write32(&mut client, BAR2, 0, 1);
    mmio.destroy_section(BarIndex::BAR2, 0).unwrap();
    let other_half = Section {
        file_offset: PAGE,
        ..placed
    };
    mmio.create_section(other_half, file.as_fd()).unwrap();
    assert_eq!(read32(&mut client, BAR2, 0), 0);
    assert_eq!(served.seen.take(), []);
}

#[test]
fn the_page_of_the_interrupt_table_is_not_offered_and_stays_the_table_s() {
    let served = serve(Board::default());
    let file = memfd(BAR_SIZE);
    let placed = section(BarIndex::BAR0, 0, BAR_SIZE, 0);
    served.mmio().create_section(placed, file.as_fd()).unwrap();
    let mut client = served.connect();
    let region = client.region_info(BAR0).unwrap();
    assert_eq!(region.areas, [area(0, 15 * PAGE)]);
    let last = map(&file, 15 * PAGE, PAGE);
    // Table, what is between, pending bits.
    let entry = u64::from(MSIX_TABLE);
    write32(&mut client, BAR0, entry, 0xfee0_0000);
    assert_eq!(read32(&mut client, BAR0, entry), 0xfee0_0000);
    assert_eq!(get(&last, 0), 0);
    let between = entry + 16 * u64::from(VECTORS);
    write32(&mut client, BAR0, between, 6);
    assert_eq!(get(&last, 16 * usize::from(VECTORS)), 6);
    write32(&mut client, BAR0, MSIX_PENDING.into(), u32::MAX);
    assert_eq!(read32(&mut client, BAR0, MSIX_PENDING.into()), 0);
    assert_eq!(get(&last, 0x800), 0);
    assert_eq!(served.seen.take(), []);
}

#[test]
fn doorbells_of_each_size_and_value_ring_and_the_device_is_not_called() {
    let served = serve(Board::default());
    let mmio = served.mmio();
    let sizes = [
        AccessSize::Byte,
        AccessSize::Word,
        AccessSize::Dword,
        AccessSize::Qword,
    ];
    let (sized, valued, any) = (sizes.map(|_| event()), sizes.map(|_| event()), event());
    for (at, size) in sizes.into_iter().enumerate() {
        let exact = doorbell(0x40, Some(size), Some(0x1122_3344_5566_7788));
        mmio.register_doorbell(doorbell(0x40, Some(size), None), sized[at].as_fd())
            .unwrap();
        mmio.register_doorbell(exact, valued[at].as_fd()).unwrap();
    }
    mmio.register_doorbell(doorbell(0x80, None, Some(0x42)), any.as_fd())
        .unwrap();
    let mut client = served.connect();
    let rung = |events: &[OwnedFd]| events.iter().map(taken).collect::<Vec<_>>();
    for (at, size) in [1, 2, 4, 8].into_iter().enumerate() {
        let mut only = vec![0; 4];
        only[at] = 1;
        let value = 0x1122_3344_5566_7788_u64.to_le_bytes();
        client.region_write(BAR2, 0x40, &value[..size]).unwrap();
        assert_eq!((rung(&sized), rung(&valued)), (vec![0; 4], only.clone()));
        client.region_write(BAR2, 0x40, &[1; 8][..size]).unwrap();
        assert_eq!((rung(&sized), rung(&valued)), (only, vec![0; 4]));
        // A value with any size.
        let value = 0x42_u64.to_le_bytes();
        client
            .region_write_posted(BAR2, 0x80, &value[..size])
            .unwrap();
        read32(&mut client, BAR2, 0x80);
        assert_eq!(taken(&any), 1);
    }
    let reads = served.seen.take();
    assert!(reads.iter().all(|access| matches!(access, Access::Read(_))));
    // Another value, or another place, is the device's.
    write32(&mut client, BAR2, 0x80, 0x43);
    write32(&mut client, BAR2, 0x84, 0x42);
    client.region_write(BAR2, 0x44, &[1]).unwrap();
    assert_eq!(taken(&any), 0);
    assert_eq!(served.seen.take().len(), 3);
    // Rung twice, counted twice; and taken back.
    write32(&mut client, BAR2, 0x80, 0x42);
    write32(&mut client, BAR2, 0x80, 0x42);
    assert_eq!(taken(&any), 2);
    mmio.unregister_doorbell(&doorbell(0x80, None, Some(0x42)))
        .unwrap();
    write32(&mut client, BAR2, 0x80, 0x42);
    assert_eq!(taken(&any), 0);
    let register = BarAccess {
        bar: BarIndex::BAR2,
        offset: 0x80,
        size: 4,
    };
    assert_eq!(served.seen.take(), [Access::Write(register, 0x42)]);
}

#[test]
fn a_doorbell_page_takes_what_no_doorbell_takes() {
    let served = serve(Board::default());
    let (mmio, page, exact) = (served.mmio(), event(), event());
    mmio.register_doorbell_page(BarIndex::BAR2, 2, page.as_fd())
        .unwrap();
    let one = doorbell(2 * PAGE + 0x10, Some(AccessSize::Dword), None);
    mmio.register_doorbell(one, exact.as_fd()).unwrap();
    let mut client = served.connect();
    for (offset, size) in [(0, 1), (2, 2), (0x10, 8), (0xffc, 4), (0xff8, 8)] {
        client
            .region_write(BAR2, 2 * PAGE + offset, &vec![1; size])
            .unwrap();
        assert_eq!((taken(&page), taken(&exact)), (1, 0), "{offset:#x}");
    }
    write32(&mut client, BAR2, 2 * PAGE + 0x10, 3);
    assert_eq!((taken(&page), taken(&exact)), (0, 1));
    // In parts: the last of this page, the first of the next.
    client.region_write(BAR2, 3 * PAGE - 4, &[1; 8]).unwrap();
    assert_eq!((taken(&page), served.seen.take().len()), (1, 1));
    mmio.unregister_doorbell_page(BarIndex::BAR2, 2).unwrap();
    write32(&mut client, BAR2, 2 * PAGE, 3);
    assert_eq!((taken(&page), served.seen.take().len()), (0, 1));
}

#[test]
fn ioeventfds_that_a_client_is_given_are_the_doorbells_own() {
    let served = serve(Board::default());
    let (mmio, exact, any, page) = (served.mmio(), event(), event(), event());
    let with_value = doorbell(8, Some(AccessSize::Dword), Some(0x1_0000_0007));
    mmio.register_doorbell(with_value, exact.as_fd()).unwrap();
    mmio.register_doorbell(doorbell(0x10, None, None), any.as_fd())
        .unwrap();
    mmio.register_doorbell_page(BarIndex::BAR2, 1, page.as_fd())
        .unwrap();
    let mut client = served.connect();
    assert!(client.region_io_event_fds(BAR0).unwrap().is_empty());
    let given = client.region_io_event_fds(BAR2).unwrap();
    let described: Vec<_> = given
        .iter()
        .map(|io| (io.offset, io.size, io.datamatch))
        .collect();
    assert_eq!(described, [(8, 4, Some(7)), (0x10, 0, None)]);
    for (io, event) in given.iter().zip([&exact, &any]) {
        rustix::io::write(&io.event, &1u64.to_ne_bytes()).unwrap();
        assert_eq!(taken(event), 1);
    }
    // The trapped way rings as before.
    write32(&mut client, BAR2, 8, 7);
    write32(&mut client, BAR2, 0x10, 1);
    assert_eq!((taken(&exact), taken(&any)), (1, 1));
    // A client that fills the counter loses only what nobody waits for.
    rustix::io::write(&given[1].event, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    rustix::fs::fcntl_setfl(&given[1].event, rustix::fs::OFlags::empty()).unwrap();
    write32(&mut client, BAR2, 0x10, 1);
    assert_eq!(taken(&any), u64::MAX - 1);
}

#[test]
fn a_device_that_is_removed_gives_everything_back_and_leaves_the_client_its_mapping() {
    let served = serve(Board::default());
    let (mmio, file, ring) = (served.mmio(), memfd(PAGE), event());
    let placed = section(BarIndex::BAR2, 0, PAGE, 0);
    mmio.create_section(placed, file.as_fd()).unwrap();
    let at = doorbell(PAGE, None, None);
    mmio.register_doorbell(at, ring.as_fd()).unwrap();
    let mut client = served.connect();
    let region = client.region_info(BAR2).unwrap();
    let theirs = map_area(&region, region.areas[0]);
    served.host.remove(served.id).unwrap();
    let released = *lock(&served.seen.at_teardown);
    assert_eq!(released, Some(Ok(())), "in its teardown");
    assert_eq!(
        mmio.destroy_section(BarIndex::BAR2, 0),
        Err(MmioError::Gone)
    );
    assert_eq!(mmio.unregister_doorbell(&at), Err(MmioError::Gone));
    write32(&mut client, BAR2, PAGE, 1);
    assert_eq!(taken(&ring), 0);
    put(&theirs, 0, 3);
    assert_eq!(get(&map(&file, 0, PAGE), 0), 3);
    assert_eq!(read32(&mut client, BAR2, 0), u32::MAX);
    assert!(!client.region_info(BAR2).unwrap().mappable);
}

#[test]
fn a_device_that_panicked_has_no_sections_and_doorbells_left_either() {
    let served = serve(Board::default());
    let (mmio, file, ring) = (served.mmio(), memfd(PAGE), event());
    let placed = section(BarIndex::BAR2, 0, PAGE, 0);
    mmio.create_section(placed, file.as_fd()).unwrap();
    mmio.register_doorbell_page(BarIndex::BAR2, 1, ring.as_fd())
        .unwrap();
    let mut client = served.connect();
    assert_eq!(read32(&mut client, BAR2, 0), 0);
    write32(&mut client, BAR2, PANIC, 0);
    assert_eq!(read32(&mut client, BAR2, 0), u32::MAX);
    write32(&mut client, BAR2, 0, 1);
    assert_eq!(get(&map(&file, 0, PAGE), 0), 0);
    write32(&mut client, BAR2, PAGE, 1);
    assert_eq!(taken(&ring), 0);
}

#[test]
fn on_the_test_bench_they_work_as_in_a_vm() {
    let file = memfd(2 * PAGE);
    let placed = section(BarIndex::BAR2, PAGE, PAGE, PAGE);
    let board = Board {
        at_start: Some((placed, file.try_clone().unwrap())),
        ..Board::default()
    };
    let seen = board.seen.clone();
    let mut bench = TestBench::new(board).unwrap();
    let ring = event();
    let with_value = doorbell(0, Some(AccessSize::Word), Some(3));
    seen.mmio()
        .register_doorbell(with_value, ring.as_fd())
        .unwrap();
    bench.write(BarIndex::BAR2, 0, 3u16);
    assert_eq!(taken(&ring), 1);
    bench.write(BarIndex::BAR2, PAGE + 8, 0x99u64);
    assert_eq!(bench.read::<u64>(BarIndex::BAR2, PAGE + 8), 0x99);
    assert_eq!(get(&map(&file, PAGE, PAGE), 8), 0x99);
    assert_eq!(seen.take(), []);
    bench.write(BarIndex::BAR2, 0, 4u16);
    assert_eq!(seen.take().len(), 1);
    drop(bench);
    let gone = seen.mmio().unregister_doorbell(&with_value);
    assert_eq!(gone, Err(MmioError::Gone));
}
