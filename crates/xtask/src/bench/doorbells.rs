//! From a guest's write to a doorbell until a thread that waits for its event has it, beside the same
//! bytes over a socket to a thread that signals an event.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;

use hdv::{
    AccessSize, Bar, BarAccess, BarIndex, ClassCode, ConfigError, ConfigSpace, DeviceContext,
    DeviceError, DeviceHost, Doorbell, HostOptions, Identity, PciDevice,
};
use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::vfio;
use rustix::event::{EventfdFlags, eventfd};

use super::contest::{Contest, Effort, time};
use super::cpus::{self, Pinned, Placement};
use super::ends::{DATA, WRITE_MESSAGES};
use super::error::{BenchError, During};
use super::report::{Section, Unit};
use super::stream::Stream;

/// Writes in one batch.
const BATCH: u32 = 1000;
/// Bytes of the BAR.
const BAR_BYTES: u64 = 4096;
/// Where the doorbell is in it.
const OFFSET: u64 = 0x100;

const FLOOR: &str = "plain socket to eventfd";
const FLOOR_AGAIN: &str = "plain socket to eventfd, again";
const OURS: &str = "posted write to doorbell";
const OURS_AGAIN: &str = "posted write to doorbell, again";

/// Has one doorbell and nothing else.
struct Ringing {
    event: OwnedFd,
}

impl PciDevice for Ringing {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let identity = Identity {
            vendor_id: 0x4f48,
            device_id: 0x7ffe,
            revision_id: 0,
            class: ClassCode::from_u24(0xff_0000),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        };
        ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory64(BAR_BYTES))
            .build()
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        let doorbell = Doorbell {
            bar: BarIndex::BAR0,
            offset: OFFSET,
            size: Some(AccessSize::Dword),
            value: None,
        };
        context
            .mmio
            .register_doorbell(doorbell, self.event.as_fd())
            .map_err(|error| DeviceError::new(error.to_string()))
    }

    fn read(&mut self, _: BarAccess) -> u64 {
        0
    }

    fn write(&mut self, _: BarAccess, _: u64) {}

    fn reset(&mut self) {}
}

/// A device with its doorbell, in this process, and a client.
struct Bell {
    client: Client,
    event: OwnedFd,
    _host: DeviceHost,
}

impl Bell {
    fn new(directory: &Path, name: &str, placement: Placement) -> Result<Self, BenchError> {
        let event = event()?;
        let device = Ringing {
            event: event
                .as_fd()
                .try_clone_to_owned()
                .during("duplicating an eventfd")?,
        };
        // The host's threads inherit the processor.
        let far = Pinned::to(placement.far)?;
        let host =
            DeviceHost::new(HostOptions::new().control(false)).during("making a device host")?;
        let socket = directory.join(name);
        host.serve(&socket, name, device)
            .during("serving a doorbell")?;
        let client =
            Client::connect(&socket, ClientOptions::default()).during("connecting to it")?;
        drop(far);
        Ok(Self {
            client,
            event,
            _host: host,
        })
    }

    fn ring(&mut self) -> Result<(), BenchError> {
        self.client
            .region_write_posted(vfio::region::BAR0, OFFSET, &[1; DATA])
            .during("posting a write")?;
        wait(&self.event)
    }
}

/// A thread that signals an event for so many bytes.
struct Floor {
    stream: Option<Stream>,
    event: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Floor {
    fn new(placement: Placement) -> Result<Self, BenchError> {
        let event = event()?;
        let (near, far) = UnixStream::pair().during("making a pair of sockets")?;
        let signalled = event
            .as_fd()
            .try_clone_to_owned()
            .during("duplicating an eventfd")?;
        let thread = std::thread::spawn(move || {
            // Where it cannot be pinned the near side could not be either.
            let _ = cpus::pin(placement.far);
            let mut stream = Stream::new(far, None);
            while stream.receive(WRITE_MESSAGES.0).is_ok_and(|more| more) {
                if rustix::io::write(&signalled, &1_u64.to_ne_bytes()).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            stream: Some(Stream::new(near, None)),
            event,
            thread: Some(thread),
        })
    }

    fn ring(&mut self) -> Result<(), BenchError> {
        if let Some(stream) = &self.stream {
            stream.send(&[0; WRITE_MESSAGES.0]).during("sending")?;
        }
        wait(&self.event)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // The thread ends with the connection.
        self.stream = None;
        if let Some(thread) = self.thread.take() {
            // What it would have panicked with has been printed.
            let _ = thread.join();
        }
    }
}

fn event() -> Result<OwnedFd, BenchError> {
    eventfd(0, EventfdFlags::CLOEXEC).during("making an eventfd")
}

/// Blocks until the event is signalled, and takes the signal back.
fn wait(event: &OwnedFd) -> Result<(), BenchError> {
    use rustix::event::{PollFd, PollFlags, poll};
    // A device makes its events non-blocking, and that holds for every descriptor of one.
    loop {
        match rustix::io::read(event, &mut [0; 8]) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::AGAIN) => {
                poll(&mut [PollFd::new(event, PollFlags::IN)], None)
                    .during("waiting for an eventfd")?;
            }
            Err(error) => return Err(BenchError::new("reading an eventfd", error)),
        }
    }
}

/// Measures in one placement.
pub(super) fn measure(placement: Placement, effort: Effort) -> Result<Section, BenchError> {
    let _pinned = Pinned::to(placement.near)?;
    let batch = effort.batch(BATCH);
    let directory = tempfile::Builder::new()
        .prefix("openhdv-bench-")
        .tempdir()
        .during("making a directory for the sockets")?;
    let mut contest = Contest::new();
    for name in [FLOOR, FLOOR_AGAIN] {
        let mut floor = Floor::new(placement)?;
        contest.add(name, move || time(batch, || floor.ring()));
    }
    for (name, socket) in [(OURS, "first"), (OURS_AGAIN, "second")] {
        let mut bell = Bell::new(directory.path(), socket, placement)?;
        contest.add(name, move || time(batch, || bell.ring()));
    }
    let results = contest.run(effort)?;
    let mut section = Section::new(
        format!("a doorbell to a waiting thread, {}", placement.name()),
        Unit::Nanoseconds,
    );
    section
        .row(&results, FLOOR)
        .compare(&results, FLOOR_AGAIN, &[(FLOOR, None)])
        .compare(&results, OURS, &[(FLOOR, None)])
        .compare(&results, OURS_AGAIN, &[(OURS, None)]);
    Ok(section)
}
