//! What the tests share: a backend that records, a server on a socket pair, raw messages.

#![expect(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part of this"
)]

pub mod raw;

use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdv_vfio_user::server::{Closer, Error, Handshake, Ledger, Peer, SessionOptions, Statistics};
use hdv_vfio_user::{
    Backend, DeviceFlags, DeviceInfo, DmaFlags, DmaMap, Errno, IoEventFd, Irq, IrqAction, IrqData,
    IrqFlags, IrqRequest, Region, RegionFlags, RegionMapping, SparseArea, vfio,
};

/// Longer than anything takes; a wait that lasts this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// BAR 0: reads and writes, not mappable.
pub const BAR0_SIZE: usize = 0x2000;
/// BAR 1: mappable in two areas.
pub const BAR1_SIZE: u64 = 0x4000;
/// BAR 2: mappable as a whole.
pub const BAR2_SIZE: u64 = 0x1000;
/// BAR 3: large.
pub const BAR3_SIZE: usize = 3 << 20;
/// Where BAR 1 begins in its file.
pub const BAR1_FILE_OFFSET: u64 = 0x8000;

/// What the backend was asked, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    FirstUse,
    Read(u32, u64, usize),
    Write(u32, u64, Vec<u8>),
    SetIrqs {
        index: u32,
        start: u32,
        count: u32,
        action: IrqAction,
        data: Data,
    },
    DisableIrqs(u32),
    Map {
        address: u64,
        size: u64,
        flags: DmaFlags,
        offset: u64,
        /// The first byte of the file, which tells the files of a test apart.
        file: Option<u8>,
    },
    Unmap(u64, u64),
    Reset,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    None,
    Bool(Vec<u8>),
    EventFds(usize),
}

/// What a test sees of its backend, from another thread.
#[derive(Clone, Default)]
pub struct Record {
    events: Arc<Mutex<Vec<Event>>>,
    peer: Arc<Mutex<Option<Peer>>>,
    kept: Arc<Mutex<Vec<OwnedFd>>>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    pub fn events(&self) -> Vec<Event> {
        lock(&self.events).clone()
    }

    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut lock(&self.events))
    }

    pub fn push(&self, event: Event) {
        lock(&self.events).push(event);
    }

    pub fn peer(&self) -> Peer {
        lock(&self.peer).clone().expect("a session has begun")
    }

    pub fn has_peer(&self) -> bool {
        lock(&self.peer).is_some()
    }

    /// The client's peer, as soon as the session has begun.
    pub fn wait_peer(&self) -> Peer {
        wait_for("session", || self.has_peer());
        self.peer()
    }

    /// The eventfds that SET_IRQS brought.
    pub fn take_eventfds(&self) -> Vec<OwnedFd> {
        std::mem::take(&mut lock(&self.kept))
    }
}

/// What the test's backend does in a region write, besides recording it.
pub type OnWrite = Box<dyn FnMut(&Record, u64, &[u8]) -> Result<(), Errno> + Send>;

pub struct TestBackend {
    pub record: Record,
    pub bar0: Vec<u8>,
    pub bar3: Vec<u8>,
    pub file: Arc<OwnedFd>,
    pub events: Vec<Arc<OwnedFd>>,
    pub first_use: Result<(), Errno>,
    /// What it does in a region read.
    pub on_read: Option<Box<dyn FnMut(u64) + Send>>,
    pub on_write: Option<OnWrite>,
    pub quiet: bool,
}

pub fn memfd(size: u64, first: u8) -> OwnedFd {
    let fd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).expect("a memfd");
    rustix::fs::ftruncate(&fd, size).expect("sized");
    rustix::io::pwrite(&fd, &[first], 0).expect("written");
    fd
}

pub fn eventfd() -> OwnedFd {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("an eventfd")
}

/// Whether two descriptors are the same open file (not only the same inode): a write to one
/// eventfd is read from the other.
pub fn same_eventfd(a: impl AsFd, b: impl AsFd) -> bool {
    rustix::io::write(&a, &7_u64.to_ne_bytes()).expect("signalled");
    let mut value = [0; 8];
    rustix::io::read(&b, &mut value).expect("read");
    u64::from_ne_bytes(value) == 7
}

impl TestBackend {
    pub fn new() -> Self {
        Self {
            record: Record::default(),
            bar0: vec![0; BAR0_SIZE],
            bar3: vec![0; BAR3_SIZE],
            file: Arc::new(memfd(0x10000, 0xb1)),
            events: (0..2).map(|_| Arc::new(eventfd())).collect(),
            first_use: Ok(()),
            on_read: None,
            on_write: None,
            quiet: false,
        }
    }

    fn memory(&mut self, region: u32) -> Result<&mut Vec<u8>, Errno> {
        match region {
            vfio::region::BAR0 => Ok(&mut self.bar0),
            vfio::region::BAR3 => Ok(&mut self.bar3),
            _ => Err(Errno::NXIO),
        }
    }

    fn note(&self, event: impl FnOnce() -> Event) {
        if !self.quiet {
            self.record.push(event());
        }
    }
}

impl Backend for TestBackend {
    fn device_info(&self) -> DeviceInfo {
        DeviceInfo {
            flags: DeviceFlags::RESET | DeviceFlags::PCI,
            num_regions: vfio::region::COUNT,
            num_irqs: vfio::irq::COUNT,
        }
    }

    fn region(&self, index: u32) -> Region {
        let (size, flags) = match index {
            vfio::region::BAR0 => (BAR0_SIZE as u64, RegionFlags::READ | RegionFlags::WRITE),
            vfio::region::BAR1 => (BAR1_SIZE, RegionFlags::READ | RegionFlags::WRITE),
            vfio::region::BAR2 => (BAR2_SIZE, RegionFlags::READ | RegionFlags::WRITE),
            vfio::region::BAR3 => (BAR3_SIZE as u64, RegionFlags::READ | RegionFlags::WRITE),
            vfio::region::ROM => (0x1000, RegionFlags::READ),
            _ => (0, RegionFlags::empty()),
        };
        Region { size, flags }
    }

    fn region_mapping(&self, index: u32) -> Option<RegionMapping> {
        let area = |offset, size| SparseArea { offset, size };
        match index {
            vfio::region::BAR1 => Some(RegionMapping {
                file: Arc::clone(&self.file),
                offset: BAR1_FILE_OFFSET,
                areas: vec![area(0, 0x1000), area(0x2000, 0x2000)],
            }),
            vfio::region::BAR2 => Some(RegionMapping {
                file: Arc::clone(&self.file),
                offset: 0,
                areas: Vec::new(),
            }),
            _ => None,
        }
    }

    fn region_io_event_fds(&self, index: u32) -> Vec<IoEventFd> {
        if index != vfio::region::BAR0 {
            return Vec::new();
        }
        vec![
            IoEventFd {
                offset: 0x100,
                size: 4,
                datamatch: Some(0xdead_beef),
                event: Arc::clone(&self.events[0]),
            },
            IoEventFd {
                offset: 0x104,
                size: 0,
                datamatch: None,
                event: Arc::clone(&self.events[1]),
            },
        ]
    }

    fn irq(&self, index: u32) -> Irq {
        let (flags, count) = match index {
            vfio::irq::INTX => (
                IrqFlags::EVENTFD | IrqFlags::MASKABLE | IrqFlags::AUTOMASKED,
                1,
            ),
            vfio::irq::MSIX => (IrqFlags::EVENTFD | IrqFlags::NORESIZE, 64),
            vfio::irq::ERR => (IrqFlags::empty(), 1),
            _ => (IrqFlags::empty(), 0),
        };
        Irq { flags, count }
    }

    fn connected(&mut self, peer: &Peer) {
        *lock(&self.record.peer) = Some(peer.clone());
    }

    fn first_use(&mut self) -> Result<(), Errno> {
        self.note(|| Event::FirstUse);
        self.first_use
    }

    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.note(|| Event::Read(region, offset, data.len()));
        if let Some(on_read) = &mut self.on_read {
            on_read(offset);
        }
        let offset = usize::try_from(offset).expect("inside");
        data.copy_from_slice(&self.memory(region)?[offset..][..data.len()]);
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.note(|| Event::Write(region, offset, data.to_vec()));
        if let Some(on_write) = &mut self.on_write {
            on_write(&self.record, offset, data)?;
        }
        let offset = usize::try_from(offset).expect("inside");
        self.memory(region)?[offset..][..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn set_irqs(&mut self, request: IrqRequest<'_>) -> Result<(), Errno> {
        let data = match request.data {
            IrqData::None => Data::None,
            IrqData::Bool(which) => Data::Bool(which.to_vec()),
            IrqData::EventFds(fds) => {
                let count = fds.len();
                lock(&self.record.kept).extend(fds);
                Data::EventFds(count)
            }
        };
        self.record.push(Event::SetIrqs {
            index: request.index,
            start: request.start,
            count: request.count,
            action: request.action,
            data,
        });
        Ok(())
    }

    fn disable_irqs(&mut self, index: u32) -> Result<(), Errno> {
        self.record.push(Event::DisableIrqs(index));
        Ok(())
    }

    fn dma_map(&mut self, map: DmaMap) -> Result<(), Errno> {
        let file = map.file.map(|fd| {
            let mut first = [0];
            let mut file = std::fs::File::from(fd);
            file.seek(SeekFrom::Start(0)).expect("a file");
            file.read_exact(&mut first).expect("one byte");
            first[0]
        });
        self.record.push(Event::Map {
            address: map.address,
            size: map.size,
            flags: map.flags,
            offset: map.offset,
            file,
        });
        Ok(())
    }

    fn dma_unmap(&mut self, address: u64, size: u64) -> Result<(), Errno> {
        self.record.push(Event::Unmap(address, size));
        Ok(())
    }

    fn reset(&mut self) -> Result<(), Errno> {
        self.record.push(Event::Reset);
        Ok(())
    }
}

/// A session under way on its own thread.
pub struct Running {
    pub record: Record,
    pub closer: Closer,
    pub statistics: Arc<Statistics>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Running {
    /// How the session ended; waits for that.
    pub fn end(mut self) -> Result<(), Error> {
        let thread = self.thread.take().expect("still running");
        let begin = Instant::now();
        while !thread.is_finished() {
            assert!(begin.elapsed() < PATIENCE, "the session does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        thread.join().expect("no panic in the session")
    }
}

impl Drop for Running {
    /// Ends the session and waits for its thread, so that what it has open is closed.
    fn drop(&mut self) {
        self.closer.close();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            let _ = thread.join();
        }
    }
}

/// Serves `backend` on `stream`, once the client has proposed a version.
pub fn serve(stream: UnixStream, options: SessionOptions, backend: TestBackend) -> Running {
    serve_with_ledger(stream, options, backend, None)
}

/// The same, with a ledger.
pub fn serve_with_ledger(
    stream: UnixStream,
    options: SessionOptions,
    mut backend: TestBackend,
    ledger: Option<Ledger>,
) -> Running {
    let record = backend.record.clone();
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut handshake = Handshake::new(stream, options)?;
        handshake.wait()?;
        let mut session = handshake.accept()?;
        if let Some(ledger) = ledger {
            session.keep_ledger(ledger);
        }
        let _ = sender.send((session.closer(), session.statistics()));
        session.run(&mut backend)
    });
    let (closer, statistics) = receiver.recv().expect("the handshake succeeds");
    Running {
        record,
        closer,
        statistics,
        thread: Some(thread),
    }
}

/// A client and a server of ours, connected.
pub fn pair_with(
    backend: TestBackend,
    server: SessionOptions,
    client: hdv_vfio_user::client::ClientOptions,
) -> (hdv_vfio_user::client::Client, Running) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let thread = std::thread::spawn(move || {
        hdv_vfio_user::client::Client::from_stream(ours, client).expect("a version is agreed")
    });
    let running = serve(theirs, server, backend);
    (thread.join().expect("no panic"), running)
}

pub fn pair() -> (hdv_vfio_user::client::Client, Running) {
    pair_with(
        TestBackend::new(),
        SessionOptions::default(),
        hdv_vfio_user::client::ClientOptions::default(),
    )
}

/// How many descriptors this process has open.
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}

/// Waits until `condition` holds.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The number of a descriptor, for messages.
pub fn number(fd: &OwnedFd) -> i32 {
    fd.as_raw_fd()
}
