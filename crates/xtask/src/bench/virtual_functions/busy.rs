//! The same work through one VF and spread over 64: how much of it a second of processor time does, at both ends together.
//! What spreading costs by itself is told by as many plain sockets: threads that take turns find less in the caches.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use hdv_vfio_user::client::{Client, ClientOptions};
use hdv_vfio_user::{DmaFlags, vfio};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::pf::{COPY, PAGE};
use super::socket;
use super::workers::{Work, Workers};
use crate::bench::contest::{Contest, Effort};
use crate::bench::cpus::{Pinned, Placement};
use crate::bench::ends::READ_MESSAGES;
use crate::bench::error::{BenchError, During};
use crate::bench::peer::{Peer, Role};
use crate::bench::process::processor_time;
use crate::bench::report::{Section, Unit};
use crate::bench::stream::Stream;

/// VFs that are busy at once.
const MANY: u16 = 64;
/// Rounds of work in one batch, over all VFs.
const BATCH: u32 = 64 * 25;
/// Register reads in a round of work; a write that has a page copied and an interrupt sent follows.
const READS: u32 = 7;
/// Where the guest's memory is.
const GUEST: u64 = 0x1_0000;
/// A page that is copied and the one it is copied to.
const GUEST_BYTES: u64 = 2 * PAGE as u64;
/// What the processor time may grow by so that 64 VFs do at least 80 % as much.
const TARGET: f64 = 1.0 / 0.8;

const ONE_SOCKET: &str = "1 plain socket";
const ALL_SOCKETS: &str = "64 plain sockets";
const ONE: &str = "1 VF";
const ONE_AGAIN: &str = "1 VF, again";
const ALL: &str = "64 VFs";
const ALL_AGAIN: &str = "64 VFs, again";

/// As many messages as a guest's, and nothing else.
struct Plain(Stream);

impl Plain {
    fn connect(path: &Path) -> Result<Self, BenchError> {
        let socket = UnixStream::connect(path).during("connecting to the floor")?;
        Ok(Self(Stream::new(socket, None)))
    }
}

impl Work for Plain {
    fn work(&mut self, rounds: u32) -> Result<(), BenchError> {
        const DOING: &str = "exchanging messages with the floor";
        for _ in 0..rounds * (READS + 1) {
            self.0.send(&[0; READ_MESSAGES.0]).during(DOING)?;
            if !self.0.receive(READ_MESSAGES.1).during(DOING)? {
                return Err(BenchError::new(DOING, "it left"));
            }
        }
        Ok(())
    }
}

/// A guest's side of a VF.
struct Guest {
    client: Client,
    event: OwnedFd,
    _memory: OwnedFd,
}

impl Guest {
    fn connect(path: &Path) -> Result<Self, BenchError> {
        let mut client =
            Client::connect(path, ClientOptions::default()).during("connecting to a VF")?;
        let memory =
            memfd_create("guest", MemfdFlags::CLOEXEC).during("making a guest's memory")?;
        ftruncate(&memory, GUEST_BYTES).during("making a guest's memory")?;
        client
            .dma_map(
                GUEST,
                GUEST_BYTES,
                DmaFlags::READ | DmaFlags::WRITE,
                Some((memory.as_fd(), 0)),
            )
            .during("mapping a guest's memory")?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .during("making an eventfd")?;
        client
            .set_irq_event_fds(vfio::irq::MSIX, 0, &[event.as_fd()])
            .during("connecting an interrupt")?;
        Ok(Self {
            client,
            event,
            _memory: memory,
        })
    }
}

impl Guest {
    fn round(&mut self) -> Result<(), BenchError> {
        for _ in 0..READS {
            self.client
                .region_read(vfio::region::BAR0, 0, &mut [0; 4])
                .during("reading a register of a VF")?;
        }
        self.client
            .region_write(vfio::region::BAR0, COPY, &GUEST.to_le_bytes())
            .during("having a VF copy a page")?;
        // It was sent before the write was answered.
        rustix::io::read(&self.event, &mut [0; 8]).during("taking a VF's interrupt")?;
        Ok(())
    }
}

impl Work for Guest {
    fn work(&mut self, rounds: u32) -> Result<(), BenchError> {
        (0..rounds).try_for_each(|_| self.round())
    }
}

/// Workers and the process at their other end.
struct Crew {
    workers: Workers,
    peer: Peer,
}

impl Crew {
    fn start<W: Work>(
        peer: Peer,
        connect: impl Fn(&Path, u16) -> Result<W, BenchError>,
    ) -> Result<Self, BenchError> {
        let workers = Workers::start((0..MANY).map(|index| connect(peer.path(), index)))?;
        Ok(Self { workers, peer })
    }

    /// Has the first `count` workers do their share of `rounds`; nanoseconds of processor time of both processes for a round.
    fn work(&self, count: u16, rounds: u32) -> Result<f64, BenchError> {
        let taken = || Ok(processor_time(std::process::id())? + processor_time(self.peer.pid())?);
        let before: u64 = taken()?;
        let done = self.workers.work(count, rounds)?;
        #[expect(clippy::cast_precision_loss, reason = "seconds in nanoseconds")]
        let nanoseconds = (taken()? - before) as f64;
        Ok(nanoseconds / f64::from(done))
    }
}

/// Measures on one CPU, or on all of them.
pub(in crate::bench) fn measure(
    placement: Placement,
    effort: Effort,
) -> Result<Section, BenchError> {
    let one_cpu = placement.one_cpu().then_some(placement.near);
    let _pinned = one_cpu.map(Pinned::to).transpose()?;
    let (request, reply) = READ_MESSAGES;
    let floor = Peer::start(Role::Floor { request, reply }, one_cpu, None)?;
    let floor = &Crew::start(floor, |path, _| Plain::connect(path))?;
    let vfs = Peer::start(Role::VirtualFunctions { count: MANY }, one_cpu, None)?;
    let vfs = &Crew::start(vfs, |path, vf| Guest::connect(&socket(path, vf)))?;
    let rounds = effort.batch(BATCH);
    let mut contest = Contest::new();
    for (name, crew, count) in [
        (ONE_SOCKET, floor, 1),
        (ALL_SOCKETS, floor, MANY),
        (ONE, vfs, 1),
        (ONE_AGAIN, vfs, 1),
        (ALL, vfs, MANY),
        (ALL_AGAIN, vfs, MANY),
    ] {
        contest.add(name, move || crew.work(count, rounds));
    }
    let results = contest.run(effort)?;
    let mut section = Section::new(
        format!(
            "work of busy VFs for a second of processor time, {}",
            if placement.one_cpu() {
                "one CPU"
            } else {
                "all CPUs"
            }
        ),
        Unit::PerSecond,
    );
    section
        .row(&results, ONE_SOCKET)
        .compare(&results, ALL_SOCKETS, &[(ONE_SOCKET, None)])
        .compare(&results, ONE, &[(ONE_SOCKET, None)])
        .compare(&results, ONE_AGAIN, &[(ONE, None)])
        .compare(&results, ALL, &[(ONE, Some(TARGET)), (ALL_SOCKETS, None)])
        .compare(&results, ALL_AGAIN, &[(ALL, None)]);
    Ok(section)
}
