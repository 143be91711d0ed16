//! Many functions that another one brings, and many times: what one costs, and that nothing is left. One
//! test, since it counts what its whole process has.

#[path = "support/bringer.rs"]
#[expect(dead_code, reason = "shared with the tests of what becomes of each")]
mod bringer;
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use bringer::{BRING, Hold, TAKE_AWAY};
use hdv::{
    Bar, BarAccess, BarIndex, BarOffset, ClassCode, ConfigError, ConfigSpace, Identity, Msix,
    PciDevice, PciExpress, pci_function,
};
use hdv_vfio_user::client::Client;
use hdv_vfio_user::vfio;
use rustix::process::{Resource, getrlimit, setrlimit};
use support::*;

/// Bytes that are allocated now.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is the system allocator's, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A small device: one page of registers that are not there, three vectors.
struct Small;

impl PciDevice for Small {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let identity = Identity {
            vendor_id: 0x4f48,
            device_id: 0x7abd,
            revision_id: 0,
            class: ClassCode::from_u24(0xff_0000),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        };
        let place = |offset| BarOffset::new(BarIndex::BAR0, offset);
        ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory64(4096))
            .capability(PciExpress::endpoint())
            .capability(Msix::new(3, place(0x800), place(0xc00)))
            .build()
    }

    fn read(&mut self, _: BarAccess) -> u64 {
        7
    }

    fn write(&mut self, _: BarAccess, _: u64) {}

    fn reset(&mut self) {}
}

fn count(path: impl AsRef<Path>) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

/// Descriptors and threads.
fn held() -> (usize, usize) {
    (count("/proc/self/fd"), count("/proc/self/task"))
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let size = line.unwrap().split_whitespace().nth(1).unwrap();
    let kib: usize = size.parse().unwrap();
    kib << 10
}

/// Most bytes of this process that one that nobody uses may take, powered on or not.
const IDLE_LIMIT: usize = 6 << 10;

/// Most pages of this process that it may come with, in bytes: the goal of the project.
const RESIDENT_LIMIT: usize = 32 << 10;

/// As many as there can be descriptors for, a listening socket and its lock file each.
fn many() -> u16 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let most = limit.current.unwrap_or(u64::MAX);
    let many = most.saturating_sub(200) / 2;
    assert!(many >= 300, "{most} descriptors are too few");
    u16::try_from(many.min(1000)).unwrap()
}

fn use_it(socket: &Path) -> Client {
    let mut client = connect(socket);
    enable(&mut client);
    let file = memfd(0x1000);
    let file = Some((file.as_fd(), 0));
    client.dma_map(0, 0x1000, READ_WRITE, file).unwrap();
    connect_vectors(&mut client, vfio::irq::MSIX, 0, 3);
    assert_eq!(read32(&mut client, BAR0, 0), 7);
    client
}

#[test]
fn an_idle_one_is_small_and_nothing_is_left_of_any() {
    let many = many();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nic.sock");
    let vf_socket = |vf: u16| directory.path().join(format!("nic-vf{vf}.sock"));
    let files = || count(directory.path());
    let host = host();
    let hold = Hold::default();
    hold.make(|_| pci_function(Box::new(Small)).unwrap());
    let function = hold.function();
    host.serve_function(&socket, "nic", function).unwrap();
    let mut client = connect(&socket);
    enable(&mut client);

    let before = held();
    let per_one = |bytes: usize| bytes / usize::from(many);
    let (allocated, resident) = (ALLOCATED.load(Ordering::SeqCst), resident_bytes());
    write32(&mut client, BAR0, BRING, many.into());
    assert!(hold.failure().is_none());
    assert_eq!(host.devices().len(), 1 + usize::from(many));
    let taken = || per_one(ALLOCATED.load(Ordering::SeqCst).saturating_sub(allocated));
    let idle = taken();
    for instance in hold.instances() {
        instance.power_on().unwrap();
    }
    let powered_on = taken();
    let resident = per_one(resident_bytes().saturating_sub(resident));
    println!("bytes of one: {idle} idle, {powered_on} powered on, {resident} resident");
    assert!(idle > 100, "{idle} bytes cannot be");
    assert!(idle < IDLE_LIMIT, "{idle} bytes");
    assert!(powered_on < IDLE_LIMIT, "{powered_on} bytes");
    assert!(resident < RESIDENT_LIMIT, "{resident} bytes");
    write32(&mut client, BAR0, TAKE_AWAY, 0);
    wait_for("everything to go", || held() == before);

    let mut allocated = 0;
    for round in 0..1000 {
        if round == 100 {
            // What is kept has been had.
            wait_for("everything to go", || held() == before);
            allocated = ALLOCATED.load(Ordering::SeqCst);
        }
        write32(&mut client, BAR0, BRING, 3);
        assert!(hold.failure().is_none());
        let left = use_it(&vf_socket(0));
        let mut kept = use_it(&vf_socket(1));
        drop(left);
        write32(&mut client, BAR0, TAKE_AWAY, 0);
        assert_eq!(read32(&mut kept, BAR0, 0), u32::MAX);
        // Its own and its lock's.
        assert_eq!(files(), 2);
    }
    wait_for("everything to go", || held() == before);
    let grown = ALLOCATED.load(Ordering::SeqCst).saturating_sub(allocated);
    assert!(grown < 16 << 10, "{grown} bytes more after 900 rounds");
    drop(client);
    drop(host);
    wait_for("threads to go", || held().1 < before.1);
    assert_eq!(files(), 0);
}
