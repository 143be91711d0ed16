//! What the tests share: a device that records its life, a host that serves it, waits.

#![expect(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part of this"
)]

pub mod domain;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdv::pci::Aer;
use hdv::{
    Bar, BarAccess, BarIndex, BarOffset, ClassCode, ConfigError, ConfigSpace, DeviceContext,
    DeviceError, DeviceHost, DeviceId, HostOptions, Identity, Msi, Msix, PciDevice, PciExpress,
};
use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::{DmaFlags, Errno, vfio};
use rustix::event::{EventfdFlags, eventfd};

/// Longer than anything takes; a wait that lasts this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const BAR0: u32 = vfio::region::BAR0;
pub const CONFIG: u32 = vfio::region::CONFIG;
pub const MSIX_TABLE: u64 = 0x800;
pub const MSIX_PENDING: u64 = 0xc00;
pub const VECTORS: u16 = 4;
/// A write here signals the vector written.
pub const SIGNAL: u64 = 0x7f8;

/// A call into the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    ConfigSpace,
    Initialize,
    Start,
    Stop,
    Read(BarAccess),
    Write(BarAccess, u64),
    Reset,
    Teardown,
    Drop,
}

/// What a test sees of its device, from outside.
#[derive(Clone, Default)]
pub struct Record {
    calls: Arc<Mutex<Vec<Call>>>,
    context: Arc<Mutex<Option<DeviceContext>>>,
    /// `start` fails while it is set.
    pub refuse_start: Arc<AtomicBool>,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    /// The calls but for reads and writes.
    pub fn life(&self) -> Vec<Call> {
        let mut calls = self.calls();
        calls.retain(|call| !matches!(call, Call::Read(_) | Call::Write(..)));
        calls
    }

    pub fn forget(&self) {
        lock(&self.calls).clear();
    }

    pub fn count(&self, call: Call) -> usize {
        self.calls().iter().filter(|&&one| one == call).count()
    }

    pub fn context(&self) -> DeviceContext {
        lock(&self.context).clone().expect("powered on")
    }

    /// Holds reads of offset 0x700, and the teardown, until [`Record::open`].
    pub fn close(&self) {
        *lock(&self.gate.0) = true;
    }

    pub fn open(&self) {
        *lock(&self.gate.0) = false;
        self.gate.1.notify_all();
    }

    fn pass_gate(&self) {
        let mut closed = lock(&self.gate.0);
        while *closed {
            closed = self.gate.1.wait(closed).expect("no panic");
        }
    }
}

/// Which interrupts a device has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    MsiX,
    Msi,
}

/// The device.
#[derive(Default)]
pub struct Recorder {
    pub record: Record,
    pub kind: Kind,
    /// Panics in these calls; a read or write in any of them if its access is listed in one.
    pub panics: Vec<Call>,
    pub refuse_initialize: bool,
    pub refuse_config: bool,
    /// It has advanced error reporting.
    pub reports_errors: bool,
    registers: Vec<u8>,
}

impl Recorder {
    pub fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut device = Self::default();
        change(&mut device);
        device
    }

    pub fn new(kind: Kind) -> Self {
        Self::with(|device| device.kind = kind)
    }

    pub fn panicking(call: Call) -> Self {
        Self::with(|device| device.panics.push(call))
    }

    fn note(&self, call: Call) {
        lock(&self.record.calls).push(call);
        if self.panics.contains(&call) {
            std::panic::panic_any(format!("as the test wants in {call:?}"));
        }
    }
}

pub fn read_of(offset: u64, size: u8) -> Call {
    Call::Read(BarAccess {
        bar: BarIndex::BAR0,
        offset,
        size,
    })
}

pub fn write_of(offset: u64, size: u8, value: u64) -> Call {
    Call::Write(
        BarAccess {
            bar: BarIndex::BAR0,
            offset,
            size,
        },
        value,
    )
}

impl PciDevice for Recorder {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        self.note(Call::ConfigSpace);
        let identity = Identity {
            vendor_id: 0x4f48,
            device_id: 0x7ffe,
            revision_id: 1,
            class: ClassCode::from_u24(0xff_0000),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        };
        let place = |offset| BarOffset::new(BarIndex::BAR0, offset);
        let size = if self.refuse_config { 100 } else { 4096 };
        let builder = ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory64(size))
            .capability(PciExpress::endpoint());
        let builder = if self.reports_errors {
            builder.extended_capability(Aer::new())
        } else {
            builder
        };
        match self.kind {
            Kind::MsiX => builder.capability(Msix::new(VECTORS, place(0x800), place(0xc00))),
            Kind::Msi => builder.capability(Msi::with_64_bit_address(4).per_vector_mask()),
        }
        .build()
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        self.note(Call::Initialize);
        self.registers = vec![0; 4096];
        *lock(&self.record.context) = Some(context);
        if self.refuse_initialize {
            return Err(DeviceError::new("as the test wants").with_code(7));
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.note(Call::Start);
        if self.record.refuse_start.load(Ordering::SeqCst) {
            return Err(DeviceError::new("as the test wants"));
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.note(Call::Stop);
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        self.note(Call::Read(access));
        if access.offset == 0x700 {
            self.record.pass_gate();
        }
        let at = usize::try_from(access.offset).expect("small");
        let mut bytes = [0; 8];
        let size = usize::from(access.size);
        bytes[..size].copy_from_slice(&self.registers[at..at + size]);
        u64::from_le_bytes(bytes)
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        self.note(Call::Write(access, value));
        if access.offset == SIGNAL {
            let vector = u16::try_from(value).expect("a vector");
            self.record.context().interrupts.signal(vector);
        }
        let at = usize::try_from(access.offset).expect("small");
        let size = usize::from(access.size);
        self.registers[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }

    fn reset(&mut self) {
        self.note(Call::Reset);
        self.registers = vec![0; 4096];
    }

    fn teardown(&mut self) {
        self.note(Call::Teardown);
        self.record.pass_gate();
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        lock(&self.record.calls).push(Call::Drop);
        if self.panics.contains(&Call::Drop) && !std::thread::panicking() {
            panic!("as the test wants in drop");
        }
    }
}

/// A host with one device.
pub struct Served {
    pub host: DeviceHost,
    pub id: DeviceId,
    pub record: Record,
    pub socket: PathBuf,
    pub directory: tempfile::TempDir,
}

/// Without a control socket: that is in a directory that all tests share.
pub fn host() -> DeviceHost {
    DeviceHost::new(HostOptions::new().control(false)).expect("a host")
}

pub fn serve(device: Recorder) -> Served {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("device.sock");
    let record = device.record.clone();
    let host = host();
    let id = host.serve(&socket, "recorder", device).expect("served");
    Served {
        host,
        id,
        record,
        socket,
        directory,
    }
}

impl Served {
    pub fn connect(&self) -> Client {
        connect(&self.socket)
    }

    pub fn connected(&self) -> bool {
        self.host.devices()[0].client.is_some()
    }
}

pub fn options() -> ClientOptions {
    ClientOptions::default().with_reply_timeout(Some(PATIENCE))
}

pub fn connect(socket: &Path) -> Client {
    Client::connect(socket, options()).expect("a connection")
}

/// Waits until `condition` holds.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn read<const N: usize>(client: &mut Client, region: u32, offset: u64) -> [u8; N] {
    let mut data = [0x5a; N];
    client.region_read(region, offset, &mut data).expect("read");
    data
}

pub fn read32(client: &mut Client, region: u32, offset: u64) -> u32 {
    u32::from_le_bytes(read(client, region, offset))
}

pub fn write32(client: &mut Client, region: u32, offset: u64, value: u32) {
    client
        .region_write(region, offset, &value.to_le_bytes())
        .expect("written");
}

/// Sets Memory Space and Bus Master Enable.
pub fn enable(client: &mut Client) {
    client
        .region_write(CONFIG, 4, &6u16.to_le_bytes())
        .expect("written");
}

/// The offset of a capability.
pub fn capability(client: &mut Client, id: u8) -> u64 {
    let [mut at] = read::<1>(client, CONFIG, 0x34);
    while at != 0 {
        let [found, next] = read(client, CONFIG, at.into());
        if found == id {
            return at.into();
        }
        at = next;
    }
    panic!("no capability {id:#x}");
}

/// Initiates a function level reset.
pub fn function_level_reset(client: &mut Client) {
    let express = capability(client, 0x10);
    let [low, high] = read(client, CONFIG, express + 8);
    client
        .region_write(CONFIG, express + 8, &[low, high | 0x80])
        .expect("written");
}

pub fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("an eventfd")
}

/// Gives `count` vectors from `start` on eventfds.
pub fn connect_vectors(client: &mut Client, index: u32, start: u32, count: u32) -> Vec<OwnedFd> {
    let events: Vec<OwnedFd> = (0..count).map(|_| event()).collect();
    let borrowed: Vec<_> = events.iter().map(AsFd::as_fd).collect();
    client
        .set_irq_event_fds(index, start, &borrowed)
        .expect("taken");
    events
}

/// How often it was signalled since the last look.
pub fn taken(event: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(event, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(error) => {
            assert_eq!(error, Errno::AGAIN);
            0
        }
    }
}

pub fn memfd(size: u64) -> OwnedFd {
    let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    rustix::fs::ftruncate(&file, size).expect("sized");
    file
}

pub const READ_WRITE: DmaFlags = DmaFlags::READ.union(DmaFlags::WRITE);
